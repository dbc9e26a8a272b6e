package transcript

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// RecorderConfig says what a Recorder cannot see. Nil means its zero value.
type RecorderConfig struct {
	// Connection is written for calls whose context does not say who calls, as a dcerpc.Server's
	// does (dcerpc.PeerFromContext): those that a client makes itself. Its Server is written for
	// all calls.
	Connection
}

// A Recorder is a Service that passes all calls on to another, and writes each as one line of a
// transcript when it has returned, before its caller gets the answer.
//
// Its methods may be called by several goroutines at once. Writing is done by one at a time, and a
// call waits for it. What fails to be written does not change the call: see Err.
//
// Where the context of a call says who calls, the Recorder stands on the server's side, and writes
// what fsrvp.NewHandler answers for an error without a Status: a *dcerpc.Fault, or E_FAIL.
// Elsewhere such an error is a call without an answer, or one with a Fault. The text of the error
// is written in both cases.
type Recorder struct {
	fsrvp.ServiceFunc // the methods

	service fsrvp.Service
	self    Connection

	mu     sync.Mutex
	w      *Writer
	closed bool
	err    error
	lost   int
}

var _ fsrvp.Service = (*Recorder)(nil)

// NewRecorder returns a Recorder of the calls of s, and writes the header. W stays the caller's; to
// go on with a file that holds a transcript, open it for appending. A nil cfg means its zero value.
func NewRecorder(s fsrvp.Service, w io.Writer, cfg *RecorderConfig) *Recorder {
	r := &Recorder{service: s, w: NewWriter(w)}
	r.ServiceFunc = r.call
	if cfg != nil {
		r.self = cfg.Connection
	}
	r.err = r.w.begin()
	return r
}

// Err returns why calls are missing from the transcript, and how many; nil where none are. After an
// error of the writer nothing more is written; a call that has no place in a transcript (a string
// that is not WTF-8, a year of five digits) is left out alone.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return nil
	}
	return fmt.Errorf("%w (%d calls are not in the transcript)", r.err, r.lost)
}

// Close ends the recording and returns Err. Calls that return later are still passed on. Nothing
// else is closed.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	return r.Err()
}

// call passes a call on and writes it.
func (r *Recorder) call(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	begun := time.Now()
	resp, err := fsrvp.Serve(ctx, r.service, req)
	r.record(ctx, begun, req, resp, err)
	return resp, err
}

// record writes one call that has just returned err, with the response that status is in.
func (r *Recorder) record(ctx context.Context, begun time.Time, req fsrvp.Message, resp fsrvp.Response, err error) {
	e := &Exchange{
		Time:         begun,
		ResponseTime: begun.Add(time.Since(begun)), // by the monotonic clock: never before begun
		Connection:   r.self,
		Request:      req,
	}
	peer, serving := dcerpc.PeerFromContext(ctx)
	if serving {
		e.Connection = connectionOf(&peer)
		e.Server = r.self.Server
	}
	var status fsrvp.Status // zero: err is nil, or has none
	errors.As(err, &status)
	fault, isFault := err.(*dcerpc.Fault) // as fsrvp.NewHandler looks at it
	switch {
	case err == nil || !status.IsSuccess():
		e.Response = resp
	case serving && ctx.Err() == nil && isFault:
		e.Fault = fault
	case serving && ctx.Err() == nil:
		e.Response, e.Error = resp, err.Error()
	case !serving && errors.As(err, &e.Fault):
	default:
		e.ResponseTime, e.Error = time.Time{}, err.Error()
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if err := r.w.Write(e); err != nil {
		r.lost++
		if r.err == nil {
			r.err = err
		}
	}
}

// connectionOf is what a Peer says of a connection.
func connectionOf(p *dcerpc.Peer) Connection {
	c := Connection{User: p.Principal, Mechanism: p.Mechanism, Level: p.Level}
	if p.Addr != nil {
		c.Client = p.Addr.String()
	}
	if c.User == "" {
		c.User = p.Account
		if p.Account != "" && p.Domain != "" {
			c.User = p.Domain + `\` + p.Account
		}
	}
	return c
}
