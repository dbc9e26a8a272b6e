package agent

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// AbortShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.8). It cancels all work for the
// set; when it returns nil, everything that was made for the set is deleted. The set leaves the
// table at once. If a backend fails to delete something, the agent retries by itself, and another
// AbortShadowCopySet retries too.
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

func (a *Agent) beginAbort(ctx context.Context, id fsrvp.SetID) (w *work, err error) {
	return w, a.inTurn(ctx, func(t turn) (err error) {
		w, err = t.beginAbort(id)
		return err
	})
}

func (a turn) beginAbort(id fsrvp.SetID) (*work, error) {
	if e := a.sets[id]; e != nil && e.set.Removing {
		return a.joinRemoval("abort", e)
	}
	e, err := a.findLocked(id)
	if err != nil {
		return nil, err
	}
	if e.set.Status == Recovered {
		return nil, badState(e.set)
	}
	w, err := a.abort("abort", e)
	if err != nil {
		return nil, fmt.Errorf("agent: abort of shadow copy set %s: %w", id, err)
	}
	return w, nil
}

// abort removes a set, and ends the creation if it is this set's.
func (a turn) abort(why string, e *entry) (*work, error) {
	if !a.inCreation(e.set) {
		return one(a.remove(why, nil, []*entry{e}))
	}
	w, err := one(a.remove(why, &creation{}, []*entry{e}))
	if err != nil {
		a.failed(err)
		return nil, err
	}
	a.sequence.reset()
	return w, nil
}

// one returns the work that removes one set.
func one(works []*work, err error) (*work, error) {
	if err != nil {
		return nil, err
	}
	return works[0], nil
}
