package agent

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// StartShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.3).
func (a *Agent) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (fsrvp.SetID, error) {
	return answer(ctx, a, fsrvp.OpStartShadowCopySet, func(c *call) (id fsrvp.SetID, err error) {
		c.note("client set", client)
		if client == (fsrvp.SetID{}) {
			return id, fmt.Errorf("agent: the client's set id is null: %w", fsrvp.ErrInvalidArg)
		}
		err = a.inTurn(c.ctx, func(t turn) error {
			set, err := t.startSet(client)
			if err == nil {
				id = set.ID
			}
			return err
		})
		if err == nil {
			c.set(id)
		}
		return id, err
	})
}

// startSet adds a new set to the table.
func (a turn) startSet(client fsrvp.SetID) (*Set, error) {
	if !a.creation.ContextSet {
		return nil, fmt.Errorf("agent: no context is set: %w", fsrvp.ErrBadState)
	}
	if list := a.unfinished(); len(list) > 0 {
		return nil, fmt.Errorf("agent: shadow copy set %s is in creation: %w", list[0].set.ID,
			fsrvp.ErrShadowCopySetInProgress)
	}
	if err := a.own(); err != nil {
		return nil, err
	}
	if a.cfg.MaxSets >= 0 && len(a.sets) >= a.cfg.MaxSets {
		a.sequence.restart(a.cfg.Timers.Failure)
		return nil, fmt.Errorf("agent: the table has %d sets, the most that it may have: %w", len(a.sets),
			fsrvp.ErrOutOfMemory)
	}
	set := &Set{ID: fsrvp.NewSetID(), Client: client, Status: Started, Context: a.creation.Context}
	if err := a.apply("started", change{put: []*Set{set}}); err != nil {
		a.failed(err)
		return nil, err
	}
	a.sequence.restart(a.cfg.Timers.Start)
	return set, nil
}
