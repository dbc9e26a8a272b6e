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
		w, err := a.beginAbort(set)
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

func (a *Agent) beginAbort(id fsrvp.SetID) (*work, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.sets[id]; e != nil && e.set.Removing {
		if e.work == nil {
			return a.beginRemoval("abort", e), nil
		}
		return e.work, nil
	}
	e, err := a.find(id)
	if err != nil {
		return nil, err
	}
	if e.set.Status == Recovered {
		return nil, badState(e.set)
	}
	works, err := a.abort(e)
	if err != nil {
		return nil, fmt.Errorf("agent: abort of shadow copy set %s: %w", id, err)
	}
	return works[0], nil
}

// abort removes a set; with it ends the creation, if it is this set's. The lock is held.
func (a *Agent) abort(e *entry) ([]*work, error) {
	const why = "abort"
	if !a.inCreation(e.set) {
		return a.remove(why, nil, []*entry{e})
	}
	epoch := a.sequence.stop()
	works, err := a.remove(why, &creation{}, []*entry{e})
	if err != nil {
		a.sequence.start(epoch, a.cfg.Timers.Failure)
		return nil, err
	}
	a.sequence.reset()
	return works, nil
}
