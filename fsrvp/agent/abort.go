package agent

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// AbortShadowCopySet implements fsrvp.Service (MS-FSRVP 3.1.4.8). Whatever goes on for the set is cancelled, and whatever was
// made for it is deleted when Abort returns nil. The set leaves the table at once; when a backend fails to
// delete something the agent tries again by itself, and so does another AbortShadowCopySet.
func (a *Agent) AbortShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	return a.call(ctx, fsrvp.OpAbortShadowCopySet, func(c *call) error {
		c.set(set)
		w, err := a.beginAbort(c.ctx, set)
		if err != nil {
			return err
		}
		select {
		case <-w.done:
			return statusError(w.err, fsrvp.ErrFail)
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	})
}

func (a *Agent) beginAbort(ctx context.Context, id fsrvp.SetID) (*work, error) {
	t, err := a.take(ctx)
	if err != nil {
		return nil, err
	}
	defer t.give()
	if e := a.sets[id]; e != nil && e.set.Removing {
		if e.work == nil {
			return t.beginRemoval("abort", e), nil
		}
		return e.work, nil
	}
	e, err := a.findLocked(id)
	if err != nil {
		return nil, err
	}
	if e.set.Status == Recovered {
		return nil, badState(e.set)
	}
	w, err := t.abort("abort", e)
	if err != nil {
		return nil, fmt.Errorf("agent: abort of shadow copy set %s: %w", id, err)
	}
	return w, nil
}

// abort removes a set; with it ends the creation, if it is this set's.
func (a turn) abort(why string, e *entry) (*work, error) {
	if !a.inCreation(e.set) {
		return one(a.remove(why, nil, []*entry{e}))
	}
	epoch := a.sequence.stop()
	w, err := one(a.remove(why, &creation{}, []*entry{e}))
	if err != nil {
		a.sequence.start(epoch, a.cfg.Timers.Failure)
		return nil, err
	}
	a.sequence.reset()
	return w, nil
}

// one returns the work of a removal of one set.
func one(works []*work, err error) (*work, error) {
	if err != nil {
		return nil, err
	}
	return works[0], nil
}
