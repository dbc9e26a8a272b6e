package agent_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

var hammer = flag.Duration("hammer", 3*time.Second, "how long TestConcurrentCallers lets its 64 callers call")

// A transition is a change of a set's status, in the order in which the agent made them.
type transition struct {
	set      fsrvp.SetID
	from, to agent.SetStatus
}

// history is what happened in a run: the transitions, and what the calls returned.
type history struct {
	mu          sync.Mutex
	transitions []transition
	answers     []answer
	sets        []fsrvp.SetID // newest last
	copies      map[fsrvp.SetID][]added
}

type added struct {
	copy  fsrvp.CopyID
	share string
}

// An answer is a call's, with the numbers of transitions that had happened when it was made and
// when it returned.
type answer struct {
	op         fsrvp.Opnum
	set        fsrvp.SetID
	what       added
	status     fsrvp.Status
	begun, end int
}

func (h *history) observe(ev agent.Event) {
	if ev.Kind == agent.EventStatus {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.transitions = append(h.transitions, transition{ev.Set, ev.From, ev.To})
	}
}

// record makes a call and writes down what it returned.
func (h *history) record(op fsrvp.Opnum, set fsrvp.SetID, what added, call func() error) error {
	h.mu.Lock()
	begun := len(h.transitions)
	h.mu.Unlock()
	err := call()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = append(h.answers, answer{op, set, what, statusOf(err), begun, len(h.transitions)})
	return err
}

// pick returns one of the newest sets, and one of the shares that were added to it.
func (h *history) pick(rnd *rand.Rand) (fsrvp.SetID, added) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sets) == 0 || rnd.IntN(50) == 0 {
		return fsrvp.NewSetID(), added{fsrvp.NewCopyID(), vms}
	}
	back := min(len(h.sets), 1+rnd.IntN(1+rnd.IntN(4)))
	set := h.sets[len(h.sets)-back]
	list := h.copies[set]
	if len(list) == 0 {
		return set, added{fsrvp.NewCopyID(), vms}
	}
	return set, list[rnd.IntN(len(list))]
}

// TestConcurrentCallers lets 64 callers of two clients make any calls at once, on backends that
// take their time and fail now and then, and checks what happened against the rules of the
// standard: every transition, every answer, and the table that is left.
func TestConcurrentCallers(t *testing.T) {
	h := &history{copies: map[fsrvp.SetID][]added{}}
	var over atomic.Bool
	r := newRig(t, func(r *rig) {
		r.cfg.StorePath = filepath.Join(quickDir(t), "store")
		r.cfg.Observe = h.observe
		r.cfg.RetryRemoval = 10 * time.Millisecond
		r.cfg.MaxRetries = -1
		r.cfg.Timers = agent.Timers{Failure: 150 * time.Millisecond, Start: 300 * time.Millisecond, Commit: 300 * time.Millisecond}
		r.snapshots.Fault = func(ctx context.Context, p snapmem.Point) error { return disturb(ctx, p.Method, &over) }
		r.shares.Fault = func(ctx context.Context, p sharemem.Point) error { return disturb(ctx, p.Method, &over) }
	})
	t.Cleanup(func() { over.Store(true) }) // before Close, which deletes copies, too, and tells what fails
	var callers sync.WaitGroup
	until := time.Now().Add(*hammer)
	for i := range 64 {
		callers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for time.Now().Before(until) {
				h.call(r, rnd)
			}
		})
	}
	callers.Wait()
	require.Eventually(t, func() bool { // removals that failed are tried again
		return !slices.ContainsFunc(r.Table(), func(s agent.Set) bool { return s.Removing })
	}, time.Minute, 5*time.Millisecond)
	r.settle(t, h)
	r.requireInvariant(t)

	h.mu.Lock()
	defer h.mu.Unlock()
	counts := h.check(t, r.Table())
	t.Logf("%d calls, %d transitions, %d sets, %d of them recovered, %d in the table", len(h.answers), len(h.transitions), len(h.sets), counts[agent.Recovered], len(r.Table()))
	require.NotZero(t, counts[agent.Recovered])
}

// disturb makes backends slow, and fail now and then, until it is over.
func disturb(ctx context.Context, method string, over *atomic.Bool) error {
	if over.Load() || method == "List" || method == "Lookup" || method == "Volume" {
		return nil
	}
	select {
	case <-time.After(time.Duration(rand.IntN(300)) * time.Microsecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if rand.IntN(60) == 0 {
		return errors.New("now and then")
	}
	return nil
}

// call makes one call: mostly the one that the newest set waits for.
func (h *history) call(r *rig, rnd *rand.Rand) {
	client := client1
	if rnd.IntN(4) == 0 {
		client = client2
	}
	set, what := h.pick(rnd)
	limit := wait
	if rnd.IntN(3) == 0 {
		limit = time.Duration(rnd.IntN(1000)) * time.Microsecond
	}
	if rnd.IntN(20) == 0 { // some clients go away
		var cancel context.CancelFunc
		client, cancel = context.WithTimeout(client, time.Duration(rnd.IntN(500))*time.Microsecond)
		defer cancel()
	}
	none := added{}
	switch n := rnd.IntN(1000); {
	case n < 4:
		h.record(fsrvp.OpSetContext, fsrvp.SetID{}, none, func() error {
			return r.SetContext(client, []fsrvp.ContextValue{0, 0x10, 0x19, 0x400009}[rnd.IntN(4)])
		})
	case n < 100:
		var id fsrvp.SetID
		err := h.record(fsrvp.OpStartShadowCopySet, id, none, func() (err error) {
			id, err = r.StartShadowCopySet(client, fsrvp.NewSetID())
			return err
		})
		if err == nil {
			h.mu.Lock()
			h.answers = append(h.answers, answer{op: fsrvp.OpStartShadowCopySet, set: id, status: 0})
			h.sets = append(h.sets, id)
			h.mu.Unlock()
		}
	case n < 220:
		share := []string{vms, docs, db, hidden}[rnd.IntN(4)]
		h.record(fsrvp.OpAddToShadowCopySet, set, added{share: share}, func() error {
			id, err := r.AddToShadowCopySet(client, fsrvp.NewCopyID(), set, share)
			if err == nil {
				h.mu.Lock()
				h.copies[set] = append(h.copies[set], added{id, share})
				h.mu.Unlock()
			}
			return err
		})
	case n < 300:
		h.record(fsrvp.OpPrepareShadowCopySet, set, none, func() error { return r.PrepareShadowCopySet(client, set, limit) })
	case n < 460:
		h.record(fsrvp.OpCommitShadowCopySet, set, none, func() error { return r.CommitShadowCopySet(client, set, limit) })
	case n < 600:
		h.record(fsrvp.OpExposeShadowCopySet, set, none, func() error { return r.ExposeShadowCopySet(client, set, limit) })
	case n < 740:
		h.record(fsrvp.OpRecoveryCompleteShadowCopySet, set, none, func() error { return r.RecoveryCompleteShadowCopySet(client, set) })
	case n < 742:
		h.record(fsrvp.OpAbortShadowCopySet, set, none, func() error { return r.AbortShadowCopySet(client, set) })
	case n < 820:
		h.record(fsrvp.OpGetShareMapping, set, what, func() error {
			_, err := r.GetShareMapping(client, what.copy, set, what.share, 1)
			return err
		})
	case n < 880:
		h.record(fsrvp.OpDeleteShareMapping, set, what, func() error { return r.DeleteShareMapping(client, set, what.copy, what.share) })
	case n < 940:
		h.record(fsrvp.OpIsPathShadowCopied, fsrvp.SetID{}, none, func() error { _, err := r.IsPathShadowCopied(client, docs); return err })
	case n < 970:
		h.record(fsrvp.OpIsPathSupported, fsrvp.SetID{}, none, func() error { _, err := r.IsPathSupported(client, db); return err })
	default:
		h.record(fsrvp.OpGetSupportedVersion, fsrvp.SetID{}, none, func() error { _, err := r.GetSupportedVersion(client); return err })
	}
}

// settle ends what callers that went away have left going on: deletions are completed, and the set
// in creation is aborted.
func (r *rig) settle(t *testing.T, h *history) {
	t.Helper()
	for _, set := range r.Table() {
		if set.Status != agent.Recovered {
			for r.status(set.ID) != "" && r.status(set.ID) != agent.Recovered {
				_ = h.record(fsrvp.OpAbortShadowCopySet, set.ID, added{}, func() error { return r.AbortShadowCopySet(client1, set.ID) })
			}
			continue
		}
		for _, c := range set.Copies {
			for _, m := range c.Shares {
				if m.Removing {
					require.Eventually(t, func() bool {
						return h.record(fsrvp.OpDeleteShareMapping, set.ID, added{c.ID, m.UNC}, func() error {
							return r.DeleteShareMapping(client1, set.ID, c.ID, m.UNC)
						}) == nil || !r.hasMapping(set.ID, m.UNC)
					}, time.Minute, time.Millisecond)
				}
			}
		}
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(r.Table(), func(s agent.Set) bool { return s.Removing || s.Status != agent.Recovered })
	}, time.Minute, time.Millisecond)
}

func (r *rig) hasMapping(id fsrvp.SetID, share string) bool {
	for _, s := range r.Table() {
		for _, c := range s.Copies {
			if s.ID == id && slices.ContainsFunc(c.Shares, func(m agent.Mapping) bool { return m.UNC == share }) {
				return true
			}
		}
	}
	return false
}

// legal are the transitions that the standard knows, and those of removal.
var legal = map[agent.SetStatus][]agent.SetStatus{
	"":                       {agent.Started},
	agent.Started:            {agent.Added, agent.Removing},
	agent.Added:              {agent.CreationInProgress, agent.Removing},
	agent.CreationInProgress: {agent.Committed, agent.Added, agent.Removing},
	agent.Committed:          {agent.Exposed, agent.Removing},
	agent.Exposed:            {agent.Recovered, agent.Removing, ""}, // "": its last mapping was deleted
	agent.Recovered:          {""},
	agent.Removing:           {""},
}

// check replays the transitions, looks whether every answer fits what the set was while the call
// was made, and compares the table at the end. It returns how many sets reached each status.
func (h *history) check(t *testing.T, table []agent.Set) map[agent.SetStatus]int {
	t.Helper()
	counts := map[agent.SetStatus]int{}
	now := map[fsrvp.SetID]agent.SetStatus{}
	was := map[fsrvp.SetID][]span{} // each set's statuses and since when
	creating := 0
	for i, tr := range h.transitions {
		require.Equal(t, now[tr.set], tr.from, "transition %d", i)
		require.Contains(t, legal[tr.from], tr.to, "transition %d", i)
		creating += inCreation(tr.to) - inCreation(tr.from)
		require.LessOrEqual(t, creating, 1, "transition %d: one set at a time is in creation", i)
		now[tr.set] = tr.to
		counts[tr.to]++
		was[tr.set] = append(was[tr.set], span{i + 1, tr.to})
	}
	for _, a := range h.answers {
		if a.end > 0 { // the entry of a Start that says which set it made has no time
			require.NoError(t, a.check(was[a.set]), "%+v", a)
		}
	}
	mappings, maybe := h.mappings()
	for _, set := range table {
		require.Equal(t, now[set.ID], set.Status)
		delete(now, set.ID)
		var have []string
		for _, c := range set.Copies {
			for _, m := range c.Shares {
				have = append(have, m.UNC)
			}
		}
		require.Subset(t, mappings[set.ID], have, "set %s", set.ID)
		for _, share := range mappings[set.ID] {
			require.True(t, slices.Contains(have, share) || slices.Contains(maybe[set.ID], share), "set %s has lost %s", set.ID, share)
		}
	}
	for id, status := range now {
		require.Empty(t, status, "set %s is not in the table", id)
	}
	return counts
}

// mappings are the shares of each set that were added and not deleted, as the answers say, and
// those of them that were perhaps deleted: for a client that went away.
func (h *history) mappings() (there, maybe map[fsrvp.SetID][]string) {
	there, maybe = map[fsrvp.SetID][]string{}, map[fsrvp.SetID][]string{}
	for set, all := range h.copies {
		for _, a := range all {
			there[set] = append(there[set], a.share)
		}
	}
	for _, a := range h.answers {
		if a.op != fsrvp.OpDeleteShareMapping {
			continue
		}
		switch a.status {
		case 0:
			there[a.set] = slices.DeleteFunc(there[a.set], func(s string) bool { return s == a.what.share })
		case fsrvp.ErrFail:
			maybe[a.set] = append(maybe[a.set], a.what.share)
		}
	}
	return there, maybe
}

func inCreation(s agent.SetStatus) int {
	if s == "" || s == agent.Recovered || s == agent.Removing {
		return 0
	}
	return 1
}

type span struct {
	since  int
	status agent.SetStatus
}

// during returns the statuses that a set had while a call was made.
func (a *answer) during(was []span) []agent.SetStatus {
	list := []agent.SetStatus{""}
	for _, s := range was {
		if s.since <= a.begun {
			list = list[:0]
		}
		if s.since <= a.end {
			list = append(list, s.status)
		}
	}
	return list
}

// check reports whether the answer fits the statuses that the set had meanwhile.
func (a *answer) check(was []span) error {
	during := a.during(was)
	had := func(any ...agent.SetStatus) error {
		if slices.ContainsFunc(during, func(s agent.SetStatus) bool { return slices.Contains(any, s) }) {
			return nil
		}
		return fmt.Errorf("%v answered %v; the set was %q meanwhile", a.op, a.status, during)
	}
	all := []agent.SetStatus{agent.Started, agent.Added, agent.CreationInProgress, agent.Committed, agent.Exposed, agent.Recovered}
	except := func(not ...agent.SetStatus) []agent.SetStatus {
		return slices.DeleteFunc(slices.Clone(all), func(s agent.SetStatus) bool { return slices.Contains(not, s) })
	}
	ok := map[fsrvp.Opnum][]agent.SetStatus{
		fsrvp.OpAddToShadowCopySet:            {agent.Added},
		fsrvp.OpPrepareShadowCopySet:          {agent.Added},
		fsrvp.OpCommitShadowCopySet:           {agent.Committed},
		fsrvp.OpExposeShadowCopySet:           {agent.Exposed},
		fsrvp.OpRecoveryCompleteShadowCopySet: {agent.Recovered},
		fsrvp.OpAbortShadowCopySet:            {agent.Removing},
		fsrvp.OpGetShareMapping:               {agent.Exposed, agent.Recovered},
		fsrvp.OpDeleteShareMapping:            {agent.Exposed, agent.Recovered},
	}
	needs := map[fsrvp.Opnum][]agent.SetStatus{ // BAD_STATE says that it was none of these
		fsrvp.OpAddToShadowCopySet:            {agent.Started, agent.Added},
		fsrvp.OpPrepareShadowCopySet:          {agent.Added},
		fsrvp.OpCommitShadowCopySet:           {agent.Added, agent.CreationInProgress},
		fsrvp.OpExposeShadowCopySet:           {agent.Committed},
		fsrvp.OpRecoveryCompleteShadowCopySet: {agent.Exposed},
		fsrvp.OpAbortShadowCopySet:            except(agent.Recovered),
		fsrvp.OpDeleteShareMapping:            {agent.Exposed, agent.Recovered},
	}
	if ok[a.op] == nil {
		switch a.status { // no method of a set
		case 0, fsrvp.ErrShadowCopySetInProgress, fsrvp.ErrBadState, fsrvp.ErrFail:
			return nil
		}
		return fmt.Errorf("%v answered %v", a.op, a.status)
	}
	switch a.status {
	case 0:
		return had(ok[a.op]...)
	case fsrvp.ErrBadState:
		return had(except(needs[a.op]...)...)
	case fsrvp.ErrNotExposed:
		return had(except(agent.Exposed, agent.Recovered)...)
	case fsrvp.ErrObjectAlreadyExists:
		return had(agent.Added)
	case fsrvp.ErrTimeout:
		return had(agent.CreationInProgress)
	case fsrvp.ErrWaitTimeout:
		return had(agent.Added, agent.Committed)
	case fsrvp.ErrObjectNotFound:
		return had("", agent.Removing)
	case fsrvp.ErrInvalidArg:
		switch a.op {
		case fsrvp.OpGetShareMapping, fsrvp.OpDeleteShareMapping: // the set, or a mapping that is gone
			return had("", agent.Removing, agent.Exposed, agent.Recovered)
		}
		return had("", agent.Removing)
	case fsrvp.ErrWaitFailed, fsrvp.ErrFail: // a backend failed, the client went away, or the set was removed
		return nil
	}
	return fmt.Errorf("%v answered %v", a.op, a.status)
}
