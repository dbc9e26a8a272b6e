package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// RecoveryCompleteShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.7). When it returns nil,
// writable copies (of a context with AUTO_RECOVERY) have become read-only; all other copies have
// been read-only since they were made.
func (a *Agent) RecoveryCompleteShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	return a.call(ctx, fsrvp.OpRecoveryCompleteShadowCopySet, func(c *call) error {
		c.set(set)
		w, err := a.beginRecovery(c, set)
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

func (a *Agent) beginRecovery(c *call, id fsrvp.SetID) (w *work, err error) {
	return w, a.inIdleTurn(c.ctx, func(t turn) (*entry, error) { return t.findWith(id, Exposed) },
		func(t turn, e *entry) (err error) {
			w, err = t.beginSealing(e)
			return err
		})
}

// beginSealing begins the work of RecoveryComplete.
func (a turn) beginSealing(e *entry) (*work, error) {
	current := a.inCreation(e.set)
	if current {
		if err := a.own(); err != nil {
			return nil, err
		}
	}
	if err := a.claim("recovery", e, StepSeal); err != nil {
		return nil, err
	}
	var epoch uint64
	if current {
		epoch = a.sequence.stop()
	}
	return a.begin(e, StepSeal, a.seal, func(a turn, err error) error {
		if e.set.Removing {
			return a.unknownSet(e.set.ID)
		}
		if err == nil {
			err = a.recovered(e.set, current)
		} else {
			err = errors.Join(err, a.unclaim("recovery failed", e))
		}
		if errors.Is(err, state.ErrConflict) {
			return err
		}
		if err != nil && current {
			a.sequence.start(epoch, a.cfg.Timers.Failure)
		}
		if err != nil {
			return fmt.Errorf("agent: recovery of shadow copy set %s: %w", e.set.ID, err)
		}
		return nil
	}), nil
}

// recovered puts the end of RecoveryComplete in the table, and ends the creation if it is this
// set's.
func (a turn) recovered(set *Set, current bool) error {
	next := set.with(Recovered).idle()
	next.Kept = false
	ch := change{put: []*Set{next}}
	if current {
		ch.creation = &creation{}
	}
	if err := a.apply("recovery complete", ch); err != nil {
		return err
	}
	if current {
		a.sequence.reset()
	}
	return nil
}

// seal makes the shares and snapshots of a set read-only: the shares first, so that nobody writes
// meanwhile. It may be repeated after a failure.
func (a *Agent) seal(ctx context.Context, w *work) error {
	if !w.set.Context.AutoRecovery() {
		return nil
	}
	batcher, _ := a.cfg.Shares.(ShareBatcher)
	atOnce := batcher != nil && w.set.shares() > 1
	if atOnce {
		if err := a.sealAtOnce(ctx, w.set, batcher); err != nil {
			return err
		}
	}
	for i := range w.set.Copies {
		c := &w.set.Copies[i]
		var snapshot Snapshot
		for j := range c.Shares {
			m := &c.Shares[j]
			exposure := w.set.exposure(c, m, a.mark())
			snapshot = exposure.Snapshot
			if atOnce || !m.Exposed || m.Removing {
				continue
			}
			if err := a.step(StepSealShare, w.set, c, m.Name,
				func() error { return a.shareSealer.SealShare(ctx, exposure) }); err != nil {
				return err
			}
		}
		if err := a.step(StepSeal, w.set, c, "", func() error { return a.sealer.Seal(ctx, snapshot) }); err != nil {
			return err
		}
	}
	return nil
}

// sealAtOnce makes all shares of a set read-only in one step.
func (a *Agent) sealAtOnce(ctx context.Context, set *Set, batcher ShareBatcher) error {
	var list []Exposure
	for i := range set.Copies {
		c := &set.Copies[i]
		for j := range c.Shares {
			if m := &c.Shares[j]; m.Exposed && !m.Removing {
				list = append(list, set.exposure(c, m, a.mark()))
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return a.step(StepSealShare, set, nil, "", func() error { return batcher.SealShares(ctx, list) })
}
