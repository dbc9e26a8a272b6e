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

// ServiceConfig configures a Service. Nil means the zero value.
type ServiceConfig struct {
	// Shares returns the host and share that today's clients use for those of the recording; see
	// Config.Shares.
	Shares func(fsrvp.ShareName) fsrvp.ShareName
	// Speed divides the time that an answer took in the recording, which the Service waits. Zero
	// means that it answers at once.
	Speed float64
	// OnDeparture, if not nil, is called for every call that the recording does not answer. It
	// returns the answer, an error that wraps a Status, or nil for the default, [fsrvp.ErrBadState].
	// It must be safe for concurrent use.
	OnDeparture func(context.Context, *Departure) error
}

// A Service answers the calls of clients as in a recording. It is for tests of clients: it makes no
// shadow copies, and does not check its callers.
//
// # Matching
//
// The recorded call that answers a call depends only on the calls before, not on time:
//
//   - A call is answered by a recorded call of the same method with the same parameters. Share
//     names are compared as [fsrvp.ShareName.Equal] does, after ServiceConfig.Shares. Time-outs,
//     and ids that clients choose, do not matter. Set and copy ids are those that the Service has
//     handed out: the recorded ones, or the client's own id if the recorded server returned that
//     too. An id that was not handed out matches any id that the recorded server had not handed
//     out.
//   - GetSupportedVersion, IsPathSupported and IsPathShadowCopied: the n-th call is answered by the
//     n-th recorded one, and further calls by the last one.
//   - SetContext and StartShadowCopySet form one sequence, and the calls that name a set form
//     another. A sequence is answered in the recorded order, but calls of the same method with
//     different parameters may come in any order, and the client may leave out GetShareMapping and
//     calls that failed. When it reaches a call that succeeded, calls left out before are no longer
//     answered.
//   - GetShareMapping may be repeated: it gets its last answer again.
//
// Recorded connections do not matter. From a recording of several servers, pass the calls of one
// server to [NewService].
//
// # Departures
//
// A call that none of this answers is a departure, and so is one whose recorded answer is not
// known. Departures are answered as ServiceConfig.OnDeparture says, and do not affect later calls.
//
// A recorded fault is answered with a *dcerpc.Fault as the error, which [fsrvp.NewHandler] sends
// unchanged.
//
// A Service is safe for concurrent use.
type Service struct {
	fsrvp.ServiceFunc // the methods

	cfg ServiceConfig

	mu         sync.Mutex
	names      *translation
	steps      []*step // all, in the order in which they began
	queries    queries
	creation   sequence                  // SetContext and StartShadowCopySet
	lives      map[fsrvp.SetID]*sequence // of sets whose ids the recorded server gave
	foreign    sequence                  // about other sets
	copies     map[fsrvp.CopyID]bool     // ids that the recorded server gave
	departures int
}

var _ fsrvp.Service = (*Service)(nil)

// NewService returns a Service that answers as in a recording. The Exchanges may be in any order,
// and must not be changed afterwards. It fails if one of them cannot be replayed.
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
		if life, ok := s.lives[transcript.SetOf(st.Request)]; ok {
			life.add(st)
		} else {
			s.foreign.add(st)
		}
	}
}

// Unasked returns the recorded calls that no client has made, in the order in which they began.
// This includes calls that a client may leave out.
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

// Departures returns the number of calls that the recording did not answer.
func (s *Service) Departures() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.departures
}

// A Departure is a call that the recording does not answer. As an error it wraps [fsrvp.ErrBadState].
type Departure struct {
	Request fsrvp.Message // as the client made it
	// Expected is the first recorded call about the same set, or of the same sequence, that is
	// still to come and must not be left out. Nil means none.
	Expected *transcript.Exchange
	Reason   string
}

func (d *Departure) Error() string {
	return fmt.Sprintf("replay: %v departs from the recording: %s: %v", d.Request.Opnum(), d.Reason, fsrvp.ErrBadState)
}

// Unwrap returns [fsrvp.ErrBadState].
func (d *Departure) Unwrap() error { return fsrvp.ErrBadState }

// answer returns the response to a call, in today's ids and names, and its status as an error.
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

// match finds the recorded call that answers a request, and its response.
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
		st, expected, err = s.life(transcript.SetOf(req)).next(req, matches)
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
