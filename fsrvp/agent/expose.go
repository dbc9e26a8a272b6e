package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// ExposeShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.6). After a time-out
// (ErrWaitTimeout) the work continues, and another ExposeShadowCopySet waits for it and returns its
// result. After any other failure no share is exposed. Unless it succeeds, the set is still
// Committed.
func (a *Agent) ExposeShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.advance(ctx, fsrvp.OpExposeShadowCopySet, set, wait, stage{
		in: []SetStatus{Committed}, after: a.cfg.Timers.Expose, step: StepExpose, done: Exposed,
		doing: "exposing", late: fsrvp.ErrWaitTimeout, begin: turn.expose,
		end: func(a turn, e *entry, w *work) error { return a.collect(e, w, turn.exposed) },
	})
}

// expose begins to expose a set's shares, or joins the work that already does. The store knows what
// may be made: it has the names, in a set that is Exposing. So the mark of each share is later than
// any store that has the set as not Exposing.
func (a turn) expose(e *entry) (*work, error) {
	if w := e.work; w != nil && w.step == StepExpose {
		return w, nil
	}
	next := a.claimed(e.set.clone(), StepExpose)
	next.Exposing = true
	if err := a.apply("exposing", change{put: []*Set{next}}); err != nil {
		return nil, err
	}
	return a.beginKept(e, StepExpose, a.exposeAll, nil, turn.exposed), nil
}

// exposeAll exposes all shares of a set, or none.
func (a *Agent) exposeAll(ctx context.Context, w *work) error {
	if batcher, ok := a.cfg.Shares.(ShareBatcher); ok && w.set.shares() > 1 {
		if err := a.exposeAtOnce(ctx, w.set, batcher); err != nil {
			return errors.Join(err, a.takeBack(w.set))
		}
		return nil
	}
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
	exposure := set.exposure(c, m, a.mark())
	return a.step(StepExpose, set, c, m.Name, func() error {
		if err := a.checkPath(ctx, exposure); err != nil {
			return err
		}
		return a.cfg.Shares.Expose(ctx, exposure)
	})
}

func (a *Agent) checkPath(ctx context.Context, e Exposure) error {
	if checker, ok := a.cfg.Snapshots.(PathChecker); ok {
		return checker.CheckPath(ctx, e.Snapshot, e.Path)
	}
	return nil
}

// exposeAtOnce exposes all shares of a set in one step.
func (a *Agent) exposeAtOnce(ctx context.Context, set *Set, batcher ShareBatcher) error {
	return a.step(StepExpose, set, nil, "", func() error {
		var list []Exposure
		for i := range set.Copies {
			c := &set.Copies[i]
			for j := range c.Shares {
				e := set.exposure(c, &c.Shares[j], a.mark())
				if err := a.checkPath(ctx, e); err != nil {
					return err
				}
				list = append(list, e)
			}
		}
		return batcher.ExposeShares(ctx, list)
	})
}

// takeBack removes what a failed exposeAll has made, even if its own context has ended. What cannot
// be removed now is removed with the set: while the set is Committed, all its shares count as
// possibly exposed.
func (a *Agent) takeBack(set *Set) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), a.cfg.CloseWait)
	defer cancel()
	return a.unexposeAll(ctx, set)
}

func (a *Agent) unexposeAll(ctx context.Context, set *Set) error {
	if a.unexposeAtOnce(ctx, set) {
		return nil
	}
	var errs []error
	for i := range set.Copies {
		c := &set.Copies[i]
		for j := range c.Shares {
			errs = append(errs, a.unexpose(ctx, set, c, &c.Shares[j]))
		}
	}
	return errors.Join(errs...)
}

// exposed puts the outcome of exposeAll in the table, and reports whether it was stored.
func (a turn) exposed(e *entry, w *work) (stored bool, err error) {
	if w.err != nil {
		if err := a.apply("exposing failed", change{put: []*Set{e.set.with(Committed).idle()}}); err != nil {
			return false, err
		}
		return true, statusError(fmt.Errorf("agent: exposing shadow copy set %s: %w", e.set.ID, w.err),
			fsrvp.ErrWaitFailed)
	}
	next := e.set.with(Exposed).idle()
	for i := range next.Copies {
		for j := range next.Copies[i].Shares {
			next.Copies[i].Shares[j].Exposed = true
		}
	}
	next.Kept = a.cfg.KeepExposed
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
