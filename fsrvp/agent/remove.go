package agent

import (
	"context"
	"errors"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// remove takes sets out of the table, with a change of the creation in the same transaction, and begins to delete
// what was made for them. What goes on for a set is cancelled first. When the removal
// fails it is tried again, until it succeeds or the agent is closed. The lock is held.
func (a *Agent) remove(why string, c *creation, list []*entry) ([]*work, error) {
	ch := change{creation: c}
	for _, e := range list {
		next := e.set.clone()
		next.Removing = true
		ch.put = append(ch.put, next)
	}
	if err := a.apply(why, ch); err != nil {
		return nil, err
	}
	works := make([]*work, len(list))
	for i, e := range list {
		works[i] = a.beginRemoval(why, e)
	}
	return works, nil
}

// beginRemoval begins to delete what was made for a set that is Removing. The lock is held.
func (a *Agent) beginRemoval(why string, e *entry) *work {
	if e.work != nil {
		e.work.cancel()
	}
	return a.begin(e, StepDelete,
		func(ctx context.Context, w *work) error { return a.unmake(ctx, w.set) },
		func(err error) error {
			if err == nil {
				err = a.apply(why, change{drop: []fsrvp.SetID{e.set.ID}})
			}
			if err != nil {
				a.retryLater()
			}
			return err
		})
}

// unmake deletes the shares and the snapshots that a set has or may have. A snapshot whose shares cannot be removed stays.
func (a *Agent) unmake(ctx context.Context, set *Set) error {
	var errs []error
	for i := range set.Copies {
		errs = append(errs, a.unmakeCopy(ctx, set, &set.Copies[i]))
	}
	return errors.Join(errs...)
}

func (a *Agent) unmakeCopy(ctx context.Context, set *Set, c *Copy) error {
	var errs []error
	if set.Status.hasShares() {
		for i := range c.Shares {
			errs = append(errs, a.unexpose(ctx, set, c, &c.Shares[i]))
		}
	}
	if err := errors.Join(errs...); err != nil || !set.Status.hasSnapshots() {
		return err
	}
	return a.deleteSnapshot(ctx, set, c)
}

func (a *Agent) unexpose(ctx context.Context, set *Set, c *Copy, m *Mapping) error {
	return a.step(StepUnexpose, set, c, m.Name, func() error { return a.cfg.Shares.Unexpose(ctx, m.Name) })
}

func (a *Agent) deleteSnapshot(ctx context.Context, set *Set, c *Copy) error {
	return a.step(StepDelete, set, c, "", func() error { return a.cfg.Snapshots.Delete(ctx, set.spec(c)) })
}

// retryLater has removals that failed tried again. The lock is held.
func (a *Agent) retryLater() {
	if a.closed || a.retry != nil {
		return
	}
	a.retry = time.AfterFunc(a.cfg.RetryRemoval, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.retry = nil
		if a.closed {
			return
		}
		for _, e := range a.sets {
			if e.set.Removing && e.work == nil {
				a.beginRemoval("removal tried again", e)
			}
		}
	})
}

// sequenceElapsed is what happens when the Message Sequence Timer fires (MS-FSRVP 3.1.5).
func (a *Agent) sequenceElapsed(armed uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || armed != a.sequence.armed {
		return // stopped in the moment in which it fired
	}
	const why = "message sequence timer"
	list := a.unfinished()
	ev := Event{Kind: EventTimeout}
	if len(list) > 0 {
		ev.Set = list[0].set.ID
	}
	a.cfg.Observe(ev)
	if _, err := a.remove(why, &creation{}, list); err != nil {
		a.sequence.arm(a.cfg.Timers.Failure) // nothing has changed; try again
		return
	}
	a.sequence.reset()
}
