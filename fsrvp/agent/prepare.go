package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// PrepareShadowCopySet implements fsrvp.Service (MS-FSRVP 3.1.4.13). With a backend that has nothing to prepare it
// succeeds at once.
func (a *Agent) PrepareShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.advance(ctx, fsrvp.OpPrepareShadowCopySet, set, []SetStatus{Added}, a.cfg.Timers.Prepare,
		func(c *call, e *entry) error { return a.prepare(c, e, wait) })
}

// prepare begins a preparation, or joins the one that goes on, and waits for it. The lock is held, but for the wait.
func (a *Agent) prepare(c *call, e *entry, wait time.Duration) error {
	if a.preparer == nil {
		return nil
	}
	w := e.work
	if w == nil || w.step != StepPrepare || w.set != e.set { // shares may have been added since it began
		w = a.begin(e, StepPrepare,
			func(ctx context.Context, w *work) error {
				volumes := make([]Volume, len(w.set.Copies))
				for i := range w.set.Copies {
					volumes[i] = w.set.Copies[i].Volume
				}
				return a.step(StepPrepare, w.set, nil, "", func() error { return a.preparer.Prepare(ctx, volumes) })
			},
			func(err error) error { return err })
	}
	a.mu.Unlock()
	err := await(c.ctx, w, wait)
	a.mu.Lock()
	switch {
	case errors.Is(err, errStillWorking):
		return fmt.Errorf("agent: preparing shadow copy set %s takes more than %v: %w", e.set.ID, wait, fsrvp.ErrWaitTimeout)
	case err != nil:
		return statusError(err, fsrvp.ErrWaitFailed)
	case w.err != nil:
		return statusError(fmt.Errorf("agent: preparing shadow copy set %s: %w", e.set.ID, w.err), fsrvp.ErrWaitFailed)
	}
	return nil
}
