package agent

import (
	"context"
	"errors"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// remove takes sets out of the table, with a change of the creation in the same transaction, and
// begins to delete what was made for them. It first cancels the work for each set; if another node
// does that work, that node removes the set, too. A removal that fails is retried until it succeeds
// or the agent is closed.
func (a turn) remove(why string, c *creation, list []*entry) ([]*work, error) {
	ch := change{creation: c}
	for _, e := range list {
		next := e.set.clone()
		next.Removing = true
		if !a.elsewhere(e.set) {
			a.claimed(next, StepDelete)
		}
		ch.put = append(ch.put, next)
	}
	if err := a.apply(why, ch); err != nil {
		return nil, err
	}
	works := make([]*work, len(list))
	for i, e := range list {
		if a.elsewhere(e.set) { // that node finds that the set is Removing, and ends what it does
			works[i] = a.watch(e.set.ID)
		} else {
			works[i] = a.beginRemoval(why, e)
		}
	}
	return works, nil
}

// joinRemoval returns the work that removes a set that is Removing. If the last such work has
// failed, it begins a new one.
func (a turn) joinRemoval(why string, e *entry) (*work, error) {
	switch {
	case a.elsewhere(e.set):
		return a.watch(e.set.ID), nil
	case e.work != nil && e.work.step == StepDelete:
		return e.work, nil
	}
	if err := a.claim(why, e, StepDelete); err != nil {
		return nil, err
	}
	return a.beginRemoval(why, e), nil
}

// beginRemoval begins to delete what was made for a set that is Removing.
func (a turn) beginRemoval(why string, e *entry) *work {
	if e.work != nil {
		e.work.cancel()
	}
	return a.begin(e, StepDelete,
		func(ctx context.Context, w *work) error {
			err := a.unmake(ctx, w.set)
			if err == nil { // of copies that the set had
				err = a.settleDeferred(ctx)
			}
			return err
		},
		func(a turn, err error) error {
			if err == nil {
				err = a.apply(why, change{drop: []fsrvp.SetID{e.set.ID}})
			} else {
				err = errors.Join(err, a.unclaim("removal failed", e))
			}
			if err != nil {
				a.retryLater()
			}
			return err
		})
}

// unmake deletes the shares and the snapshots that a set has or may have. If a snapshot's shares
// cannot be removed, the snapshot stays.
func (a *Agent) unmake(ctx context.Context, set *Set) error {
	exposed := set.Status.hasShares() && !a.unexposeAtOnce(ctx, set)
	var errs []error
	var volumes []Volume // of what is to be synced
	for i := range set.Copies {
		c := &set.Copies[i]
		errs = append(errs, a.unmakeCopy(ctx, set, c, exposed))
		volumes = append(volumes, c.Volume)
	}
	if a.deleteSyncer != nil && len(volumes) > 0 {
		errs = append(errs, a.syncDeletions(ctx, volumes))
	}
	return errors.Join(errs...)
}

// unmakeCopy removes a copy's shares, if they may be exposed, and then deletes its snapshot.
func (a *Agent) unmakeCopy(ctx context.Context, set *Set, c *Copy, exposed bool) error {
	var errs []error
	if exposed {
		for i := range c.Shares {
			errs = append(errs, a.unexpose(ctx, set, c, &c.Shares[i]))
		}
	}
	if err := errors.Join(errs...); err != nil || !set.Status.hasSnapshots() && !a.prepares() {
		return err
	}
	return a.deleteSnapshot(ctx, set, c, a.deleteSyncer != nil)
}

// prepares reports whether the backend may make something of a snapshot before any Commit.
func (a *Agent) prepares() bool {
	_, ok := a.cfg.Snapshots.(SnapshotPreparer)
	return ok
}

func (a *Agent) unexpose(ctx context.Context, set *Set, c *Copy, m *Mapping) error {
	return a.step(StepUnexpose, set, c, m.Name, func() error { return a.cfg.Shares.Unexpose(ctx, a.id, m.Name) })
}

// unexposeAtOnce removes all shares of a set in one step, if there are several and the backend
// supports it. It reports whether it did; otherwise the caller removes them one by one, so that
// each copy whose shares are gone can be deleted.
func (a *Agent) unexposeAtOnce(ctx context.Context, set *Set) bool {
	batcher, ok := a.cfg.Shares.(ShareBatcher)
	if !ok || set.shares() < 2 {
		return false
	}
	var names []string
	for i := range set.Copies {
		for _, m := range set.Copies[i].Shares {
			names = append(names, m.Name)
		}
	}
	err := a.step(StepUnexpose, set, nil, "", func() error { return batcher.UnexposeShares(ctx, a.id, names) })
	return err == nil
}

// deleteSnapshot deletes a copy's snapshot. With unsynced it does not wait for stable storage,
// because somebody else does.
func (a *Agent) deleteSnapshot(ctx context.Context, set *Set, c *Copy, unsynced bool) error {
	remove := a.cfg.Snapshots.Delete
	if unsynced {
		remove = a.deleteSyncer.DeleteUnsynced
	}
	err := a.step(StepDelete, set, c, "", func() error { return remove(ctx, set.spec(c, a.mark())) })
	if err == nil && c.exists() {
		a.log.Warn("a snapshot that was deleted is still there: it is outside of the directories that are configured now", "set", set.ID, "copy", c.ID, "path", c.Path)
	}
	if err == nil && c.Home.missing() {
		a.log.Warn("a snapshot is on a file system that is not mounted; it stays there, as an orphan", "set", set.ID, "copy", c.ID, "path", c.Path, "file system", c.Home.Root)
	}
	return err
}

// retryLater arranges for removals that failed to be retried.
func (a *Agent) retryLater() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed && a.retry == nil {
		a.retry = time.AfterFunc(a.cfg.RetryRemoval, a.retryRemovals)
	}
}

// retryRemovals retries to delete the sets and mappings whose removal failed.
func (a *Agent) retryRemovals() {
	if !a.enter() {
		return
	}
	defer a.running.Done()
	err := errors.Join(a.inTurn(a.ctx, turn.retryRemovals), a.settleDeferred(a.ctx))
	if err != nil {
		a.retryLater()
	}
}

func (a turn) retryRemovals() error {
	const why = "removal tried again"
	a.mu.Lock()
	a.retry = nil
	a.mu.Unlock()
	var ch change
	var list []*entry
	for _, e := range a.sets {
		switch {
		case !e.set.Removing && len(e.set.unmappings()) == 0, a.elsewhere(e.set):
		case !e.busy():
			list = append(list, e)
			ch.put = append(ch.put, a.claimed(e.set.clone(), StepDelete))
		case !e.set.Removing: // something else goes on for the set
			a.retryLater()
		}
	}
	if a.cluster != nil && len(list) > 0 {
		if err := a.apply(why, ch); err != nil {
			return err
		}
	}
	for _, e := range list {
		if e.set.Removing {
			a.beginRemoval(why, e)
		} else {
			unmappings := e.set.unmappings()
			a.beginUnmapping(e, unmappings[0], unmappings[1:])
		}
	}
	return nil
}

// sequenceElapsed runs when the Message Sequence Timer fires (MS-FSRVP 3.1.5).
func (a *Agent) sequenceElapsed(armed uint64) {
	if !a.enter() {
		return
	}
	defer a.running.Done()
	err := a.inTurn(a.ctx, func(t turn) error { return t.endCreation(armed) })
	if err != nil {
		a.sequence.armAfter(armed, a.cfg.Timers.Failure) // nothing has changed; try again
	}
}

// endCreation removes the unfinished set after the Message Sequence Timer has fired.
func (a turn) endCreation(armed uint64) error {
	if !a.sequence.fired(armed) {
		return nil // a method has stopped it meanwhile
	}
	if a.cluster != nil && a.creation.Stay != a.cluster.stay {
		a.sequence.reset() // another node watches
		return nil
	}
	list := a.unfinished()
	ev := Event{Kind: EventTimeout}
	if len(list) > 0 {
		ev.Set = list[0].set.ID
	}
	if _, err := a.remove("message sequence timer", &creation{}, list); err != nil {
		return err
	}
	a.sequence.reset()
	a.cfg.Observe(ev)
	return nil
}
