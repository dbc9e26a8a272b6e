package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A stage is what Prepare, Commit and Expose differ in.
type stage struct {
	in    []SetStatus   // the statuses in which a set may be
	after time.Duration // of the Message Sequence Timer, after success
	doing string        // for errors
	late  fsrvp.Status  // the answer when the wait is over
	// begin begins the work, or joins the one that goes on; nil: there is nothing to wait for.
	begin func(turn, *entry) (*work, error)
	// end gives the outcome of the work.
	end func(turn, *entry, *work) error
}

// advance is what Prepare, Commit and Expose have in common. The Message Sequence Timer stands still
// while they work and wait; then it runs for stage.after, or for Timers.Failure where they failed.
func (a *Agent) advance(ctx context.Context, op fsrvp.Opnum, set fsrvp.SetID, wait time.Duration, s stage) error {
	return a.call(ctx, op, func(c *call) error {
		c.set(set)
		t, err := a.take(c.ctx)
		if err != nil {
			return err
		}
		e, err := t.findWith(set, s.in...)
		if err != nil {
			t.give()
			return err
		}
		epoch := a.sequence.stop()
		w, err := s.begin(t, e)
		t.give()
		if err == nil && w != nil {
			err = a.finish(c.ctx, set, e, w, wait, s)
		}
		after := s.after
		if err != nil {
			after = a.cfg.Timers.Failure
		}
		a.sequence.start(epoch, after)
		return err
	})
}

// finish waits for the work of a stage and returns its outcome.
func (a *Agent) finish(ctx context.Context, set fsrvp.SetID, e *entry, w *work, wait time.Duration, s stage) error {
	switch err := await(ctx, w, wait); {
	case errors.Is(err, errStillWorking):
		return fmt.Errorf("agent: %s shadow copy set %s takes more than %v: %w", s.doing, set, wait, s.late)
	case err != nil:
		return statusError(err, fsrvp.ErrWaitFailed)
	}
	t, err := a.take(ctx)
	if err != nil {
		return statusError(err, fsrvp.ErrWaitFailed)
	}
	defer t.give()
	return s.end(t, e, w)
}

// sequence is the Message Sequence Timer (MS-FSRVP 3.1.2). It runs while a creation is in progress and
// no method of it is at work. Several goroutines may use it at once.
type sequence struct {
	elapsed func(armed uint64) // called without the lock when the timer fires

	mu      sync.Mutex
	timer   *time.Timer
	armed   uint64 // counts arm and disarm: a timer that fired just before it was stopped has another
	epoch   uint64 // counts creations: what a method of an earlier one says has no effect
	working int    // methods of this creation that have stopped the timer
}

// stop is what a method does when it begins to work. The epoch that it returns is for start.
func (s *sequence) stop() (epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.working++
	s.disarmLocked()
	return s.epoch
}

// start is what a method does when it ends. The timer runs from when the last one does.
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

// reset stops the timer for good: the creation has ended, or another begins.
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

// fired reports whether the timer that fired was not stopped in the moment in which it did.
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
