package agent

import (
	"context"
	"maps"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// A deferred change is in the table but not yet in the store: a snapshot was deleted, and its
// deletion must be on stable storage before the store forgets the copy. Until then the store lists
// the copy as one that is being deleted, so that after a crash New deletes it again.
type deferred struct {
	change state.Change
	volume Volume
}

// maxDeferred bounds how many changes are deferred at once.
const maxDeferred = 256

// mayDefer reports whether a deletion may be answered before it is on stable storage. The nodes of
// a cluster see only the store, so a cluster defers nothing.
func (a *Agent) mayDefer() bool {
	if a.deleteSyncer == nil || a.cluster != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.closed && !a.deferFailed && a.deferring < maxDeferred
}

// applyLater applies a change to the table, and stores it once the deletion on the volume is on
// stable storage.
func (a turn) applyLater(why string, c change, volume Volume) error {
	if err := a.store.postpone(a.sets, c, volume); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doLocked(why, c)
	a.deferring = len(a.store.deferred)
	if !a.settling && !a.closed {
		a.settling = true
		a.running.Go(a.settleAll)
	}
	return nil
}

// settleAll stores deferred changes until there are none.
func (a *Agent) settleAll() {
	for {
		err := a.settleDeferred(a.ctx)
		a.mu.Lock()
		if err == nil && a.deferring > 0 && !a.closed {
			a.mu.Unlock()
			continue
		}
		a.settling = false
		a.mu.Unlock()
		if err != nil {
			a.retryLater()
		}
		return
	}
}

// settleDeferred waits until the deletions of the changes that are deferred now are on stable
// storage, and then stores the changes.
func (a *Agent) settleDeferred(ctx context.Context) error {
	if a.deleteSyncer == nil {
		return nil
	}
	select { // the oldest ones stay the same meanwhile
	case a.settles <- struct{}{}:
		defer func() { <-a.settles }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t, err := a.takeLocal(ctx)
	if err != nil {
		return err
	}
	list := slices.Clone(a.store.deferred)
	t.give()
	if len(list) == 0 {
		return nil
	}
	if err = a.syncDeletions(ctx, volumesOf(list)); err == nil {
		if t, err = a.takeLocal(ctx); err != nil {
			return err
		}
		err = t.writeDeferred(len(list))
		t.give()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deferFailed = err != nil
	return err
}

// syncDeletions waits until deletions on the volumes are on stable storage.
func (a *Agent) syncDeletions(ctx context.Context, volumes []Volume) error {
	err := a.deleteSyncer.SyncDeletions(ctx, volumes)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("it is not known whether deleted snapshots are deleted on stable storage; that is tried again",
			"volumes", len(volumes), "err", err)
	}
	return err
}

func volumesOf(list []deferred) []Volume {
	var volumes []Volume
	for _, d := range list {
		if !slices.Contains(volumes, d.volume) {
			volumes = append(volumes, d.volume)
		}
	}
	return volumes
}

// writeDeferred stores the n oldest deferred changes.
func (a turn) writeDeferred(n int) error {
	err := a.store.writeDeferred(a.storing, n)
	if err != nil {
		a.log.Error("store not written", "why", "snapshots deleted", "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deferring = len(a.store.deferred)
	return err
}

// postpone keeps a change of a table for writeDeferred.
func (s *store) postpone(sets map[fsrvp.SetID]*entry, c change, volume Volume) error {
	d := s.diff(sets, c)
	if d.err != nil {
		return d.err
	}
	d.forget()
	s.deferred = append(s.deferred, deferred{d.change, volume})
	return nil
}

// writeDeferred stores the n oldest deferred changes in one write.
func (s *store) writeDeferred(ctx context.Context, n int) error {
	all := state.Change{Put: map[string][]byte{}}
	for _, d := range s.deferred[:n] {
		for _, k := range d.change.Drop {
			delete(all.Put, k)
		}
		all.Drop = append(all.Drop, d.change.Drop...)
		maps.Copy(all.Put, d.change.Put)
	}
	if !all.Empty() {
		if err := s.Write(ctx, all); err != nil {
			return err
		}
	}
	s.deferred = slices.Delete(s.deferred, 0, n)
	return nil
}

// supersede removes from the deferred changes what a newer change, which is stored, has already
// done.
func (s *store) supersede(c state.Change) {
	for i := range s.deferred {
		d := &s.deferred[i].change
		for k := range c.Put {
			delete(d.Put, k)
		}
		for _, k := range c.Drop {
			delete(d.Put, k)
		}
		d.Drop = slices.DeleteFunc(d.Drop, func(k string) bool { _, again := c.Put[k]; return again })
	}
}
