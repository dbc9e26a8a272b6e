package agent

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// An entry is a set in the table together with its running work.
type entry struct {
	set  *Set  // as it is in the store; never changed in place. It changes with the turn and Agent.mu
	work *work // the newest work of the set that has not been collected; nil: none. It is the turn's alone
}

// A work is something that backends do for a set. It runs in its own goroutine, which outlives the
// call that began it. The works of one set run one after the other.
type work struct {
	step   Step
	set    *Set               // that it was begun for
	cancel context.CancelFunc // of this work and of those before it
	done   chan struct{}      // closed when the work has ended
	err    error              // how; set before done is closed

	// snapshots is what Create made. The works of Commit and Expose keep their result until a call
	// collects it. That may be a later call, if the one that began the work did not wait long
	// enough.
	snapshots []Snapshot
	homes     []Home // of the snapshots
	collected bool
	result    error // what the call that collected it returned, for others that waited with it
	keep      outcome
}

// An outcome puts the outcome of a work in the table, and reports whether it was stored.
type outcome func(turn, *entry, *work) (stored bool, err error)

// begin starts a work after those that the set already has. The work runs without the turn. If
// finish is not nil, it ends the work in its own turn and returns the work's error; otherwise a
// later call collects the work.
//
// On a node of a cluster the set's Work is this node's when it begins. A work that is collected
// later is put in the table when it ends, by keep, for whichever node the client comes to.
func (a turn) begin(e *entry, step Step, run func(context.Context, *work) error, finish func(turn, error) error) *work {
	return a.beginKept(e, step, run, finish, nil)
}

func (a turn) beginKept(e *entry, step Step, run func(context.Context, *work) error, finish func(turn, error) error,
	keep outcome) *work {
	prev := e.work
	ctx, cancel := context.WithCancel(a.ctx)
	w := &work{step: step, set: e.set, keep: keep, done: make(chan struct{})}
	w.cancel = func() {
		cancel()
		if prev != nil {
			prev.cancel()
		}
	}
	e.work = w
	a.running.Go(func() {
		defer cancel()
		if prev != nil {
			<-prev.done
		}
		err := ctx.Err()
		if err == nil {
			err = run(ctx, w)
		}
		switch {
		case finish == nil && a.cluster == nil:
			w.err = err
		case finish == nil:
			w.err = err
			a.keep(e, w)
		default:
			a.finishWork(e, w, err, finish)
			return
		}
		close(w.done)
	})
	return w
}

// finishWork ends a work by its finish.
func (a *Agent) finishWork(e *entry, w *work, err error, finish func(turn, error) error) {
	for {
		t, held := a.takeToEnd(e, w) // it ends, though its context may have ended
		was := e.work
		if e.work == w {
			e.work = nil
		}
		if !held {
			w.err = errTakenOver
			close(w.done)
			t.give()
			return
		}
		ended := finish(t, err)
		if a.cluster != nil && ended == nil && e.work == nil && e.set.Removing && w.step != StepDelete &&
			a.sets[e.set.ID] == e {
			t.beginRemoval("another node", e) // asked for meanwhile
		}
		if errors.Is(ended, state.ErrConflict) {
			e.work = was
			t.give()
			continue
		}
		w.err = ended
		close(w.done)
		t.give()
		return
	}
}

// errStillWorking means that await's time is over but the work is not.
var errStillWorking = errors.New("agent: the work goes on")

// await waits for the end of a work, but no longer than wait.
func await(ctx context.Context, w *work, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	case <-t.C:
	}
	select {
	case <-w.done:
		return nil
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errStillWorking
}

// errDiskFull is ERROR_DISK_FULL as an HRESULT (MS-ERREF 2.1, which MS-FSRVP 2.2.4 takes in).
const errDiskFull fsrvp.Status = 0x80070070

// statusError makes an error of a backend or of the store one that wraps a Status: its own,
// that of a full disk, or the one given.
func statusError(err error, other fsrvp.Status) error {
	var s fsrvp.Status
	switch {
	case err == nil:
		return nil
	case errors.As(err, &s) && !s.IsSuccess():
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		s = errDiskFull
	case errors.Is(err, syscall.ENOMEM):
		s = fsrvp.ErrOutOfMemory
	default:
		s = other
	}
	return fmt.Errorf("%w: %w", s, err)
}

// A loggedError has already been logged, with the ids of what it is about, so callers need not log
// it again.
type loggedError struct{ error }

func (e *loggedError) Unwrap() error { return e.error }

// isLogged reports whether err, or an error that it wraps, has already been logged.
func isLogged(err error) bool { return errors.As(err, new(*loggedError)) }

// step runs one step of a backend for a set, logs it and reports it to Observe.
//
// On a node of a cluster it first makes sure that the set's Work is still the node's.
func (a *Agent) step(step Step, set *Set, c *Copy, share string, f func() error) error {
	begun := time.Now()
	err := a.stillHolds(set)
	if err == nil {
		err = f()
	}
	ev := Event{Kind: EventStep, Step: step, Set: set.ID, Duration: time.Since(begun), Err: err}
	attrs := []any{"step", string(step), "set", set.ID, "duration", ev.Duration}
	if c != nil {
		ev.Copy = c.ID
		attrs = append(attrs, "copy", c.ID)
	}
	if share != "" {
		attrs = append(attrs, "share", share)
	}
	a.cfg.Observe(ev)
	if err != nil {
		a.log.Warn("step failed", append(attrs, "err", err)...)
		return &loggedError{err}
	}
	a.log.Debug("step done", attrs...)
	return nil
}
