package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A built is the program as users have it, with an agent's files in a directory.
type built struct {
	exe, dir string
	backends []string // flags
	state    string
}

// build builds the program, for an agent with a share "data".
func build(t *testing.T) *built {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	b := &built{dir: t.TempDir()}
	b.exe = filepath.Join(b.dir, "fsrvp-agent")
	out, err := exec.Command("go", "build", "-o", b.exe, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Mkdir(filepath.Join(b.dir, "data"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "data", "file"), []byte("contents"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "users"), fmt.Appendf(nil, "TEST\\backup\t%x\n",
		ntlm.NTHash("secret")), 0o600))
	b.state = filepath.Join(b.dir, "state")
	b.backends = []string{"-share", "data=" + filepath.Join(b.dir, "data"), "-snapshots", "copy", "-snapshot-dir",
		filepath.Join(b.dir, "snapshots"), "-expose", "directory:" + filepath.Join(b.dir, "exposed")}
	return b
}

// command runs one of the administrator's, with the whole configuration.
func (b *built) command(args ...string) (stdout, stderr string, err error) {
	var out, log bytes.Buffer
	cmd := exec.Command(b.exe, append(append(args, b.backends...), "-state", b.state)...)
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	return out.String(), log.String(), err
}

func (b *built) must(t *testing.T, args ...string) string {
	t.Helper()
	out, log, err := b.command(args...)
	require.NoError(t, err, log)
	return out
}

// start starts an agent. Stop ends it.
func (b *built) start(t *testing.T) (c *fsrvp.Client, stop func()) {
	t.Helper()
	cmd := exec.Command(b.exe, append([]string{"-listen", "tcp:127.0.0.1:0", "-ntlm-users",
		filepath.Join(b.dir, "users"), "-allow", `TEST\backup`, "-state", b.state}, b.backends...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := new(logBuffer)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatal(log)
	}
	_, port, err := net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "listening tcp:")))
	require.NoError(t, err)
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "TEST", User: "backup", Password: "secret"})
	require.NoError(t, err)
	c, err = fsrvp.Dial(t.Context(), "127.0.0.1", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: port}, Auth: auth})
	require.NoError(t, err)
	return c, func() {
		require.NoError(t, c.Close())
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(t, cmd.Wait(), log)
	}
}

// keepSet makes a persistent set of the share.
func keepSet(t *testing.T, c *fsrvp.Client) (set fsrvp.SetID, copy fsrvp.CopyID) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextNASRollback))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	copy, err = c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\localhost\data`)
	require.NoError(t, err)
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	return set, copy
}

// TestOrphansCommand removes orphans by the program, of an agent that runs and of one that does
// not: this agent's own alone, until all are asked for.
func TestOrphansCommand(t *testing.T) {
	b := build(t)
	c, stop := b.start(t)
	set, id := keepSet(t, c)
	saved := filepath.Join(b.dir, "saved")
	require.NoError(t, os.WriteFile(saved, []byte(b.must(t, "state", "export")), 0o600))
	stop()

	other := *b
	other.state = filepath.Join(b.dir, "other")
	c, stop = other.start(t)
	_, foreign := keepSet(t, c)
	stop()

	// lose has the agent forget a set of its own.
	lose := func() (lost fsrvp.CopyID) {
		c, stop := b.start(t)
		_, lost = keepSet(t, c)
		stop()
		b.must(t, "state", "import", saved)
		_, log, err := b.command("orphans")
		exit := new(exec.ExitError)
		require.ErrorAs(t, err, &exit)
		require.Equal(t, exitState, exit.ExitCode(), log)
		require.Contains(t, log, "fsrvp-agent state accept")
		require.Contains(t, b.must(t, "state", "accept"), "with 1 sets")
		return lost
	}
	count := func(id fsrvp.CopyID) (n int) {
		for _, pattern := range []string{"snapshots/*", "exposed/data@*"} {
			found, err := filepath.Glob(filepath.Join(b.dir, pattern))
			require.NoError(t, err)
			for _, path := range found {
				if strings.Contains(path, id.String()) {
					n++
				}
			}
		}
		return n
	}
	for _, running := range []bool{true, false} {
		lost := lose()
		stop := func() {}
		if running {
			_, stop = b.start(t)
		}
		require.Equal(t, []int{2, 2, 2}, []int{count(id), count(lost), count(foreign)})
		list := b.must(t, "orphans")
		require.Equal(t, 4, strings.Count(list, "\n"), list)
		require.Equal(t, 2, strings.Count(list, ", this agent's"), list)
		require.Equal(t, 2, strings.Count(list, ", of agent "), list)
		require.NotContains(t, list, id.String())
		require.Equal(t, []int{2, 2, 2}, []int{count(id), count(lost), count(foreign)}, "a list removes nothing")

		removed := b.must(t, "orphans", "-remove")
		require.Equal(t, 2, strings.Count(removed, "removed"), removed)
		require.Equal(t, []int{2, 0, 2}, []int{count(id), count(lost), count(foreign)})
		require.Equal(t, 2, strings.Count(b.must(t, "orphans", "-remove"), "\n"), "the other agent's are shown, and stay")
		require.Equal(t, []int{2, 0, 2}, []int{count(id), count(lost), count(foreign)})

		if !running {
			var got []orphan
			require.NoError(t, json.Unmarshal([]byte(b.must(t, "orphans", "-remove", "-force", "-json")), &got))
			require.Len(t, got, 2)
			for _, o := range got {
				require.True(t, o.Removed && !o.Own && o.Error == "" && o.Agent != "", "%+v", o)
			}
			require.Zero(t, count(foreign))
			require.JSONEq(t, "[]", b.must(t, "orphans", "-json"))
		}
		stop()
	}
	c, stop = b.start(t)
	require.Contains(t, b.must(t, "list"), set.String())
	require.NoError(t, c.DeleteShareMapping(t.Context(), set, id, `\\localhost\data`))
	require.Zero(t, count(id))
	stop()

	// The other agent finds that its copy is gone, and goes on.
	_, stop = other.start(t)
	require.NotContains(t, other.must(t, "list"), foreign.String())
	stop()
}

// TestAdministratorsAlone: nobody but root and the agent's user is let in at the socket, by its
// mode and, where that was changed, by who it is.
func TestAdministratorsAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root becomes somebody else")
	}
	b := build(t)
	c, stop := b.start(t)
	defer stop()
	set, _ := keepSet(t, c)
	// Somebody who can go to the socket and start the program.
	for dir := b.state; dir != "/" && dir != os.TempDir(); dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o711))
	}
	as := func(uid uint32, args ...string) (string, error) {
		cmd := exec.Command(b.exe, append(args, "-state", b.state)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const nobody = 65534
	socket := filepath.Join(b.state, socketName)
	commands := [][]string{{"list"}, {"delete", set.String(), "-force"}, {"orphans", "-remove", "-force"}}
	for _, args := range commands {
		out, err := as(nobody, args...)
		require.Error(t, err)
		require.Contains(t, out, "permission denied", "by the socket's mode")
	}
	require.NoError(t, os.Chmod(socket, 0o666))
	for _, args := range commands {
		out, err := as(nobody, args...)
		require.Error(t, err)
		require.Contains(t, out, "user 65534 is not an administrator", "by its credentials")
	}
	out, err := as(nobody, "state", "export")
	require.Error(t, err)
	require.Contains(t, out, "permission denied")
	out, err = as(0, "list")
	require.NoError(t, err, out)
	require.Contains(t, out, set.String(), "nothing was deleted")
}

// TestSocketInTheWay: what is no socket that an agent has left is not removed, and the agent does
// its work without.
func TestSocketInTheWay(t *testing.T) {
	b := build(t)
	require.NoError(t, os.Mkdir(b.state, 0o700))
	path := filepath.Join(b.state, socketName)
	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	c, stop := b.start(t)
	keepSet(t, c)
	stop()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "mine", string(data))
	require.NoError(t, os.Remove(path))

	l, err := listenUnix(path) // an agent's that is at work
	require.NoError(t, err)
	answered := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			err = errors.Join(err, c.Close())
		}
		answered <- err
	}()
	_, err = listenAdmin(b.state, nil, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "-state")
	require.NoError(t, <-answered)
	require.NoError(t, l.Close())

	s, err := listenAdmin(b.state, nil, slog.New(slog.DiscardHandler)) // one that was left
	require.NoError(t, err)
	defer s.close()
	dialed, err := dialUnix(t.Context(), path)
	require.NoError(t, err)
	require.NoError(t, dialed.Close())
}
