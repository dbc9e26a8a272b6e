package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// A guestRoot is what a real qemu-ga sees: a root file system in memory with the agent in it, and
// the file systems of a test. There is nothing else that it could freeze.
type guestRoot struct {
	Root   string            // directory to mount it on
	Files  []string          // what is copied in, under the same path
	Mounts map[string]string // path in the guest to mount point of the test
	Socket string            // directory of the test's tmpfs, which is /socket in the guest
	Args   []string
}

// agentMain builds the root, moves into it, makes sure that nothing of the machine is left to be
// frozen, and becomes qemu-ga.
func agentMain() error {
	var g guestRoot
	if err := json.Unmarshal([]byte(os.Args[2]), &g); err != nil {
		return err
	}
	if err := unix.Mount("guest", g.Root, "tmpfs", 0, "mode=0755,size=64m"); err != nil {
		return err
	}
	for _, file := range g.Files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		to := filepath.Join(g.Root, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o755); err != nil {
			return err
		}
	}
	g.Mounts["/socket"] = g.Socket
	for to, from := range g.Mounts {
		to = filepath.Join(g.Root, to)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, dir := range []string{"proc", "old", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(g.Root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", filepath.Join(g.Root, "proc"), "proc", 0, ""); err != nil {
		return err
	}
	if err := unix.PivotRoot(g.Root, filepath.Join(g.Root, "old")); err != nil {
		return err
	}
	if err := errors.Join(os.Chdir("/"), unix.Unmount("/old", unix.MNT_DETACH)); err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)[0]
		if _, ours := g.Mounts[fields[4]]; !ours && kind != "tmpfs" && kind != "proc" {
			return fmt.Errorf("qemu-ga would see a mount of the machine: %s", line)
		}
	}
	return unix.Exec(g.Args[0], g.Args, []string{"PATH=/bin:/usr/bin"})
}

// A realAgent is qemu-ga.
type realAgent struct {
	socket string
	cmd    *exec.Cmd
}

// startRealAgent starts qemu-ga with the file systems of the test at their paths in the guest. The
// hook, a shell script, is what qemu-ga -F runs.
func startRealAgent(tb testing.TB, mounts map[string]string, hook string) *realAgent {
	tb.Helper()
	exe, err := exec.LookPath("qemu-ga")
	if err != nil {
		missing(tb, "%v", err)
	}
	if os.Getenv(inNamespace) != "ready" {
		missing(tb, "qemu-ga needs root and a mount namespace")
	}
	dir, err := os.MkdirTemp(imageDir, "guest")
	require.NoError(tb, err)
	sh, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(tb, err)
	g := guestRoot{Root: filepath.Join(dir, "root"), Socket: filepath.Join(dir, "s"), Mounts: mounts,
		Files: []string{exe, sh}}
	require.NoError(tb, os.Mkdir(g.Root, 0o755))
	require.NoError(tb, os.Mkdir(g.Socket, 0o755))
	library := regexp.MustCompile(`/\S+`)
	for _, file := range []string{exe, sh} {
		for line := range strings.Lines(runCommand(tb, "ldd", file)) {
			if path := library.FindString(line); path != "" {
				g.Files = append(g.Files, path)
			}
		}
	}
	g.Args = []string{exe, "-m", "unix-listen", "-p", "/socket/qga.sock", "-t", "/tmp", "-f", "/tmp/pid"}
	if hook != "" {
		require.NoError(tb, os.WriteFile(filepath.Join(g.Socket, "hook"), []byte("#!"+sh+"\n"+hook), 0o755))
		g.Args = append(g.Args, "-F/socket/hook")
	}
	arg, err := json.Marshal(g)
	require.NoError(tb, err)
	a := &realAgent{socket: filepath.Join(g.Socket, "qga.sock"),
		cmd: exec.Command("/proc/self/exe", asAgent, string(arg))}
	var out strings.Builder
	a.cmd.Stdout, a.cmd.Stderr = &out, &out
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	require.NoError(tb, a.cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- a.cmd.Wait() }()
	tb.Cleanup(func() {
		for _, point := range mounts {
			thawByHand(point) // the agent may be in the middle of a freeze
		}
		_ = a.cmd.Process.Signal(syscall.SIGCONT)
		_ = a.cmd.Process.Kill()
		<-ended
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	for began := time.Now(); ; {
		if _, err := os.Stat(a.socket); err == nil {
			return a
		} else if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(tb, err)
		}
		select {
		case err := <-ended:
			ended <- err
			require.FailNow(tb, "qemu-ga has ended", "%v\n%s", err, out.String())
		case <-time.After(5 * time.Millisecond):
		}
		require.Less(tb, time.Since(began), time.Minute, "no socket of qemu-ga")
	}
}

// ask runs one command on a connection of its own.
func (a *realAgent) ask(tb testing.TB, command string, args any) string {
	tb.Helper()
	ctx, cancel := timeoutContext(tb, time.Minute)
	defer cancel()
	c, err := dialAgent(ctx, a.socket)
	require.NoError(tb, err)
	defer c.close()
	require.NoError(tb, c.sync(ctx))
	var result json.RawMessage
	require.NoError(tb, c.execute(ctx, command, args, &result))
	return string(result)
}

// TestQEMUGuestAgent is the real agent with XFS and ext4.
func TestQEMUGuestAgent(t *testing.T) {
	ext4, xfs, other := mountImage(t, "ext4", 64), mountImage(t, "xfs", 320), mountImage(t, "ext4", 32)
	a := startRealAgent(t, map[string]string{"/ext4": ext4, "/xfs": xfs, "/other": other}, "")
	p4, px, po := startProbe(t, ext4), startProbe(t, xfs), startProbe(t, other)
	for _, c := range []struct {
		name   string
		mounts []string
		other  bool // is frozen, too
	}{{"chosen", []string{"/ext4", "/xfs"}, false}, {"all", nil, true}} {
		t.Run(c.name, func(t *testing.T) {
			w, err := QEMUGuestAgent{Socket: a.socket, Mounts: c.mounts, Guard: testGuard()}.Writer()
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, w.Prepare(t.Context(), nil))
				require.NoError(t, w.Freeze(t.Context()))
				p4.blocked(t)
				px.blocked(t)
				if c.other {
					po.blocked(t)
				} else {
					po.writable(t)
				}
				require.NoError(t, w.Thaw(t.Context()))
				for _, p := range []*probe{p4, px, po} {
					p.writable(t)
				}
			}
		})
	}
	t.Run("unknown mount point", func(t *testing.T) {
		w, err := QEMUGuestAgent{Socket: a.socket, Mounts: []string{"/ext4", "/gone"}, Guard: testGuard()}.Writer()
		require.NoError(t, err)
		require.ErrorContains(t, w.Freeze(t.Context()), "froze 1 file systems, not the 2 at /ext4, /gone")
		p4.writable(t)
		require.NoError(t, w.Thaw(t.Context()))
	})
	t.Run("thawed by another", func(t *testing.T) {
		w, err := QEMUGuestAgent{Socket: a.socket, Guard: testGuard()}.Writer()
		require.NoError(t, err)
		require.NoError(t, w.Freeze(t.Context()))
		for _, point := range []string{ext4, xfs, other} {
			require.True(t, thawByHand(point))
		}
		require.NoError(t, w.Thaw(t.Context()), "the agent still says that it is frozen")
		require.Equal(t, `"thawed"`, a.ask(t, agentStatus, nil))
	})
	t.Run("stopped agent", func(t *testing.T) {
		k := newKeeper(spec{Name: "guest", ThawLimit: 200 * time.Millisecond, GuestAgent: &agentSpec{Socket: a.socket}},
			testGuard())
		require.NoError(t, k.prepare(t.Context()))
		require.NoError(t, k.freeze(t.Context()))
		l, _ := k.current()
		require.NoError(t, a.cmd.Process.Signal(syscall.SIGSTOP))
		ctx, cancel := timeoutContext(t, 500*time.Millisecond)
		defer cancel()
		require.ErrorContains(t, k.thaw(ctx), "goes on trying")
		px.blocked(t)
		require.NoError(t, k.abort(t.Context()))
		require.NoError(t, a.cmd.Process.Signal(syscall.SIGCONT))
		t.Log("thawed by the guard after", px.writable(t))
		p4.writable(t)
		po.writable(t)
		<-l.gone // before the agent goes, without which the guard would try for ever
	})
}

// TestQEMUGuestAgentDeath is a program that dies or stops while the guest is frozen.
func TestQEMUGuestAgentDeath(t *testing.T) {
	ext4, xfs := mountImage(t, "ext4", 64), mountImage(t, "xfs", 320)
	a := startRealAgent(t, map[string]string{"/ext4": ext4, "/xfs": xfs}, "")
	p4, px := startProbe(t, ext4), startProbe(t, xfs)
	start := func(t *testing.T, limit time.Duration) *process {
		p := startProcess(t, kinds{GuestAgent: &QEMUGuestAgent{Socket: a.socket, Limit: limit, Guard: testGuard()}})
		p.says(t, "prepared")
		p.says(t, "frozen")
		p4.blocked(t)
		return p
	}
	thawed := func(t *testing.T) {
		t.Log("thawed after", p4.writable(t)+px.writable(t))
	}
	t.Run("killed", func(t *testing.T) {
		p := start(t, time.Minute)
		p.signal(t, syscall.SIGKILL)
		thawed(t)
	})
	t.Run("stopped", func(t *testing.T) {
		p := start(t, 500*time.Millisecond)
		p.signal(t, syscall.SIGSTOP)
		thawed(t)
		p.signal(t, syscall.SIGCONT)
		p.stdin.Close()
		p.says(t, provider.ErrNotHeld.Error())
	})
	t.Run("guard killed", func(t *testing.T) {
		p := start(t, time.Minute)
		for _, guard := range p.guards(t) {
			require.NoError(t, syscall.Kill(guard, syscall.SIGKILL))
		}
		px.blocked(t)
		p.stdin.Close()
		p.says(t, "thawed <nil>")
		thawed(t)
	})
}

// TestQEMUGuestAgentHooks has hooks in the guest that work, and that fail.
func TestQEMUGuestAgentHooks(t *testing.T) {
	point := mountImage(t, "ext4", 32)
	a := startRealAgent(t, map[string]string{"/data": point}, `echo "$1" >>/socket/calls; test ! -e /socket/fail-$1`)
	dir := filepath.Dir(a.socket)
	p := startProbe(t, point)
	w, err := QEMUGuestAgent{Socket: a.socket, Guard: testGuard()}.Writer()
	require.NoError(t, err)
	require.NoError(t, w.Freeze(t.Context()))
	p.blocked(t)
	require.NoError(t, w.Thaw(t.Context()))
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	require.NoError(t, err)
	require.Equal(t, "freeze\nthaw\n", string(calls))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "fail-freeze"), nil, 0o644))
	err = w.Freeze(t.Context())
	require.ErrorContains(t, err, "hook")
	t.Log(err)
	p.writable(t)
	require.NoError(t, w.Thaw(t.Context()))
	require.NoError(t, w.Abort(context.WithoutCancel(t.Context()), err))
}

// TestQEMUGuestAgentBusySocket has another client hold the agent's only connection, as libvirt
// does.
func TestQEMUGuestAgentBusySocket(t *testing.T) {
	point := mountImage(t, "ext4", 32)
	a := startRealAgent(t, map[string]string{"/data": point}, "")
	other, err := net.Dial("unix", a.socket)
	require.NoError(t, err)
	w, err := QEMUGuestAgent{Socket: a.socket, Limit: 300 * time.Millisecond, Guard: testGuard()}.Writer()
	require.NoError(t, err)
	require.ErrorContains(t, w.Prepare(t.Context(), nil), "does not answer")
	require.NoError(t, w.Abort(t.Context(), nil))
	require.NoError(t, other.Close())
	require.NoError(t, w.Prepare(t.Context(), nil))
	require.NoError(t, w.Abort(t.Context(), nil))
}
