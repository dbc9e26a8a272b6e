package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// recover makes the table from the store, and the table and the backends agree, whatever the last run was doing when it
// ended:
//
//	Removing, auto-release   deleted, with all that was made
//	Started, Added           kept
//	CreationInProgress       snapshots deleted, Added again: the client's next Commit begins anew
//	Committed                shares removed, if any were exposed; kept
//	Exposed, Recovered       mappings that were being deleted are deleted; shares that are gone are exposed again; a copy
//	                         whose snapshot is gone is forgotten, and so is an unfinished set that has lost one
//
// A snapshot is gone when its volume is there and the snapshot is not: of a volume that is not mounted nothing is known, and
// what the table says of it stays.
//
// Then snapshots and shares that the table does not know are deleted. An unfinished set stays with
// its context, for its client to go on with, or for the Message Sequence Timer. Nothing else runs yet.
func (a turn) recover(ctx context.Context) error {
	old, sets, err := a.store.load()
	if err != nil {
		return err
	}
	for _, set := range sets {
		a.sets[set.ID] = &entry{set: set}
	}
	held, err := a.listHeld(ctx)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if err := a.settle(ctx, set, held); err != nil {
			return err
		}
	}
	if held, err = a.listHeld(ctx); err != nil {
		return err
	}
	a.removeOrphans(ctx, held)
	next := creation{}
	ch := change{creation: &next}
	for _, e := range a.sets {
		if e.set.Status == Exposed && a.cfg.KeepExposed && !e.set.Kept && !e.set.Removing {
			kept := e.set.clone()
			kept.Kept = true
			ch.put = append(ch.put, kept)
		}
	}
	if list := a.unfinished(); len(list) > 0 {
		if next = old; !old.ContextSet {
			next = creation{ContextSet: true, Context: list[0].set.Context}
		}
		a.sequence.arm(a.cfg.Timers.Failure)
	}
	return a.apply("agent started", ch)
}

// held is what the backends hold; a nil map where a backend cannot say.
type held struct {
	snapshots map[fsrvp.CopyID]SnapshotSpec
	shares    map[string]string // as the backend spells it, by its lower case
}

func (a *Agent) listHeld(ctx context.Context) (held, error) {
	var h held
	if l, ok := a.cfg.Snapshots.(SnapshotLister); ok {
		list, err := l.List(ctx)
		if err != nil {
			return h, fmt.Errorf("agent: listing snapshots: %w", err)
		}
		h.snapshots = make(map[fsrvp.CopyID]SnapshotSpec, len(list))
		for _, s := range list {
			h.snapshots[s.ID] = s
		}
	}
	if l, ok := a.cfg.Shares.(ShareLister); ok {
		list, err := l.List(ctx)
		if err != nil {
			return h, fmt.Errorf("agent: listing exposed shares: %w", err)
		}
		h.shares = make(map[string]string, len(list))
		for _, name := range list {
			h.shares[strings.ToLower(name)] = name
		}
	}
	return h, nil
}

// hasSnapshot tells whether a snapshot exists, as far as the backend can say.
func (h held) hasSnapshot(id fsrvp.CopyID) bool {
	_, ok := h.snapshots[id]
	return ok || h.snapshots == nil
}

// hasShare tells whether an exposed share exists, as far as the backend can say.
func (h held) hasShare(name string) bool {
	_, ok := h.shares[strings.ToLower(name)]
	return ok || h.shares == nil
}

// settle makes one set and the backends agree. What a backend fails to delete is tried again later; only a failure of the store
// is returned.
func (a turn) settle(ctx context.Context, set *Set, h held) error {
	lost := slices.ContainsFunc(set.Copies, func(c Copy) bool {
		return set.Status.hasShares() && !c.removing() && a.isGone(ctx, &c, h)
	})
	switch {
	case set.Removing, set.autoRelease(), lost && a.inCreation(set):
		return a.settleRemoved(ctx, set)
	case set.Status == CreationInProgress:
		if err := a.unmake(ctx, set); err != nil {
			return a.settleRemoved(ctx, set)
		}
		return a.apply("agent started", change{put: []*Set{set.with(Added)}})
	case set.Status == Committed:
		if err := a.unexposeAll(ctx, set); err != nil {
			return a.settleRemoved(ctx, set)
		}
	case set.Status == Exposed, set.Status == Recovered:
		return a.settleExposed(ctx, set, h)
	}
	return nil
}

// isGone tells whether a copy's snapshot is gone for good. It asks for the volume by the share's directory, as when the share was
// added: a volume's root may hold what shares must not.
func (a *Agent) isGone(ctx context.Context, c *Copy, h held) bool {
	if h.hasSnapshot(c.ID) {
		return false
	}
	v, err := a.cfg.Snapshots.Volume(ctx, c.Shares[0].Share.Path)
	return err == nil && v.ID == c.Volume.ID
}

// settleRemoved deletes a set and what was made for it.
func (a turn) settleRemoved(ctx context.Context, set *Set) error {
	const why = "agent started"
	if err := a.unmake(ctx, set); err == nil {
		return a.apply(why, change{drop: []fsrvp.SetID{set.ID}})
	}
	next := set.clone()
	next.Removing = true
	a.retryLater()
	return a.apply(why, change{put: []*Set{next}})
}

// settleExposed finishes deletions that had begun, forgets copies that are gone, and exposes shares that are gone again.
func (a turn) settleExposed(ctx context.Context, set *Set, h held) error {
	const why = "agent started"
	next := set.clone()
	for i := range set.Copies {
		c := &set.Copies[i]
		gone := a.isGone(ctx, c, h)
		if !h.hasSnapshot(c.ID) {
			a.log.Error("snapshot not found", "set", set.ID, "copy", c.ID, "volume", c.Volume.Path, "forgotten", gone)
		}
		for j := range c.Shares {
			m := &c.Shares[j]
			if m.Removing || gone {
				if err := a.unmap(ctx, next, c.ID, m.Share.Name); err == nil {
					next = next.without(c.ID, m.Share.Name)
				} else {
					a.retryLater()
				}
				continue
			}
			if now := next.copy(c.ID).mapping(m.Share.Name); h.hasSnapshot(c.ID) && (!m.Exposed || !h.hasShare(m.Name)) {
				now.Exposed = a.exposeShare(ctx, next, c, now) == nil
			}
		}
	}
	if len(next.Copies) == 0 {
		return a.apply(why, change{drop: []fsrvp.SetID{set.ID}})
	}
	return a.apply(why, change{put: []*Set{next}})
}

// removeOrphans deletes what the backends hold and the table does not know. Failures are logged; what could not be
// deleted is found again by the next New.
func (a turn) removeOrphans(ctx context.Context, h held) {
	for _, e := range a.sets {
		for i := range e.set.Copies {
			c := &e.set.Copies[i]
			if e.set.Removing || e.set.Status.hasSnapshots() {
				delete(h.snapshots, c.ID)
			}
			for _, m := range c.Shares {
				if e.set.Removing || m.Exposed || m.Removing {
					delete(h.shares, strings.ToLower(m.Name))
				}
			}
		}
	}
	for _, name := range h.shares {
		a.log.Warn("removing an exposed share that no shadow copy set has", "share", name)
		if err := a.cfg.Shares.Unexpose(ctx, name); err != nil {
			a.log.Error("orphaned share not removed", "share", name, "err", err)
		}
	}
	for id, s := range h.snapshots {
		a.log.Warn("removing a snapshot that no shadow copy set has", "copy", id, "volume", s.Volume.Path)
		if err := a.cfg.Snapshots.Delete(ctx, s); err != nil {
			a.log.Error("orphaned snapshot not removed", "copy", id, "err", err)
		}
	}
}
