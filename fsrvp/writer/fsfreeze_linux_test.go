package writer

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

func eachFileSystem(t *testing.T, f func(t *testing.T, point string)) {
	for _, fs := range []struct {
		name string
		mib  int64
	}{{"ext4", 64}, {"xfs", 320}} {
		t.Run(fs.name, func(t *testing.T) { f(t, mountImage(t, fs.name, fs.mib)) })
	}
}

func TestFSFreeze(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, point string) {
		for name, guard := range map[string]Guard{"guard": testGuard(), "in process": {InProcess: true}} {
			t.Run(name, func(t *testing.T) {
				w, err := FSFreeze{Mounts: []string{point}, Guard: guard}.Writer()
				require.NoError(t, err)
				p := startProbe(t, point)
				for range 3 { // a writer serves many runs
					require.NoError(t, w.Prepare(t.Context(), nil))
					p.writable(t)
					require.NoError(t, w.Freeze(t.Context()))
					p.blocked(t)
					require.NoError(t, w.Thaw(t.Context()))
					p.writable(t)
				}
				require.NoError(t, w.Prepare(t.Context(), nil))
				require.ErrorContains(t, w.Prepare(t.Context(), nil), "in use by another run")
				require.NoError(t, w.Abort(t.Context(), nil), "of the run that was refused")
				require.NoError(t, w.Freeze(t.Context()))
				require.NoError(t, w.Abort(t.Context(), nil), "a run that does not thaw")
				p.writable(t)
			})
		}
	})
}

func TestFSFreezeOfMany(t *testing.T) {
	a, b := mountImage(t, "ext4", 32), mountImage(t, "ext4", 32)
	pa, pb := startProbe(t, a), startProbe(t, b)
	w, err := FSFreeze{Mounts: []string{a, b}, Guard: testGuard()}.Writer()
	require.NoError(t, err)
	require.NoError(t, w.Freeze(t.Context()), "without Prepare")
	pa.blocked(t)
	pb.blocked(t)
	require.NoError(t, w.Thaw(t.Context()))
	pa.writable(t)
	pb.writable(t)

	// One that fails: the other is thawed, and what something else has frozen is left alone.
	freezeByHand(t, b)
	require.NoError(t, w.Prepare(context.Background(), nil))
	require.ErrorContains(t, w.Freeze(t.Context()), b+": another program has already frozen it")
	pa.writable(t)
	pb.blocked(t)
	require.NoError(t, w.Thaw(t.Context()))
	pb.blocked(t)
	require.True(t, thawByHand(b))

	// One that something else thaws.
	require.NoError(t, w.Freeze(t.Context()))
	require.True(t, thawByHand(b))
	require.ErrorIs(t, w.Thaw(t.Context()), provider.ErrNotHeld)
	pa.writable(t)
}

func TestFSFreezeRefuses(t *testing.T) {
	point := mountImage(t, "ext4", 32)
	require.NoError(t, os.Mkdir(filepath.Join(point, "sub"), 0o755))
	for _, c := range []struct {
		name   string
		mounts []string
		want   string
	}{
		{"root", []string{"/usr"}, "is on the same file system as the root directory"},
		{"twice", []string{point, filepath.Join(point, "sub")}, "is on the same file system as " + point},
		{"missing", []string{filepath.Join(point, "gone")}, "no such file"},
		{"cannot be frozen", []string{"/proc"}, "cannot be frozen"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := FSFreeze{Mounts: c.mounts, Guard: testGuard()}.Writer()
			require.NoError(t, err)
			err = w.Prepare(t.Context(), nil)
			if err == nil {
				err = w.Freeze(t.Context())
			}
			require.ErrorContains(t, err, c.want)
			require.NoError(t, w.Thaw(t.Context()))
			require.NoError(t, w.Abort(t.Context(), err))
		})
	}
	_, err := FSFreeze{Mounts: []string{point}}.Writer()
	require.ErrorContains(t, err, "needs a Guard.Command")
	_, err = FSFreeze{Guard: testGuard()}.Writer()
	require.ErrorContains(t, err, "no Mounts")
}

// TestFSFreezeDeath is a program that dies, stops, or loses its guard, while a file system is
// frozen.
func TestFSFreezeDeath(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, point string) {
		p := startProbe(t, point)
		start := func(limit time.Duration) *process {
			prog := startProcess(t, kinds{FSFreeze: &FSFreeze{Mounts: []string{point}, Limit: limit,
				Guard: testGuard()}})
			prog.says(t, "prepared")
			prog.says(t, "frozen")
			return prog
		}
		t.Run("killed", func(t *testing.T) {
			prog := start(time.Minute)
			p.blocked(t)
			prog.signal(t, syscall.SIGKILL)
			t.Log("thawed after", p.writable(t))
		})
		t.Run("killed with its session's terminal", func(t *testing.T) {
			prog := start(time.Minute)
			for _, guard := range prog.guards(t) {
				for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
					require.NoError(t, syscall.Kill(guard, sig))
				}
			}
			p.blocked(t) // a guard is no way to thaw
			prog.signal(t, syscall.SIGKILL)
			p.writable(t)
		})
		t.Run("stopped", func(t *testing.T) {
			const limit = 500 * time.Millisecond
			began := time.Now()
			prog := start(limit)
			prog.signal(t, syscall.SIGSTOP)
			p.writable(t)
			require.GreaterOrEqual(t, time.Since(began), limit)
			prog.signal(t, syscall.SIGCONT)
			prog.stdin.Close()
			prog.says(t, "thawed when the limit of 500ms was over: the application went on before")
		})
		t.Run("guard killed", func(t *testing.T) {
			prog := start(time.Minute)
			guards := prog.guards(t)
			require.Len(t, guards, 1)
			require.NoError(t, syscall.Kill(guards[0], syscall.SIGKILL))
			p.blocked(t) // until the program thaws
			prog.stdin.Close()
			prog.says(t, "thawed <nil>")
			p.writable(t)
		})
		t.Run("guard stopped", func(t *testing.T) {
			w, err := newKeeper(spec{Name: "x", ThawLimit: 100 * time.Millisecond,
				FSFreeze: &fsFreezeSpec{Mounts: []string{point}}}, testGuard()), error(nil)
			require.NoError(t, err)
			require.NoError(t, w.prepare(t.Context()))
			require.NoError(t, w.freeze(t.Context()))
			l, _ := w.current()
			require.NoError(t, l.process.Signal(unix.SIGSTOP))
			p.blocked(t)
			require.NoError(t, w.thaw(t.Context()))
			p.writable(t)
			<-l.gone
		})
	})
}

// TestFSFreezeLimit has a run take longer than the limit.
func TestFSFreezeLimit(t *testing.T) {
	point := mountImage(t, "ext4", 32)
	p := startProbe(t, point)
	w, err := FSFreeze{Mounts: []string{point}, Limit: 100 * time.Millisecond, Guard: testGuard()}.Writer()
	require.NoError(t, err)
	require.NoError(t, w.Prepare(t.Context(), nil))
	require.NoError(t, w.Freeze(t.Context()))
	p.writable(t)
	err = w.Thaw(t.Context())
	require.ErrorIs(t, err, provider.ErrNotHeld)
	require.ErrorContains(t, err, "limit of 100ms")
}
