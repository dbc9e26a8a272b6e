package agent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// A testCluster is machines with one set of volumes and shares, and one table.
type testCluster struct {
	table     *state.Memory
	snapshots *snapmem.Snapshots
	shares    *sharemem.Shares
	timers    agent.Timers
}

func newCluster() *testCluster {
	c := &testCluster{table: state.NewMemory(state.ID{})}
	c.snapshots, c.shares = newBackends()
	c.snapshots.Fault = func(ctx context.Context, p snapmem.Point) error {
		if p.Method == "Volume" || p.Method == "List" || p.Method == "Prepare" {
			return nil
		}
		return stopperOf(ctx).at(fmt.Sprintf("%s %s done=%v", p.Method, p.Volume, p.Done))
	}
	c.shares.Fault = func(ctx context.Context, p sharemem.Point) error {
		if p.Method == "Lookup" || p.Method == "List" {
			return nil
		}
		return stopperOf(ctx).at(fmt.Sprintf("%s %s done=%v", p.Method, p.Share, p.Done))
	}
	return c
}

// A stopper stops all of a node at one of the moments that it counts: the node's next steps, too,
// wait until it is resumed.
type stopper struct {
	mu      sync.Mutex
	armed   bool
	left    int // moments until it stops
	where   string
	stopped chan struct{} // closed when it stops
	resume  chan struct{} // closed to let it go on
	dead    bool          // it goes on by failing
}

func newStopper(left int) *stopper {
	return &stopper{left: left, stopped: make(chan struct{}), resume: make(chan struct{})}
}

var errKilled = errors.New("the node was killed")

func (s *stopper) at(what string) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	if !s.armed {
		s.mu.Unlock()
		return nil
	}
	if s.left == 0 {
		s.where = what
		close(s.stopped)
	}
	s.left--
	stopped, dead := s.left < 0, s.dead
	s.mu.Unlock()
	if dead {
		return errKilled
	}
	if !stopped {
		return nil
	}
	<-s.resume
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	return nil
}

// end lets the node go on for good.
func (s *stopper) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = 1 << 30
	select {
	case <-s.resume:
	default:
		close(s.resume)
	}
}

// hasStopped reports whether it has.
func (s *stopper) hasStopped() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

type stopperKey struct{}

func stopperOf(ctx context.Context) *stopper {
	s, _ := ctx.Value(stopperKey{}).(*stopper)
	return s
}

func (s *stopper) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, stopperKey{}, s)
}

// The backends as one node sees them.
type (
	nodeSnapshots struct {
		*snapmem.Snapshots
		s *stopper
	}
	nodeShares struct {
		*sharemem.Shares
		s *stopper
	}
)

func (n nodeSnapshots) Create(ctx context.Context, specs []agent.SnapshotSpec) ([]agent.Snapshot, error) {
	return n.Snapshots.Create(n.s.in(ctx), specs)
}

func (n nodeSnapshots) Delete(ctx context.Context, s agent.SnapshotSpec) error {
	return n.Snapshots.Delete(n.s.in(ctx), s)
}
func (n nodeSnapshots) Seal(ctx context.Context, s agent.Snapshot) error {
	return n.Snapshots.Seal(n.s.in(ctx), s)
}
func (n nodeShares) Expose(ctx context.Context, e agent.Exposure) error {
	return n.Shares.Expose(n.s.in(ctx), e)
}
func (n nodeShares) Unexpose(ctx context.Context, owner agent.Owner, name string) error {
	return n.Shares.Unexpose(n.s.in(ctx), owner, name)
}
func (n nodeShares) SealShare(ctx context.Context, e agent.Exposure) error {
	return n.Shares.SealShare(n.s.in(ctx), e)
}

// start starts the agent of a node.
func (c *testCluster) start(t testing.TB, node string, s *stopper) *rig {
	t.Helper()
	store, err := c.table.Open(node, func(_ context.Context, p state.Point) error {
		if p.Method == "Refresh" && p.Done { // no effect that anybody could see
			return nil
		}
		return s.at(fmt.Sprintf("%s done=%v", p.Method, p.Done))
	})
	require.NoError(t, err)
	r := &rig{as: client1, other: client2, snapshots: c.snapshots, shares: c.shares, cfg: &agent.Config{
		State: store, Snapshots: nodeSnapshots{c.snapshots, s}, Shares: nodeShares{c.shares, s},
		Names: []string{"fs1", "fs1.example.com", "192.0.2.1"}, Machine: "fs1", Timers: c.timers,
		RetryRemoval: 10 * time.Second,
	}}
	r.start(t)
	return r
}

// A stop is a way in which a node stops.
type stop struct {
	name  string
	life  state.Life // as the cluster then says
	dead  bool
	wakes moment
}

// A moment is when a paused node goes on.
type moment int

const (
	atTheEnd     moment = iota // when the client has come to its end at another node
	atOnce                     // before the client goes on there
	whenFinished               // when its set is Recovered there
)

var stops = []stop{
	{"killed", state.Gone, true, atTheEnd},
	{"paused and lost", state.Lost, false, atTheEnd},
	{"paused and lost for a moment", state.Lost, false, atOnce},
	{"paused and lost until its set is finished", state.Lost, false, whenFinished},
	{"paused and not noticed", state.Present, false, atTheEnd},
}

// TestNodeStops stops a node at moments of every life, in each way. Its client goes on at another
// node. It takes one moment of four, with -short one of 32, and with FSRVP_EVERY in the environment
// all.
func TestNodeStops(t *testing.T) {
	for name, scenes := range lives() {
		for _, how := range stops {
			t.Run(name+", "+how.name, func(t *testing.T) {
				step := 4
				switch {
				case os.Getenv("FSRVP_EVERY") != "":
					step = 1
				case testing.Short():
					step = 32
				}
				for k := rand.IntN(step); ; k += step {
					more := true
					synctest.Test(t, func(t *testing.T) { more = stopAt(t, scenes, how, k) })
					if t.Failed() {
						t.Fatalf("at moment %d", k)
					}
					if !more {
						return
					}
				}
			})
		}
	}
}

// stopAt stops a node after k moments of a life, and returns false when the life has not so many.
func stopAt(t *testing.T, scenes []scene, how stop, k int) bool {
	c := newCluster()
	s := newStopper(k)
	a, b := c.start(t, "a", s), c.start(t, "b", nil)
	defer func() {
		if t.Failed() {
			s.end()
			_ = a.Close()
		}
		assert.NoError(t, b.Close())
	}()
	var told, pending outcome
	l := &life{}
	require.NoError(t, a.SetContext(client1, fsrvp.ContextNASRollback))
	synctest.Wait()
	s.mu.Lock()
	s.armed = true
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		for _, sc := range scenes {
			pending = sc.after
			if err := sc.call(a, l); err != nil || s.hasStopped() { // the answer does not reach the client
				ended <- err
				return
			}
			told = pending
		}
		ended <- nil
	}()
	select {
	case <-s.stopped:
	case err := <-ended:
		require.NoError(t, err)
		s.mu.Lock()
		s.armed = false
		s.mu.Unlock()
		require.NoError(t, a.Close())
		return false
	}
	s.mu.Lock()
	where := s.where
	s.mu.Unlock()
	msg := fmt.Sprintf("stopped at %s, told %v, pending %v", where, told, pending)
	wake := func() {
		if how.dead {
			c.table.SetLife("a", state.Gone)
		} else {
			c.table.SetLife("a", state.Present)
		}
		s.mu.Lock()
		s.dead = how.dead
		s.mu.Unlock()
		s.end()
		<-ended
		time.Sleep(5 * time.Second)
		synctest.Wait()
	}
	c.table.SetLife("a", how.life)
	time.Sleep(5 * time.Second)
	if how.life == state.Present {
		time.Sleep(2 * time.Minute)
	}
	synctest.Wait()
	if how.wakes == atOnce {
		wake()
	}

	now := b.outcome(t)
	allowed := []outcome{told, pending}
	if !how.dead && pending.status == agent.Committed {
		allowed = append(allowed, outcome{}) // its snapshots may still be made
	}
	require.Contains(t, allowed, now, msg)
	for _, set := range b.Table() {
		require.Zero(t, set.Work, msg)
	}
	t.Log(msg)
	b.requireInvariant(t)
	if how.wakes == whenFinished {
		b.finishSet(t)
		before := b.outcome(t)
		wake()
		require.Equal(t, before, b.outcome(t))
		b.requireInvariant(t)
	}
	b.finish(t)
	b.empty(t)
	if how.wakes == atTheEnd {
		wake()
	}
	b.empty(t)
	if !how.dead {
		synctest.Wait()
		require.Empty(t, a.Table(), msg)
		// The node that was lost is one like any other again.
		time.Sleep(time.Hour)
		l := a.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
		require.NoError(t, b.DeleteShareMapping(client1, l.set, l.copies[0], vms))
		require.NoError(t, a.Close())
	} else {
		_ = a.Close() // nothing of it has an effect any more
	}
	b.empty(t)
	require.NotContains(t, fmt.Sprint(keys(c.table.Records())), "lost/", msg)
	return true
}

// finishSet goes on with the set as its client would, until it is Recovered.
func (r *rig) finishSet(t *testing.T) {
	for len(r.Table()) > 0 && r.Table()[0].Status != agent.Recovered {
		var err error
		switch set := r.Table()[0]; set.Status {
		case agent.Started:
			_, err = r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), set.ID, vms)
		case agent.Added:
			err = r.CommitShadowCopySet(client1, set.ID, wait)
		case agent.Committed:
			err = r.ExposeShadowCopySet(client1, set.ID, wait)
		case agent.Exposed:
			err = r.RecoveryCompleteShadowCopySet(client1, set.ID)
		}
		require.NoError(t, err)
	}
}

func keys(m map[string][]byte) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}
