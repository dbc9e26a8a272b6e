package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// A stage holds the differences between Prepare, Commit and Expose.
type stage struct {
	in    []SetStatus   // the statuses in which a set may be
	after time.Duration // of the Message Sequence Timer, after success
	step  Step          // of the work
	done  SetStatus     // the status after success; empty: none of its own
	doing string        // for errors
	late  fsrvp.Status  // the answer when the wait is over
	// begin begins the work, or joins the running one. It returns nil if there is nothing to wait
	// for.
	begin func(turn, *entry) (*work, error)
	// end returns the outcome of the work.
	end func(turn, *entry, *work) error
}

// advance does what Prepare, Commit and Expose have in common. The Message Sequence Timer is
// stopped while they work and wait; then it runs for stage.after, or for Timers.Failure if they
// failed.
func (a *Agent) advance(ctx context.Context, op fsrvp.Opnum, set fsrvp.SetID, wait time.Duration, s stage) error {
	return a.call(ctx, op, func(c *call) error {
		c.set(set)
		begun := time.Now()
		for {
			g, err := a.beginStage(c.ctx, set, s)
			if err != nil {
				return err
			}
			if g.elsewhere != nil {
				if err := a.awaitOther(c.ctx, g.elsewhere, set, wait-time.Since(begun), s); err != nil {
					return err
				}
				continue
			}
			err = g.err
			if err == nil && g.work != nil {
				err = a.finish(c.ctx, set, g.entry, g.work, wait, s)
			}
			after := s.after
			if err != nil {
				after = a.cfg.Timers.Failure
			}
			a.sequence.start(g.epoch, after)
			return err
		}
	})
}

// A stageBegun is a stage whose work is running or has already ended.
type stageBegun struct {
	entry     *entry
	work      *work // nil: there is nothing to wait for
	err       error // of beginning; the timer has been stopped all the same
	epoch     uint64
	elsewhere <-chan struct{} // another node of the cluster is at work; closed at its next change
}

func (a *Agent) beginStage(ctx context.Context, set fsrvp.SetID, s stage) (g stageBegun, err error) {
	err = a.inTurn(ctx, func(t turn) error {
		g = stageBegun{}
		e, err := t.findLocked(set) // nobody else changes the table
		if err != nil {
			return err
		}
		g.entry = e
		moved := t.moved() && a.inCreation(e.set)
		ended := e.work != nil && e.work.collected && e.work.step == s.step
		if answered := moved && s.done != "" && e.set.Status == s.done; !answered && !ended {
			if _, err := t.findWith(set, s.in...); err != nil {
				return err
			}
		}
		if t.mustWait(e) {
			g.elsewhere = a.tableChanged()
			return nil
		}
		if a.inCreation(e.set) {
			if err := t.own(); err != nil {
				return err
			}
		}
		switch {
		case ended: // after the call that began it had waited enough
			g.work = e.work
		case moved && e.set.Status == s.done: // the client has not got another node's answer
		default:
			if g.work, g.err = s.begin(t, e); errors.Is(g.err, state.ErrConflict) {
				return g.err
			}
		}
		g.epoch = a.sequence.stop()
		return nil
	})
	return g, err
}

// awaitOther waits until another node has changed the table.
func (a *Agent) awaitOther(ctx context.Context, changed <-chan struct{}, set fsrvp.SetID, wait time.Duration,
	s stage) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return s.tooLate(set)
	}
}

func (s *stage) tooLate(set fsrvp.SetID) error {
	return fmt.Errorf("agent: %s shadow copy set %s takes longer than the client waits: %w", s.doing, set, s.late)
}

// finish waits for the work of a stage and returns its outcome.
func (a *Agent) finish(ctx context.Context, set fsrvp.SetID, e *entry, w *work, wait time.Duration, s stage) error {
	switch err := await(ctx, w, wait); {
	case errors.Is(err, errStillWorking):
		return s.tooLate(set)
	case err != nil:
		return statusError(err, fsrvp.ErrWaitFailed)
	}
	return statusError(a.inTurn(ctx, func(t turn) error { return s.end(t, e, w) }), fsrvp.ErrWaitFailed)
}

// sequence is the Message Sequence Timer (MS-FSRVP 3.1.2). It runs while a creation is in progress
// and none of the creation's methods is working. It is safe for concurrent use.
type sequence struct {
	elapsed func(armed uint64) // called without the lock when the timer fires

	mu      sync.Mutex
	timer   *time.Timer
	armed   uint64 // counts arm and disarm: a timer that fired just before it was stopped has another
	epoch   uint64 // counts creations: what a method of an earlier one says has no effect
	working int    // methods of this creation that have stopped the timer
}

// stop stops the timer; a method calls it when it begins to work. The method passes the returned
// epoch to start.
func (s *sequence) stop() (epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working++
	s.disarmLocked()
	return s.epoch
}

// start starts the timer; a method calls it when it ends. The timer runs from the end of the last
// method.
func (s *sequence) start(epoch uint64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch != s.epoch {
		return
	}
	s.working--
	if s.working == 0 {
		s.armLocked(d)
	}
}

// idle reports whether the timer does not run, and no method has stopped it.
func (s *sequence) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.timer == nil && s.working == 0
}

// restart is stop and start, for a method that ends at once.
func (s *sequence) restart(d time.Duration) { s.start(s.stop(), d) }

// failed restarts the Message Sequence Timer after a failure, except a failure after which the turn
// is taken again.
func (a turn) failed(err error) {
	if !errors.Is(err, state.ErrConflict) {
		a.sequence.restart(a.cfg.Timers.Failure)
	}
}

// reset stops the timer for good, because the creation has ended or another begins.
func (s *sequence) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.working = 0
	s.disarmLocked()
}

// arm lets the timer run.
func (s *sequence) arm(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armLocked(d)
}

// armAfter arms the timer that fired again, unless something else has happened to it since.
func (s *sequence) armAfter(armed uint64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if armed == s.armed {
		s.armLocked(d)
	}
}

// fired reports whether the timer really fired, and was not stopped at the same moment.
func (s *sequence) fired(armed uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return armed == s.armed
}

func (s *sequence) armLocked(d time.Duration) {
	s.disarmLocked()
	armed := s.armed
	s.timer = time.AfterFunc(d, func() { s.elapsed(armed) })
}

func (s *sequence) disarmLocked() {
	s.armed++
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}
