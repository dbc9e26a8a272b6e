package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// A turn is the right to change the agent's table; one goroutine at a time has it. Every function
// that changes the table or begins a work is a method of turn, so that nobody can call it without
// having the turn.
//
// A turn lasts as long as a change takes to reach stable storage. It differs from a lock: readers
// of the table do not wait for it, and a goroutine that waits for it gives up when its context
// ends. Nobody may wait for a work or call a backend during a turn, because a work needs a turn to
// end. New is the exception: nothing else runs yet.
type turn struct{ *Agent }

// take waits for the turn until ctx ends. The caller must call give afterwards. On a node of a
// cluster, the table is then up to date and the node is in it.
func (a *Agent) take(ctx context.Context) (turn, error) {
	for {
		t, err := a.takeLocal(ctx)
		if err != nil || a.cluster == nil {
			return t, err
		}
		err = t.refresh(ctx)
		if begun := stayOf(ctx); err == nil && begun != 0 && begun != a.cluster.stay {
			err = errLate
		}
		if err == nil && a.cluster.stay != 0 {
			return t, nil
		}
		changed := a.tableChanged()
		t.give()
		if err != nil {
			return turn{}, statusError(err, fsrvp.ErrFail)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return turn{}, context.Cause(ctx)
		}
	}
}

// takeLocal takes the turn without bringing the table up to date.
func (a *Agent) takeLocal(ctx context.Context) (turn, error) {
	select {
	case a.turns <- struct{}{}:
		return turn{a}, nil
	default:
	}
	select {
	case a.turns <- struct{}{}:
		return turn{a}, nil
	case <-ctx.Done():
		return turn{}, context.Cause(ctx)
	}
}

func (a turn) give() { <-a.turns }

// inTurn calls f with the turn. If another node of a cluster has changed the table, so that the
// store refused f's change, inTurn calls f again with the newest table; f must have no effect until
// its change is stored.
func (a *Agent) inTurn(ctx context.Context, f func(turn) error) error {
	for {
		t, err := a.take(ctx)
		if err != nil {
			return err
		}
		err = f(t)
		t.give()
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// inIdleTurn is like inTurn, but waits until nothing is running for the set that find returns.
func (a *Agent) inIdleTurn(ctx context.Context, find func(turn) (*entry, error), f func(turn, *entry) error) error {
	for {
		var ended <-chan struct{}
		err := a.inTurn(ctx, func(t turn) error {
			ended = nil
			e, err := find(t)
			switch {
			case err != nil:
				return err
			case e.busy():
				ended = e.work.done
				return nil
			case t.mustWait(e):
				ended = a.tableChanged()
				return nil
			}
			return f(t, e)
		})
		if err != nil || ended == nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// apply stores a change and then applies it to the table, or fails and changes nothing.
func (a turn) apply(why string, c change) error {
	if a.cluster != nil {
		if me, ok := c.nodes[a.cluster.name]; a.cluster.stay == 0 && (!ok || me.Stay == 0) {
			return errOut
		} else if c.creation != nil && c.creation.ContextSet {
			next := *c.creation
			if next.Stay = a.cluster.stay; ok {
				next.Stay = me.Stay
			}
			c.creation = &next
		}
	}
	if err := a.write(why, c); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.doLocked(why, c)
	return nil
}

// doLocked applies a change to the table.
func (a turn) doLocked(why string, c change) {
	if c.creation != nil {
		a.creation = *c.creation
	}
	for _, set := range c.put {
		a.replaceLocked(why, set)
	}
	for _, id := range c.drop {
		a.dropLocked(why, id)
	}
	a.cluster.applyLocked(c)
}

// replaceLocked puts a set in the table.
func (a turn) replaceLocked(why string, set *Set) {
	e := a.sets[set.ID]
	var from SetStatus
	if e == nil {
		e = new(entry)
		a.sets[set.ID] = e
	} else {
		from = e.set.shown()
	}
	e.set = set
	if from != set.shown() {
		a.noteStatusLocked(why, set, from, set.shown())
	}
}

// dropLocked takes a set out of the table.
func (a turn) dropLocked(why string, id fsrvp.SetID) {
	if e := a.sets[id]; e != nil {
		delete(a.sets, id)
		a.noteStatusLocked(why, e.set, e.set.shown(), "")
	}
}

// noteStatusLocked logs a change of a set's status and passes it to the observer, before anybody
// can see the change. At level info it logs that a set is complete or was given up, and the
// deletion of a complete set.
func (a *Agent) noteStatusLocked(why string, set *Set, from, to SetStatus) {
	ev := Event{Kind: EventStatus, Set: set.ID, From: from, To: to, Sets: len(a.sets)}
	for _, e := range a.sets {
		ev.Copies += len(e.set.Copies)
		ev.Shares += e.set.shares()
	}
	a.cfg.Observe(ev)
	level, msg := slog.LevelDebug, "shadow copy set has changed"
	switch kept := from == Exposed && a.cfg.KeepExposed; {
	case to == Recovered && !kept, to == Exposed && set.Kept && !kept:
		level, msg = slog.LevelInfo, "shadow copy set is complete"
	case to == "" && (set.Status == Exposed || set.Status == Recovered):
		level, msg = slog.LevelInfo, "shadow copy set is deleted"
	case to == "":
		level, msg = slog.LevelInfo, "shadow copy set is given up"
	}
	a.log.Log(a.ctx, level, msg, "why", why, "set", set.ID, "copies", copyIDs(set), "from", string(from), "to",
		string(to))
}

func copyIDs(set *Set) []string {
	ids := make([]string, len(set.Copies))
	for i := range set.Copies {
		ids[i] = set.Copies[i].ID.String()
	}
	return ids
}

// findWith finds a set in one of these statuses.
func (a turn) findWith(id fsrvp.SetID, in ...SetStatus) (*entry, error) {
	e, err := a.findLocked(id) // nobody else changes the table
	if err != nil {
		return nil, err
	}
	for _, s := range in {
		if e.set.Status == s {
			return e, nil
		}
	}
	return nil, badState(e.set)
}

// detached runs f in its own goroutine and returns f's results, or ctx's cause if ctx ends first.
// In that case f continues, and running counts it.
func detached[T any](ctx context.Context, running *sync.WaitGroup, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	running.Go(func() {
		v, err := f()
		done <- result{v, err}
	})
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		return r.v, r.err
	default:
		var none T
		return none, context.Cause(ctx)
	}
}
