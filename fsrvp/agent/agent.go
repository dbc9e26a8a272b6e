package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// An Agent is a File Share Shadow Copy Agent. It implements fsrvp.Service.
//
// Its methods may be called by several goroutines at once. Each takes the caller from the context
// (dcerpc.PeerFromContext), as a dcerpc.Server gives it, and answers one that may not call with
// fsrvp.ErrAccessDenied before it looks at anything else. It goes by who the caller is; how calls have to be protected is for fsrvp.HandlerConfig to
// say. Every error wraps an fsrvp.Status. A call whose context ends returns
// at once; what it had begun goes on, as it does when a wait is over. After Close errors match net.ErrClosed.
type Agent struct {
	cfg    Config
	log    *slog.Logger
	access *access
	names  *names
	store  *store

	// The optional sides of the backends; nil where they have not got them.
	preparer    Preparer
	sealer      Sealer
	shareSealer ShareSealer

	ctx     context.Context // of all works; ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // works and calls

	// mu guards what follows. It is held over writes of the store, never over anything that a backend does.
	mu       sync.Mutex
	closed   bool
	sets     map[fsrvp.SetID]*entry // GlobalShadowCopySetTable, and sets that are being removed
	creation creation
	sequence sequence
	retry    *time.Timer // of removals that failed; nil: none is waiting
}

var _ fsrvp.Service = (*Agent)(nil)

// New opens the store, finishes or undoes what a crash left, deletes auto-release copies of the last
// run, and returns an Agent that is ready for calls. The context bounds New alone.
//
// It fails with an error that wraps ErrStoreInUse when another Agent has the store; when the store is damaged or is of
// another version, and when a backend cannot list what it holds.
func New(ctx context.Context, cfg *Config) (*Agent, error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: c, log: c.Logger, sets: map[fsrvp.SetID]*entry{}}
	if a.access, err = newAccess(&c); err != nil {
		return nil, err
	}
	if a.names, err = newNames(&c); err != nil {
		return nil, err
	}
	a.preparer, _ = c.Snapshots.(Preparer)
	a.sealer, _ = c.Snapshots.(Sealer)
	a.shareSealer, _ = c.Shares.(ShareSealer)
	a.sequence.elapsed = a.sequenceElapsed
	if a.store, err = openStore(c.StorePath, c.StoreWait); err != nil {
		return nil, err
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if err := a.recover(ctx); err != nil {
		a.end()
		return nil, errors.Join(err, a.store.close())
	}
	return a, nil
}

// Close ends all calls and works, deletes auto-release copies and closes the store. Sets of persistent contexts stay; New finds them.
//
// It waits for backends for Config.CloseWait, and returns an error when that was not enough or
// something could not be deleted. New does then what is left to do. A second Close returns nil at once.
func (a *Agent) Close() error {
	if !a.end() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.CloseWait)
	defer cancel()
	idle := make(chan struct{})
	go func() {
		a.running.Wait()
		close(idle)
	}()
	var err error
	select {
	case <-idle:
		err = a.release(ctx)
	case <-ctx.Done():
		err = fmt.Errorf("agent: a backend has not ended within %v", a.cfg.CloseWait)
	}
	return errors.Join(err, a.store.close())
}

// end cancels all that goes on and lets nothing begin any more. It returns false where it has been called before.
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

// release deletes what does not outlive the agent.
func (a *Agent) release(ctx context.Context) error {
	var errs []error
	for _, set := range a.Table() {
		if !set.Removing && !set.autoRelease() {
			continue
		}
		err := a.unmake(ctx, &set)
		if err == nil {
			a.mu.Lock()
			err = a.apply("agent closed", change{drop: []fsrvp.SetID{set.ID}})
			a.mu.Unlock()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Table returns the shadow copy sets, those that are being removed too, in no order. They are the caller's.
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
	ctx   context.Context // ends with the call, and with the agent
	peer  dcerpc.Peer
	event Event
	attrs []any // of its line in the log
}

// set notes which set the call is about.
func (c *call) set(id fsrvp.SetID) {
	c.event.Set = id
	c.attrs = append(c.attrs, "set", id)
}

// copy notes which shadow copy the call is about.
func (c *call) copy(id fsrvp.CopyID) {
	c.event.Copy = id
	c.attrs = append(c.attrs, "copy", id)
}

// share notes which share the call is about.
func (c *call) share(unc string) { c.attrs = append(c.attrs, "share", unc) }

// call is what all methods have in common: the access check first, then the method, then a line in the log and an event.
func (a *Agent) call(ctx context.Context, op fsrvp.Opnum, method func(*call) error) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return fmt.Errorf("agent: %v: %w", op, net.ErrClosed)
	}
	a.running.Add(1)
	a.mu.Unlock()
	defer a.running.Done()

	begun := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(a.ctx, func() { cancel(net.ErrClosed) })()

	c := &call{ctx: ctx}
	var err error
	if c.peer, err = a.access.check(ctx); err == nil {
		err = method(c)
	}
	err = statusError(err, fsrvp.ErrFail)

	c.event.Kind, c.event.Op = EventCall, op
	c.event.Status, c.event.Duration = fsrvp.StatusOf(err), time.Since(begun)
	a.cfg.Observe(c.event)
	attrs := append([]any{"method", op.String()}, c.attrs...)
	attrs = append(attrs, "client", clientAddress(c.peer.Addr), "caller", who(&c.peer), "duration", c.event.Duration)
	if err != nil {
		a.log.Warn("call failed", append(attrs, "status", c.event.Status.Name(), "err", err)...)
		return err
	}
	a.log.Debug("call done", attrs...)
	return nil
}

// apply writes a change to the store and then does it to the table, or fails and changes nothing. The lock is held.
func (a *Agent) apply(why string, c change) error {
	begun := time.Now()
	err := a.store.write(c)
	a.cfg.Observe(Event{Kind: EventStep, Step: StepStore, Duration: time.Since(begun), Err: err})
	if err != nil {
		a.log.Error("store not written", "why", why, "err", err)
		return statusError(fmt.Errorf("agent: store: %w", err), fsrvp.ErrFail)
	}
	if c.creation != nil {
		a.creation = *c.creation
	}
	for _, set := range c.put {
		e := a.sets[set.ID]
		var from SetStatus
		if e == nil {
			e = new(entry)
			a.sets[set.ID] = e
		} else {
			from = e.set.shown()
		}
		e.set = set
		if from != set.shown() {
			a.noteStatus(why, set, from, set.shown())
		}
	}
	for _, id := range c.drop {
		if e := a.sets[id]; e != nil {
			delete(a.sets, id)
			a.noteStatus(why, e.set, e.set.shown(), "")
		}
	}
	return nil
}

// noteStatus logs a change of a set's status and tells the observer.
func (a *Agent) noteStatus(why string, set *Set, from, to SetStatus) {
	ev := Event{Kind: EventStatus, Set: set.ID, From: from, To: to, Sets: len(a.sets)}
	for _, e := range a.sets {
		ev.Copies += len(e.set.Copies)
		ev.Shares += e.set.shares()
	}
	a.cfg.Observe(ev)
	a.log.Info("shadow copy set", "why", why, "set", set.ID, "copies", copyIDs(set), "from", string(from), "to", string(to))
}

func copyIDs(set *Set) []string {
	ids := make([]string, len(set.Copies))
	for i := range set.Copies {
		ids[i] = set.Copies[i].ID.String()
	}
	return ids
}

// find looks a set up in the table. The lock is held.
func (a *Agent) find(id fsrvp.SetID) (*entry, error) {
	if id == (fsrvp.SetID{}) {
		return nil, fmt.Errorf("agent: no shadow copy set given: %w", fsrvp.ErrInvalidArg)
	}
	if e := a.sets[id]; e != nil && !e.set.Removing {
		return e, nil
	}
	return nil, a.unknownSet(id)
}

// unknownSet is the answer to an id that no set has.
func (a *Agent) unknownSet(id fsrvp.SetID) error {
	s := fsrvp.ErrInvalidArg
	if a.cfg.Profile == Strict {
		s = fsrvp.ErrShadowCopySetIDMismatch
	}
	return fmt.Errorf("agent: there is no shadow copy set %s: %w", id, s)
}

// badState is the answer to a call that does not fit a set's status.
func badState(set *Set) error {
	return fmt.Errorf("agent: shadow copy set %s is %s: %w", set.ID, set.Status, fsrvp.ErrBadState)
}

// inCreation tells whether a set counts as unfinished.
func (a *Agent) inCreation(s *Set) bool {
	return s.Status != Recovered && !s.Removing && !(s.Status == Exposed && a.cfg.KeepExposed)
}

// unfinished returns the sets in creation: one at most, but for stores that somebody else has written. The lock is held.
func (a *Agent) unfinished() []*entry {
	var list []*entry
	for _, e := range a.sets {
		if a.inCreation(e.set) {
			list = append(list, e)
		}
	}
	return list
}
