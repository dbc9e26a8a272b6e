package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Run takes shadow copies of the shares, UNC paths on any number of servers, calls backup with the
// copies, and deletes them again.
//
// It calls backup once, when all copies exist and are exposed. Whatever backup returns, and even if
// it panics, the copies are deleted before Run returns. If an earlier phase fails, backup is not
// called, and everything made on any server is aborted. Writers are always thawed, at the latest
// FreezeLimit after the first Freeze.
//
// The error joins everything that went wrong, each as an [*Error] that says where. An error of
// backup is wrapped in an *Error of [PhaseBackup]. The end of ctx ends the run, but not the
// clean-up, which takes at most CleanUpLimit, and at most CancelLimit after the end of ctx. Things
// that could not be cleaned up are named by the error, and stay in the journal. Several Runs on one
// host may use the same servers; see TurnLimit in [Config].
func Run(ctx context.Context, cfg *Config, shares []string, backup func(context.Context, *Set) error) (err error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	r := newRun(c, shares)
	if c.Journal != nil {
		if r.id, err = c.Journal.begin(); err != nil {
			return err
		}
		defer c.Journal.end(r.id)
	}
	err = errors.New("the backup panicked") // the cause for the writers in the clean-up after a panic
	defer func() {
		ctx, cancel := r.cleanUpContext(ctx)
		defer cancel()
		if err != nil {
			err = errors.Join(err, r.abortWriters(ctx, err))
		}
		err = errors.Join(err, r.cleanUp(ctx))
	}()
	err = r.do(ctx, backup)
	return err
}

// A run is one call of Run. It belongs to that call's goroutine; each part of a phase works on its
// own server.
type run struct {
	*Config
	id       string   // in the journal
	names    []string // of the shares, in the caller's spelling
	writers  []*Writer
	prepared []*Writer   // those whose Prepare was called
	frozen   [][]*Writer // the groups whose Freeze was called, in that order
	conns    []*server   // all servers with a connection
	servers  []*server   // the servers that own a share, each machine once
	set      *Set

	events *sync.Mutex // of Progress
	turnMu sync.Mutex  // of the numbers of turns' users
}

func newRun(c *Config, shares []string) *run {
	r := &run{Config: c, names: shares, events: new(sync.Mutex)}
	for i := range c.Writers {
		r.writers = append(r.writers, &c.Writers[i])
	}
	return r
}

// cleanUpContext returns a context that ends soon after ctx rather than with it.
func (r *run) cleanUpContext(ctx context.Context) (context.Context, context.CancelFunc) {
	late := fmt.Errorf("gave up after the limit of %v", r.CleanUpLimit)
	clean, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), r.CleanUpLimit, late)
	clean, hurry := context.WithCancelCause(clean)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(r.CancelLimit)
		defer timer.Stop()
		select {
		case <-timer.C:
			hurry(fmt.Errorf("gave up %v after the run was cancelled", r.CancelLimit))
		case <-clean.Done():
		}
	})
	return clean, func() { stop(); hurry(nil); cancel() }
}

func (r *run) do(ctx context.Context, backup func(context.Context, *Set) error) error {
	for _, step := range []struct {
		phase Phase
		do    func(context.Context) error
	}{
		{PhaseResolve, r.resolve},
		{PhaseStart, r.start},
		{PhasePrepare, r.prepare},
		{PhaseCommit, nil}, // with PhaseFreeze before it and PhaseThaw after it
		{PhaseExpose, r.expose},
		{PhasePostSnapshot, r.postSnapshot},
		{PhaseRecover, r.recover},
		{PhaseBackup, func(ctx context.Context) error {
			if err := backup(ctx, r.set); err != nil {
				return &Error{Phase: PhaseBackup, Err: err}
			}
			return nil
		}},
	} {
		if ctx.Err() != nil {
			return &Error{Phase: step.phase, Err: context.Cause(ctx)}
		}
		var err error
		if step.do == nil {
			err = r.commit(ctx)
		} else {
			err = r.phase(ctx, step.phase, step.do)
		}
		if err != nil {
			return once(ctx, step.phase, err)
		}
	}
	return nil
}

// once reduces the errors of all parts to one if ctx has ended.
func once(ctx context.Context, phase Phase, err error) error {
	if ctx.Err() == nil || phase == PhaseBackup {
		return err
	}
	for _, e := range causes(err) {
		if !errors.Is(e, ctx.Err()) && !errors.Is(e, context.Cause(ctx)) {
			return err
		}
	}
	return &Error{Phase: phase, Err: context.Cause(ctx)}
}

// phase reports the beginning and the end of a phase around do.
func (r *run) phase(ctx context.Context, phase Phase, do func(context.Context) error) error {
	began := time.Now()
	r.emit(Event{Phase: phase, Kind: PhaseBegan})
	err := do(ctx)
	r.emit(Event{Phase: phase, Kind: PhaseEnded, Elapsed: time.Since(began), Err: err})
	return err
}

// part runs one server's part of a phase.
func (r *run) part(ctx context.Context, phase Phase, s *server, do func() error) error {
	began := time.Now()
	err := r.attempt(ctx, phase, s, do)
	r.emit(Event{Phase: phase, Kind: PartEnded, Server: s.shown, Elapsed: time.Since(began), Err: err})
	return err
}

// attempt is part without the final event.
func (r *run) attempt(ctx context.Context, phase Phase, s *server, do func() error) error {
	stop := r.notice(phase, s.shown, time.Now())
	err := do()
	stop()
	if err == nil {
		return nil
	}
	if e := new(Error); errors.As(err, &e) {
		return err
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = context.Cause(ctx)
	}
	return &Error{Phase: phase, Server: s.shown, Err: err}
}

func (r *run) emit(e Event) {
	e.Time = time.Now()
	level := slog.LevelInfo
	switch {
	case e.Err != nil && e.Phase == PhaseThaw:
		level = slog.LevelError // an application that stays frozen is the worst outcome
	case e.Err != nil && e.Kind != Waiting:
		level = slog.LevelWarn
	case e.Kind == PartEnded:
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{slog.String("phase", string(e.Phase)), slog.String("event", string(e.Kind))}
	if e.Server != "" {
		attrs = append(attrs, slog.String("server", e.Server))
	}
	if e.Writer != "" {
		attrs = append(attrs, slog.String("writer", e.Writer))
	}
	if e.Elapsed != 0 {
		attrs = append(attrs, slog.Duration("elapsed", e.Elapsed))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("err", e.Err))
	}
	r.Logger.LogAttrs(context.Background(), level, "shadow copies", attrs...)
	if r.Progress != nil {
		r.events.Lock()
		defer r.events.Unlock()
		r.Progress(e)
	}
}

// start begins a set on every server, and then adds all shares. If a server is busy with another
// client's set, all sets are aborted before the wait, since two backups that wait for each other
// would never end. No set has a share at that time; see RetryFor.
func (r *run) start(ctx context.Context) error {
	deadline := time.Now().Add(r.RetryFor)
	for delay := r.RetryDelay; ; delay = min(2*delay, 30*time.Second) {
		if err := r.takeTurns(ctx); err != nil {
			return err
		}
		// Patient, since a Start that is interrupted leaves a set whose id is unknown.
		err := allPatient(ctx, r.servers, func(ctx context.Context, s *server) error {
			err := r.attempt(ctx, PhaseStart, s, func() error { return s.start(ctx, r) })
			if err != nil && !busy(err) {
				r.emit(Event{Phase: PhaseStart, Kind: PartEnded, Server: s.shown, Elapsed: s.starting, Err: err})
			}
			return err
		})
		if err == nil {
			break
		}
		if !busy(err) {
			return err
		}
		wait := delay/2 + rand.N(delay/2+1)
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		undo := allPatient(ctx, r.servers, func(ctx context.Context, s *server) error { return s.release(ctx, r, 2) })
		if undo != nil {
			return errors.Join(err, undo)
		}
		r.emit(Event{Phase: PhaseStart, Kind: Waiting, Elapsed: wait, Err: err})
		select {
		case <-ctx.Done():
			return &Error{Phase: PhaseStart, Err: errors.Join(context.Cause(ctx), err)}
		case <-time.After(wait):
		}
	}
	return allPatient(ctx, r.servers, func(ctx context.Context, s *server) error {
		began := time.Now()
		err := r.attempt(ctx, PhaseStart, s, func() error { return s.add(ctx, r) })
		r.emit(Event{Phase: PhaseStart, Kind: PartEnded, Server: s.shown, Elapsed: s.starting + time.Since(began),
			Err: err})
		return err
	})
}

// busy reports whether every one of the joined errors says that another client's set is in
// progress.
func busy(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !busy(e) {
				return false
			}
		}
		return true
	}
	return errors.Is(err, fsrvp.ErrShadowCopySetInProgress)
}

// prepare prepares writers and servers, so that the time between freeze and thaw is short.
func (r *run) prepare(ctx context.Context) error {
	if err := r.prepareWriters(ctx); err != nil {
		return err
	}
	return all(ctx, r.servers, func(ctx context.Context, s *server) error {
		return r.part(ctx, PhasePrepare, s, func() error { return s.prepare(ctx, r) })
	})
}

// commit freezes the writers, commits on all servers concurrently, and thaws as soon as the last
// server has committed, one has failed, or the freeze limit is over.
func (r *run) commit(ctx context.Context) error {
	fctx := ctx
	var deadline time.Time
	if slices.ContainsFunc(r.writers, func(w *Writer) bool { return w.Freeze != nil }) {
		deadline = time.Now().Add(r.FreezeLimit)
		var cancel context.CancelFunc
		late := fmt.Errorf("writers were frozen for the limit of %v", r.FreezeLimit)
		fctx, cancel = context.WithDeadlineCause(ctx, deadline, late)
		defer cancel()
	}
	err := r.phase(fctx, PhaseFreeze, r.freeze)
	// The errors of parts that are still in progress when the commit is given up.
	var parts chan error
	if err == nil {
		err = r.phase(fctx, PhaseCommit, func(ctx context.Context) (err error) {
			parts, err = r.commitAll(ctx, deadline)
			return err
		})
	}
	thawErr := r.phase(ctx, PhaseThaw, r.thaw)
	if parts != nil {
		if all := <-parts; all != nil {
			err = all // and not only the first
		}
	}
	return errors.Join(err, thawErr)
}

// commitAll commits on all servers concurrently, and returns when all have finished or one has
// failed. It does not wait for the other parts, since a server that does not end its call must not
// keep writers frozen. Their errors come later.
func (r *run) commitAll(ctx context.Context, deadline time.Time) (parts chan error, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	var first error
	var mu sync.Mutex
	parts = make(chan error, 1)
	go func() {
		defer fail(nil)
		parts <- parallel(ctx, fail, r.servers, func(ctx context.Context, s *server) error {
			err := r.part(ctx, PhaseCommit, s, func() error { return s.commit(ctx, r, deadline) })
			mu.Lock()
			defer mu.Unlock()
			if first == nil && err != nil && !stoppedElsewhere(ctx, err) {
				first = err
			}
			return err
		})
	}()
	select {
	case err := <-parts:
		return nil, err
	case <-ctx.Done():
	}
	select {
	case err := <-parts: // the last one at the same moment
		if err != nil {
			return nil, err
		}
	default:
		mu.Lock()
		defer mu.Unlock()
		if first != nil {
			return parts, first
		}
		return parts, &Error{Phase: PhaseCommit, Err: context.Cause(ctx)}
	}
	return nil, nil
}

// expose exposes the copies as shares and asks for their names.
func (r *run) expose(ctx context.Context) error {
	err := all(ctx, r.servers, func(ctx context.Context, s *server) error {
		return r.part(ctx, PhaseExpose, s, func() error { return s.expose(ctx, r) })
	})
	if err != nil {
		return err
	}
	r.set = &Set{Copies: make([]Copy, len(r.names))}
	for _, s := range r.servers {
		for _, sh := range s.shares {
			for _, p := range sh.paths {
				r.set.Copies[p.index] = Copy{
					Share:   p.name,
					Path:    `\\` + s.name + `\` + sh.mapping.Exposed,
					Rest:    p.rest,
					Server:  s.name,
					SetID:   s.set,
					CopyID:  sh.copy,
					Created: sh.mapping.Created,
				}
			}
		}
	}
	return nil
}

// recover completes the sets: from now on they stay until they are deleted.
func (r *run) recover(ctx context.Context) error {
	return all(ctx, r.servers, func(ctx context.Context, s *server) error {
		return r.part(ctx, PhaseRecover, s, func() error { return s.recover(ctx, r) })
	})
}

// cleanUp ends every set that still exists and every connection.
func (r *run) cleanUp(ctx context.Context) error {
	return r.phase(ctx, PhaseCleanUp, func(ctx context.Context) error {
		return allPatient(ctx, r.conns, func(ctx context.Context, s *server) error {
			if s.state == stateNone {
				s.freeTurn(r)
				return s.close()
			}
			return errors.Join(
				r.part(ctx, PhaseCleanUp, s, func() error {
					defer s.freeTurn(r) // nobody must wait for an unreachable server
					return s.release(ctx, r, 0)
				}),
				s.close(),
			)
		})
	})
}
