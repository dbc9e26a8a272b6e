package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A server is one file server in a run.
type server struct {
	name   string // that it was connected to by
	agent  Agent
	shares []*share // those that it owns
	set    fsrvp.SetID
	state  state
	// recovered tells that RecoveryComplete was answered: the set can no longer be aborted.
	recovered bool
}

// A share is one share in a run.
type share struct {
	index   int    // among the shares that Run was given
	unc     string // as Run was given it
	copy    fsrvp.CopyID
	added   bool
	mapping *fsrvp.ShareMapping
}

// A state says what may exist on a server.
type state uint8

const (
	stateNone     state = iota
	stateStarting       // StartShadowCopySet was sent: there may be a set, its id unknown
	stateStarted        // there is a set with an id
)

// connect dials the agent and checks that both speak a version of the protocol.
func (s *server) connect(ctx context.Context, r *run) error {
	agent, err := r.Dial(ctx, s.name)
	if err != nil {
		return err
	}
	versions, err := agent.GetSupportedVersion(ctx)
	if err == nil && versions.Min > version {
		err = fmt.Errorf("the server speaks versions %d to %d of the protocol, this client %d", versions.Min, versions.Max, version)
	}
	if err != nil {
		return errors.Join(err, agent.Close())
	}
	s.agent = agent
	return nil
}

func (s *server) close() error {
	if s.agent == nil {
		return nil
	}
	agent := s.agent
	s.agent = nil
	if err := agent.Close(); err != nil {
		return &Error{Phase: PhaseCleanUp, Server: s.name, Err: err}
	}
	return nil
}

// start begins a set and adds the server's shares to it. What it does is in the journal before it is done.
func (s *server) start(ctx context.Context, r *run) error {
	if err := s.agent.SetContext(ctx, r.Context); err != nil {
		return err
	}
	if err := s.note(r, stateStarting); err != nil {
		return err
	}
	set, err := s.agent.StartShadowCopySet(ctx, fsrvp.NewSetID())
	if err != nil {
		if answered(err) {
			return errors.Join(err, s.note(r, stateNone))
		}
		return err
	}
	s.set = set
	if err := s.note(r, stateStarted); err != nil {
		return err
	}
	for _, sh := range s.shares {
		sh.copy, err = s.agent.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), s.set, sh.unc)
		if err != nil {
			return &Error{Phase: PhaseStart, Server: s.name, Share: sh.unc, Err: err}
		}
		sh.added = true
	}
	// The copies' ids, which Recover needs once they are recovered.
	return s.note(r, stateStarted)
}

func (s *server) prepare(ctx context.Context, r *run) error {
	return s.agent.PrepareShadowCopySet(ctx, s.set, r.PrepareWait)
}

// commit commits until the server has, or the deadline has passed: a commit that timed out goes on on the server,
// and is waited for by calling it again (MS-FSRVP 3.1.4.5).
func (s *server) commit(ctx context.Context, r *run, deadline time.Time) error {
	for {
		wait := min(r.CommitWait, max(time.Until(deadline).Truncate(time.Millisecond), time.Millisecond))
		err := s.agent.CommitShadowCopySet(ctx, s.set, wait)
		if !errors.Is(err, fsrvp.ErrTimeout) {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

func (s *server) expose(ctx context.Context, r *run) error {
	if err := s.agent.ExposeShadowCopySet(ctx, s.set, r.ExposeWait); err != nil {
		return err
	}
	for _, sh := range s.shares {
		m, err := s.agent.GetShareMapping(ctx, sh.copy, s.set, sh.unc, 1)
		if err == nil && (m == nil || m.Exposed == "") {
			err = errors.New("the server gave no name for the exposed share")
		}
		if err != nil {
			return &Error{Phase: PhaseExpose, Server: s.name, Share: sh.unc, Err: err}
		}
		sh.mapping = m
	}
	return nil
}

// note sets the state, in the journal first.
func (s *server) note(r *run, to state) error {
	if r.Journal != nil {
		if err := r.Journal.note(r.id, s, to); err != nil {
			return err
		}
	}
	s.state = to
	if to == stateNone {
		s.set = fsrvp.SetID{}
		for _, sh := range s.shares {
			sh.copy, sh.added, sh.mapping = fsrvp.CopyID{}, false, nil
		}
	}
	return nil
}

// release ends whatever the set has become on the server, and forgets it. A connection that broke is made
// again, once.
func (s *server) release(ctx context.Context, r *run) error {
	if s.state == stateNone {
		return nil
	}
	err := s.tryRelease(ctx, r)
	if err != nil && !answered(err) && ctx.Err() == nil {
		if s.agent != nil {
			s.agent.Close() // it is broken, which is why we are here
			s.agent = nil
		}
		if again := s.connect(ctx, r); again != nil {
			return errors.Join(err, again)
		}
		err = s.tryRelease(ctx, r)
	}
	if err != nil {
		return err
	}
	return s.note(r, stateNone)
}

func (s *server) tryRelease(ctx context.Context, r *run) error {
	if s.agent == nil {
		if err := s.connect(ctx, r); err != nil {
			return err
		}
	}
	if s.state == stateStarting {
		return s.releaseUnknown(ctx, r)
	}
	if !s.recovered {
		err := s.agent.AbortShadowCopySet(ctx, s.set)
		if err != nil && !errors.Is(err, fsrvp.ErrBadState) && !gone(err) {
			return err
		}
	}
	// A BAD_STATE says that the set is recovered after all. After any other answer to Abort there should be nothing
	// to delete; but Samba's agent says that it has aborted a set that was committed, and has not.
	for _, sh := range s.shares {
		if !sh.added {
			continue
		}
		err := s.agent.DeleteShareMapping(ctx, s.set, sh.copy, sh.unc)
		if errors.Is(err, fsrvp.ErrBadState) {
			if err = s.agent.ExposeShadowCopySet(ctx, s.set, r.ExposeWait); err == nil {
				err = s.agent.DeleteShareMapping(ctx, s.set, sh.copy, sh.unc)
			}
		}
		if err != nil && !gone(err) {
			return &Error{Phase: PhaseCleanUp, Server: s.name, Share: sh.unc, Err: err}
		}
	}
	return nil
}

// releaseUnknown ends a set whose id never arrived: SetContext from the client that has an unfinished set removes it
// (MS-FSRVP 3.1.4.2). The set that is then started and aborted leaves the server with no context set.
func (s *server) releaseUnknown(ctx context.Context, r *run) error {
	err := s.agent.SetContext(ctx, r.Context)
	if errors.Is(err, fsrvp.ErrShadowCopySetInProgress) {
		return nil // another client's: then ours is over, a server has one at a time
	}
	if err != nil {
		return err
	}
	set, err := s.agent.StartShadowCopySet(ctx, fsrvp.NewSetID())
	if err != nil {
		return err
	}
	return s.agent.AbortShadowCopySet(ctx, set)
}

// answered tells whether err is what the server said, and not that it could not be asked.
func answered(err error) bool {
	var status fsrvp.Status
	return errors.As(err, &status)
}

// gone tells whether a server said that it knows no such set, copy or share, in any of the ways that servers do.
func gone(err error) bool {
	return errors.Is(err, fsrvp.ErrObjectNotFound) ||
		errors.Is(err, fsrvp.ErrShadowCopySetIDMismatch) ||
		errors.Is(err, fsrvp.ErrInvalidArg)
}
