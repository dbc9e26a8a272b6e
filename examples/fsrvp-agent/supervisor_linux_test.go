package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// mainEnv makes the test's program be the agent's.
const mainEnv = "FSRVP_AGENT_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A notifySocket is what a service manager hears of a service.
type notifySocket struct {
	*net.UnixConn
	path string
}

func listenNotify(t *testing.T) *notifySocket {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &notifySocket{c, path}
}

// next returns the next message that is, or begins with, a variable.
func (n *notifySocket) next(t *testing.T, variable string) string {
	t.Helper()
	require.NoError(t, n.SetReadDeadline(time.Now().Add(30*time.Second)))
	b := make([]byte, 4096)
	for {
		k, err := n.Read(b)
		require.NoError(t, err, "waiting for %s", variable)
		if msg := string(b[:k]); strings.HasPrefix(msg, variable) {
			return msg
		}
	}
}

// startSupervised starts the program as a service manager would, by a shell, which knows its
// process's number.
func startSupervised(t *testing.T, conf, env string, files ...*os.File) (*exec.Cmd, *bufio.Reader, *notifySocket) {
	t.Helper()
	n := listenNotify(t)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", env+` exec "$0" -config "$1"`, self, conf)
	cmd.Env = append(os.Environ(), mainEnv+"=yes", "NOTIFY_SOCKET="+n.path)
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, bufio.NewReader(out), n
}

// TestNotify runs the program under a notify socket: readiness, watchdog, status, reload and stop.
func TestNotify(t *testing.T) {
	s := newSite(t)
	conf := s.config(t, good)
	cmd, _, n := startSupervised(t, conf, "WATCHDOG_PID=$$ WATCHDOG_USEC=200000")
	require.Contains(t, n.next(t, "READY=1"), "STATUS=0 shadow copy sets")
	n.next(t, "WATCHDOG=1")
	n.next(t, "WATCHDOG=1")
	s.config(t, good+"log-level = warn\n")
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.Contains(t, n.next(t, "RELOADING=1"), "MONOTONIC_USEC=")
	n.next(t, "READY=1")
	n.next(t, "WATCHDOG=1")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	n.next(t, "STOPPING=1")
	require.NoError(t, cmd.Wait())
}

// TestSocketActivation has the program take over a listening TCP socket, and refuse one of another
// kind.
func TestSocketActivation(t *testing.T) {
	s := newSite(t)
	conf := s.config(t, strings.Replace(good, "tcp:127.0.0.1:0", "systemd", 1))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	defer f.Close()
	cmd, out, n := startSupervised(t, conf, "LISTEN_PID=$$ LISTEN_FDS=1", f)
	n.next(t, "READY=1")
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "listening tcp:"+l.Addr().String()+"\n", line)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	_, err = (&service{port: port}).dial(t, "secret")
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait())

	err = run(t.Context(), []string{"-config", conf}, io.Discard, io.Discard)
	require.ErrorContains(t, err, conf+":2: listen is \"systemd\": systemd has passed no socket")
	u, err := net.Listen("unix", s.path("socket"))
	require.NoError(t, err)
	defer u.Close()
	uf, err := u.(*net.UnixListener).File()
	require.NoError(t, err)
	defer uf.Close()
	cmd, _, n = startSupervised(t, conf, "LISTEN_PID=$$ LISTEN_FDS=1", uf)
	require.Error(t, cmd.Wait())
	require.NoError(t, n.SetReadDeadline(time.Now()))
	_, err = n.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing is ready")
}

// A stalledStore does not end its writes while it is held.
type stalledStore struct {
	state.Store
	held    sync.RWMutex
	writing chan struct{} // gets a value for each write that begins
}

func (s *stalledStore) Write(ctx context.Context, c state.Change) error {
	s.writing <- struct{}{}
	s.held.RLock()
	defer s.held.RUnlock()
	return s.Store.Write(ctx, c)
}

// TestWatchdog: the watchdog is fed while the agent answers, and not while its table's disk hangs.
func TestWatchdog(t *testing.T) {
	file, err := state.Open(filepath.Join(t.TempDir(), "state"), nil)
	require.NoError(t, err)
	defer file.Close()
	store := &stalledStore{Store: file, writing: make(chan struct{}, 100)}
	m := newMonitor(defaults())
	snapshots := snapmem.New("/srv")
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: snapshots, Shares: sharemem.New(snapshots,
			agent.Share{Name: "data", Path: "/srv/data"}), State: store, Observe: m.observe,
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	m.watch(a)

	log := newEventLog()
	ctx, cancel := context.WithCancel(t.Context())
	sup := &supervisor{monitor: m, log: slog.New(slog.NewTextHandler(log, nil)), watchdog: 80 * time.Millisecond,
		send: func(state string) error {
			_, err := fmt.Fprintf(log, "told %s\n", state)
			return err
		}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		sup.run(ctx)
	}()
	const fed, hangs = "told WATCHDOG=1", "the agent does not answer"
	for range 3 {
		log.wait(t, log.size(), fed)
	}
	store.held.Lock()
	operator := dcerpc.WithPeer(ctx, dcerpc.Peer{Identity: dcerpc.Identity{SIDs: []dcerpc.SID{dcerpc.SIDBuiltinAdmins}},
		Level: dcerpc.LevelPrivacy})
	for range len(store.writing) { // of the agent's start
		<-store.writing
	}
	writing := make(chan error, 1)
	go func() { writing <- a.SetContext(operator, fsrvp.ContextBackup) }()
	<-store.writing
	log.wait(t, log.size(), hangs)
	from := log.size()
	log.wait(t, log.size(), hangs)
	log.wait(t, log.size(), hangs)
	text, _ := log.read()
	require.NotContains(t, text[from:], fed)
	store.held.Unlock()
	require.NoError(t, <-writing)
	log.wait(t, log.size(), fed)
	cancel()
	<-ended
}
