package writer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// script makes a program of a shell script, which finds its directory in $DIR.
func script(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "#!/bin/sh\nDIR=%s\n%s\n", dir, text), 0o755))
	return file
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	log := func() string {
		b, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil {
			return ""
		}
		_ = os.Remove(filepath.Join(dir, "log"))
		return strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", ", ")
	}
	app := script(t, dir, "app", `echo "$@ $WHO $(pwd -P)" >>$DIR/log`)
	for _, c := range []struct {
		name    string
		freeze  []string
		thaw    []string
		limit   time.Duration
		err     string
		thawErr error
		log     string
	}{
		{name: "works", freeze: []string{app, "freeze", "a b"}, thaw: []string{app, "thaw"}, log: "freeze a b me DIR, thaw me DIR"},
		{name: "freeze alone", freeze: []string{app, "freeze"}, log: "freeze me DIR"},
		{name: "thaw alone", thaw: []string{app, "thaw"}, log: "thaw me DIR"},
		{name: "freeze fails", freeze: []string{script(t, dir, "fails", `echo "cannot do that" >&2; exit 3`)}, thaw: []string{app, "thaw"},
			err: `fails: exit status 3; it printed "cannot do that"`, log: "thaw me DIR"},
		{name: "freeze hangs, with what it started", freeze: []string{script(t, dir, "hangs", `sleep 600 & echo $! >$DIR/child; wait`)}, thaw: []string{app, "thaw"},
			limit: 300 * time.Millisecond, err: "killed: took longer than the limit of 300ms", log: "thaw me DIR"},
		{name: "too long", freeze: []string{app, "freeze"}, thaw: []string{app, "thaw"}, limit: 100 * time.Millisecond, thawErr: provider.ErrNotHeld, log: "freeze me DIR, thaw me DIR"},
		{name: "thaw works at last", freeze: []string{app, "freeze"}, thaw: []string{script(t, dir, "again", `echo thaw >>$DIR/log; test $(grep -c thaw $DIR/log) = 3`)},
			log: "freeze me DIR, thaw, thaw, thaw"},
		{name: "much output", freeze: []string{script(t, dir, "talks", `seq 100000; exit 1`)}, err: `99999\n100000"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := Command{Name: "app", Freeze: c.freeze, Thaw: c.thaw, Env: []string{"WHO=me", "PATH=" + os.Getenv("PATH")}, Dir: dir, Limit: c.limit, Guard: testGuard()}.Writer()
			require.NoError(t, err)
			require.NoError(t, w.Prepare(t.Context(), nil))
			err = w.Freeze(t.Context())
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				require.Less(t, len(err.Error()), 3*maxTail)
			} else {
				require.NoError(t, err)
			}
			if c.thawErr != nil {
				eventually(t, func() bool {
					b, _ := os.ReadFile(filepath.Join(dir, "log"))
					return strings.Contains(string(b), "thaw")
				}, "the limit does not thaw")
			}
			require.ErrorIs(t, w.Thaw(t.Context()), c.thawErr)
			real, err := filepath.EvalSymlinks(dir)
			require.NoError(t, err)
			require.Equal(t, c.log, strings.ReplaceAll(log(), real, "DIR"))
		})
	}
	child, err := os.ReadFile(filepath.Join(dir, "child"))
	require.NoError(t, err)
	var pid int
	_, err = fmt.Sscan(string(child), &pid)
	require.NoError(t, err)
	eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, "what the program has started is left")

	_, err = Command{Guard: testGuard()}.Writer()
	require.ErrorContains(t, err, "no programs")
	_, err = Command{Freeze: []string{app}}.Writer()
	require.ErrorContains(t, err, "needs a Guard.Command")
	_, err = Command{Freeze: []string{"no-such-program"}, Guard: testGuard()}.Writer()
	require.ErrorContains(t, err, "no-such-program")
	w, err := Command{Freeze: []string{app}, Guard: Guard{Command: []string{filepath.Join(dir, "no-guard")}}}.Writer()
	require.NoError(t, err)
	require.ErrorContains(t, w.Prepare(t.Context(), nil), "no-guard")
	require.NoError(t, w.Abort(t.Context(), nil))
}

// TestCommandDeath is a program that is killed while its freeze program still runs, and while it
// holds.
func TestCommandDeath(t *testing.T) {
	dir := t.TempDir()
	thawed := filepath.Join(dir, "thawed")
	slow := script(t, dir, "slow", `: >$DIR/started; sleep 600`)
	quick := script(t, dir, "quick", `: >$DIR/started`)
	thaw := script(t, dir, "thaw", `: >$DIR/thawed`)
	for name, freeze := range map[string]string{"freezing": slow, "frozen": quick} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(filepath.Join(dir, "started"))
			_ = os.Remove(thawed)
			p := startProcess(t, kinds{Command: &Command{Freeze: []string{freeze}, Thaw: []string{thaw}, Guard: testGuard()}})
			p.says(t, "prepared")
			eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "started")); return err == nil }, "not started")
			require.NoFileExists(t, thawed)
			p.signal(t, syscall.SIGKILL)
			eventually(t, func() bool { _, err := os.Stat(thawed); return err == nil }, "not thawed")
		})
	}
}

// TestLibvirt has a script in place of virsh.
func TestLibvirt(t *testing.T) {
	dir := t.TempDir()
	virsh := script(t, dir, "virsh", `echo "$@" >>$DIR/log`)
	w, err := Libvirt{Domain: "vm 1", Connect: "qemu:///system", Mounts: []string{"/", "/data"}, Virsh: []string{virsh, "-q"}, Guard: testGuard()}.Writer()
	require.NoError(t, err)
	require.Equal(t, "guest vm 1", w.Name)
	require.NoError(t, w.Prepare(t.Context(), nil))
	require.NoError(t, w.Freeze(t.Context()))
	require.NoError(t, w.Thaw(t.Context()))
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	require.NoError(t, err)
	require.Equal(t, "-q --connect qemu:///system domfsfreeze --domain vm 1 --mountpoint / --mountpoint /data\n"+
		"-q --connect qemu:///system domfsthaw --domain vm 1\n", string(b))
	_, err = Libvirt{Domain: "x", Mounts: []string{}, Guard: testGuard()}.Writer()
	require.ErrorContains(t, err, "Mounts is empty")
	for _, domain := range []string{"", "-x"} {
		_, err = Libvirt{Domain: domain, Guard: testGuard()}.Writer()
		require.ErrorContains(t, err, "Domain")
	}
}

// TestGuardNonsense has a guard that is something else, and a program that talks nonsense to a
// guard.
func TestGuardNonsense(t *testing.T) {
	for _, command := range [][]string{{"/bin/false"}, {"/bin/echo", "hello"}, {"/bin/echo", `{"id":7}`}} {
		k := newKeeper(spec{Name: "x", Command: &commandSpec{Dir: "/", Thaw: []string{"/bin/true"}}}, Guard{Command: command})
		require.ErrorIs(t, k.prepare(t.Context()), errGuardGone)
		require.Error(t, k.freeze(t.Context()))
		require.NoError(t, k.thaw(t.Context()), "thawed by the program itself")
		require.NoError(t, k.abort(t.Context()))
	}
	for _, in := range []string{"", "\n", "hello", `{"op":"freeze"}`, `{"op":"thaw"}`, `{"op":"open"}`, `{"op":"open","spec":{}}`, `{"op":"x"}{"id":-1}`} {
		var out, log syncBuffer
		require.NoError(t, serve(strings.NewReader(in), &out, &log))
	}
}

// TestGuardAnswersNobody has a program that reads no answers, as one that is stopped.
func TestGuardAnswersNobody(t *testing.T) {
	fromProgram, toGuard, err := os.Pipe()
	require.NoError(t, err)
	fromGuard, toProgram, err := os.Pipe()
	require.NoError(t, err)
	for _, f := range []*os.File{fromProgram, toGuard, fromGuard, toProgram} {
		defer f.Close()
	}
	dir := t.TempDir()
	ended := make(chan error, 1)
	go func() { ended <- serve(fromProgram, toProgram, &syncBuffer{}) }()
	_, err = fmt.Fprintf(toGuard, `{"op":"open","spec":{"limit":60000000000,"thaw_limit":10000000000,"command":{"dir":"/","thaw":[%q]}}}{"op":"freeze"}`,
		script(t, dir, "thaw", `: >$DIR/thawed`))
	require.NoError(t, err)
	for range 2000 { // far more than the pipe takes
		_, err = fmt.Fprintln(toGuard, `{"op":"`+strings.Repeat("x", 100)+`"}`)
		require.NoError(t, err)
	}
	require.NoError(t, toGuard.Close())
	require.NoError(t, <-ended)
	require.FileExists(t, filepath.Join(dir, "thawed"))
}

func TestKeeperContext(t *testing.T) {
	k := newKeeper(spec{Name: "x", Command: &commandSpec{Dir: "/", Freeze: []string{"/bin/sleep", "600"}}}, testGuard())
	require.NoError(t, k.prepare(t.Context()))
	ctx, cancel := timeoutContext(t, 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, k.freeze(ctx), context.DeadlineExceeded)
	require.NoError(t, k.thaw(t.Context()))
	require.NoError(t, k.abort(t.Context()))
}
