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

// RecorderConfig configures a Recorder. Nil means the zero value.
type RecorderConfig struct {
	// Connection is recorded for calls that a client makes itself: those whose context has no
	// caller, see [dcerpc.PeerFromContext]. Its Server is recorded for all calls.
	Connection
}

// A Recorder is a Service that passes all calls on to another. When a call returns, it writes the
// call as one line of a transcript before the caller gets the answer.
//
// It is safe for concurrent use. One call is written at a time, and each call waits for its
// writing. A failure to write does not change the call: see [Recorder.Err].
//
// If the context of a call has a caller, the Recorder is on the server's side, and records the
// answer of [fsrvp.NewHandler] for an error without a Status: a *dcerpc.Fault, or E_FAIL. Otherwise
// it records such an error as a call without an answer, or with a Fault. It records the text of the
// error in both cases.
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

// NewRecorder returns a Recorder of the calls of s, and writes the header. It does not close w; to
// continue an existing transcript, open the file for appending. A nil cfg means the zero value.
func NewRecorder(s fsrvp.Service, w io.Writer, cfg *RecorderConfig) *Recorder {
	r := &Recorder{service: s, w: NewWriter(w)}
	r.ServiceFunc = r.call
	if cfg != nil {
		r.self = cfg.Connection
	}
	r.err = r.w.begin()
	return r
}

// Err returns an error that says why, and how many, calls are missing from the transcript; nil if
// none are. After an error of the writer nothing more is written; a call that a transcript cannot
// express (a string that is not WTF-8, a year of five digits) is left out by itself.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return nil
	}
	return fmt.Errorf("%w (%d calls are not in the transcript)", r.err, r.lost)
}

// Close ends the recording and returns the result of [Recorder.Err]. Later calls are still passed
// on, but not recorded. Close does not close the writer or the Service.
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
		ResponseTime: begun.Add(time.Since(begun)), // by the monotonic clock, so never before begun
		Connection:   r.self,
		Request:      req,
	}
	peer, serving := dcerpc.PeerFromContext(ctx)
	if serving {
		e.Connection = connectionOf(&peer)
		e.Server = r.self.Server
	}
	var status fsrvp.Status // zero if err is nil or has none
	errors.As(err, &status)
	fault, isFault := err.(*dcerpc.Fault) // as in fsrvp.NewHandler
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

// connectionOf returns the Connection of a Peer.
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
