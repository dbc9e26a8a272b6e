package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// Run takes shadow copies of the shares, UNC paths on any number of servers, calls backup with them, and
// deletes them again.
//
// Backup is called once, when all copies exist and are exposed. Whatever it returns, and where it
// panics too, the copies are deleted before Run returns; where an earlier phase fails, backup is not called, and whatever
// any server has made is aborted. Writers are thawed in every case, FreezeLimit after
// the first Freeze at the latest.
//
// The error is nil, or all that went wrong, joined: each an *Error that says where. An error of backup
// is an *Error of PhaseBackup around it. Ending ctx ends the run, but not the clean-up, which
// takes CleanUpLimit at most.
func Run(ctx context.Context, cfg *Config, shares []string, backup func(context.Context, *Set) error) (err error) {
	c, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	r := &run{Config: c, names: shares}
	for i := range c.Writers {
		r.writers = append(r.writers, &c.Writers[i])
	}
	if c.Journal != nil {
		if r.id, err = c.Journal.begin(); err != nil {
			return err
		}
		defer c.Journal.end(r.id)
	}
	err = errors.New("the backup panicked") // what the clean-up tells writers, should that happen
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.CleanUpLimit)
		defer cancel()
		if err != nil {
			err = errors.Join(err, r.abortWriters(ctx, err))
		}
		err = errors.Join(err, r.cleanUp(ctx))
	}()
	err = r.do(ctx, backup)
	return err
}

// A run is one call of Run. It belongs to that call's goroutine; the parts of a phase
// each work on a server of their own.
type run struct {
	*Config
	id       string   // in the journal
	names    []string // of the shares, as the caller wrote them
	writers  []*Writer
	prepared []*Writer   // those whose Prepare was called
	frozen   [][]*Writer // the groups whose Freeze was called, in that order
	conns    []*server   // every server that was connected to
	servers  []*server   // those that own a share
	set      *Set

	eventMu sync.Mutex
}

func (r *run) do(ctx context.Context, backup func(context.Context, *Set) error) error {
	for _, step := range []struct {
		phase Phase
		do    func(context.Context) error
	}{
		{PhaseResolve, r.resolve},
		{PhaseStart, r.start},
		{PhasePrepare, r.prepare},
		{PhaseCommit, r.commit},
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
		if err := ctx.Err(); err != nil {
			return &Error{Phase: step.phase, Err: context.Cause(ctx)}
		}
		if err := r.phase(ctx, step.phase, step.do); err != nil {
			return err
		}
	}
	return nil
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
func (r *run) part(phase Phase, s *server, do func() error) error {
	began := time.Now()
	err := do()
	if err != nil {
		if e := new(Error); !errors.As(err, &e) {
			err = &Error{Phase: phase, Server: s.name, Err: err}
		}
	}
	r.emit(Event{Phase: phase, Kind: PartEnded, Server: s.name, Elapsed: time.Since(began), Err: err})
	return err
}

func (r *run) emit(e Event) {
	e.Time = time.Now()
	level := slog.LevelInfo
	switch {
	case e.Err != nil && e.Phase == PhaseThaw:
		level = slog.LevelError // nothing is worse than an application that stays frozen
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
		r.eventMu.Lock()
		defer r.eventMu.Unlock()
		r.Progress(e)
	}
}

// start begins a set with all its shares on every server. Where a server is busy with another client's set, all
// are given back before the wait: two backups that each hold what the other waits for would never end.
func (r *run) start(ctx context.Context) error {
	deadline := time.Now().Add(r.RetryFor)
	for delay := r.RetryDelay; ; delay = min(2*delay, 30*time.Second) {
		// Patient: a Start that is cut off half-way leaves a set whose id nobody knows.
		err := allPatient(ctx, r.servers, func(ctx context.Context, s *server) error {
			return r.part(PhaseStart, s, func() error { return s.start(ctx, r) })
		})
		if err == nil || !busy(err) {
			return err
		}
		wait := delay/2 + rand.N(delay/2+1)
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		if undo := allPatient(ctx, r.servers, func(ctx context.Context, s *server) error { return s.release(ctx, r) }); undo != nil {
			return errors.Join(err, undo)
		}
		r.emit(Event{Phase: PhaseStart, Kind: Waiting, Elapsed: wait, Err: err})
		select {
		case <-ctx.Done():
			return &Error{Phase: PhaseStart, Err: errors.Join(context.Cause(ctx), err)}
		case <-time.After(wait):
		}
	}
}

// busy tells whether every one of the joined errors says that another client's set is in progress.
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

// prepare gets writers and servers ready, so that what happens between freeze and thaw is short.
func (r *run) prepare(ctx context.Context) error {
	if err := r.prepareWriters(ctx); err != nil {
		return err
	}
	return all(ctx, r.servers, func(ctx context.Context, s *server) error {
		return r.part(PhasePrepare, s, func() error { return s.prepare(ctx, r) })
	})
}

// commit freezes the writers, commits on all servers at once, and thaws as soon as that has ended: the last server
// has committed, one has failed, or the freeze limit is over.
func (r *run) commit(ctx context.Context) error {
	deadline := time.Now().Add(r.FreezeLimit)
	late := fmt.Errorf("writers were frozen for the limit of %v", r.FreezeLimit)
	fctx, cancel := context.WithDeadlineCause(ctx, deadline, late)
	defer cancel()
	err := r.phase(fctx, PhaseFreeze, r.freeze)
	var committed chan error
	if err == nil {
		cctx, fail := context.WithCancelCause(fctx)
		defer fail(nil)
		committed = make(chan error, 1)
		go func() {
			committed <- parallel(cctx, fail, r.servers, func(ctx context.Context, s *server) error {
				return r.part(PhaseCommit, s, func() error { return s.commit(ctx, r, deadline) })
			})
		}()
		// Not only the end of all parts: a server that does not let go of its call must not keep writers frozen.
		select {
		case err = <-committed:
			committed = nil
		case <-cctx.Done():
		}
	}
	thawErr := r.phase(ctx, PhaseThaw, r.thaw)
	if committed != nil {
		err = errors.Join(err, <-committed)
	}
	return errors.Join(thawErr, err)
}

// expose makes shares of the copies and asks for their names.
func (r *run) expose(ctx context.Context) error {
	err := all(ctx, r.servers, func(ctx context.Context, s *server) error {
		return r.part(PhaseExpose, s, func() error { return s.expose(ctx, r) })
	})
	if err != nil {
		return err
	}
	r.set = &Set{Copies: make([]Copy, len(r.names))}
	for _, s := range r.servers {
		for _, sh := range s.shares {
			r.set.Copies[sh.index] = Copy{
				Share:   sh.unc,
				Path:    `\\` + s.name + `\` + sh.mapping.Exposed,
				Server:  s.name,
				SetID:   s.set,
				CopyID:  sh.copy,
				Created: sh.mapping.Created,
			}
		}
	}
	return nil
}

// recover completes the sets: from now on they stay until they are deleted.
func (r *run) recover(ctx context.Context) error {
	return all(ctx, r.servers, func(ctx context.Context, s *server) error {
		return r.part(PhaseRecover, s, func() error {
			err := s.agent.RecoveryCompleteShadowCopySet(ctx, s.set)
			s.recovered = err == nil
			return err
		})
	})
}

// cleanUp ends every set that still exists and every connection.
func (r *run) cleanUp(ctx context.Context) error {
	return r.phase(ctx, PhaseCleanUp, func(ctx context.Context) error {
		return allPatient(ctx, r.conns, func(ctx context.Context, s *server) error {
			if s.state == stateNone {
				return s.close()
			}
			return errors.Join(
				r.part(PhaseCleanUp, s, func() error { return s.release(ctx, r) }),
				s.close(),
			)
		})
	})
}
