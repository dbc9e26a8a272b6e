package provider

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A server is one file server in a run: a machine, with one connection, whatever its names.
type server struct {
	name   string // by which it was connected
	shown  string // for events and errors
	owner  string // the name that it reports, OwnerMachineName
	agent  Agent
	shares []*share // the shares that it owns
	set    fsrvp.SetID
	state  state
	// recovered reports that RecoveryComplete was answered: the set can no longer be aborted.
	recovered bool

	addr     netip.AddrPort // of the connection; zero if unknown
	inMemory bool           // the connection is not a network connection
	direct   bool           // its host name is the machine itself
	lost     error          // why the machine's own name could not be connected to
	turn     *turn          // against other runs of this host
	used     time.Time      // the end of the last call
	doubtful bool           // the last call was not answered
	starting time.Duration  // the time that the start took
}

// A share is one share in a run.
type share struct {
	unc     string // the share alone, as sent to the server
	paths   []path // the paths on it that were passed to Run
	copy    fsrvp.CopyID
	added   bool
	mapping *fsrvp.ShareMapping
}

// A path is an argument of Run: a share, or a path below one.
type path struct {
	index int    // among the arguments of Run
	name  string // as passed to Run
	rest  string // below the share
}

// name returns the share as passed to Run; if there are several paths on it, the first.
func (sh *share) name() string {
	if len(sh.paths) == 0 {
		return sh.unc
	}
	return sh.paths[0].name
}

// A state says what may exist on a server.
type state uint8

const (
	stateNone     state = iota
	stateStarting       // StartShadowCopySet was sent: there may be a set with an unknown id
	stateStarted        // there is a set with an id
)

// close ends the connection properly.
func (s *server) close() error {
	if s.agent == nil {
		return nil
	}
	if s.doubtful {
		s.drop()
		return nil
	}
	agent := s.agent
	s.agent = nil
	if err := agent.Close(); err != nil {
		return &Error{Phase: PhaseCleanUp, Server: s.shown, Err: err}
	}
	return nil
}

// start begins a set. Each step is in the journal before it is made.
func (s *server) start(ctx context.Context, r *run) error {
	began := time.Now()
	defer func() { s.starting = time.Since(began) }()
	if err := s.setContext(ctx, r); err != nil {
		return err
	}
	if err := s.note(r, stateStarting); err != nil {
		return err
	}
	set, err := s.startSet(ctx, r)
	if err != nil {
		if answered(err) {
			return errors.Join(err, s.note(r, stateNone))
		}
		return err
	}
	s.set = set
	return s.note(r, stateStarted)
}

func (s *server) setContext(ctx context.Context, r *run) error {
	return s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.SetContext(ctx, r.Context) })
}

func (s *server) startSet(ctx context.Context, r *run) (set fsrvp.SetID, err error) {
	err = s.call(ctx, r, func(ctx context.Context, a Agent) error {
		set, err = a.StartShadowCopySet(ctx, fsrvp.NewSetID())
		return err
	})
	return set, err
}

// add adds the server's shares to the set.
func (s *server) add(ctx context.Context, r *run) error {
	for i, sh := range s.shares {
		err := s.call(ctx, r, func(ctx context.Context, a Agent) (err error) {
			sh.copy, err = a.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), s.set, sh.unc)
			return err
		})
		if err != nil {
			return &Error{Phase: PhaseStart, Server: s.shown, Share: sh.name(), Err: s.explainAdd(err, i)}
		}
		sh.added = true
	}
	// Record the copies' ids, which Recover needs once the set is recovered.
	return s.note(r, stateStarted)
}

// explainAdd adds the likely reason for which the server refused its i-th share.
func (s *server) explainAdd(err error, i int) error {
	bare := func(sh *share) string { return sh.unc[strings.LastIndexByte(sh.unc, '\\')+1:] }
	switch {
	case errors.Is(err, fsrvp.ErrObjectAlreadyExists):
		for _, o := range s.shares[:i] {
			if strings.EqualFold(bare(o), bare(s.shares[i])) {
				return fmt.Errorf("is the same share as %s: %w", o.name(), err)
			}
		}
	case answered(err) && s.lost != nil:
		return fmt.Errorf("%w; the owner that the server named, %s, could not be reached: %w", err, s.owner, s.lost)
	}
	return err
}

func (s *server) prepare(ctx context.Context, r *run) error {
	return s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.PrepareShadowCopySet(ctx, s.set, r.PrepareWait) })
}

// commit repeats the call until the server has committed or the deadline has passed: a commit that
// timed out goes on on the server, and another call waits for it (MS-FSRVP 3.1.4.5). A zero
// deadline means a single call with CommitWait.
func (s *server) commit(ctx context.Context, r *run, deadline time.Time) error {
	for {
		wait := r.CommitWait
		if !deadline.IsZero() {
			wait = min(wait, max(time.Until(deadline).Truncate(time.Millisecond), time.Millisecond))
		}
		err := s.agent.CommitShadowCopySet(ctx, s.set, wait)
		s.used, s.doubtful = time.Now(), err != nil && !answered(err)
		if !errors.Is(err, fsrvp.ErrTimeout) || deadline.IsZero() {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (s *server) expose(ctx context.Context, r *run) error {
	err := s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.ExposeShadowCopySet(ctx, s.set, r.ExposeWait) })
	if err != nil {
		return err
	}
	for _, sh := range s.shares {
		err := s.call(ctx, r, func(ctx context.Context, a Agent) (err error) {
			sh.mapping, err = a.GetShareMapping(ctx, sh.copy, s.set, sh.unc, 1)
			return err
		})
		if err == nil && (sh.mapping == nil || sh.mapping.Exposed == "") {
			err = errors.New("the server gave no name for the exposed share")
		}
		if err != nil {
			return &Error{Phase: PhaseExpose, Server: s.shown, Share: sh.name(), Err: err}
		}
	}
	return nil
}

// recover completes the set. Then other runs of this host may make theirs.
func (s *server) recover(ctx context.Context, r *run) error {
	err := s.call(ctx, r, func(ctx context.Context, a Agent) error { return a.RecoveryCompleteShadowCopySet(ctx, s.set) })
	if err == nil {
		s.recovered = true
		s.freeTurn(r)
	}
	return err
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
