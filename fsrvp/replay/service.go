package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// ServiceConfig says how a Service answers. Nil means its zero value.
type ServiceConfig struct {
	// Shares says what a host and a share of the recording are called by the clients of today; see
	// Config.Shares.
	Shares func(fsrvp.ShareName) fsrvp.ShareName
	// Speed makes every answer take as long as it did in the recording, divided by it. Zero:
	// answers come at once.
	Speed float64
	// OnDeparture is told of every call that the recording does not answer, and returns what is
	// answered: an error that wraps a Status, or nil for the Departure itself, which is
	// fsrvp.ErrBadState. It may be called by several goroutines at once. Nil: the Departure.
	OnDeparture func(context.Context, *Departure) error
}

// A Service answers the calls of clients as a recording has them. It is for tests of clients: it
// makes nothing, and checks nothing of who calls.
//
// # Matching
//
// Which recorded call answers a call depends on the calls before it alone, and not on time:
//
//   - A call can be answered by a recorded one of the same method with the same parameters. Share
//     names are compared as fsrvp.ShareName.Equal does, after ServiceConfig.Shares. Time-outs, and
//     the ids that clients choose, may be any. Set and copy ids are those that the Service has
//     handed out, which are the recorded ones; but where the recorded server returned the client's
//     id as its own, the Service does so too. An id that was not handed out stands for any that the
//     recording's server had not.
//   - GetSupportedVersion, IsPathSupported and IsPathShadowCopied: the n-th call is answered by the
//     n-th recorded one, and when these are used up by the last.
//   - SetContext and StartShadowCopySet are one sequence, and the calls that name one set are
//     another: they are answered in the recorded order. Recorded calls of the same method may be
//     made in any order where their parameters differ, and left out may be GetShareMapping and what
//     did not succeed. When a call that succeeded is reached, those left out before it are no
//     longer answered.
//   - GetShareMapping may be repeated: it gets its last answer again.
//
// Recorded connections make no difference. Of a recording with several servers, give NewService one
// server's calls.
//
// # Departures
//
// What none of this answers is a departure, and so is a call whose recorded answer is not known.
// Departures are answered as ServiceConfig.OnDeparture says, and have no effect on later calls.
//
// A recorded fault is answered with an error that is a *dcerpc.Fault, which fsrvp.NewHandler sends
// as it is.
//
// The methods may be called by several goroutines at once.
type Service struct {
	fsrvp.ServiceFunc // the methods

	cfg ServiceConfig

	mu         sync.Mutex
	names      *translation
	steps      []*step // all, as they began
	queries    queries
	creation   sequence                  // SetContext and StartShadowCopySet
	lives      map[fsrvp.SetID]*sequence // of sets that the recording's server gave
	foreign    sequence                  // about other sets
	copies     map[fsrvp.CopyID]bool     // that the recording's server gave
	departures int
}

var _ fsrvp.Service = (*Service)(nil)

// NewService returns a Service that answers as a recording has it. The Exchanges may be in any
// order, and must not be changed any more. It fails where one of them is not fit to be replayed.
func NewService(recording []*transcript.Exchange, cfg *ServiceConfig) (*Service, error) {
	s := &Service{
		queries: queries{},
		lives:   map[fsrvp.SetID]*sequence{},
		copies:  map[fsrvp.CopyID]bool{},
	}
	s.ServiceFunc = s.answer
	if cfg != nil {
		s.cfg = *cfg
	}
	if err := checkFactor("Speed", s.cfg.Speed); err != nil {
		return nil, err
	}
	s.names = newTranslation(s.cfg.Shares)
	for i, e := range recording {
		if err := e.Check(); err != nil {
			return nil, fmt.Errorf("replay: call %d %w", i+1, err)
		}
		switch r := e.Response.(type) {
		case *fsrvp.StartShadowCopySetResponse:
			if r.Return.IsSuccess() {
				s.lives[r.ShadowCopySetID] = new(sequence)
			}
		case *fsrvp.AddToShadowCopySetResponse:
			if r.Return.IsSuccess() {
				s.copies[r.ShadowCopyID] = true
			}
		}
	}
	for _, i := range byTime(recording) {
		s.add(recording[i])
	}
	return s, nil
}

// add puts a call at the end of its sequence.
func (s *Service) add(e *transcript.Exchange) {
	st := &step{Exchange: e, key: keyOf(s.names.request(e.Request))}
	s.steps = append(s.steps, st)
	switch st.Opnum() {
	case fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpIsPathShadowCopied:
		s.queries.add(st)
	case fsrvp.OpSetContext, fsrvp.OpStartShadowCopySet:
		s.creation.add(st)
	default:
		if life, ok := s.lives[setOf(st.Request)]; ok {
			life.add(st)
		} else {
			s.foreign.add(st)
		}
	}
}

// Unasked returns the recorded calls that no client has made, in the order in which they began.
// Those that a client need not make are among them.
func (s *Service) Unasked() []*transcript.Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []*transcript.Exchange
	for _, st := range s.steps {
		if !st.asked {
			rest = append(rest, st.Exchange)
		}
	}
	return rest
}

// Departures returns how many calls the recording did not answer.
func (s *Service) Departures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.departures
}

// A Departure is a call that the recording does not answer. As an error it wraps fsrvp.ErrBadState.
type Departure struct {
	Request fsrvp.Message // as the client made it
	// Expected is the first recorded call about the same set, or of the same sequence, that is
	// still to come and may not be left out. Nil: none.
	Expected *transcript.Exchange
	Reason   string
}

func (d *Departure) Error() string {
	return fmt.Sprintf("replay: %v departs from the recording: %s: %v", d.Request.Opnum(), d.Reason, fsrvp.ErrBadState)
}

// Unwrap returns fsrvp.ErrBadState.
func (d *Departure) Unwrap() error { return fsrvp.ErrBadState }

// answer answers a call: the response that is due, in today's ids and names, and its status as an
// error.
func (s *Service) answer(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	e, resp, departure := s.match(req)
	if departure != nil {
		resp := fsrvp.NewResponse(req.Opnum())
		if s.cfg.OnDeparture != nil {
			if err := s.cfg.OnDeparture(ctx, departure); err != nil {
				return resp, err
			}
		}
		return resp, departure
	}
	if err := s.wait(ctx, e); err != nil {
		return resp, err
	}
	if e.Fault != nil {
		return resp, e.Fault
	}
	return resp, resp.Status().Err()
}

// wait waits as long as the recorded call took.
func (s *Service) wait(ctx context.Context, e *transcript.Exchange) error {
	if s.cfg.Speed == 0 {
		return nil
	}
	timer := time.NewTimer(divide(e.End().Sub(e.Time), s.cfg.Speed))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// match finds the recorded call that answers a request, and what it answers.
func (s *Service) match(req fsrvp.Message) (*transcript.Exchange, fsrvp.Response, *Departure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st *step
	var err error
	var expected *step
	matches := func(st *step) bool { return s.matches(st, req) }
	switch req.Opnum() {
	case fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpIsPathShadowCopied:
		st, err = s.queries.next(req, matches)
	case fsrvp.OpSetContext, fsrvp.OpStartShadowCopySet:
		st, expected, err = s.creation.next(req, matches)
	default:
		st, expected, err = s.life(setOf(req)).next(req, matches)
	}
	if err == nil && !st.Answered() {
		err = errors.New("the recording has no answer to it")
		if st.Error != "" {
			err = fmt.Errorf("%w: %s", err, st.Error)
		}
	}
	if err != nil {
		s.departures++
		d := &Departure{Request: req, Reason: err.Error()}
		if expected != nil {
			d.Expected = expected.Exchange
		}
		return nil, nil, d
	}
	return st.Exchange, s.response(st, req), nil
}
