package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// CommitShadowCopySet implements [fsrvp.Service] (MS-FSRVP 3.1.4.5). After a time-out (ErrTimeout)
// the set is still [CreationInProgress]: the work continues, and another CommitShadowCopySet waits
// for it and returns its result. After any other failure the set is Added again, and nothing was
// made.
func (a *Agent) CommitShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.advance(ctx, fsrvp.OpCommitShadowCopySet, set, wait, stage{
		in: []SetStatus{Added, CreationInProgress}, after: a.cfg.Timers.Commit, step: StepCreate, done: Committed,
		doing: "commit of", late: fsrvp.ErrTimeout, begin: turn.commit,
		end: func(a turn, e *entry, w *work) error { return a.collect(e, w, turn.committed) },
	})
}

// commit begins to create the snapshots, or joins the work that already does.
func (a turn) commit(e *entry) (*work, error) {
	if e.set.Status == CreationInProgress {
		return e.work, nil
	}
	if err := a.apply("commit", change{put: []*Set{a.claimed(e.set.with(CreationInProgress),
		StepCreate)}}); err != nil {
		return nil, err
	}
	return a.beginKept(e, StepCreate, a.create, nil, turn.committed), nil
}

// create takes the snapshots of a set.
func (a *Agent) create(ctx context.Context, w *work) error {
	specs := w.set.specs(a.mark())
	err := a.step(StepCreate, w.set, nil, "", func() (err error) {
		w.snapshots, err = a.cfg.Snapshots.Create(ctx, specs)
		return err
	})
	if err != nil {
		return err
	}
	made := make(map[fsrvp.CopyID]bool, len(w.snapshots))
	w.homes = make([]Home, len(w.snapshots))
	for i, s := range w.snapshots {
		made[s.ID] = filepath.IsAbs(s.Path) && utf8.ValidString(s.Path)
		w.homes[i] = homeOf(s.Path)
	}
	for _, s := range w.snapshots {
		if len(s.Moved) > 0 {
			a.cfg.Observe(Event{Kind: EventMoved, Set: w.set.ID, Copy: s.ID, Moved: s.Moved})
			a.log.Warn("files changed while they were copied; the shadow copy may have some in part or not at all",
				"set", w.set.ID, "copy", s.ID, "volume", s.Volume.Path, "changed", len(s.Moved), "first", s.Moved[0])
		}
		if len(s.Unread) > 0 {
			a.cfg.Observe(Event{Kind: EventUnread, Set: w.set.ID, Copy: s.ID, Unread: s.Unread})
			a.log.Warn("files could not be read; the shadow copy is without them",
				"set", w.set.ID, "copy", s.ID, "volume", s.Volume.Path, "unread", len(s.Unread), "first", s.Unread[0])
		}
	}
	for _, s := range specs {
		if !made[s.ID] {
			return errors.Join(fmt.Errorf("agent: the backend has taken no snapshot %s, or at a path that cannot be stored", s.ID), a.unmake(ctx, w.set))
		}
	}
	return nil
}

// committed puts the outcome of create in the table, and reports whether it was stored.
func (a turn) committed(e *entry, w *work) (stored bool, err error) {
	if w.err != nil {
		if err := a.apply("commit failed", change{put: []*Set{e.set.with(Added).idle()}}); err != nil {
			return false, err
		}
		return true, statusError(fmt.Errorf("agent: commit of shadow copy set %s: %w", e.set.ID, w.err),
			fsrvp.ErrWaitFailed)
	}
	next := e.set.with(Committed).idle()
	for i, s := range w.snapshots {
		if c := next.copy(s.ID); c != nil {
			c.Path, c.Created, c.Home = s.Path, s.Created.UTC(), w.homes[i]
		}
	}
	err = a.apply("committed", change{put: []*Set{next}})
	return err == nil, err
}

// collect gives the result of a Commit or Expose work to the calls that waited for it. The first of
// them puts it in the table. If the store fails then, the result waits for another call.
func (a turn) collect(e *entry, w *work, put outcome) error {
	if w.collected {
		if e.work == w {
			e.work = nil
		}
		return w.result
	}
	if e.work != w { // the set has been removed meanwhile
		return fmt.Errorf("agent: shadow copy set %s was removed: %w", e.set.ID, fsrvp.ErrWaitFailed)
	}
	stored, err := put(a, e, w)
	if stored {
		w.collected, w.result = true, err
		e.work = nil
	}
	return err
}
