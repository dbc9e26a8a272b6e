package fsrvptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// The names of a Target's callers, in Call.Caller.
const (
	callerClient       = "client"
	callerSameHost     = "same host"
	callerOther        = "other client"
	callerUnprivileged = "unprivileged client"
)

// A Call is one call that a case has made.
type Call struct {
	// Caller is the caller: "client", "same host", "other client", "unprivileged client", or
	// "client at level 2".
	Caller string
	// CleanUp is set for calls that the case made after its verdict, to clean up.
	CleanUp bool
	// Exchange is the call and its answer. Its Client and User are not set.
	Exchange transcript.Exchange
}

// Outcome returns how the call ended: "ok", the name of its status or fault, or "no answer".
func (c *Call) Outcome() string {
	switch e := &c.Exchange; {
	case e.Fault != nil:
		return "fault " + e.Fault.Status.String()
	case e.Response == nil:
		return "no answer"
	case e.Response.Status().IsSuccess():
		return "ok"
	default:
		return e.Response.Status().Name()
	}
}

// A witness stands between a case and one of its callers. It records calls and answers, and which
// sets may exist afterwards, expected or not.
type witness struct {
	fsrvp.ServiceFunc

	tr      *trial
	service fsrvp.Service
	name    string
}

func (tr *trial) witness(name string, s fsrvp.Service) fsrvp.Service {
	if s == nil {
		return nil
	}
	w := &witness{tr: tr, service: s, name: name}
	w.ServiceFunc = w.call
	return w
}

func (w *witness) call(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
	if !w.tr.cleaning && w.name != callerUnprivileged && touches(req.Opnum()) {
		w.tr.unblock()
	}
	start := time.Now()
	resp, err := fsrvp.Serve(ctx, w.service, req)
	call := Call{Caller: w.name, CleanUp: w.tr.cleaning, Exchange: transcript.Exchange{
		Time: start, ResponseTime: start.Add(time.Since(start)), Request: clone(req, fsrvp.ParseRequest),
	}}
	e := &call.Exchange
	var status fsrvp.Status
	switch {
	case err == nil || errors.As(err, &status):
		e.Response, _ = clone(resp, func(op fsrvp.Opnum, s ndr.Syntax, stub []byte) (fsrvp.Message, error) {
			return fsrvp.ParseResponse(op, s, stub)
		}).(fsrvp.Response)
	case errors.As(err, &e.Fault):
	default:
		e.ResponseTime, e.Error = time.Time{}, err.Error()
	}
	w.tr.calls = append(w.tr.calls, call)
	w.tr.note(w, req, resp, err)
	return resp, err
}

// clone copies a message, which must not be kept after the call: see [fsrvp.ServiceFunc]. It
// returns a message that the wire cannot express unchanged.
func clone(m fsrvp.Message, parse func(fsrvp.Opnum, ndr.Syntax, []byte) (fsrvp.Message, error)) fsrvp.Message {
	stub, err := m.Append(nil, ndr.NDR20)
	if err != nil {
		return m
	}
	copied, err := parse(m.Opnum(), ndr.NDR20, stub)
	if err != nil {
		return m
	}
	return copied
}

// touches reports whether a method affects the sets of the server.
func touches(op fsrvp.Opnum) bool {
	switch op {
	case fsrvp.OpGetSupportedVersion, fsrvp.OpIsPathSupported, fsrvp.OpIsPathShadowCopied:
		return false
	}
	return true
}

// A leftover is a set that the server may hold because of this case.
type leftover struct {
	id     fsrvp.SetID
	by     fsrvp.Service
	shares []leftShare
}

type leftShare struct {
	copy fsrvp.CopyID
	unc  string
}

// note records what a call may have left on the server. The error is the call's.
func (tr *trial) note(by *witness, req fsrvp.Message, resp fsrvp.Response, err error) {
	ok, doubtful := err == nil, unanswered(err) && !deniedByRPC(err)
	var neverMade *dialError
	if errors.As(err, &neverMade) {
		doubtful = false
	}
	if touches(req.Opnum()) && (ok || doubtful || by.name != callerUnprivileged) {
		tr.touched = true
	}
	tr.doubtful = tr.doubtful || doubtful
	switch req := req.(type) {
	case *fsrvp.SetContextRequest:
		if (ok || doubtful) && !slices.Contains(tr.contexts, fsrvp.Service(by)) {
			tr.contexts = append(tr.contexts, by)
		}
	case *fsrvp.StartShadowCopySetRequest:
		if ok {
			tr.noteSet(resp.(*fsrvp.StartShadowCopySetResponse).ShadowCopySetID, by)
		}
		if ok || doubtful { // a server may use the client's id
			tr.clientIDs = append(tr.clientIDs, req.ClientShadowCopySetID)
		}
	case *fsrvp.AddToShadowCopySetRequest:
		if ok {
			tr.noteShare(req.ShadowCopySetID, resp.(*fsrvp.AddToShadowCopySetResponse).ShadowCopyID,
				string(req.ShareName), by)
		}
		if doubtful { // the server may use the client's id
			tr.noteShare(req.ShadowCopySetID, req.ClientShadowCopyID, string(req.ShareName), by)
		}
	case *fsrvp.GetShareMappingRequest:
		if m := resp.(*fsrvp.GetShareMappingResponse).ShareMapping1; ok && m != nil && m.ShareNameUNC.Valid {
			tr.noteShare(m.ShadowCopySetID, m.ShadowCopyID, m.ShareNameUNC.String, by)
		}
	}
}

func (tr *trial) noteSet(id fsrvp.SetID, by fsrvp.Service) *leftover {
	for _, b := range tr.left {
		if b.id == id {
			return b
		}
	}
	b := &leftover{id: id, by: by}
	if id != (fsrvp.SetID{}) {
		tr.left = append(tr.left, b)
	}
	return b
}

// noteShare records a share of a set, even of one that was never started, since the server says
// that it has it.
func (tr *trial) noteShare(set fsrvp.SetID, copy fsrvp.CopyID, unc string, by fsrvp.Service) {
	b := tr.noteSet(set, by)
	s := leftShare{copy, unc}
	if copy != (fsrvp.CopyID{}) && unc != "" && !slices.Contains(b.shares, s) {
		b.shares = append(b.shares, s)
	}
}

// maxDid is the largest number of calls in the description of a case; earlier ones are left out.
const maxDid = 24

// did describes the calls and answers, without the clean-up, in one line.
func did(calls []Call) string {
	var steps []string
	times := 1
	for _, c := range calls {
		if c.CleanUp {
			break
		}
		step := c.Exchange.Opnum().String() + " " + c.Outcome()
		if c.Caller != callerClient {
			step = "(" + c.Caller + ") " + step
		}
		if n := len(steps) - 1; n >= 0 && steps[n] == step {
			times++
			continue
		}
		steps, times = again(steps, times), 1
		steps = append(steps, step)
	}
	steps = again(steps, times)
	if n := len(steps) - maxDid; n > 0 {
		steps = append([]string{fmt.Sprintf("... %d calls before, and then", n)}, steps[n:]...)
	}
	if len(steps) == 0 {
		return "nothing was called"
	}
	return strings.Join(steps, ", ")
}

// again adds to the last step how often it was repeated.
func again(steps []string, times int) []string {
	if n := len(steps) - 1; n >= 0 && times > 1 {
		steps[n] = fmt.Sprintf("%s (%d times)", steps[n], times)
	}
	return steps
}

// levelName returns a caller's name for a level of protection.
func levelName(l dcerpc.AuthLevel) string { return fmt.Sprintf("client at level %d", l) }
