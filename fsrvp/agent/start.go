package agent

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// StartShadowCopySet implements fsrvp.Service (MS-FSRVP 3.1.4.3).
func (a *Agent) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (fsrvp.SetID, error) {
	return answer(ctx, a, fsrvp.OpStartShadowCopySet, func(c *call) (id fsrvp.SetID, err error) {
		c.note("client set", client)
		if client == (fsrvp.SetID{}) {
			return id, fmt.Errorf("agent: the client's set id is null: %w", fsrvp.ErrInvalidArg)
		}
		t, err := a.take(c.ctx)
		if err != nil {
			return id, err
		}
		defer t.give()
		set, err := t.startSet(client)
		if err != nil {
			return id, err
		}
		c.set(set.ID)
		return set.ID, nil
	})
}

// startSet makes a set.
func (a turn) startSet(client fsrvp.SetID) (*Set, error) {
	if !a.creation.ContextSet {
		return nil, fmt.Errorf("agent: no context is set: %w", fsrvp.ErrBadState)
	}
	if list := a.unfinished(); len(list) > 0 {
		return nil, fmt.Errorf("agent: shadow copy set %s is in creation: %w", list[0].set.ID, fsrvp.ErrShadowCopySetInProgress)
	}
	epoch := a.sequence.stop()
	if a.cfg.MaxSets >= 0 && len(a.sets) >= a.cfg.MaxSets {
		a.sequence.start(epoch, a.cfg.Timers.Failure)
		return nil, fmt.Errorf("agent: the table has %d sets, the most that it may have: %w", len(a.sets), fsrvp.ErrOutOfMemory)
	}
	set := &Set{ID: fsrvp.NewSetID(), Client: client, Status: Started, Context: a.creation.Context}
	if err := a.apply("started", change{put: []*Set{set}}); err != nil {
		a.sequence.start(epoch, a.cfg.Timers.Failure)
		return nil, err
	}
	a.sequence.start(epoch, a.cfg.Timers.Start)
	return set, nil
}
