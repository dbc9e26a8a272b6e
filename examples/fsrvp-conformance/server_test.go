package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// A server is an agent on loopback with NTLM, for the command to check. What an administrator's
// commands would do on the server's host it does when it is asked on a connection of its own: the
// commands of the tests are this program, see TestMain.
type server struct {
	memory *fsrvptest.Memory
	cfg    agent.Config
	port   string // once it listens
	hooks  net.Listener
	dir    string
	resets atomic.Int32

	mu    sync.Mutex
	agent *agent.Agent
	rpc   *dcerpc.Server
	ended chan error
}

// hookVariable has the address of a server's hooks.
const hookVariable = "FSRVP_CONFORMANCE_TEST_HOOKS"

func TestMain(m *testing.M) {
	if addr := os.Getenv(hookVariable); addr != "" {
		os.Exit(askHook(addr, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A hookCall is what a command asks for, a hookAnswer what it prints.
type (
	hookCall struct {
		Args  []string
		Input []byte
	}
	hookAnswer struct {
		Output []byte
		Err    string
		Status int
	}
)

// askHook is the command of a hook.
func askHook(addr string, args []string) int {
	call := hookCall{Args: args}
	if len(args) > 1 && args[0] == "files" && args[1] == "write" {
		call.Input, _ = io.ReadAll(os.Stdin)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	var answer hookAnswer
	if err = json.NewEncoder(conn).Encode(call); err == nil {
		err = json.NewDecoder(conn).Decode(&answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Stdout.Write(answer.Output)
	fmt.Fprint(os.Stderr, answer.Err)
	return answer.Status
}

// startServer starts a server whose Message Sequence Timer has a value, zero for those of the
// standard.
func startServer(t *testing.T, sequence time.Duration) *server {
	t.Helper()
	s := &server{memory: fsrvptest.NewMemory(), port: "0", dir: t.TempDir()}
	s.cfg = agent.Config{
		Snapshots: s.memory.Snapshots, Shares: s.memory.Shares, StorePath: filepath.Join(s.dir, "store"),
		Names: []string{"127.0.0.1", "localhost", "role"}, Allow: []string{`TEST\backup`},
		Owner: func(_ context.Context, _ string, share backend.Share) (string, error) {
			return map[string]string{"mounted": "node2"}[share.Name], nil
		},
	}
	if sequence > 0 {
		s.cfg.Timers = agent.Timers{
			SetContext: sequence, Start: sequence, Add: sequence, Prepare: sequence, Commit: sequence, Expose: sequence,
			GetShareMapping: sequence, Failure: sequence,
		}
	}
	hashes := fmt.Appendf(nil, "TEST\\backup\t%x\nTEST\\nobody1\t%x\n", ntlm.NTHash("secret"), ntlm.NTHash("secret"))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "hashes"), hashes, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "password"), []byte("secret\n"), 0o600))
	require.NoError(t, s.start())
	var err error
	s.hooks, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go s.serveHooks()
	t.Cleanup(func() {
		s.hooks.Close()
		require.NoError(t, s.stop())
	})
	return s
}

func (s *server) start() error {
	a, err := agent.New(context.Background(), &s.cfg)
	if err != nil {
		return err
	}
	acceptor, err := s.acceptor()
	if err != nil {
		return err
	}
	quiet := slog.New(slog.DiscardHandler)
	rpc := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}, Logger: quiet}
	fsrvp.Register(rpc, a, &fsrvp.HandlerConfig{Logger: quiet})
	l, err := net.Listen("tcp", ":"+s.port)
	if err != nil {
		return err
	}
	_, s.port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- rpc.Serve(l) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent, s.rpc, s.ended = a, rpc, ended
	return nil
}

// acceptor knows the accounts.
func (s *server) acceptor() (dcerpc.Acceptor, error) {
	accounts, err := ntlm.OpenHashFile(filepath.Join(s.dir, "hashes"))
	if err != nil {
		return nil, err
	}
	return ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts})
}

func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.rpc.Close(); err != nil {
		return err
	}
	<-s.ended
	return s.agent.Close()
}

func (s *server) serveHooks() {
	for {
		conn, err := s.hooks.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			var call hookCall
			if json.NewDecoder(conn).Decode(&call) != nil {
				return
			}
			var answer hookAnswer
			out, err := s.hook(call)
			answer.Output = out
			if err != nil {
				answer.Err, answer.Status = err.Error(), 1
			}
			_ = json.NewEncoder(conn).Encode(answer) // the command says so
		}()
	}
}

// hook does what a command asks for.
func (s *server) hook(call hookCall) ([]byte, error) {
	ctx := context.Background()
	arg := func(i int) string {
		if i < len(call.Args) {
			return call.Args[i]
		}
		return ""
	}
	switch arg(0) + " " + arg(1) {
	case "files read":
		return s.memory.Shares.ReadFile(arg(2), arg(3))
	case "files write":
		return nil, s.memory.Shares.WriteFile(arg(2), arg(3), call.Input)
	case "rights mark":
		return nil, s.memory.Mark(ctx, arg(2), arg(3))
	case "rights unmark":
		return nil, s.memory.Unmark(ctx, arg(2), arg(3))
	case "rights marks":
		marks, err := s.memory.Marks(ctx, arg(2))
		return []byte(strings.Join(marks, "\n")), err
	}
	switch arg(0) {
	case "held":
		snapshots, shares, err := s.memory.Held(ctx)
		return fmt.Appendf(nil, "%d %d\n", snapshots, shares), err
	case "versions":
		snapshots, _, err := s.memory.Held(ctx)
		return fmt.Appendln(nil, snapshots), err
	case "freeze":
		ms, err := strconv.Atoi(arg(2))
		if err != nil {
			return nil, err
		}
		op := map[string]fsrvp.Opnum{
			"prepare": fsrvp.OpPrepareShadowCopySet, "commit": fsrvp.OpCommitShadowCopySet, "expose": fsrvp.OpExposeShadowCopySet,
		}[arg(1)]
		return nil, s.memory.Delay(op, time.Duration(ms)*time.Millisecond)
	case "restart", "reset":
		if arg(0) == "reset" {
			s.resets.Add(1)
		}
		if err := s.stop(); err != nil {
			return nil, err
		}
		return nil, s.start()
	}
	return nil, fmt.Errorf("no hook %q", call.Args)
}

// flags are those that reach the server, as an account.
func (s *server) flags(user string, more ...string) []string {
	return append([]string{
		"-server", "127.0.0.1", "-share", `\\127.0.0.1\share`, "-mechanism", "ntlm", "-user", `TEST\` + user,
		"-password-file", filepath.Join(s.dir, "password"), "-transport", "tcp:" + s.port,
	}, more...)
}

// command is the command of a hook.
func (s *server) command(t *testing.T, name string) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	return hookVariable + "=" + s.hooks.Addr().String() + " '" + exe + "' " + name
}

// everything are the flags of all that the server has.
func (s *server) everything(t *testing.T) []string {
	command := func(name string) string { return s.command(t, name) }
	return s.flags("backup",
		"-same-volume", `\\127.0.0.1\second`, "-other-volume", `\\127.0.0.1\other`, "-hidden", `\\127.0.0.1\hidden$`, "-alias", `\\localhost\share`,
		"-owner", "127.0.0.1", "-unsupported", `\\127.0.0.1\plain`, "-clustered", `\\role\other`, "-scale-out", `\\role\other`,
		"-elsewhere", `\\127.0.0.1\mounted`, "-elsewhere-owner", "node2", "-foreign", `\\fs9\share`,
		"-unprivileged-user", `TEST\nobody1`, "-unprivileged-password-file", filepath.Join(s.dir, "password"), "-other-address", "127.0.0.2",
		"-files", command("files"), "-held", command("held"), "-rights", command("rights"), "-freeze", command("freeze"),
		"-previous-versions", command("versions"), "-restart", command("restart"),
	)
}
