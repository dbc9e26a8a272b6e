package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// ExposeShadowCopySet implements fsrvp.Service (MS-FSRVP 3.1.4.6). After a time-out, ErrWaitTimeout, the
// work goes on, and another ExposeShadowCopySet waits on and gives its result. After any other failure no share is exposed.
// In every case but success the set is still Committed.
func (a *Agent) ExposeShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.advance(ctx, fsrvp.OpExposeShadowCopySet, set, []SetStatus{Committed}, a.cfg.Timers.Expose,
		func(c *call, e *entry) error { return a.expose(c, e, wait) })
}

// expose begins to expose a set's shares, or joins the work that goes on, and waits for it. What may be
// made is in the store: the names, in a set that is Committed. The lock is held, but for the wait.
func (a *Agent) expose(c *call, e *entry, wait time.Duration) error {
	if e.work == nil {
		a.begin(e, StepExpose, a.exposeAll, nil)
	}
	w := e.work
	a.mu.Unlock()
	err := await(c.ctx, w, wait)
	a.mu.Lock()
	switch {
	case errors.Is(err, errStillWorking):
		return fmt.Errorf("agent: exposing shadow copy set %s takes more than %v: %w", e.set.ID, wait, fsrvp.ErrWaitTimeout)
	case err != nil:
		return statusError(err, fsrvp.ErrWaitFailed)
	}
	return a.collect(e, w, a.exposed)
}

// exposeAll exposes all shares of a set, or none.
func (a *Agent) exposeAll(ctx context.Context, w *work) error {
	for i := range w.set.Copies {
		c := &w.set.Copies[i]
		for j := range c.Shares {
			if err := a.exposeShare(ctx, w.set, c, &c.Shares[j]); err != nil {
				return errors.Join(err, a.takeBack(w.set))
			}
		}
	}
	return nil
}

func (a *Agent) exposeShare(ctx context.Context, set *Set, c *Copy, m *Mapping) error {
	exposure := set.exposure(c, m)
	return a.step(StepExpose, set, c, m.Name, func() error { return a.cfg.Shares.Expose(ctx, exposure) })
}

// takeBack removes what a failed exposeAll has made, also when its own context has ended. What cannot be removed now
// goes with the set: while it is Committed all its shares count as perhaps exposed.
func (a *Agent) takeBack(set *Set) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), a.cfg.CloseWait)
	defer cancel()
	return a.unexposeAll(ctx, set)
}

func (a *Agent) unexposeAll(ctx context.Context, set *Set) error {
	var errs []error
	for i := range set.Copies {
		c := &set.Copies[i]
		for j := range c.Shares {
			errs = append(errs, a.unexpose(ctx, set, c, &c.Shares[j]))
		}
	}
	return errors.Join(errs...)
}

// exposed puts the outcome of exposeAll in the table, and tells whether it could. The lock is held.
func (a *Agent) exposed(e *entry, w *work) (stored bool, err error) {
	if w.err != nil {
		return true, statusError(fmt.Errorf("agent: exposing shadow copy set %s: %w", e.set.ID, w.err), fsrvp.ErrWaitFailed)
	}
	next := e.set.with(Exposed)
	for i := range next.Copies {
		for j := range next.Copies[i].Shares {
			next.Copies[i].Shares[j].Exposed = true
		}
	}
	ch := change{put: []*Set{next}}
	if a.cfg.KeepExposed {
		ch.creation = &creation{}
	}
	if err = a.apply("exposed", ch); err != nil {
		return false, err
	}
	if a.cfg.KeepExposed {
		a.sequence.reset()
	}
	return true, nil
}
