package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// GetShareMapping implements [fsrvp.Service] (MS-FSRVP 3.1.4.11). The level must be 1. The
// mapping's Share is the path that the client gave to AddToShadowCopySet. A null argument does not
// affect the Message Sequence Timer.
func (a *Agent) GetShareMapping(ctx context.Context, copy fsrvp.CopyID, set fsrvp.SetID, share string,
	level uint32) (*fsrvp.ShareMapping, error) {
	return answer(ctx, a, fsrvp.OpGetShareMapping, func(c *call) (*fsrvp.ShareMapping, error) {
		c.set(set)
		c.copy(copy)
		c.share(share)
		if err := checkMapping(set, copy, share); err != nil {
			return nil, err
		}
		if level != 1 {
			return nil, fmt.Errorf("agent: level %d: %w", level, fsrvp.ErrInvalidArg)
		}
		if err := a.comeForMapping(c.ctx, set); err != nil {
			return nil, err
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		e, err := a.findLocked(set)
		if err != nil {
			return nil, err
		}
		if err := a.mayGetMapping(e.set); err != nil {
			return nil, err
		}
		if !a.inCreation(e.set) { // no creation whose timer this could be
			return a.mappingOf(e.set, copy, share)
		}
		epoch := a.sequence.stop()
		mapping, err := a.mappingOf(e.set, copy, share)
		if err != nil {
			a.sequence.start(epoch, a.cfg.Timers.Failure)
			return nil, err
		}
		a.sequence.start(epoch, a.cfg.Timers.GetShareMapping)
		return mapping, nil
	})
}

// comeForMapping brings the table up to date and makes this node watch the creation of a set whose
// client asks it for a mapping.
func (a *Agent) comeForMapping(ctx context.Context, set fsrvp.SetID) error {
	if a.cluster == nil {
		return nil
	}
	return a.inTurn(ctx, func(t turn) error {
		e, err := t.findLocked(set)
		if err != nil || !a.inCreation(e.set) || a.mayGetMapping(e.set) != nil {
			return nil // the answer says so
		}
		return t.own()
	})
}

// mayGetMapping returns an error if a set's status does not allow GetShareMapping.
func (a *Agent) mayGetMapping(set *Set) error {
	switch {
	case set.Status == Exposed:
		return nil
	case a.cfg.Profile == Strict:
		return badState(set)
	case set.Status == Recovered:
		return nil
	}
	return fmt.Errorf("agent: shadow copy set %s is %s: %w", set.ID, set.Status, fsrvp.ErrNotExposed)
}

func (a *Agent) mappingOf(set *Set, id fsrvp.CopyID, share string) (*fsrvp.ShareMapping, error) {
	c, m, err := a.findMapping(set, id, share)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fsrvp.ErrInvalidArg, err)
	}
	if m.Removing {
		return nil, fmt.Errorf("agent: share %s of shadow copy %s is being deleted: %w", share, id, fsrvp.ErrInvalidArg)
	}
	answer := &fsrvp.ShareMapping{SetID: set.ID, CopyID: c.ID, Share: m.UNC, Created: c.Created}
	if m.Exposed {
		answer.Exposed = m.Name
	}
	return answer, nil
}

// findMapping finds a share of a set. Its errors wrap no status, because each method answers with a
// different one.
func (a *Agent) findMapping(set *Set, id fsrvp.CopyID, share string) (*Copy, *Mapping, error) {
	c := set.copy(id)
	if c == nil {
		return nil, nil, fmt.Errorf("agent: shadow copy set %s has no shadow copy %s", set.ID, id)
	}
	name, err := fsrvp.ParseShareName(share)
	if err == nil && a.hasName(name) {
		if m := c.mapping(name.Share); m != nil {
			return c, m, nil
		}
	}
	return nil, nil, fmt.Errorf("agent: shadow copy %s has no share %q", id, share)
}

// DeleteShareMapping implements [fsrvp.Service] (MS-FSRVP 3.1.4.12). The base share need not exist
// any more. If a backend fails, only DeleteShareMapping still finds the mapping, until a call
// succeeds. If the backend is a [DeleteSyncer], the call does not wait until the deletion of the
// snapshot is on stable storage: if a crash of the machine brings the snapshot back, New deletes
// it.
func (a *Agent) DeleteShareMapping(ctx context.Context, set fsrvp.SetID, copy fsrvp.CopyID, share string) error {
	return a.call(ctx, fsrvp.OpDeleteShareMapping, func(c *call) error {
		c.set(set)
		c.copy(copy)
		c.share(share)
		w, err := a.beginDeletion(c, set, copy, share)
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

func (a *Agent) beginDeletion(c *call, id fsrvp.SetID, copy fsrvp.CopyID, share string) (w *work, err error) {
	if err := checkMapping(id, copy, share); err != nil {
		return nil, err
	}
	notFound := fsrvp.ErrInvalidArg
	if a.cfg.Profile == Strict {
		notFound = fsrvp.ErrObjectNotFound
	}
	var m *Mapping
	find := func(turn) (*entry, error) {
		e := a.sets[id]
		if e == nil || e.set.Removing {
			return nil, fmt.Errorf("agent: there is no shadow copy set %s: %w", id, fsrvp.ErrObjectNotFound)
		}
		if e.set.Status != Exposed && e.set.Status != Recovered {
			return nil, badState(e.set)
		}
		var err error
		if _, m, err = a.findMapping(e.set, copy, share); err != nil {
			return nil, fmt.Errorf("%w: %w", notFound, err)
		}
		return e, nil
	}
	return w, a.inIdleTurn(c.ctx, find, func(t turn, e *entry) error {
		next := t.claimed(e.set.clone(), StepUnexpose)
		next.copy(copy).mapping(m.Share.Name).Removing = true
		if err := t.apply("deleting a share mapping", change{put: []*Set{next}}); err != nil {
			return err
		}
		w = t.beginUnmapping(e, unmapping{copy, m.Share.Name}, nil)
		return nil
	})
}

// An unmapping is a mapping that is being deleted.
type unmapping struct {
	copy  fsrvp.CopyID
	share string // its bare name
}

// unmappings returns the mappings of a set that are Removing.
func (s *Set) unmappings() []unmapping {
	var list []unmapping
	for i := range s.Copies {
		for _, m := range s.Copies[i].Shares {
			if m.Removing {
				list = append(list, unmapping{s.Copies[i].ID, m.Share.Name})
			}
		}
	}
	return list
}

// beginUnmapping begins to delete a mapping that is Removing, and the snapshot with a copy's last
// mapping; then it deletes the others, one after the other. It retries later what fails.
func (a turn) beginUnmapping(e *entry, u unmapping, others []unmapping) *work {
	var unsynced bool
	return a.begin(e, StepUnexpose,
		func(ctx context.Context, w *work) (err error) {
			unsynced, err = a.unmap(ctx, w.set, u.copy, u.share, a.mayDefer())
			if err == nil && !unsynced { // no copy is to outlive its set in the store
				err = a.settleDeferred(ctx)
			}
			return err
		},
		func(a turn, err error) error {
			if e.set.Removing { // with it goes the mapping
				return err
			}
			last := e.work == nil && len(others) == 0
			if err == nil {
				err = a.unmapped(e, u.copy, u.share, last, unsynced)
			} else if last {
				err = errors.Join(err, a.unclaim("deleting a share mapping failed", e))
			}
			if errors.Is(err, state.ErrConflict) {
				return err
			}
			if err != nil {
				a.retryLater()
			}
			if len(others) > 0 {
				a.beginUnmapping(e, others[0], others[1:])
			}
			return err
		})
}

// unmap removes a mapping's share, and the snapshot with a copy's last mapping. It reports whether
// it deleted the snapshot without waiting for stable storage, which it does if it may.
func (a *Agent) unmap(ctx context.Context, set *Set, id fsrvp.CopyID, share string, may bool) (unsynced bool,
	err error) {
	c := set.copy(id)
	if err := a.unexpose(ctx, set, c, c.mapping(share)); err != nil || len(c.Shares) > 1 {
		return false, err
	}
	return may, a.deleteSnapshot(ctx, set, c, may)
}

// unmapped removes a mapping from the table, the copy with its last mapping, and the set with its
// last copy. The argument last says that nothing else must be done for the set, and unsynced that
// the store must forget the copy later.
func (a turn) unmapped(e *entry, id fsrvp.CopyID, share string, last, unsynced bool) error {
	const why = "share mapping deleted"
	apply := a.apply
	if unsynced {
		volume := e.set.copy(id).Volume
		apply = func(why string, c change) error { return a.applyLater(why, c, volume) }
	}
	next := e.set.without(id, share)
	if last {
		next.idle()
	}
	if len(next.Copies) > 0 {
		return apply(why, change{put: []*Set{next}})
	}
	ch := change{drop: []fsrvp.SetID{e.set.ID}}
	ends := a.inCreation(e.set) && a.cfg.Profile == Windows
	if ends {
		ch.creation = &creation{}
	}
	if err := apply(why, ch); err != nil {
		return err
	}
	if ends {
		a.sequence.reset()
	}
	return nil
}
