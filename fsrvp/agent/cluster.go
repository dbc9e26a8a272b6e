package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// A Node is the entry of one node in the shared table of a cluster.
type Node struct {
	// Stay is a unique number that the node's agent gets when it enters the table. It is zero while
	// the node is not in the table. It decides what a node may still do: works and the creation
	// name the stay of the node that holds them. If another node has ended a node's stay, that node
	// learns it before it writes anything, because a write succeeds only on the newest table.
	Stay uint64 `json:"stay,omitempty"`
	// Ready nodes answer calls. The others wait until the first node has made the table and the
	// backends agree.
	Ready bool `json:"ready,omitempty"`
	// Beat changes now and then while the node has something to do.
	Beat uint64 `json:"beat,omitempty"`
	// Names are the host names and addresses of the node. Clients may name shares by the names of
	// any node.
	Names []string `json:"names,omitempty"`
}

// A leftover records what a node that was declared lost during its work may still make. These
// things are removed once that node's process is known to have ended its works.
type leftover struct {
	Node   string         `json:"node"`
	Copies []leftoverCopy `json:"copies,omitempty"`
	Shares []string       `json:"shares,omitempty"` // names of exposed shares
}

type leftoverCopy struct {
	ID     fsrvp.CopyID `json:"id"`
	Volume Volume       `json:"volume"`
}

// cluster is an agent's part in a cluster.
type cluster struct {
	store state.Shared
	name  string

	// These change with the turn and Agent.mu.
	stay    uint64 // zero: out of the table
	nodes   map[string]Node
	lost    map[uint64]*leftover
	changes chan struct{} // closed and replaced when the table changes

	names  atomic.Pointer[map[string]bool] // of all nodes, as Node.Names has them
	stalls stalls

	heard  map[string]heard // of busy nodes; the member's goroutine alone has it, as what follows
	beaten time.Time        // the last beat
	swept  time.Time        // the last time that leftovers were looked at
}

type heard struct {
	stay, beat uint64
	since      time.Time
}

// clusterTick is how often a node looks at the others.
const clusterTick = time.Second

// lease is how long a node that has something to do may be silent.
func (a *Agent) lease() time.Duration { return a.cfg.Timers.Failure / 2 }

var (
	errTakenOver = fmt.Errorf("agent: another node has taken over the shadow copy set, since this one was lost for a time: %w", fsrvp.ErrWaitFailed)
	errLate      = fmt.Errorf("agent: the cluster has gone on without this node during the call: %w", fsrvp.ErrFail)
	errOut       = errors.New("agent: the cluster has gone on without this node")
)

type stayKey struct{}

// withStay returns the context of a call that begins now. Once the node has been declared lost, the
// call does nothing more.
func (a *Agent) withStay(ctx context.Context) context.Context {
	if a.cluster == nil {
		return ctx
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return context.WithValue(ctx, stayKey{}, a.cluster.stay)
}

func stayOf(ctx context.Context) uint64 {
	stay, _ := ctx.Value(stayKey{}).(uint64)
	return stay
}

// idle removes the work from a set that nobody else can see yet.
func (s *Set) idle() *Set {
	s.Work = Work{}
	return s
}

// claimed gives a set that nobody else can see yet to this node for a work.
func (a turn) claimed(s *Set, step Step) *Set {
	if a.cluster != nil {
		s.Work = Work{Stay: a.cluster.stay, Step: step}
	}
	return s
}

// claim notes in the table that this node works for a set.
func (a turn) claim(why string, e *entry, step Step) error {
	if a.cluster == nil {
		return nil
	}
	return a.apply(why, change{put: []*Set{a.claimed(e.set.clone(), step)}})
}

// unclaim ends this node's work for a set.
func (a turn) unclaim(why string, e *entry) error {
	if a.cluster == nil || e.set.Work == (Work{}) {
		return nil
	}
	return a.apply(why, change{put: []*Set{e.set.clone().idle()}})
}

// elsewhere reports whether another node is at work for a set.
func (a turn) elsewhere(s *Set) bool {
	return a.cluster != nil && s.Work.Stay != 0 && s.Work.Stay != a.cluster.stay
}

// mustWait reports whether a set has a work that is not under way here: another node's, or one that
// this node takes over from itself.
func (a turn) mustWait(e *entry) bool {
	return a.elsewhere(e.set) || a.cluster != nil && e.set.Work != (Work{}) && e.work == nil
}

// own makes this node watch the creation, because the client is calling it now.
func (a turn) own() error {
	if !a.moved() {
		return nil
	}
	next := a.creation
	next.Moved = false
	if err := a.apply("client has come to this node", change{creation: &next}); err != nil {
		return err
	}
	a.sequence.reset()
	return nil
}

// moved reports whether the client of the creation called another node last.
func (a turn) moved() bool {
	return a.cluster != nil && a.creation.ContextSet && (a.creation.Stay != a.cluster.stay || a.creation.Moved)
}

// stillHolds fails if a work was begun for a set that has since been taken from this node.
func (a *Agent) stillHolds(set *Set) error {
	if a.cluster == nil || set.Work == (Work{}) {
		return nil
	}
	t, err := a.takeLocal(a.storing)
	if err != nil {
		return err
	}
	defer t.give()
	if err := t.refresh(a.storing); err != nil {
		return err
	}
	if e := a.sets[set.ID]; a.cluster.stay != set.Work.Stay || e == nil || e.set.Work.Stay != set.Work.Stay {
		return errTakenOver
	}
	return nil
}

// takeToEnd takes the turn for the end of a work, and reports whether the set's Work is still this
// node's.
func (a *Agent) takeToEnd(e *entry, w *work) (t turn, held bool) {
	a.turns <- struct{}{}
	t = turn{a}
	if a.cluster == nil {
		return t, true
	}
	if err := t.refresh(a.storing); err != nil {
		a.log.Error("table not read", "err", err) // what has changed meanwhile, the write shows
	}
	stay := w.set.Work.Stay
	return t, a.cluster.stay == stay && a.sets[e.set.ID] == e && e.set.Work.Stay == stay
}

// keep puts the outcome of a work in the table, where a later call collects it.
func (a *Agent) keep(e *entry, w *work) {
	for {
		t, held := a.takeToEnd(e, w)
		if !held {
			w.collected, w.result = true, errTakenOver
			if e.work == w {
				e.work = nil
			}
		}
		if !held || e.work != w || e.set.Removing { // a removal that has begun, or is about to, goes on from here
			t.give()
			return
		}
		stored, err := w.keep(t, e, w)
		if stored {
			w.collected, w.result = true, err
		}
		t.give()
		if !errors.Is(err, state.ErrConflict) {
			return
		}
	}
}

// busy reports whether this node is doing something for a set.
func (e *entry) busy() bool { return e.work != nil && !e.work.collected }

// refresh takes in what other nodes have written.
func (a turn) refresh(ctx context.Context) error {
	if a.cluster == nil {
		return nil
	}
	now, gone, err := a.store.refresh(ctx)
	if err != nil || now == nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.adoptLocked(now, gone)
	return nil
}

// adoptLocked replaces the table by the one in the store. The caller holds the turn, too.
func (a turn) adoptLocked(now *table, gone []fsrvp.SetID) {
	const why = "another node"
	c := a.cluster
	mine := c.stay != 0 && a.creation.Stay == c.stay
	a.creation = now.creation
	c.nodes, c.lost = now.nodes, now.lost
	for _, set := range now.sets {
		a.replaceLocked(why, set)
	}
	for _, id := range gone {
		a.dropLocked(why, id)
	}
	if c.stay != 0 && c.nodes[c.name].Stay != c.stay {
		a.log.Error("the cluster has gone on without this node; what was under way here is given up", "node", c.name,
			"stay", c.stay)
		c.stay = 0
		for _, e := range a.sets {
			if e.work != nil {
				e.work.cancel()
			}
		}
	}
	if mine && a.creation.Stay != c.stay {
		a.sequence.reset() // another node's watches now
	}
	c.changedLocked()
}

func (c *cluster) changedLocked() {
	c.learnNamesLocked()
	close(c.changes)
	c.changes = make(chan struct{})
}

// applyLocked applies the part of a change that concerns the cluster. For an agent alone there is
// nothing to do.
func (c *cluster) applyLocked(ch change) {
	if c == nil {
		return
	}
	for name, n := range ch.nodes {
		c.nodes[name] = n
		if name == c.name {
			c.stay = n.Stay
		}
	}
	for stay, l := range ch.lost {
		if l != nil {
			c.lost[stay] = l
		} else {
			delete(c.lost, stay)
		}
	}
	c.changedLocked()
}

// tableChanged returns a channel that is closed when the table changes after the call.
func (a *Agent) tableChanged() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cluster.changes
}

// fresh brings the table up to date with what other nodes have written.
func (a *Agent) fresh(ctx context.Context) error {
	if a.cluster == nil {
		return nil
	}
	t, err := a.take(ctx)
	if err == nil {
		t.give()
	}
	return err
}

// hasName reports whether a share's host is this server or, in a cluster, any of its nodes.
func (a *Agent) hasName(share fsrvp.ShareName) bool {
	if a.names.has(share) || a.cluster == nil {
		return a.names.has(share)
	}
	host := strings.ToLower(share.Host)
	if addr, ok := share.Addr(); ok {
		host = addr.WithZone("").String()
	}
	names := a.cluster.names.Load() // Agent.mu may be held
	return names != nil && (*names)[host]
}

// learnNamesLocked notes the names of all nodes.
func (c *cluster) learnNamesLocked() {
	names := map[string]bool{}
	for _, n := range c.nodes {
		for _, name := range n.Names {
			names[name] = true
		}
	}
	c.names.Store(&names)
}

// shared returns the names as a Node has them.
func (n *names) shared() []string {
	list := n.list()
	if n.interfaces {
		addrs, _ := net.InterfaceAddrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() {
				list = append(list, ip.IP.String())
			}
		}
	}
	list = slices.DeleteFunc(list, func(s string) bool { return s == "localhost" })
	slices.Sort(list)
	return slices.Compact(list)
}

// others returns the other nodes that are in the table.
func (a turn) others() map[string]Node {
	others := map[string]Node{}
	for name, n := range a.cluster.nodes {
		if name != a.cluster.name && n.Stay != 0 {
			others[name] = n
		}
	}
	return others
}

// enterTable brings this node into the table, for New. It returns true for the first node of all,
// which must make the table and the backends agree while nodes that enter later wait.
func (a turn) enterTable(ctx context.Context) (first bool, err error) {
	c := a.cluster
	for waits := false; ; {
		if err := a.refresh(ctx); err != nil {
			return false, err
		}
		out, err := a.isOut(ctx)
		if err != nil {
			return false, err
		}
		if out {
			if !waits {
				a.log.Warn("waiting for the cluster to take this node in", "node", c.name)
			}
			waits = true
			if err := a.waitTick(ctx); err != nil {
				return false, err
			}
			continue
		}
		dead, err := a.look(ctx, a.others())
		if err != nil {
			return false, err
		}
		ch := a.endStays(dead)
		alive := a.others()
		maps.DeleteFunc(alive, func(_ string, n Node) bool { _, ended := dead[n.Stay]; return ended })
		me := c.nodes[c.name]
		if c.stay == 0 {
			me = Node{Stay: a.store.sequence() + 1, Names: a.names.shared()}
		}
		first = true
		for _, n := range alive {
			me.Ready = me.Ready || n.Ready
			first = first && me.Stay < n.Stay
		}
		ch.nodes[c.name] = me
		if err := a.apply("node has come", ch); err != nil {
			if errors.Is(err, state.ErrConflict) {
				continue
			}
			return false, err
		}
		if me.Ready || first {
			return first && !me.Ready, nil
		}
		a.log.Info("waiting for the node that makes the shared table and the backends agree")
		if err := a.waitTick(ctx); err != nil {
			return false, err
		}
	}
}

// waitTick waits for another node's change, or for the time to look at the others again.
func (a *Agent) waitTick(ctx context.Context) error {
	tick, cancel := context.WithTimeout(ctx, clusterTick)
	defer cancel()
	err := a.cluster.store.Wait(tick)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// look asks the cluster which nodes are alive, and returns the stays that have ended and how each
// ended. It may be called without a turn.
func (a *Agent) look(ctx context.Context, nodes map[string]Node) (map[uint64]state.Life, error) {
	dead := map[uint64]state.Life{}
	for name, n := range nodes {
		life, err := a.cluster.store.Life(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("agent: is node %s alive: %w", name, err)
		}
		if life != state.Present {
			dead[n.Stay] = life
		}
	}
	return dead, nil
}

// endStays returns the change that ends stays. For nodes that are lost, not gone, it notes what
// they may still make. It removes a set whose snapshots such a node was just making, because no
// other work can use the set's ids while that node may still continue.
func (a turn) endStays(dead map[uint64]state.Life) change {
	ch := change{nodes: map[string]Node{}, lost: map[uint64]*leftover{}}
	for name, n := range a.cluster.nodes {
		life, ended := dead[n.Stay]
		if n.Stay == 0 || !ended {
			continue
		}
		a.log.Warn("a node's stay is ended", "node", name, "stay", n.Stay, "life", life.String())
		left := &leftover{Node: name}
		for _, e := range a.sets {
			if e.set.Work.Stay != n.Stay || life == state.Gone {
				continue
			}
			if next := left.add(e.set); next != e.set {
				ch.put = append(ch.put, next)
			}
		}
		if len(left.Copies)+len(left.Shares) > 0 {
			ch.lost[n.Stay] = left
		}
		ch.nodes[name] = Node{Names: n.Names}
	}
	return ch
}

// add notes what a lost node's work for a set may still make, and returns the changed set.
func (l *leftover) add(set *Set) *Set {
	making := set.Work.Step == StepPrepare || set.Work.Step == StepCreate
	for i := range set.Copies {
		c := &set.Copies[i]
		if making {
			l.Copies = append(l.Copies, leftoverCopy{c.ID, c.Volume})
		}
		for j := range c.Shares {
			if !making && set.Status.hasShares() {
				l.Shares = append(l.Shares, c.Shares[j].Name)
			}
		}
	}
	if !making || set.Removing {
		return set
	}
	next := set.clone()
	next.Removing = true
	return next
}

// member runs as long as the node is in a cluster: it takes in the changes of other nodes, takes
// over the works of nodes that are gone, and shows that this node is alive.
func (a *Agent) member() {
	for {
		err := a.waitTick(a.ctx)
		if err == nil {
			err = a.tend()
		}
		if errors.Is(err, errOut) {
			continue
		}
		if a.ctx.Err() != nil {
			return
		}
		if err != nil {
			a.log.Error("shared table", "err", err)
			t := time.NewTimer(clusterTick)
			select {
			case <-t.C:
			case <-a.ctx.Done():
				t.Stop()
				return
			}
		}
	}
}

// inMemberTurn is inTurn for the member's goroutine, which does not wait until the node has come
// back: it fails with errOut.
func (a *Agent) inMemberTurn(f func(turn) error) error {
	for {
		t, err := a.takeLocal(a.ctx)
		if err != nil {
			return err
		}
		if err = t.refresh(a.ctx); err == nil && a.cluster.stay == 0 {
			err = errOut
		}
		if err == nil {
			err = f(t)
		}
		t.give()
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
}

// watch returns a work that ends when a set that another node is removing is gone.
func (a *Agent) watch(id fsrvp.SetID) *work {
	w := &work{step: StepDelete, done: make(chan struct{}), cancel: func() {}}
	a.running.Go(func() {
		defer close(w.done)
		for {
			changed := a.tableChanged()
			a.mu.Lock()
			e := a.sets[id]
			failed := e != nil && e.set.Work == (Work{})
			a.mu.Unlock()
			switch {
			case e == nil:
				return
			case failed:
				w.err = fmt.Errorf("agent: another node could not remove all of shadow copy set %s, and it is tried again", id)
				return
			}
			select {
			case <-changed:
			case <-a.ctx.Done():
				w.err = net.ErrClosed
				return
			}
		}
	})
	return w
}

// tend does everything that is due now.
func (a *Agent) tend() error {
	t, err := a.takeLocal(a.ctx)
	if err != nil {
		return err
	}
	if err = t.refresh(a.ctx); err != nil {
		t.give()
		return err
	}
	if a.cluster.stay == 0 {
		works := t.works()
		t.give()
		return a.comeBack(works)
	}
	t.followOthers()
	others := t.others()
	t.give()

	dead, err := a.look(a.ctx, others)
	if err != nil {
		return err
	}
	if err := a.inMemberTurn(func(t turn) error {
		t.listen(dead)
		if err := t.takeOver(dead); err != nil {
			return err
		}
		return t.beat()
	}); err != nil {
		return err
	}
	return a.sweep()
}

// works returns the works that have not ended.
func (a turn) works() []*work {
	var list []*work
	for _, e := range a.sets {
		if e.busy() {
			list = append(list, e.work)
		}
	}
	return list
}

// isOut reports whether the cluster goes on without this node.
func (a *Agent) isOut(ctx context.Context) (bool, error) {
	life, err := a.cluster.store.Life(ctx, a.cluster.name)
	if err != nil {
		return false, fmt.Errorf("agent: is this node in the cluster: %w", err)
	}
	return life == state.Lost, nil
}

// comeBack brings a node that was lost back into the table once its works have ended.
func (a *Agent) comeBack(works []*work) error {
	for _, w := range works {
		w.cancel()
		select {
		case <-w.done:
		case <-a.ctx.Done():
			return context.Cause(a.ctx)
		}
	}
	if out, err := a.isOut(a.ctx); err != nil || out {
		return err // others would end its next stay at once
	}
	t, err := a.takeLocal(a.ctx)
	if err != nil {
		return err
	}
	defer t.give()
	if err := t.refresh(a.ctx); err != nil {
		return err
	}
	if list := t.works(); len(list) > 0 { // of a call that was just beginning one
		return nil
	}
	for _, e := range a.sets {
		e.work = nil
	}
	a.cluster.swept = time.Time{}
	me := Node{Stay: a.store.sequence() + 1, Ready: true, Names: a.names.shared()}
	err = t.apply("node has come back", change{nodes: map[string]Node{a.cluster.name: me}})
	if errors.Is(err, state.ErrConflict) {
		return nil // the change that was made meanwhile brings the next try
	}
	return err
}

// followOthers does what the changes of other nodes ask for: it removes sets that this node is
// working for, and retries what failed elsewhere.
func (a turn) followOthers() {
	for _, e := range a.sets {
		mine := e.set.Work.Stay == a.cluster.stay
		switch {
		case e.set.Removing && mine && e.work != nil && e.work.step != StepDelete:
			a.beginRemoval("another node", e)
		case e.set.Work == (Work{}) && (e.set.Removing || len(e.set.unmappings()) > 0):
			a.retryLater()
		}
	}
	if a.creation.ContextSet && a.creation.Stay == a.cluster.stay && a.sequence.idle() {
		a.sequence.arm(a.cfg.Timers.Failure)
	}
}

// listen adds to dead the nodes that have something to do and have been silent for too long.
func (a turn) listen(dead map[uint64]state.Life) {
	busy := map[uint64]bool{a.creation.Stay: a.creation.ContextSet}
	for _, e := range a.sets {
		busy[e.set.Work.Stay] = true
	}
	now := time.Now()
	for name, n := range a.others() {
		h := a.cluster.heard[name]
		if !busy[n.Stay] || h.stay != n.Stay || h.beat != n.Beat {
			a.cluster.heard[name] = heard{n.Stay, n.Beat, now}
			continue
		}
		if _, known := dead[n.Stay]; !known && now.Sub(h.since) > a.lease() {
			dead[n.Stay] = state.Lost
		}
	}
}

// beat shows other nodes that this node is alive, while it has something to do, and by which names
// clients know it.
func (a turn) beat() error {
	me := a.cluster.nodes[a.cluster.name]
	busy := a.creation.ContextSet && a.creation.Stay == a.cluster.stay
	for _, e := range a.sets {
		busy = busy || e.set.Work.Stay == a.cluster.stay
	}
	due := busy && time.Since(a.cluster.beaten) > a.lease()/3
	names := a.names.shared()
	if !due && slices.Equal(names, me.Names) {
		return nil
	}
	me.Names = names
	me.Beat++
	if err := a.apply("alive", change{nodes: map[string]Node{a.cluster.name: me}}); err != nil {
		return err
	}
	a.cluster.beaten = time.Now()
	return nil
}

// takeOver ends stays and takes over what nobody holds any longer: the works of nodes that are not
// in the table, the works of this node that are not running, and the creation.
func (a turn) takeOver(dead map[uint64]state.Life) error {
	ch := a.endStays(dead)
	alive := map[uint64]bool{}
	for _, n := range a.cluster.nodes {
		if _, ended := dead[n.Stay]; n.Stay != 0 && !ended {
			alive[n.Stay] = true
		}
	}
	removed := map[fsrvp.SetID]*Set{}
	for _, set := range ch.put {
		removed[set.ID] = set
	}
	var list []*entry
	for id, e := range a.sets {
		stay := e.set.Work.Stay
		mine := stay == a.cluster.stay && !e.busy()
		if stay == 0 || alive[stay] && !mine {
			continue
		}
		next := removed[id]
		if next == nil {
			next = e.set.clone()
			ch.put = append(ch.put, next)
		}
		if next.Work.Stay = a.cluster.stay; a.resumes(next) {
			list = append(list, e)
		} else {
			next.Work = Work{}
		}
	}
	creation := a.creation
	inherits := creation.ContextSet && !alive[creation.Stay]
	if inherits {
		creation.Moved = true
		ch.creation = &creation
	}
	if len(ch.put)+len(ch.nodes)+len(ch.lost) == 0 && !inherits {
		return nil
	}
	if err := a.apply("taken over", ch); err != nil {
		return err
	}
	if inherits {
		a.sequence.reset()
		a.sequence.arm(a.cfg.Timers.Failure)
	}
	for _, e := range list {
		a.resume(e)
	}
	return nil
}

// resumes reports whether there is something to do for a set that was taken over.
func (a turn) resumes(set *Set) bool {
	switch {
	case set.Removing, set.Status == CreationInProgress, len(set.unmappings()) > 0:
		return true
	case set.Work.Step == StepPrepare:
		return a.prepares()
	}
	return set.Status == Committed
}

// resume finishes or undoes another node's work for a set, as New does after a crash.
func (a turn) resume(e *entry) {
	const why = "taken over"
	undo := func(run func(context.Context, *work) error, next func(*Set) *Set) {
		a.begin(e, StepDelete, run, func(a turn, err error) error {
			if e.set.Removing {
				a.beginRemoval(why, e)
				return nil
			}
			if err == nil {
				return a.apply(why, change{put: []*Set{next(e.set)}})
			}
			a.log.Error("what another node was doing could not be undone; the set is removed", "set", e.set.ID, "err",
				err)
			_, err = a.remove(why, nil, []*entry{e})
			return err
		})
	}
	switch list := e.set.unmappings(); {
	case e.set.Removing:
		a.beginRemoval(why, e)
	case len(list) > 0:
		a.beginUnmapping(e, list[0], list[1:])
	case e.set.Status == Committed:
		undo(func(ctx context.Context, w *work) error { return a.unexposeAll(ctx, w.set) },
			func(s *Set) *Set { return s.clone().idle() })
	default:
		undo(func(ctx context.Context, w *work) error { return a.unmake(ctx, w.set) },
			func(s *Set) *Set { return s.with(Added).idle() })
	}
}

// sweep removes what nodes made after they were declared lost: this node, if it has come back, and
// nodes whose processes are gone.
func (a *Agent) sweep() error {
	a.mu.Lock()
	left, nodes := maps.Clone(a.cluster.lost), maps.Clone(a.cluster.nodes)
	a.mu.Unlock()
	if len(left) == 0 || time.Since(a.cluster.swept) < a.cfg.RetryRemoval {
		return nil
	}
	a.cluster.swept = time.Now()
	for stay, l := range left {
		if l.Node != a.cluster.name {
			life, err := a.cluster.store.Life(a.ctx, l.Node)
			if err != nil {
				return err
			}
			if life != state.Gone || nodes[l.Node].Stay != 0 {
				continue
			}
		}
		if err := a.sweepOne(stay, l); err != nil {
			a.log.Error("what a lost node has left is not removed yet", "node", l.Node, "err", err)
		}
	}
	return nil
}

func (a *Agent) sweepOne(stay uint64, l *leftover) error {
	var errs []error
	copies, _ := known(a.Table())
	for _, c := range l.Copies {
		if copies[c.ID] {
			errs = append(errs, fmt.Errorf("agent: shadow copy %s is still being removed", c.ID))
			continue
		}
		errs = append(errs, a.cfg.Snapshots.Delete(a.ctx, SnapshotSpec{ID: c.ID, Mark: a.mark(), Volume: c.Volume}))
	}
	for _, name := range l.Shares {
		errs = append(errs, a.sweepShare(name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return a.inMemberTurn(func(t turn) error {
		return t.apply("leftovers removed", change{lost: map[uint64]*leftover{stay: nil}})
	})
}

// sweepShare makes an exposed share agree with the table.
func (a *Agent) sweepShare(name string) error {
	var w *work
	err := a.inMemberTurn(func(t turn) error {
		w = nil
		e, id, share := t.exposedAs(name)
		if e == nil {
			return nil
		}
		if e.busy() || e.set.Work != (Work{}) {
			return fmt.Errorf("agent: shadow copy set %s of share %q is in work", e.set.ID, name)
		}
		if err := t.claim("looking at a share", e, StepUnexpose); err != nil {
			return err
		}
		w = t.begin(e, StepUnexpose,
			func(ctx context.Context, w *work) error {
				c := w.set.copy(id)
				return a.mend(ctx, w.set, c, c.mapping(share))
			},
			func(a turn, err error) error { return errors.Join(err, a.unclaim("looked at a share", e)) })
		return nil
	})
	if err != nil {
		return err
	}
	if w == nil {
		return a.cfg.Shares.Unexpose(a.ctx, a.id, name)
	}
	select {
	case <-w.done:
		return w.err
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// exposedAs finds the mapping of an exposed share's name.
func (a turn) exposedAs(name string) (e *entry, id fsrvp.CopyID, share string) {
	for _, e := range a.sets {
		for i := range e.set.Copies {
			c := &e.set.Copies[i]
			for _, m := range c.Shares {
				if strings.EqualFold(m.Name, name) {
					return e, c.ID, m.Share.Name
				}
			}
		}
	}
	return nil, id, ""
}

// mend exposes a share again if it is gone, and removes a share that should not exist.
func (a *Agent) mend(ctx context.Context, set *Set, c *Copy, m *Mapping) error {
	if !m.Exposed || m.Removing {
		return a.unexpose(ctx, set, c, m)
	}
	h, err := a.listHeld(ctx)
	if err != nil || h.hasShare(m.Name) || h.shares == nil {
		return err
	}
	return a.exposeShare(ctx, set, c, m)
}

// leave takes this node out of the table. Its works have ended.
func (a *Agent) leave(ctx context.Context) error {
	for {
		t, err := a.takeLocal(ctx)
		if err != nil {
			return err
		}
		err = t.refresh(ctx)
		c := a.cluster
		if err == nil && c.stay != 0 {
			err = t.apply("node leaves", change{nodes: map[string]Node{c.name: {Names: c.nodes[c.name].Names}}})
		}
		t.give()
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
}

// alone reports whether no other node is in the table.
func (a *Agent) alone() bool {
	if a.cluster == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(turn{a}.others()) == 0
}
