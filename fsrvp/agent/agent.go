package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// An Agent is a File Share Shadow Copy Agent. It implements [fsrvp.Service].
//
// Its methods are safe for concurrent use. Each takes the caller from the context
// ([dcerpc.PeerFromContext]), where a [dcerpc.Server] puts it, and returns [fsrvp.ErrAccessDenied],
// before it looks at anything else, if the caller has no access. Methods check only who the caller
// is; [fsrvp.HandlerConfig] says how calls must be protected. Every error wraps an [fsrvp.Status].
// If a call's context ends, the call returns at once and the work that it began continues, just as
// when a wait times out. After Close, errors match [net.ErrClosed].
type Agent struct {
	cfg    Config
	log    *slog.Logger
	id     Owner // of what it makes; set by New and not changed
	access atomic.Pointer[access]
	names  *names
	store  *store

	cluster *cluster // nil: an agent alone

	// The optional sides of the backends; nil where they have not got them.
	preparer     Preparer
	sealer       Sealer
	shareSealer  ShareSealer
	deleteSyncer DeleteSyncer

	ctx     context.Context // of all works; ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // works and calls

	storing   context.Context // of writes of the store; ends when Close has waited enough
	stopStore context.CancelFunc

	// turns holds one value while somebody has the turn, see turn. Only the goroutine that has the
	// turn may change sets and creation, or read or change the work of an entry.
	turns chan struct{}

	settles chan struct{} // holds one value while deferred changes are being stored

	// mu guards the fields that follow. It is held only for moments, never during a write of the
	// store or a call of a backend. The goroutine that has the turn reads sets and creation without
	// it. Names of functions that require mu end in Locked.
	mu       sync.Mutex
	closed   bool
	sets     map[fsrvp.SetID]*entry // GlobalShadowCopySetTable, and sets that are being removed
	creation creation
	retry    *time.Timer // of removals that failed; nil: none is waiting

	deferring   int  // how many changes are deferred
	deferFailed bool // the last attempt to store them has failed: nothing more is deferred
	settling    bool // settleAll runs

	sequence sequence // has a lock of its own
}

var _ fsrvp.Service = (*Agent)(nil)

// New opens the store, finishes or undoes the work that a crash interrupted, deletes the last run's
// auto-release copies, and returns an Agent that is ready for calls. The context bounds only New
// itself.
//
// New fails with an error that wraps [ErrStoreInUse] if another Agent has the store open, and with
// one that wraps [ErrStateLost] if there are copies that the store should know but does not. It
// also fails if the store is damaged or has another version, or if a backend cannot list what it
// holds. In all these cases it has deleted nothing.
func New(ctx context.Context, cfg *Config) (*Agent, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: c, log: c.Logger, turns: make(chan struct{}, 1), settles: make(chan struct{}, 1),
		sets: map[fsrvp.SetID]*entry{}}
	if err = a.SetAccess(c.Allow, c.CaseSensitiveRealms); err != nil {
		return nil, err
	}
	var server backend.ServerNames
	if namer, ok := c.Shares.(ServerNamer); ok {
		if server, err = namer.ServerNames(ctx); err != nil {
			return nil, fmt.Errorf("agent: the names of the file server: %w", err)
		}
	}
	if a.names, err = newNames(&c, server); err != nil {
		return nil, err
	}
	a.log.Info("the names of this server", "machine", a.Machine(), "names", a.Names())
	a.preparer, _ = c.Snapshots.(Preparer)
	a.sealer, _ = c.Snapshots.(Sealer)
	a.deleteSyncer, _ = c.Snapshots.(DeleteSyncer)
	a.shareSealer, _ = c.Shares.(ShareSealer)
	a.sequence.elapsed = a.sequenceElapsed
	if a.store, err = openStore(&c); err != nil {
		return nil, err
	}
	a.id = Owner(a.store.ID())
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.storing, a.stopStore = context.WithCancel(context.Background())
	if s := a.store.shared; s != nil {
		a.cluster = &cluster{store: s, name: s.Member(), changes: make(chan struct{}), heard: map[string]heard{}}
	}
	t, err := a.takeLocal(ctx)
	if err == nil {
		err = t.recover(ctx)
		t.give()
	}
	if err != nil {
		a.end()
		if a.cluster != nil && a.cluster.stay != 0 {
			left, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.CloseWait)
			defer cancel()
			err = errors.Join(err, a.leave(left))
		}
		a.stopStore()
		return nil, errors.Join(err, a.store.Close())
	}
	if a.cluster != nil {
		a.running.Go(a.member)
		a.cluster.stalls.begin = time.Now()
		a.running.Go(func() { a.cluster.stalls.watch(a.ctx) })
	}
	return a, nil
}

// Close ends all calls and works, deletes auto-release copies and closes the store. Sets of
// persistent contexts stay, and New finds them again.
//
// It waits up to Config.CloseWait for backends and the store, and returns an error if that was not
// long enough or if something could not be deleted; the next New then does the rest. A second Close
// returns nil at once.
func (a *Agent) Close() error {
	if !a.end() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.CloseWait)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		a.running.Wait()
		ended <- a.release(ctx)
	}()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("agent: a backend or the store has not ended within %v; the next start does what is left",
			a.cfg.CloseWait)
	}
	a.stopStore()
	return errors.Join(err, a.store.Close())
}

// end cancels everything that is running and lets nothing new begin. It returns false if it has
// been called before.
func (a *Agent) end() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.closed = true
	a.sequence.reset()
	if a.retry != nil {
		a.retry.Stop()
	}
	a.cancel()
	return true
}

// release deletes everything that must not outlive the agent.
func (a *Agent) release(ctx context.Context) error {
	if !a.alone() { // the other nodes of the cluster have them
		return a.leave(ctx)
	}
	if err := a.settleDeferred(ctx); err != nil {
		return err // copies that the store has are not to outlive their sets in it
	}
	var errs []error
	for _, set := range a.Table() {
		if !set.Removing && !set.autoRelease() {
			continue
		}
		err := a.unmake(ctx, &set)
		if err == nil {
			err = a.forget(ctx, set.ID)
		}
		errs = append(errs, err)
	}
	if a.cluster != nil {
		errs = append(errs, a.leave(ctx))
	}
	return errors.Join(errs...)
}

func (a *Agent) forget(ctx context.Context, id fsrvp.SetID) error {
	return a.inTurn(ctx, func(t turn) error { return t.apply("agent closed", change{drop: []fsrvp.SetID{id}}) })
}

// enter counts a call or a timer's work as running. It returns false if the agent is closed.
func (a *Agent) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.running.Add(1)
	return true
}

// ID returns the agent's id, which comes from its store. Everything that the agent makes carries
// it.
func (a *Agent) ID() Owner { return a.id }

// Machine returns the name that IsPathSupported tells clients to connect to. If it is empty,
// clients are told the name that they used.
func (a *Agent) Machine() string { return a.names.answer("") }

// Names returns the names and addresses by which clients may call this server, in lower case and
// sorted. If Config.Names is nil, they include the addresses of the machine's interfaces.
func (a *Agent) Names() []string { return a.names.list() }

// mark returns the mark for something that is about to be made.
func (a *Agent) mark() Mark { return Mark{Owner: a.id, Sequence: a.store.sequence()} }

// Table returns all shadow copy sets, including those that are being removed, in no particular
// order. The caller owns the result.
func (a *Agent) Table() []Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	sets := make([]Set, 0, len(a.sets))
	for _, e := range a.sets {
		sets = append(sets, *e.set.clone())
	}
	return sets
}

// A call is one call of a method.
type call struct {
	ctx  context.Context // ends with the call, and with the agent
	peer dcerpc.Peer

	mu    sync.Mutex // a call that was given up goes on
	event Event
	attrs []any // of its line in the log
}

// note adds to the call's line in the log.
func (c *call) note(attrs ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attrs = append(c.attrs, attrs...)
}

// set notes which set the call is about.
func (c *call) set(id fsrvp.SetID) {
	c.note("set", id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event.Set = id
}

// copy notes which shadow copy the call is about.
func (c *call) copy(id fsrvp.CopyID) {
	c.note("copy", id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.event.Copy = id
}

// share notes which share the call is about.
func (c *call) share(unc string) { c.note("share", unc) }

// call is answer for a method that returns nothing else.
func (a *Agent) call(ctx context.Context, op fsrvp.Opnum, method func(*call) error) error {
	_, err := answer(ctx, a, op, func(c *call) (struct{}, error) { return struct{}{}, method(c) })
	return err
}

// answer does what all methods have in common: it checks access, runs the method, writes a line to
// the log and reports an event. When the context ends it returns at once; the method continues
// until it notices, or until its write or its backend has ended.
func answer[T any](ctx context.Context, a *Agent, op fsrvp.Opnum, method func(*call) (T, error)) (T, error) {
	var none T
	if !a.enter() {
		return none, fmt.Errorf("agent: %v: %w", op, net.ErrClosed)
	}
	defer a.running.Done()

	begun := time.Now()
	ctx, cancel := context.WithCancelCause(a.withStay(ctx))
	defer cancel(nil)
	defer context.AfterFunc(a.ctx, func() { cancel(net.ErrClosed) })()

	c := &call{ctx: ctx}
	peer, err := a.access.Load().check(ctx)
	c.peer = peer
	result := none
	if err == nil && a.cluster != nil {
		err = a.cluster.stalls.wait(ctx)
	}
	if err == nil {
		result, err = detached(ctx, &a.running, func() (T, error) { return method(c) })
	}
	err = statusError(err, fsrvp.ErrFail)

	c.mu.Lock()
	event, attrs := c.event, append([]any{"method", op.String()}, c.attrs...)
	c.mu.Unlock()
	event.Kind, event.Op = EventCall, op
	event.Status, event.Duration = fsrvp.StatusOf(err), time.Since(begun)
	a.cfg.Observe(event)
	attrs = append(attrs, "client", clientAddress(peer.Addr), "caller", who(&peer), "duration", event.Duration)
	if err != nil {
		level := slog.LevelWarn
		if isLogged(err) {
			level = slog.LevelDebug
		}
		a.log.Log(ctx, level, "call failed", append(attrs, "status", event.Status.Name(), "err", err)...)
		return none, err
	}
	a.log.Debug("call done", attrs...)
	return result, nil
}

// write stores a change.
func (a turn) write(why string, c change) error {
	begun := time.Now()
	err := a.store.write(a.storing, a.sets, c)
	if errors.Is(err, state.ErrConflict) {
		return err // it is tried again, see inTurn
	}
	a.cfg.Observe(Event{Kind: EventStep, Step: StepStore, Duration: time.Since(begun), Err: err})
	if err != nil {
		a.log.Error("store not written", "why", why, "sets", c.ids(), "err", err)
		return statusError(fmt.Errorf("agent: store: %w", &loggedError{err}), fsrvp.ErrFail)
	}
	return nil
}

// checkSet refuses a null ShadowCopySetId, which no set has. Null arguments are checked before
// everything except the caller's rights (MS-FSRVP 3.1.4).
func checkSet(id fsrvp.SetID) error {
	if id == (fsrvp.SetID{}) {
		return fmt.Errorf("agent: the id of the shadow copy set is null: %w", fsrvp.ErrInvalidArg)
	}
	return nil
}

// checkMapping refuses null arguments of the methods about the mapping of a share.
func checkMapping(set fsrvp.SetID, copy fsrvp.CopyID, share string) error {
	switch {
	case copy == (fsrvp.CopyID{}):
		return fmt.Errorf("agent: the id of the shadow copy is null: %w", fsrvp.ErrInvalidArg)
	case share == "":
		return fmt.Errorf("agent: the name of the share is empty: %w", fsrvp.ErrInvalidArg)
	}
	return checkSet(set)
}

// findLocked finds a set in the table.
func (a *Agent) findLocked(id fsrvp.SetID) (*entry, error) {
	if err := checkSet(id); err != nil {
		return nil, err
	}
	if e := a.sets[id]; e != nil && !e.set.Removing {
		return e, nil
	}
	return nil, a.unknownSet(id)
}

// unknownSet returns the error for an id that no set has.
func (a *Agent) unknownSet(id fsrvp.SetID) error {
	s := fsrvp.ErrInvalidArg
	if a.cfg.Profile == Strict {
		s = fsrvp.ErrShadowCopySetIDMismatch
	}
	return fmt.Errorf("agent: there is no shadow copy set %s: %w", id, s)
}

// badState returns the error for a call that the set's status does not allow.
func badState(set *Set) error {
	return fmt.Errorf("agent: shadow copy set %s is %s: %w", set.ID, set.Status, fsrvp.ErrBadState)
}

// inCreation reports whether a set counts as unfinished.
func (a *Agent) inCreation(s *Set) bool {
	return s.Status != Recovered && !s.Removing && !(s.Status == Exposed && (s.Kept || a.cfg.KeepExposed))
}

// unfinished returns the sets in creation. There is at most one, except in stores that another
// program has written.
func (a turn) unfinished() []*entry {
	var list []*entry
	for _, e := range a.sets {
		if a.inCreation(e.set) {
			list = append(list, e)
		}
	}
	return list
}
