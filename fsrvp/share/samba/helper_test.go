//go:build unix

package samba

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// newFakeHelper is newFake with a helper, that is started again at once. It has to answer within
// limit, after which programs do its work.
func newFakeHelper(t *testing.T, limit time.Duration) (*fakeSamba, backend.Share) {
	t.Helper()
	f, share := newFake(t, Config{Python: "python3", HelperTimeout: limit, restartDelay: time.Millisecond})
	require.Equal(t, HelperState{Running: true}, f.Helper())
	old := time.Now().Add(-time.Hour) // so that what sharesec prints can be kept
	require.NoError(t, os.Chtimes(filepath.Join(f.home, "share_info.tdb"), old, old))
	return f, share
}

// Limits for newFakeHelper.
const (
	hasty   = 200 * time.Millisecond // for a helper that hangs; a busy machine may take longer
	patient = time.Minute
)

// ready waits until there is a helper.
func (f *fakeSamba) ready() {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.Helper().Running }, time.Minute, time.Millisecond)
}

// ops returns what was called since the last time: the helper's operations, and programs.
func (f *fakeSamba) ops() []string {
	f.t.Helper()
	var list []string
	for _, c := range f.calls() {
		list = append(list, c.Args[0])
	}
	return list
}

// writable returns copies of a share that may be written to.
func writable(share backend.Share, count int) (list []backend.Exposure) {
	for range count {
		e := exposureOf(share, share.Path)
		e.Writable = true
		list = append(list, e)
	}
	return list
}

// TestHelperOrder: what many shares cost.
func TestHelperOrder(t *testing.T) {
	f, share := newFakeHelper(t, patient)
	open, err := f.Lookup(t.Context(), "open")
	require.NoError(t, err)
	f.ops()
	for _, count := range []int{1, 5} {
		list := writable(open, count)
		require.NoError(t, f.ExposeShares(t.Context(), list))
		require.NotContains(t, f.state().SDs, list[0].Name)
		ops := f.ops()
		if count == 1 { // the first time
			require.Equal(t, "sharesec", ops[len(ops)-2])
		}
		require.Equal(t, "helper define", ops[len(ops)-1])
		require.NoError(t, f.SealShares(t.Context(), list))
		require.Equal(t, []string{"helper get", "helper get", "helper set", "helper end", "helper set", "helper end"},
			f.ops())
		for _, e := range list {
			require.Contains(t, f.state().Registry[e.Name], "\tread only = Yes\n")
			require.Contains(t, f.state().Registry[e.Name], "\tavailable = Yes\n")
		}
		require.NoError(t, f.SealShares(t.Context(), list))
		require.Equal(t, []string{"helper get", "helper get"}, f.ops(), "they are sealed")
		require.NoError(t, f.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)))
		require.Equal(t, []string{"helper get", "helper end"}, f.ops())
		require.Empty(t, f.state().Registry)
		_, err := f.Lookup(t.Context(), "open")
		require.NoError(t, err)
		require.Equal(t, []string{"helper get"}, f.ops(), "other shares have changed, this one has not")
	}
	// A descriptor is a program's.
	list := writable(share, 2)
	require.NoError(t, f.ExposeShares(t.Context(), list))
	ops := f.ops()
	require.Equal(t, []string{"helper define", "sharesec", "sharesec", "helper set", "helper end"}, ops[len(ops)-5:])
	for _, e := range list {
		require.Equal(t, strict, f.state().SDs[e.Name])
		require.Contains(t, f.state().Registry[e.Name], "\tavailable = Yes\n")
	}
	require.NoError(t, f.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)))
	require.Equal(t, []string{"helper get", "net", "net", "helper end"}, f.ops())
	require.Empty(t, f.state().Registry)
	require.Equal(t, map[string]string{"data": strict}, f.state().SDs)
	require.Equal(t, HelperState{Running: true}, f.Helper())
}

// helperFaults are what can go wrong with a helper's answer, before it has done something and
// after, or after alone; slow ones take as long as the helper may.
var helperFaults = []struct {
	how          string
	before, slow bool
}{
	{"die", true, false}, {"hang", true, true}, {"garble", true, false}, {"other", true, false},
	{"long", true, false}, {"refuse", true, false}, {"late", false, true}, {"half", false, true},
	{"half-die", false, false}, {"twice", false, false}, {"no-id", false, false}, {"kinds", false, false},
	{"empty", false, false}, {"nothing", false, false}, {"list", false, false},
}

// TestHelperFaults has each operation of the helper go wrong in each way, before it has done
// something and after: programs do the work, whatever is half done, and the helper is started
// again.
func TestHelperFaults(t *testing.T) {
	for _, base := range []string{"data", "open"} {
		t.Run(base, func(t *testing.T) {
			f, share := newFakeHelper(t, hasty)
			share.Name = base
			list := writable(share, 2)
			empty := f.state()
			do := map[string]func() error{
				"expose":   func() error { return f.ExposeShares(t.Context(), list) },
				"seal":     func() error { return f.SealShares(t.Context(), list) },
				"unexpose": func() error { return f.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)) },
			}
			before := empty
			for _, what := range []string{"expose", "seal", "unexpose"} {
				f.change(func(s *fakeState) { *s = before })
				f.ready()
				f.seen.Store(nil)
				f.ops()
				require.NoError(t, do[what]())
				after := f.state()
				ops := f.ops()
				seen := map[string]int{}
				for _, op := range ops {
					if !strings.HasPrefix(op, "helper ") {
						continue
					}
					for _, fault := range helperFaults {
						how := fault.how
						for i, when := range []string{"before", "after"} {
							if testing.Short() && (i+len(how)+len(op)+seen[op])%2 == 0 {
								continue // one of the two
							}
							if when == "before" && !fault.before {
								continue
							}
							if !fault.before && fault.slow == (base == "open") {
								continue // one of the two will do
							}
							f.change(func(s *fakeState) { *s = before })
							f.ready()
							doubts := f.Helper().Doubts
							f.seen.Store(nil) // it is of the state after
							f.fail(fakeFault{Command: op, Skip: seen[op], Mode: when + " " + how})
							require.NoError(t, do[what](), "%s, %s %d: %s %s", what, op, seen[op], when, how)
							if how != "twice" { // which the next call finds
								require.Greater(t, f.Helper().Doubts, doubts, "%s, %s: %s %s", what, op, when, how)
							}
							f.fail()
							requireSameState(t, after, f.state(),
								fmt.Sprintf("%s, %s %d: %s %s", what, op, seen[op], when, how))
						}
					}
					seen[op]++
				}
				before = after
			}
			requireSameState(t, empty, f.state(), "nothing is left")
			f.ready()
			require.NotZero(t, f.Helper().Restarts)
			require.NotZero(t, f.Helper().Doubts)
		})
	}
}

// TestHelperSaysMore: what an answer has besides does no harm.
func TestHelperSaysMore(t *testing.T) {
	f, share := newFakeHelper(t, patient)
	list := writable(share, 2)
	for _, op := range []string{"get", "define", "set", "end"} {
		f.fail(fakeFault{Command: "helper " + op, Mode: "after more"})
		require.NoError(t, f.ExposeShares(t.Context(), list))
		require.NoError(t, f.SealShares(t.Context(), list))
		require.NoError(t, f.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)))
	}
	require.Equal(t, HelperState{Running: true}, f.Helper())
}

// requireSameState compares states but for the order and the spelling of parameters: programs and
// the helper differ in it.
func requireSameState(t *testing.T, want, got fakeState, what string) {
	t.Helper()
	require.Equal(t, want.SDs, got.SDs, what)
	params := func(s fakeState) map[string]map[string]bool {
		all := map[string]map[string]bool{}
		for name, text := range s.Registry {
			all[name] = map[string]bool{}
			for line := range strings.Lines(text) {
				all[name][strings.TrimSpace(line)] = true
			}
		}
		return all
	}
	require.Equal(t, params(want), params(got), what)
}

// TestHelperAndProgramsFail: after an Expose that fails nothing is left, whatever the helper had
// done.
func TestHelperAndProgramsFail(t *testing.T) {
	f, share := newFakeHelper(t, hasty)
	list := writable(share, 3)
	before := f.state()
	for _, faults := range [][]fakeFault{
		{{Command: "sharesec data@", Mode: "before"}},
		{{Command: "sharesec data@", Skip: 1, Mode: "after"}},
		{{Command: "helper define", Mode: "after die"}, {Command: "sharesec data", Mode: "before"}},
		{{Command: "helper set", Mode: "after hang"}, {Command: "testparm", Mode: "before"}},
	} {
		f.ready()
		f.fail(faults...)
		err := f.ExposeShares(t.Context(), list)
		require.ErrorContains(t, err, "luck", "%v", faults)
		f.fail()
		requireSameState(t, before, f.state(), fmt.Sprint(faults))
	}
}

// TestHelperCancelled: a caller that has enough while the helper works leaves nothing, and one that
// had enough before does it no harm.
func TestHelperCancelled(t *testing.T) {
	f, share := newFakeHelper(t, patient)
	list := writable(share, 2)
	before := f.state()
	enough := errors.New("enough")
	expose := func(ctx context.Context) error { return f.ExposeShares(ctx, list) }
	unexpose := func(ctx context.Context) error { return f.UnexposeShares(ctx, backend.Owner{}, namesOf(list)) }
	for _, c := range []struct {
		op    string
		begun bool // the shares are exposed before
		do    func(context.Context) error
	}{
		{"helper define", false, expose}, {"helper set", false, expose}, {"helper end", false, expose},
		{"helper get", true, unexpose}, {"helper end", true, unexpose},
	} {
		op := c.op
		f.ready()
		if c.begun {
			require.NoError(t, expose(t.Context()))
			f.ready()
		}
		f.seen.Store(nil)
		f.fail(fakeFault{Command: op, Mode: "after hang"})
		f.ops()
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() { result <- c.do(ctx) }()
		require.Eventually(t, func() bool { // without a change of the file, which it may be writing
			b, _ := os.ReadFile(filepath.Join(f.home, "calls"))
			return strings.Contains(string(b), `"`+op+`"`)
		}, time.Minute, time.Millisecond, op)
		cancel(enough)
		err := <-result
		if err != nil { // or its time was over before, and programs have done it
			require.ErrorIs(t, err, enough)
		}
		f.fail()
		if err == nil || c.begun {
			require.NoError(t, unexpose(t.Context()))
		}
		requireSameState(t, before, f.state(), op)
	}
	f.ready()
	doubts := f.Helper().Doubts
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	_, err := f.helper.get(ctx, "x")
	require.ErrorIs(t, err, enough)
	require.Equal(t, doubts, f.Helper().Doubts)
	require.True(t, f.Helper().Running)
}

// TestHelperThatDoesNotStart: New goes on without one, and says why.
func TestHelperThatDoesNotStart(t *testing.T) {
	f, _ := newFake(t, Config{})
	for _, cfg := range []Config{
		{Programs: f.home},
		{Programs: f.home, ProgramsOnly: true, Python: "/bin/cat"},
		{Programs: f.home, Python: "/bin/true"},
		{Programs: f.home, Python: "/bin/cat"}, // which says something
		{Programs: f.home, Python: f.home + "/net"},
		{Programs: f.home, Python: f.home + "/gone"},
	} {
		s, err := New(t.Context(), &cfg)
		require.NoError(t, err)
		require.Equal(t, HelperState{}, s.Helper())
		require.NoError(t, s.Close())
	}
}

// TestHelperIsClosed: then programs do the work.
func TestHelperIsClosed(t *testing.T) {
	f, share := newFakeHelper(t, patient)
	list := writable(share, 2)
	require.NoError(t, f.ExposeShares(t.Context(), list))
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.False(t, f.Helper().Running)
	require.NoError(t, f.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)))
	require.Empty(t, f.state().Registry)
}

// TestToolsHelperKilled kills and stops the helper on real databases at random moments: what was
// asked for is done, and nothing is left. FSRVP_SAMBA_ROUNDS is how often.
func TestToolsHelperKilled(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	if text := os.Getenv("FSRVP_SAMBA_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	base := t.TempDir()
	o := newOffline(t, byHelper, "\tregistry shares = yes", "[data]\n\tpath = "+base+"\n\tread only = no\n")
	o.Shares = byHelper.new(t, Config{SmbConf: o.conf, CommandTimeout: time.Minute, HelperTimeout: time.Second,
		restartDelay: time.Millisecond})
	share := backend.Share{Name: "data", Path: base}
	hurt := func(do func() error) {
		t.Helper()
		require.Eventually(t, func() bool { return o.Helper().Running }, time.Minute, time.Millisecond)
		p := o.helper.process.Load()
		if p == nil {
			return
		}
		sig := syscall.SIGKILL
		if rand.IntN(3) == 0 {
			sig = syscall.SIGSTOP
		}
		timer := time.AfterFunc(rand.N(15*time.Millisecond), func() {
			select {
			case <-p.ended:
			default:
				_ = syscall.Kill(p.cmd.Process.Pid, sig) // it may just have ended
			}
		})
		defer timer.Stop()
		require.NoError(t, do())
	}
	for range rounds {
		list := writable(share, 3)
		hurt(func() error { return o.ExposeShares(t.Context(), list) })
		own, _, err := o.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Len(t, own, 3)
		for _, s := range own {
			require.False(t, s.Partial)
		}
		hurt(func() error { return o.SealShares(t.Context(), list) })
		for _, e := range list {
			got := o.shown(e.Name)
			require.Equal(t, "Yes", got["read only"])
			require.Equal(t, "Yes", got["available"])
			require.Equal(t, base, got["path"])
			require.Equal(t, e.Snapshot.ID.String(), got[marker])
		}
		hurt(func() error { return o.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)) })
		require.Empty(t, o.run("net", "conf", "listshares"))
	}
	t.Logf("%+v", o.Helper())
}

// TestToolsRegistryReplaced: when an administrator has put another file in the place of the
// registry's database, the helper does nothing to the old one that counts.
func TestToolsRegistryReplaced(t *testing.T) {
	base := t.TempDir()
	o := newOffline(t, byHelper, "\tregistry shares = yes", "[data]\n\tpath = "+base+"\n\tread only = no\n")
	o.Shares = byHelper.new(t, Config{SmbConf: o.conf, CommandTimeout: time.Minute, HelperTimeout: time.Minute,
		restartDelay: time.Millisecond})
	share := backend.Share{Name: "data", Path: base}
	file := filepath.Join(o.dir, "state-directory", "registry.tdb")
	replace := func() {
		require.Eventually(t, func() bool { return o.Helper().Running }, time.Minute, time.Millisecond)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file+".new", b, 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	list := writable(share, 2)
	require.NoError(t, o.ExposeShares(t.Context(), list[:1]))
	replace()
	require.NoError(t, o.ExposeShares(t.Context(), list[1:]))
	names := strings.Fields(o.run("net", "conf", "listshares"))
	require.ElementsMatch(t, namesOf(list), names)
	replace()
	require.NoError(t, o.SealShares(t.Context(), list))
	for _, e := range list {
		require.Equal(t, "Yes", o.shown(e.Name)["read only"])
		require.Equal(t, "Yes", o.shown(e.Name)["available"])
	}
	replace()
	require.NoError(t, o.UnexposeShares(t.Context(), backend.Owner{}, namesOf(list)))
	require.Empty(t, o.run("net", "conf", "listshares"))
	require.NotZero(t, o.Helper().Doubts)
	require.Eventually(t, func() bool { return o.Helper().Running }, time.Minute, time.Millisecond)
}
