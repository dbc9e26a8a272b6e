package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func TestRun(t *testing.T) {
	a, b := startFileServer(t, "fs1", 2), startFileServer(t, "fs2", 1)
	var app application
	var phases []string
	cfg := &Config{
		Dial:    newNetwork(a, b).dial,
		Writers: []Writer{app.writer()},
		Progress: func(e Event) {
			if e.Kind == PhaseEnded {
				require.NoError(t, e.Err)
				phases = append(phases, string(e.Phase))
			}
		},
	}
	shares := []string{b.unc(0), a.unc(1), `\\FS1\S0\`}
	ran := false
	err := Run(t.Context(), cfg, shares, func(_ context.Context, set *Set) error {
		ran = true
		require.Len(t, set.Copies, 3)
		for i, c := range set.Copies {
			require.Equal(t, shares[i], c.Share)
			require.WithinDuration(t, time.Now(), c.Created, time.Minute)
			require.True(t, strings.HasPrefix(c.Path, `\\`+c.Server+`\`), c.Path)
			fs := newNetwork(a, b)[strings.ToLower(c.Server)]
			name := c.Path[strings.LastIndex(c.Path, `\`)+1:]
			// The original changes; the copy does not.
			require.NoError(t, fs.snapshots.WriteFile(fmt.Sprintf("/%s/v0/data", fs.name), []byte("changed")))
			data, err := fs.shares.ReadFile(name, "data")
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(data), fs.name), "%s holds %q", c.Path, data)
		}
		require.NotEqual(t, set.Copies[1].CopyID, set.Copies[2].CopyID)
		got, ok := set.Copy(`\\fs1\s0`)
		require.True(t, ok)
		require.Equal(t, set.Copies[2], got)
		_, ok = set.Copy(`\\fs1\other`)
		require.False(t, ok)
		return nil
	})
	require.NoError(t, err)
	require.True(t, ran)
	require.Equal(t, "prepare freeze thaw snapshot", app.story())
	require.Equal(t, "resolve start prepare freeze commit thaw expose snapshot recover backup clean", strings.Join(phases, " "))
	a.requireClean(t)
	b.requireClean(t)
}

func TestRunRefuses(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	for _, c := range []struct {
		name   string
		cfg    *Config
		shares []string
		want   string
	}{
		{"no way to dial", nil, []string{fs.unc(0)}, "needs a Client or a Dial"},
		{"no shares", &Config{}, nil, "no shares"},
		{"no UNC path", &Config{}, []string{`C:\data`}, `C:\data`},
		{"the same share twice", &Config{}, []string{`\\fs1\s0`, `\\FS1\S0\sub`}, `is the same share as \\fs1\s0`},
		{"unknown host", &Config{}, []string{`\\other\s0`}, "no such host: other"},
		{"unknown share", &Config{}, []string{`\\fs1\other`}, `\\fs1\other`},
		{"bad context", &Config{Context: 0x00400002}, []string{fs.unc(0)}, "context is invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.cfg != nil {
				c.cfg.Dial = newNetwork(fs).dial
			}
			err := Run(t.Context(), c.cfg, c.shares, func(context.Context, *Set) error {
				t.Error("the backup was called")
				return nil
			})
			require.ErrorContains(t, err, c.want)
			fs.requireClean(t)
		})
	}
}

// TestFailureAtEveryCall has one of three servers fail at every method in turn, before the call and
// in its place.
func TestFailureAtEveryCall(t *testing.T) {
	for _, op := range []fsrvp.Opnum{
		fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpSetContext, fsrvp.OpStartShadowCopySet,
		fsrvp.OpAddToShadowCopySet, fsrvp.OpPrepareShadowCopySet, fsrvp.OpCommitShadowCopySet,
		fsrvp.OpExposeShadowCopySet, fsrvp.OpGetShareMapping, fsrvp.OpRecoveryCompleteShadowCopySet,
	} {
		for _, c := range []struct {
			name string
			err  error
		}{
			{"status", &fsrvp.Error{Server: "fs2", Op: op, Status: fsrvp.ErrWaitFailed}},
			{"transport", errInjected},
		} {
			t.Run(fmt.Sprintf("%v/%s", op, c.name), func(t *testing.T) {
				servers := []*fileServer{startFileServer(t, "fs1", 2), startFileServer(t, "fs2", 2), startFileServer(t, "fs3", 2)}
				times := 0
				servers[1].setFault(func(o fsrvp.Opnum) error {
					if o == op && times == 0 {
						times++
						return c.err
					}
					return nil
				})
				var app application
				cfg := &Config{Dial: newNetwork(servers...).dial, Writers: []Writer{app.writer()}}
				var shares []string
				for _, fs := range servers {
					shares = append(shares, fs.unc(0), fs.unc(1))
				}
				err := Run(t.Context(), cfg, shares, func(context.Context, *Set) error {
					t.Error("the backup was called")
					return nil
				})
				require.ErrorIs(t, err, c.err)
				require.ErrorContains(t, err, "fs2")
				require.NotContains(t, err.Error(), "on fs1", "an error of a server that has not failed")
				require.NotContains(t, err.Error(), "on fs3", "an error of a server that has not failed")
				if strings.Contains(app.story(), "freeze") {
					require.Contains(t, app.story(), "freeze thaw")
				}
				if strings.Contains(app.story(), "prepare") {
					require.Contains(t, app.story(), "abort")
				}
				for _, fs := range servers {
					fs.requireClean(t)
				}
			})
		}
	}
}

func TestFailureOfDelete(t *testing.T) {
	a, b := startFileServer(t, "fs1", 1), startFileServer(t, "fs2", 1)
	a.setFault(func(op fsrvp.Opnum) error {
		if op == fsrvp.OpDeleteShareMapping {
			return &fsrvp.Error{Server: "fs1", Op: op, Status: fsrvp.ErrAccessDenied}
		}
		return nil
	})
	err := Run(t.Context(), &Config{Dial: newNetwork(a, b).dial}, []string{a.unc(0), b.unc(0)},
		func(context.Context, *Set) error { return errInjected })
	require.ErrorIs(t, err, errInjected, "the backup's own error is lost")
	require.ErrorIs(t, err, fsrvp.ErrAccessDenied)
	require.ErrorContains(t, err, `clean on fs1, share \\fs1\s0`)
	require.Len(t, a.agent.Table(), 1)
	b.requireClean(t)
}

func TestWriterFailures(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Writer)
		story  string
	}{
		{"prepare", func(w *Writer) { w.Prepare = func(context.Context, []string) error { return errInjected } }, "abort"},
		{"freeze", func(w *Writer) { w.Freeze = func(context.Context) error { return errInjected } }, "prepare thaw abort"},
		{"thaw", func(w *Writer) { w.Thaw = func(context.Context) error { return errInjected } }, "prepare freeze abort"},
		{"snapshot", func(w *Writer) { w.PostSnapshot = func(context.Context, *Set) error { return errInjected } }, "prepare freeze thaw abort"},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := startFileServer(t, "fs1", 1)
			var app application
			w := app.writer()
			c.change(&w)
			err := Run(t.Context(), &Config{Dial: newNetwork(fs).dial, Writers: []Writer{w}}, []string{fs.unc(0)},
				func(context.Context, *Set) error { t.Error("the backup was called"); return nil })
			require.ErrorIs(t, err, errInjected)
			require.ErrorContains(t, err, "writer app")
			require.Equal(t, c.story, app.story())
			fs.requireClean(t)
		})
	}
}

// TestEveryWriterIsThawed has one writer fail to thaw, and to hear of the abort, while another
// still does.
func TestEveryWriterIsThawed(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	failed := make(chan struct{}, 2)
	var once sync.Once
	calls := 0
	bad := Writer{
		Name: "bad",
		Thaw: func(context.Context) error {
			calls++
			once.Do(func() { failed <- struct{}{} })
			return errInjected
		},
		Abort: func(context.Context, error) error { failed <- struct{}{}; return errInjected },
	}
	var app application
	slow := func(ctx context.Context, what string) error {
		<-failed
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond): // long enough for the other's failure to arrive
			app.note(what)
			return nil
		}
	}
	good := Writer{
		Name:  "good",
		Thaw:  func(ctx context.Context) error { return slow(ctx, "thaw") },
		Abort: func(ctx context.Context, _ error) error { return slow(ctx, "abort") },
	}
	err := Run(t.Context(), &Config{Dial: newNetwork(fs).dial, Writers: []Writer{bad, good}}, []string{fs.unc(0)},
		func(context.Context, *Set) error { t.Error("the backup was called"); return nil })
	require.ErrorIs(t, err, errInjected)
	require.ErrorIs(t, err, ErrStillFrozen)
	require.True(t, strings.HasPrefix(err.Error(), "thaw, writer bad: THE APPLICATION MAY STILL BE FROZEN"), err)
	require.Equal(t, 4, calls)
	require.Equal(t, "thaw abort", app.story())
	fs.requireClean(t)
}

// TestFreezeLimit has a server take longer for its commit than writers may be frozen.
func TestFreezeLimit(t *testing.T) {
	release := make(chan struct{})
	slow := startFileServer(t, "fs1", 1, func(fs *fileServer, _ *agent.Config) {
		fs.snapshots.Fault = func(_ context.Context, p snapmemory.Point) error {
			if p.Method == "Create" && !p.Done {
				<-release // even after a cancellation
			}
			return nil
		}
	})
	quick := startFileServer(t, "fs2", 1)
	var app application
	w := app.writer()
	thaw := w.Thaw
	w.Thaw = func(ctx context.Context) error {
		defer close(release)
		return thaw(ctx)
	}
	const limit = 300 * time.Millisecond
	cfg := &Config{Dial: newNetwork(slow, quick).dial, Writers: []Writer{w}, FreezeLimit: limit, CommitWait: 100 * time.Millisecond}
	err := Run(t.Context(), cfg, []string{slow.unc(0), quick.unc(0)}, func(context.Context, *Set) error {
		t.Error("the backup was called")
		return nil
	})
	require.ErrorContains(t, err, "commit on fs1")
	require.Equal(t, "prepare freeze thaw abort", app.story())
	require.Less(t, app.held, 10*limit) // on a busy machine; the commit would have taken for ever
	slow.requireClean(t)
	quick.requireClean(t)
}

// TestThawDoesNotWait has a server that does not let go of a call when its context ends: the
// writers go on all the same.
func TestThawDoesNotWait(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	hold := make(chan struct{})
	fs.setFault(func(op fsrvp.Opnum) error {
		if op == fsrvp.OpCommitShadowCopySet {
			<-hold
			return errInjected
		}
		return nil
	})
	var app application
	w := app.writer()
	w.Thaw = func(context.Context) error { close(hold); return nil }
	cfg := &Config{Dial: newNetwork(fs).dial, Writers: []Writer{w}, FreezeLimit: 50 * time.Millisecond}
	err := Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil })
	require.ErrorIs(t, err, errInjected)
	fs.requireClean(t)
}

func TestHungWriter(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	fs := startFileServer(t, "fs1", 1)
	var app application
	w := app.writer()
	w.Timeout = 20 * time.Millisecond
	w.Freeze = func(context.Context) error { <-hang; return nil }
	err := Run(t.Context(), &Config{Dial: newNetwork(fs).dial, Writers: []Writer{w}}, []string{fs.unc(0)},
		func(context.Context, *Set) error { return nil })
	require.ErrorContains(t, err, "freeze, writer app: took longer than its limit of 20ms")
	require.Equal(t, "prepare thaw abort", app.story())
	fs.requireClean(t)
}

func TestCancelledBackupIsCleanedUp(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := Run(ctx, &Config{Dial: newNetwork(fs).dial}, []string{fs.unc(0)}, func(ctx context.Context, _ *Set) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)
	fs.requireClean(t)
}

func TestPanickingBackupIsCleanedUp(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	require.PanicsWithValue(t, "boom", func() {
		_ = Run(t.Context(), &Config{Dial: newNetwork(fs).dial}, []string{fs.unc(0)}, func(context.Context, *Set) error { panic("boom") })
	})
	fs.requireClean(t)
}

// TestBusyServer has another client's set in the way, until it is done.
func TestBusyServer(t *testing.T) {
	a, b := startFileServer(t, "fs1", 1), startFileServer(t, "fs2", 1)
	net := newNetwork(a, b)
	other, err := net.dial(t.Context(), "fs2")
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.SetContext(t.Context(), fsrvp.ContextBackup))
	set, err := other.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
	require.NoError(t, err)
	waits := 0
	cfg := &Config{
		Dial:       net.dial,
		RetryDelay: 5 * time.Millisecond,
		Progress: func(e Event) {
			if e.Kind == Waiting {
				waits++
				require.ErrorIs(t, e.Err, fsrvp.ErrShadowCopySetInProgress)
				require.Empty(t, a.agent.Table(), "a set is held on one server while another is waited for")
				if waits == 3 {
					require.NoError(t, other.AbortShadowCopySet(t.Context(), set))
				}
			}
		},
	}
	require.NoError(t, Run(t.Context(), cfg, []string{a.unc(0), b.unc(0)}, func(context.Context, *Set) error { return nil }))
	require.GreaterOrEqual(t, waits, 3)
	a.requireClean(t)
	b.requireClean(t)

	cfg.RetryFor = -1
	require.NoError(t, other.SetContext(t.Context(), fsrvp.ContextBackup))
	_, err = other.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
	require.NoError(t, err)
	waits = 0
	err = Run(t.Context(), cfg, []string{a.unc(0), b.unc(0)}, func(context.Context, *Set) error { return nil })
	require.ErrorIs(t, err, fsrvp.ErrShadowCopySetInProgress)
	require.Zero(t, waits)
	a.requireClean(t)
}

func TestWriterTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Writer{Name: "app"}
		began := time.Now()
		hang := make(chan struct{})
		err := w.call(t.Context(), func(context.Context) error { <-hang; return nil })
		require.ErrorContains(t, err, "limit of 1m0s")
		require.Equal(t, time.Minute, time.Since(began))
		err = w.call(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("gave up: %w", ctx.Err()) })
		require.ErrorContains(t, err, "limit of 1m0s")
		close(hang)
		synctest.Wait()
	})
}

func TestOwner(t *testing.T) {
	for _, c := range []struct{ host, named, want string }{
		{"fs1.example.test", "", "fs1.example.test"},
		{"fs1.example.test", "FS1", "fs1.example.test"},
		{"fs1.example.test", "FS1.example.test", "fs1.example.test"},
		{"fs1.example.test", `\\FS2`, "FS2"},
		{"fs1", "fs1.example.test", "fs1.example.test"},
		{"10.0.0.1", "FS1", "FS1"},
	} {
		require.Equal(t, c.want, owner(c.host, c.named), "%+v", c)
	}
}

// TestClusterOwner has a host name another machine as the share's owner.
func TestClusterOwner(t *testing.T) {
	node := startFileServer(t, "node2", 1, func(_ *fileServer, cfg *agent.Config) {
		cfg.Names = []string{"node2", "cluster"}
	})
	front := startFileServer(t, "cluster", 1, func(_ *fileServer, cfg *agent.Config) {
		cfg.Owner = func(context.Context, string, backend.Share) (string, error) { return "node2", nil }
	})
	err := Run(t.Context(), &Config{Dial: newNetwork(node, front).dial}, []string{`\\cluster\s0`}, func(_ context.Context, set *Set) error {
		require.Equal(t, "node2", set.Copies[0].Server)
		return nil
	})
	require.NoError(t, err)
	node.requireClean(t)
	front.requireClean(t)
}

func TestAllTellsOwnFailuresFromEchoes(t *testing.T) {
	err := all(t.Context(), []int{0, 1, 2}, func(ctx context.Context, i int) error {
		if i == 1 {
			return errInjected
		}
		<-ctx.Done()
		return fmt.Errorf("part %d: %w", i, ctx.Err())
	})
	require.ErrorIs(t, err, errInjected)
	require.NotContains(t, err.Error(), "part")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the caller"))
	err = all(ctx, []int{0, 1}, func(ctx context.Context, i int) error { return fmt.Errorf("part %d: %w", i, ctx.Err()) })
	require.ErrorContains(t, err, "part 0")
	require.ErrorContains(t, err, "part 1")
}
