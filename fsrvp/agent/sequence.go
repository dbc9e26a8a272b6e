package agent

import (
	"context"
	"slices"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// advance is what Prepare, Commit and Expose have in common: they need a set in one of these statuses, and the Message Sequence Timer stands
// still while they do what they do, with the lock held but for waits. Then it runs for that long after success, and for Timers.Failure otherwise.
func (a *Agent) advance(ctx context.Context, op fsrvp.Opnum, set fsrvp.SetID, in []SetStatus, after time.Duration, do func(*call, *entry) error) error {
	return a.call(ctx, op, func(c *call) error {
		c.set(set)
		a.mu.Lock()
		defer a.mu.Unlock()
		e, err := a.find(set)
		if err != nil {
			return err
		}
		if !slices.Contains(in, e.set.Status) {
			return badState(e.set)
		}
		epoch := a.sequence.stop()
		if err = do(c, e); err != nil {
			after = a.cfg.Timers.Failure
		}
		a.sequence.start(epoch, after)
		return err
	})
}

// sequence is the Message Sequence Timer (MS-FSRVP 3.1.2). It runs while a creation is in progress and no
// method of it is at work. Agent.mu guards all of it.
type sequence struct {
	elapsed func(armed uint64) // called without the lock when the timer fires
	timer   *time.Timer
	armed   uint64 // counts arm and disarm: a timer that fired just before it was stopped has another
	epoch   uint64 // counts creations: what a method of an earlier one says has no effect
	working int    // methods of this creation that have stopped the timer
}

// stop is what a method does when it begins to work. The epoch that it returns is for start.
func (s *sequence) stop() (epoch uint64) {
	s.working++
	s.disarm()
	return s.epoch
}

// start is what a method does when it ends. The timer runs from when the last one does.
func (s *sequence) start(epoch uint64, d time.Duration) {
	if epoch != s.epoch {
		return
	}
	s.working--
	if s.working == 0 {
		s.arm(d)
	}
}

// reset stops the timer for good: the creation has ended, or another begins.
func (s *sequence) reset() {
	s.epoch++
	s.working = 0
	s.disarm()
}

func (s *sequence) arm(d time.Duration) {
	s.disarm()
	armed := s.armed
	s.timer = time.AfterFunc(d, func() { s.elapsed(armed) })
}

func (s *sequence) disarm() {
	s.armed++
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}
