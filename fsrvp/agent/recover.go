package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// recover loads the table from the store and makes the table and the backends agree, whatever the
// last run was doing when it ended:
//
//	Removing, auto-release   deleted, with all that was made
//	Started, Added           kept
//	CreationInProgress       snapshots deleted, Added again: the client's next Commit begins anew
//	Committed                shares removed, if any were exposed; kept
//	Exposed, Recovered       mappings that were being deleted are deleted; shares that are gone are exposed again; a copy
//	                         whose snapshot is gone is forgotten, and so is an unfinished set that has lost one
//
// A snapshot is gone if its volume exists but the snapshot does not. About a volume that is not
// mounted nothing is known, so its copies stay in the table.
//
// All this concerns the agent's own copies, and copies without a mark that the table knows, which
// old versions made. Anything else that recover finds is deleted only if the table proves that it
// was being made: see removeBegun. The rest stays and is logged. An unfinished set stays with its
// context, until its client continues or the Message Sequence Timer fires. Nothing else runs yet.
func (a turn) recover(ctx context.Context) error {
	t, err := a.store.load(ctx)
	if err != nil {
		return err
	}
	if first, err := a.setTable(ctx, t); err != nil || !first {
		return err
	}
	old := a.creation
	held, err := a.listHeld(ctx)
	if err != nil {
		return err
	}
	if err := a.checkState(held); err != nil {
		return err
	}
	loaded := a.Table() // what settle drops is no orphan
	a.removeBegun(ctx, held)
	for i := range loaded {
		if err := a.settle(ctx, a.sets[loaded[i].ID].set, held); err != nil {
			return err
		}
	}
	a.report(held, loaded)
	next := creation{}
	ch := change{creation: &next}
	if a.cluster != nil {
		me := a.cluster.nodes[a.cluster.name]
		me.Ready = true
		old.Moved = true
		ch.nodes = map[string]Node{a.cluster.name: me}
	}
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
	if err := a.apply("agent started", ch); err != nil {
		return err
	}
	return a.store.adopt()
}

// setTable takes the table from the store. In a cluster it brings the node into the table, and
// returns false if another node has already made the table and the backends agree; then only
// takeOver is left to do. Otherwise no other node does anything, and this node must settle the
// works of earlier nodes.
func (a turn) setTable(ctx context.Context, t *table) (first bool, err error) {
	a.mu.Lock()
	a.creation = t.creation
	for _, set := range t.sets {
		a.sets[set.ID] = &entry{set: set}
	}
	if a.cluster == nil {
		a.mu.Unlock()
		return true, nil
	}
	a.cluster.nodes, a.cluster.lost = t.nodes, t.lost
	a.mu.Unlock()
	first, err = a.enterTable(ctx)
	if err != nil || !first {
		return first, err
	}
	var ch change
	for _, e := range a.sets {
		if e.set.Work != (Work{}) {
			ch.put = append(ch.put, e.set.clone().idle())
		}
	}
	if len(ch.put) > 0 {
		err = a.apply("agent started", ch)
	}
	return true, err
}

// held is what the backends hold. Its maps have the agent's own snapshots and shares, and those
// without a mark that the table knows. A map is nil if the backend cannot list them.
type held struct {
	snapshots map[fsrvp.CopyID]SnapshotSpec
	shares    map[string]ExposedShare // by the lower case of the name

	foreignSnapshots []SnapshotSpec
	foreignShares    []ExposedShare
}

func (a *Agent) listHeld(ctx context.Context) (held, error) {
	var h held
	copies, names := known(a.Table())
	if l, ok := a.cfg.Snapshots.(SnapshotLister); ok {
		own, foreign, err := l.List(ctx, a.id)
		if err != nil {
			return h, fmt.Errorf("agent: listing snapshots: %w", err)
		}
		h.snapshots = make(map[fsrvp.CopyID]SnapshotSpec, len(own))
		for _, s := range foreign {
			if s.Mark == (Mark{}) && copies[s.ID] {
				h.snapshots[s.ID] = s
			} else {
				h.foreignSnapshots = append(h.foreignSnapshots, s)
			}
		}
		for _, s := range own {
			h.snapshots[s.ID] = s
		}
	}
	if l, ok := a.cfg.Shares.(ShareLister); ok {
		own, foreign, err := l.List(ctx, a.id)
		if err != nil {
			return h, fmt.Errorf("agent: listing exposed shares: %w", err)
		}
		h.shares = make(map[string]ExposedShare, len(own))
		for _, s := range foreign {
			if key := strings.ToLower(s.Name); s.Mark == (Mark{}) && names[key] {
				h.shares[key] = s
			} else {
				h.foreignShares = append(h.foreignShares, s)
			}
		}
		for _, s := range own {
			h.shares[strings.ToLower(s.Name)] = s
		}
	}
	return h, nil
}

// known returns everything that may exist according to the sets: the ids of copies, and the names
// of exposed shares in lower case.
func known(sets []Set) (copies map[fsrvp.CopyID]bool, names map[string]bool) {
	copies, names = make(map[fsrvp.CopyID]bool), make(map[string]bool)
	for i := range sets {
		for j := range sets[i].Copies {
			c := &sets[i].Copies[j]
			copies[c.ID] = true
			for _, m := range c.Shares {
				names[strings.ToLower(m.Name)] = true
			}
		}
	}
	return copies, names
}

// hasSnapshot reports whether a snapshot exists, as far as the backend can say.
func (h held) hasSnapshot(id fsrvp.CopyID) bool {
	_, ok := h.snapshots[id]
	return ok || h.snapshots == nil
}

// hasShare reports whether an exposed share exists, and clients can use it, as far as the backend
// can say.
func (h held) hasShare(name string) bool {
	s, ok := h.shares[strings.ToLower(name)]
	return ok && !s.Partial || h.shares == nil
}

// settle makes one set and the backends agree. What a backend fails to delete is retried later;
// settle returns only failures of the store.
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
		if set.Exposing {
			return a.apply("agent started", change{put: []*Set{set.with(Committed)}})
		}
	case set.Status == Exposed, set.Status == Recovered:
		return a.settleExposed(ctx, set, h)
	}
	return nil
}

// isGone reports whether a copy's snapshot is gone for good. It is not gone if its path still
// exists, because the backend may have been configured not to look there any more; nor if the
// snapshot belongs to another agent now, or its file system is not mounted. isGone finds the volume
// by the share's directory, as when the share was added, because no share may lie at the paths of
// some volume roots.
func (a *Agent) isGone(ctx context.Context, c *Copy, h held) bool {
	isForeign := func(s SnapshotSpec) bool { return s.ID == c.ID }
	if h.hasSnapshot(c.ID) || c.exists() || slices.ContainsFunc(h.foreignSnapshots, isForeign) || c.Home.missing() {
		return false
	}
	v, err := a.cfg.Snapshots.Volume(ctx, c.Shares[0].Share.Path)
	return err == nil && v.ID == c.Volume.ID
}

// settleRemoved deletes a set and everything that was made for it.
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

// settleExposed finishes deletions that had begun, forgets copies that are gone, and exposes shares
// that are gone again.
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
				if _, err := a.unmap(ctx, next, c.ID, m.Share.Name, false); err == nil {
					next = next.without(c.ID, m.Share.Name)
				} else {
					a.retryLater()
				}
				continue
			}
			if now := next.copy(c.ID).mapping(m.Share.Name); h.hasSnapshot(c.ID) &&
				(!m.Exposed || !h.hasShare(m.Name)) {
				now.Exposed = a.exposeShare(ctx, next, c, now) == nil
			}
		}
	}
	if len(next.Copies) == 0 {
		return a.apply(why, change{drop: []fsrvp.SetID{set.ID}})
	}
	return a.apply(why, change{put: []*Set{next}})
}

// exists reports whether the path of a copy's snapshot exists. A backend's paths need not be paths
// of the operating system.
func (c *Copy) exists() bool {
	if c.Path == "" {
		return false
	}
	_, err := os.Lstat(c.Path)
	return err == nil
}

// removeBegun deletes snapshots of copies that clients cannot have yet. They carry this agent's
// mark and a sequence that its store has passed, so their creation was begun, and then failed or
// was not answered. A failure is logged; the next New finds the snapshot again.
func (a turn) removeBegun(ctx context.Context, h held) {
	for _, e := range a.sets {
		if e.set.Removing || e.set.Status.hasSnapshots() {
			continue
		}
		for i := range e.set.Copies {
			s, ok := h.snapshots[e.set.Copies[i].ID]
			if !ok || s.Mark.Owner != a.id || s.Mark.Sequence == 0 {
				continue
			}
			a.log.Warn("removing a snapshot that was not completed", "set", e.set.ID, "copy", s.ID, "volume",
				s.Volume.Path)
			if err := a.cfg.Snapshots.Delete(ctx, s); err != nil {
				a.log.Error("snapshot not removed", "copy", s.ID, "err", err)
			}
		}
	}
}
