package agent

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// StartShadowCopySet implements fsrvp.Service (MS-FSRVP 3.1.4.3).
func (a *Agent) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (id fsrvp.SetID, err error) {
	err = a.call(ctx, fsrvp.OpStartShadowCopySet, func(c *call) error {
		c.attrs = append(c.attrs, "client set", client)
		if client == (fsrvp.SetID{}) {
			return fmt.Errorf("agent: the client's set id is null: %w", fsrvp.ErrInvalidArg)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		set, err := a.startSet(client)
		if err != nil {
			return err
		}
		id = set.ID
		c.set(id)
		return nil
	})
	return id, err
}

// startSet makes a set. The lock is held.
func (a *Agent) startSet(client fsrvp.SetID) (*Set, error) {
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
