package provider

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// A Writer is an application whose data is on the shares (a VSS writer). Each hook may be nil.
//
// The context of a hook ends with the run, or when Timeout is over. If a hook goes on after that,
// the run does not wait for it.
type Writer struct {
	Name string
	// Group decides when the writer freezes and thaws: groups freeze in the order of their numbers,
	// and thaw in the opposite order; the writers of a group do so concurrently. For example, a
	// database in a virtual machine needs a lower number than the machine, so that it can flush to
	// a file system that is not yet frozen.
	Group int
	// Prepare is called before any writer is frozen, for work that takes long. The shares are those
	// passed to [Run].
	Prepare func(ctx context.Context, shares []string) error
	// Freeze must return when everything is flushed and nothing is written any more.
	Freeze func(ctx context.Context) error
	// Thaw lets the application go on. It is called for every writer whose Freeze was called,
	// successfully or not, even while a Freeze that outlived its context still runs. Its context
	// does not end with the run's. A Thaw that fails is called again, up to three times within
	// Timeout, unless its error is [ErrNotHeld].
	Thaw func(ctx context.Context) error
	// PostSnapshot is called with the exposed copies before they are recovered: with an
	// AUTO_RECOVERY context the application may still change them.
	PostSnapshot func(ctx context.Context, set *Set) error
	// Abort is called with the cause if a run fails after Prepare was called. Its context does not
	// end with the run's.
	Abort func(ctx context.Context, cause error) error
	// Timeout bounds each hook. Zero means 60 s.
	Timeout time.Duration
}

// ErrNotHeld is the error of a Thaw if the application was no longer frozen: its own limit has
// thawed it, or its connection broke, so it may have written while the copies were taken. The run
// fails.
var ErrNotHeld = errors.New("the application went on before the copies were taken")

// ErrStillFrozen means that a Thaw of the run failed for good.
var ErrStillFrozen = errors.New("THE APPLICATION MAY STILL BE FROZEN, thaw it by hand")

const (
	// The waits before a failed Thaw is called again.
	thawWait, lastThawWait = 50 * time.Millisecond, 800 * time.Millisecond
	// thawPatience is the time that groups that froze earlier wait for groups that froze later. A
	// writer that hangs must not keep others frozen.
	thawPatience = 5 * time.Second
)

// call runs one hook within the writer's time limit and does not outlast it.
func (w *Writer) call(ctx context.Context, hook func(context.Context) error) error {
	limit := w.Timeout
	if limit == 0 {
		limit = 60 * time.Second
	}
	late := fmt.Errorf("took longer than its limit of %v", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- hook(ctx) }()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return context.Cause(ctx)
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// An atOnce is all or allPatient.
type atOnce func(context.Context, []*Writer, func(context.Context, *Writer) error) error

// eachWriter calls one hook of all writers concurrently; hook returns nil for a writer without it.
func (r *run) eachWriter(ctx context.Context, atOnce atOnce, phase Phase, writers []*Writer,
	hook func(*Writer) func(context.Context) error) error {
	return atOnce(ctx, writers, func(ctx context.Context, w *Writer) error {
		h := hook(w)
		if h == nil {
			return nil
		}
		began := time.Now()
		err := w.call(ctx, h)
		if err != nil && phase == PhaseThaw && !errors.Is(err, ErrNotHeld) {
			err = fmt.Errorf("%w: %w", ErrStillFrozen, err)
		}
		if err != nil {
			err = &Error{Phase: phase, Writer: w.Name, Err: err}
		}
		r.emit(Event{Phase: phase, Kind: PartEnded, Writer: w.Name, Elapsed: time.Since(began), Err: err})
		return err
	})
}

// prepareWriters prepares the writers, and remembers which ones must be told of an abort.
func (r *run) prepareWriters(ctx context.Context) error {
	r.prepared = r.writers
	return r.eachWriter(ctx, all, PhasePrepare, r.writers, func(w *Writer) func(context.Context) error {
		if w.Prepare == nil {
			return nil
		}
		return func(ctx context.Context) error { return w.Prepare(ctx, r.names) }
	})
}

// freeze freezes one group after another, and remembers the groups that it called.
func (r *run) freeze(ctx context.Context) error {
	byGroup := make(map[int][]*Writer)
	for _, w := range r.writers {
		byGroup[w.Group] = append(byGroup[w.Group], w)
	}
	for _, number := range slices.Sorted(maps.Keys(byGroup)) {
		if ctx.Err() != nil {
			return &Error{Phase: PhaseFreeze, Err: context.Cause(ctx)}
		}
		group := byGroup[number]
		r.frozen = append(r.frozen, group)
		err := r.eachWriter(ctx, all, PhaseFreeze, group,
			func(w *Writer) func(context.Context) error { return w.Freeze })
		if err != nil {
			return err
		}
	}
	return nil
}

// thaw thaws all writers. Neither the end of the run's context nor another writer's failure stops
// it.
func (r *run) thaw(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	errs := make([]error, len(r.frozen))
	var wg sync.WaitGroup
	for i, group := range slices.Backward(r.frozen) {
		ended := make(chan struct{})
		wg.Go(func() {
			defer close(ended)
			errs[i] = r.eachWriter(ctx, allPatient, PhaseThaw, group, (*Writer).thaw)
		})
		select {
		case <-ended:
		case <-time.After(thawPatience):
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// thaw returns the hook Thaw with its repetitions.
func (w *Writer) thaw() func(context.Context) error {
	if w.Thaw == nil {
		return nil
	}
	return func(ctx context.Context) error {
		for wait := thawWait; ; wait *= 4 {
			err := w.Thaw(ctx)
			if err == nil || errors.Is(err, ErrNotHeld) || ctx.Err() != nil || wait > lastThawWait {
				return err
			}
			select {
			case <-ctx.Done():
				return errors.Join(err, context.Cause(ctx))
			case <-time.After(wait):
			}
		}
	}
}

func (r *run) postSnapshot(ctx context.Context) error {
	return r.eachWriter(ctx, all, PhasePostSnapshot, r.writers, func(w *Writer) func(context.Context) error {
		if w.PostSnapshot == nil {
			return nil
		}
		return func(ctx context.Context) error { return w.PostSnapshot(ctx, r.set) }
	})
}

func (r *run) abortWriters(ctx context.Context, cause error) error {
	return r.eachWriter(ctx, allPatient, PhaseCleanUp, r.prepared, func(w *Writer) func(context.Context) error {
		if w.Abort == nil {
			return nil
		}
		return func(ctx context.Context) error { return w.Abort(ctx, cause) }
	})
}
