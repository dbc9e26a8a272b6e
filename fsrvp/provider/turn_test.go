package provider

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

func TestLockFile(t *testing.T) {
	if _, err := defaultTurnDir(); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), turnFile(`FS1 "/\ü`))
	f, err := tryLock(path)
	require.NoError(t, err)
	_, err = tryLock(path)
	require.ErrorIs(t, err, errLocked)
	require.NoError(t, f.Close())
	f, err = tryLock(path)
	require.NoError(t, err)
	if runtime.GOOS == "windows" {
		require.NoError(t, f.Close())
		return
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o444), info.Mode(), "another user could not open it")
	// Who cleans /tmp up takes the name away: the next one makes the file again, and both know it.
	require.NoError(t, os.Remove(path))
	g, err := tryLock(path)
	require.NoError(t, err)
	_, err = tryLock(path)
	require.ErrorIs(t, err, errLocked)
	require.NoError(t, f.Close())
	require.NoError(t, g.Close())
	// Nobody is led elsewhere.
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink("/etc/passwd", path))
	_, err = tryLock(path)
	require.Error(t, err)
	require.NotErrorIs(t, err, errLocked)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".fsrvp*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestRunsTakeTurns has several runs of one address at once.
func TestRunsTakeTurns(t *testing.T) {
	a, b := startFileServer(t, "fs1", 1), startFileServer(t, "fs2", 1)
	hold := make(chan struct{})
	first := sync.OnceFunc(func() { <-hold })
	a.setFault(func(op fsrvp.Opnum) error {
		if op == fsrvp.OpPrepareShadowCopySet {
			first()
		}
		return nil
	})
	n := reach{"fs1": {a, ""}, "fs1.example.test": {a, ""}, "fs2": {b, ""}}
	lists := [][]string{{`\\fs1\s0`, `\\fs2\s0`}, {`\\fs2\s0`, `\\fs1.example.test\s0`}, {`\\fs1\s0`}, {`\\fs2\s0`}}
	queued := make(chan string, 100)
	var wg sync.WaitGroup
	for i, shares := range lists {
		wg.Go(func() {
			cfg := &Config{Dial: n.dial, RetryFor: -1, Progress: func(e Event) {
				if e.Kind == Queued {
					queued <- e.Server
				}
			}}
			if err := Run(t.Context(), cfg, shares, func(context.Context, *Set) error { return nil }); err != nil {
				t.Errorf("run %d: %v", i, err)
			}
		})
	}
	<-queued
	close(hold)
	wg.Wait()
	a.requireClean(t)
	b.requireClean(t)
	require.Empty(t, turns.taken)
}

// TestTurnLimit has another process, or so it seems, keep the server for ever.
func TestTurnLimit(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	dir := t.TempDir()
	s := &server{name: "fs1", owner: "FS1"}
	f, err := tryLock(filepath.Join(dir, turnFile(s.turnKey())))
	require.NoError(t, err)
	defer f.Close()
	queued := 0
	cfg := &Config{TurnDir: dir, TurnLimit: 50 * time.Millisecond, Progress: func(e Event) {
		if e.Kind == Queued {
			queued++
		}
	}, Dial: func(ctx context.Context, server string) (Agent, error) {
		c, err := newNetwork(fs).dial(ctx, server)
		return struct{ Agent }{c}, err // of which nobody knows whether it is in this process
	}}
	err = Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil })
	require.ErrorContains(t, err,
		"start on fs1: another run on this host has been using the server for the limit of 50ms")
	require.Equal(t, 1, queued)
	fs.requireClean(t)
	cfg.TurnDir = filepath.Join(dir, "none")
	err = Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil })
	require.ErrorContains(t, err, "Config.TurnDir")
	require.NoError(t, f.Close())
	cfg.TurnDir = dir
	require.NoError(t, Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil }))
}

func TestChildTakesTurns(t *testing.T) {
	env := os.Getenv(childEnv + "_TURNS")
	if env == "" {
		t.Skip("runs as the child of TestProcessesTakeTurns alone")
	}
	for range 5 {
		cfg := &Config{Dial: tcpDial([]string{env}), TurnDir: os.Getenv(childEnv + "_DIR"), RetryFor: -1}
		if err := Run(t.Context(), cfg, []string{`\\fs0\s0`},
			func(context.Context, *Set) error { return nil }); err != nil {
			fmt.Println("child failed:", err)
			os.Exit(3)
		}
	}
}

// TestProcessesTakeTurns has two processes make sets on one server at once, one after the other
// being killed.
func TestProcessesTakeTurns(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	fs := startFileServer(t, "fs0", 1, func(_ *fileServer, cfg *agent.Config) { cfg.Allow = []string{`TEST\backup`} })
	addr, dir := serveTCP(t, fs), t.TempDir()
	child := func() *exec.Cmd {
		cmd := exec.Command(exe, "-test.run=^TestChildTakesTurns$")
		cmd.Env = append(os.Environ(), childEnv+"_TURNS="+addr, childEnv+"_DIR="+dir)
		return cmd
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if out, err := child().CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	fs.requireClean(t)
	// A crash frees the turn.
	entered := make(chan struct{})
	once := sync.OnceFunc(func() { close(entered) })
	dead := child()
	out, err := dead.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, dead.Start())
	go func() {
		for {
			held, err := filepath.Glob(filepath.Join(dir, "fsrvp-turn-*"))
			if err == nil && len(held) == 1 {
				if f, err := tryLock(held[0]); err == nil {
					_ = f.Close()
				} else {
					break
				}
			}
			time.Sleep(time.Millisecond)
		}
		once()
	}()
	<-entered
	require.NoError(t, dead.Process.Kill())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
	}
	_ = dead.Wait() // killed, or just through
	cfg := &Config{Dial: tcpDial([]string{addr}), TurnDir: dir, RetryFor: -1, TurnLimit: 10 * time.Second}
	require.NoError(t, Run(t.Context(), cfg, []string{`\\fs0\s0`}, func(context.Context, *Set) error { return nil }))
}

func TestErrorIsOneSentence(t *testing.T) {
	status := &fsrvp.Error{Server: "10.0.0.1", Op: fsrvp.OpPrepareShadowCopySet, Status: fsrvp.ErrWaitFailed}
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{&Error{Phase: PhasePrepare, Server: "fs1", Err: status},
			"prepare on fs1: PrepareShadowCopySet: the wait failed (FSRVP_E_WAIT_FAILED, 0xFFFFFFFF)"},
		{&Error{Phase: PhaseStart, Server: "fs1", Share: `\\fs1\vms`, Err: fmt.Errorf("fsrvp: %v on fs1: %w", fsrvp.OpSetContext, fmt.Errorf("dcerpc: call of opnum 1: %w", os.ErrClosed))},
			`start on fs1, share \\fs1\vms: SetContext: call of opnum 1: file already closed`},
		{&Error{Phase: PhaseResolve, Server: "fs1", Err: fmt.Errorf("fsrvp: dial fs1: %w", fmt.Errorf("dcerpc: bind: krb5: no KDC"))},
			"resolve on fs1: bind: krb5: no KDC"},
		{&Error{Phase: PhaseFreeze, Writer: "db", Err: os.ErrDeadlineExceeded}, "freeze, writer db: i/o timeout"},
	} {
		require.Equal(t, c.want, c.err.Error())
	}
}
