package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// A weather is what happens to one server's connections.
type weather struct {
	kind   outage
	op     fsrvp.Opnum // at the first call of this
	before bool        // the server has not got that call; else it has done it, and the answer is lost

	mu    sync.Mutex
	since time.Time // zero: fine so far
	epoch int       // connections of an earlier one are broken
	over  bool
}

// An outage is a way to fail.
type outage struct {
	name    string
	silent  bool          // nothing is answered, and no connection is made or refused
	refused time.Duration // connections are refused for so long; less than zero: for good
}

var errRefused = errors.New("connection refused")

func (w *weather) down() (silent, refused bool) {
	if w.since.IsZero() || w.over {
		return false, false
	}
	return w.kind.silent, w.kind.refused < 0 || time.Since(w.since) < w.kind.refused
}

// dialled is asked before a connection is made.
func (w *weather) dialled(ctx context.Context) (epoch int, err error) {
	w.mu.Lock()
	silent, refused := w.down()
	epoch = w.epoch
	w.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return 0, ctx.Err()
	case refused:
		return 0, errRefused
	}
	return epoch, nil
}

// call lets a request through, or not.
func (w *weather) call(ctx context.Context, epoch int, to fsrvp.Service, req fsrvp.Message) (fsrvp.Response, error) {
	w.mu.Lock()
	strikes := w.since.IsZero() && req.Opnum() == w.op
	if strikes && !w.before {
		w.mu.Unlock()
		if _, err := fsrvp.Serve(ctx, to, req); err != nil {
			return nil, err
		}
		w.mu.Lock()
	}
	if strikes {
		w.since = time.Now()
		if !w.kind.silent {
			w.epoch++
		}
	}
	silent, _ := w.down()
	broken := epoch != w.epoch
	w.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case broken:
		return nil, io.ErrUnexpectedEOF
	}
	return fsrvp.Serve(ctx, to, req)
}

func (w *weather) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

// exposed is an agent in the weather.
type exposed struct {
	fsrvp.Service
	io.Closer
}

// dialIn dials servers of a network, all from one address; one of them is in the weather.
func dialIn(n network, struck string, w *weather) func(context.Context, string) (Agent, error) {
	return func(ctx context.Context, server string) (Agent, error) {
		epoch := 0
		if server == struck {
			var err error
			if epoch, err = w.dialled(ctx); err != nil {
				return nil, err
			}
		}
		c, err := fsrvp.Dial(ctx, server, &fsrvp.Config{Transport: fromOne{n[server]}, Auth: realm.Initiator("backup")})
		if err != nil || server != struck {
			return c, err
		}
		return exposed{fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
			return w.call(ctx, epoch, c, req)
		}), c}, nil
	}
}

var failingOps = []fsrvp.Opnum{
	fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpSetContext, fsrvp.OpStartShadowCopySet,
	fsrvp.OpAddToShadowCopySet, fsrvp.OpPrepareShadowCopySet, fsrvp.OpCommitShadowCopySet,
	fsrvp.OpExposeShadowCopySet, fsrvp.OpGetShareMapping, fsrvp.OpRecoveryCompleteShadowCopySet, fsrvp.OpDeleteShareMapping,
}

// TestFailureMatrix has one of three servers fail in every way at every call, before it and in its
// middle. Time is that of a bubble, and limits are the defaults.
func TestFailureMatrix(t *testing.T) {
	for _, kind := range []outage{
		{name: "silence", silent: true},
		{name: "reset"},
		{name: "refused for 100ms", refused: 100 * time.Millisecond},
		{name: "refused for 2s", refused: 2 * time.Second},
		{name: "refused for 30s", refused: 30 * time.Second},
		{name: "refused for good", refused: -1}, // as with a ticket that cannot be renewed
	} {
		t.Run(kind.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				own := func(_ *fileServer, cfg *agent.Config) { cfg.MaxRetries = -1 }
				servers := []*fileServer{startFileServer(t, "fs1", 1, own), startFileServer(t, "fs2", 2, own), startFileServer(t, "fs3", 1, own)}
				shares := []string{`\\fs1\s0`, `\\fs2\s0`, `\\fs2\s1`, `\\fs3\s0`}
				for _, op := range failingOps {
					for _, before := range []bool{true, false} {
						name := fmt.Sprintf("%s, %v, before %v", kind.name, op, before)
						w := &weather{kind: kind, op: op, before: before}
						j, err := OpenJournal(filepath.Join(dir, fmt.Sprintf("%d%v", op, before)))
						require.NoError(t, err)
						failOnce(t, name, w, servers, shares, j)
						require.NoError(t, j.Close())
					}
				}
			})
		})
	}
}

func failOnce(t *testing.T, name string, w *weather, servers []*fileServer, shares []string, j *Journal) {
	t.Helper()
	var app application
	var order []Phase
	n := newNetwork(servers...)
	cfg := &Config{Dial: dialIn(n, "fs2", w), Journal: j, Writers: []Writer{app.writer()}, Progress: func(e Event) {
		if e.Kind == PhaseEnded {
			order = append(order, e.Phase)
		}
	}}
	ran := false
	began := time.Now()
	err := Run(t.Context(), cfg, shares, func(context.Context, *Set) error { ran = true; return nil })
	took := time.Since(began)
	// Documented: the limit of the call, then that of the clean-up.
	longest := 15*time.Second + 30*time.Second + 2*time.Minute + 2*closeLimit + pingLimit
	if w.op == fsrvp.OpCommitShadowCopySet {
		longest += 15 * time.Second // FreezeLimit is more than the probes'
	}
	require.LessOrEqual(t, took, longest, name)
	require.LessOrEqual(t, app.held, 60*time.Second, name)
	require.Equal(t, 1, count(order, PhaseCleanUp), name)
	late := slices.Contains([]fsrvp.Opnum{fsrvp.OpDeleteShareMapping}, w.op)
	require.Equal(t, late, ran, name)
	if !late {
		require.ErrorContains(t, err, "fs2", name)
		require.NotContains(t, err.Error(), "fs1", name)
		require.NotContains(t, err.Error(), "fs3", name)
	}
	servers[0].requireClean(t)
	servers[2].requireClean(t)
	left, lerr := j.left()
	require.NoError(t, lerr)
	if !w.kind.silent && w.kind.refused >= 0 {
		require.Empty(t, left, "%s: %v", name, err)
	}
	if len(left) > 0 {
		require.ErrorContains(t, err, "in the journal for Recover", name)
	} else {
		servers[1].requireClean(t)
	}
	w.clear()
	require.NoError(t, Recover(t.Context(), cfg), name)
	left, lerr = j.left()
	require.NoError(t, lerr)
	require.Empty(t, left, name)
	servers[1].requireClean(t)
}

func count(list []Phase, p Phase) int {
	n := 0
	for _, x := range list {
		if x == p {
			n++
		}
	}
	return n
}

// TestCancelWithADeadServer has a server fall silent, and somebody press Ctrl-C.
func TestCancelWithADeadServer(t *testing.T) {
	for _, op := range failingOps {
		t.Run(op.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := startFileServer(t, "fs1", 1), startFileServer(t, "fs2", 1)
				w := &weather{kind: outage{silent: true}, op: op, before: true}
				ctx, cancel := context.WithCancel(t.Context())
				var cancelled time.Time
				slow := 0
				cfg := &Config{Dial: dialIn(newNetwork(a, b), "fs2", w), Progress: func(e Event) {
					if e.Kind == Slow && e.Server == "fs2" && cancelled.IsZero() {
						slow++
						require.Equal(t, 10*time.Second, e.Elapsed)
						cancelled = time.Now()
						cancel()
					}
				}}
				err := Run(ctx, cfg, []string{a.unc(0), b.unc(0)}, func(context.Context, *Set) error { return nil })
				require.Equal(t, 1, slow, "no event says which server is waited for")
				require.LessOrEqual(t, time.Since(cancelled), 10*time.Second+2*closeLimit)
				if op != fsrvp.OpDeleteShareMapping {
					require.ErrorIs(t, err, context.Canceled)
				}
				require.Error(t, err)
				a.requireClean(t)
			})
		})
	}
}

// TestManyServersAndADeadOne is 64 servers with 16 shares each; one drops everything from the
// beginning, or from the middle on.
func TestManyServersAndADeadOne(t *testing.T) {
	for name, c := range map[string]struct {
		op    fsrvp.Opnum
		limit time.Duration
	}{
		"from the beginning": {fsrvp.OpGetSupportedVersion, 30*time.Second + closeLimit},
		"from Prepare on":    {fsrvp.OpPrepareShadowCopySet, 15*time.Second + 30*time.Second + 2*time.Minute + 2*closeLimit + pingLimit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var servers []*fileServer
				var shares []string
				for i := range 64 {
					fs := startFileServer(t, fmt.Sprintf("h%d", i), 16)
					servers = append(servers, fs)
					for s := range 16 {
						shares = append(shares, fs.unc(s))
					}
				}
				w := &weather{kind: outage{silent: true}, op: c.op, before: true}
				cfg := &Config{Dial: dialIn(newNetwork(servers...), "h7", w)}
				began := time.Now()
				err := Run(t.Context(), cfg, shares, func(context.Context, *Set) error { t.Error("called"); return nil })
				require.ErrorContains(t, err, "on h7: ")
				require.LessOrEqual(t, time.Since(began), c.limit)
				for i, fs := range servers {
					if i != 7 {
						fs.requireClean(t)
					}
				}
				w.clear()
				require.NoError(t, Run(t.Context(), &Config{Dial: cfg.Dial, RetryFor: time.Hour}, shares, func(_ context.Context, set *Set) error {
					require.Len(t, set.Copies, len(shares))
					return nil
				}))
			})
		})
	}
}

// TestSlowIsNotDead has a server at work for half an hour, which answers on other connections.
func TestSlowIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := startFileServer(t, "fs1", 1)
		fs.setFault(func(op fsrvp.Opnum) error {
			if op == fsrvp.OpPrepareShadowCopySet {
				time.Sleep(29 * time.Minute)
			}
			return nil
		})
		require.NoError(t, Run(t.Context(), &Config{Dial: newNetwork(fs).dial}, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil }))
		fs.requireClean(t)
	})
}

// TestCommitWithoutWriters takes longer than writers may be frozen.
func TestCommitWithoutWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := startFileServer(t, "fs1", 1)
		fs.setFault(func(op fsrvp.Opnum) error {
			if op == fsrvp.OpCommitShadowCopySet {
				time.Sleep(5 * time.Minute)
			}
			return nil
		})
		thawed := Writer{Name: "no freeze", Thaw: func(context.Context) error { return nil }}
		cfg := &Config{Dial: newNetwork(fs).dial, CommitWait: 10 * time.Minute, Writers: []Writer{thawed}}
		require.NoError(t, Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil }))
		fs.requireClean(t)
	})
}
