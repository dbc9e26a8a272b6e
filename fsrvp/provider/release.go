package provider

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

const (
	// The waits between the tries of a release. The second try comes at once, since a connection
	// that broke during a long backup says nothing about its server.
	firstRelease, lastRelease = 250 * time.Millisecond, 15 * time.Second
	// A connection that has been idle for idleLimit is checked with a call, within pingLimit,
	// before it is used for a release.
	idleLimit, pingLimit = 5 * time.Second, 3 * time.Second
)

// release removes the set from the server, whatever its state, and forgets it. It tries an
// unreachable server again over new connections until ctx ends, or tries are used up.
func (s *server) release(ctx context.Context, r *run, tries int) error {
	if s.state == stateNone {
		s.freeTurn(r)
		return nil
	}
	var last error
	for try := 1; ; try++ {
		err := s.tryRelease(ctx, r)
		if err == nil {
			err = s.note(r, stateNone)
			s.freeTurn(r)
			return err
		}
		if last == nil || ctx.Err() == nil {
			last = err // and not only the end of ctx
		}
		if ctx.Err() != nil || final(err) || try == tries {
			break
		}
		s.drop()
		if try == 1 {
			continue
		}
		delay := min(firstRelease<<min(try-2, 10), lastRelease)
		delay = delay/2 + rand.N(delay/2+1)
		r.emit(Event{Phase: PhaseCleanUp, Kind: Waiting, Server: s.shown, Elapsed: delay, Err: err})
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	share := ""
	if e := new(Error); errors.As(last, &e) {
		share, last = e.Share, e.Err
	}
	if ctx.Err() != nil {
		last = fmt.Errorf("%w: %w", context.Cause(ctx), last)
	}
	return &Error{Phase: PhaseCleanUp, Server: s.shown, Share: share, Err: fmt.Errorf("%w; %s", last, s.remains(r))}
}

// remains says what may be left on the server, and what to do about it.
func (s *server) remains(r *run) string {
	what := fmt.Sprintf("the shadow copy set %v may be left", s.set)
	if s.state == stateStarting {
		what = "a shadow copy set may be left until the server forgets it"
	}
	if r.Journal != nil {
		return what + ", and is in the journal for Recover"
	}
	return what + "; without a journal it must be deleted on the server"
}

// final reports whether another try would end in the same way.
func final(err error) bool {
	var status fsrvp.Status
	if errors.As(err, &status) {
		switch status {
		case fsrvp.ErrFail, fsrvp.ErrOutOfMemory, fsrvp.ErrTimeout, fsrvp.ErrWaitTimeout, fsrvp.ErrWaitFailed, fsrvp.ErrShadowCopySetInProgress:
			return false
		}
		return true
	}
	return errors.Is(err, dcerpc.ErrAccessDenied) || errors.Is(err, dcerpc.ErrOpnumRange) || errors.Is(err, dcerpc.ErrUnknownInterface)
}

func (s *server) tryRelease(ctx context.Context, r *run) error {
	if err := s.ready(ctx, r); err != nil {
		return err
	}
	if s.state == stateStarting {
		return s.releaseUnknown(ctx, r)
	}
	if !s.recovered {
		err := s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.AbortShadowCopySet(ctx, s.set) })
		if err != nil && !errors.Is(err, fsrvp.ErrBadState) && !gone(err) {
			return err
		}
	}
	// BAD_STATE means that the set is recovered after all. After any other answer to Abort there
	// should be nothing to delete, but Samba's agent reports success for the abort of a committed
	// set without aborting it.
	for _, sh := range s.shares {
		if !sh.added {
			continue
		}
		err := s.deleteMapping(ctx, r, sh)
		if errors.Is(err, fsrvp.ErrBadState) {
			err = s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.ExposeShadowCopySet(ctx, s.set, r.ExposeWait) })
			if err == nil {
				err = s.deleteMapping(ctx, r, sh)
			}
		}
		if err != nil && !gone(err) {
			return &Error{Phase: PhaseCleanUp, Server: s.shown, Share: sh.name(), Err: err}
		}
	}
	return nil
}

func (s *server) deleteMapping(ctx context.Context, r *run, sh *share) error {
	return s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.DeleteShareMapping(ctx, s.set, sh.copy, sh.unc) })
}

// ready makes sure that there is a working connection. It checks a connection whose last call was
// not answered or that was idle for long, and gives it up if it does not answer.
func (s *server) ready(ctx context.Context, r *run) error {
	if s.agent != nil && (s.doubtful || time.Since(s.used) > idleLimit) {
		pctx, cancel := context.WithTimeout(ctx, pingLimit)
		_, err := s.agent.GetSupportedVersion(pctx)
		cancel()
		if err != nil && !answered(err) {
			s.drop()
		} else {
			s.doubtful = false
		}
	}
	if s.agent == nil {
		return s.connect(ctx, r)
	}
	return nil
}

// releaseUnknown ends a set whose id never arrived: SetContext from the client that has an
// unfinished set removes it (MS-FSRVP 3.1.4.2). The set that is then started and aborted leaves the
// server with no context set. It needs the turn, since otherwise it would also remove the set of
// another run.
func (s *server) releaseUnknown(ctx context.Context, r *run) error {
	if s.turn == nil {
		if s.owner == "" && len(s.shares) > 0 {
			s.owner, _ = s.isPathSupported(ctx, r, s.shares[0].unc) // otherwise its name is good enough
		}
		t, err := r.takeTurn(ctx, PhaseCleanUp, s)
		if err != nil {
			return err
		}
		s.turn = t
		defer s.freeTurn(r)
	}
	err := s.setContext(ctx, r)
	if errors.Is(err, fsrvp.ErrShadowCopySetInProgress) {
		return nil // it is another client's, so ours has ended: a server has one at a time
	}
	if err != nil {
		return err
	}
	set, err := s.startSet(ctx, r)
	if err != nil {
		return err
	}
	return s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.AbortShadowCopySet(ctx, set) })
}

// answered reports whether err is the server's answer, rather than a failure to ask it.
func answered(err error) bool {
	var status fsrvp.Status
	return errors.As(err, &status)
}

// gone reports whether a server answered, in any of the usual ways, that it has no such set, copy
// or share.
func gone(err error) bool {
	return errors.Is(err, fsrvp.ErrObjectNotFound) ||
		errors.Is(err, fsrvp.ErrShadowCopySetIDMismatch) ||
		errors.Is(err, fsrvp.ErrInvalidArg)
}
