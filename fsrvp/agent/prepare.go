package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// PrepareShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.13). If the backend has nothing
// to prepare, it succeeds at once.
func (a *Agent) PrepareShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.advance(ctx, fsrvp.OpPrepareShadowCopySet, set, wait, stage{
		in: []SetStatus{Added}, after: a.cfg.Timers.Prepare, step: StepPrepare,
		doing: "preparing", late: fsrvp.ErrWaitTimeout, begin: turn.prepare, end: turn.prepared,
	})
}

// prepare begins a preparation, or joins the running one.
func (a turn) prepare(e *entry) (*work, error) {
	preparer, ahead := a.cfg.Snapshots.(SnapshotPreparer)
	if !ahead && a.preparer == nil {
		return nil, nil
	}
	if w := e.work; w != nil && w.step == StepPrepare && w.set == e.set { // no share was added since it began
		return w, nil
	}
	if err := a.claim("preparing", e, StepPrepare); err != nil {
		return nil, err
	}
	return a.begin(e, StepPrepare,
		func(ctx context.Context, w *work) error {
			if ahead {
				return a.step(StepPrepare, w.set, nil, "", func() error { return preparer.PrepareSnapshots(ctx, w.set.specs(a.mark())) })
			}
			volumes := make([]Volume, len(w.set.Copies))
			for i := range w.set.Copies {
				volumes[i] = w.set.Copies[i].Volume
			}
			return a.step(StepPrepare, w.set, nil, "", func() error { return a.preparer.Prepare(ctx, volumes) })
		},
		func(a turn, err error) error {
			if e.work == nil && !e.set.Removing { // else the next one holds the set
				err = errors.Join(err, a.unclaim("prepared", e))
			}
			return err
		}), nil
}

func (a turn) prepared(e *entry, w *work) error {
	if w.err != nil {
		return statusError(fmt.Errorf("agent: preparing shadow copy set %s: %w", e.set.ID, w.err), fsrvp.ErrWaitFailed)
	}
	return nil
}
