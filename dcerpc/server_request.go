package dcerpc

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// receiveRequest takes one fragment of a request (C706 12.6.4.9).
func (c *serverConn) receiveRequest(h *pdu.Header, b []byte) *refusal {
	c.shown = false
	req, err := pdu.ParseRequest(b)
	r := c.takeRequest(h, &req, err, b)
	if !c.shown { // refused before it could be unsealed
		c.traced(b, req.Auth.Level == uint8(LevelPrivacy))
	}
	return r
}

// takeRequest handles a fragment; err is the error of parsing it.
func (c *serverConn) takeRequest(h *pdu.Header, req *pdu.Request, err error, b []byte) *refusal {
	switch {
	case int(h.FragLength) > c.session.MaxFragment:
		return fatal(pdu.FaultProtocolError, reason("request larger than a fragment"))
	case errors.Is(err, pdu.ErrBody):
		return silence(err)
	case err != nil:
		r := fatal(pdu.FaultProtocolError, err)
		if _, err := pdu.Split(b); err != nil { // not only the padding is wrong
			r.notExecuted()
		}
		return r
	case req.Auth.Present() && misaligned(h):
		return fatal(pdu.FaultProtocolError, reason("auth trailer not aligned")).on(req.ContextID)
	case req.Flags.Has(pdu.FirstFrag):
		return c.firstFragment(req, b)
	}
	return c.nextFragment(req, b)
}

// firstFragment begins a call.
func (c *serverConn) firstFragment(req *pdu.Request, b []byte) *refusal {
	switch {
	case c.current != nil:
		return c.interrupted(req, c.current)
	case !c.mpx && c.isBusy():
		return fatal(pdu.FaultProtocolError, reason("request before the end of the last call, without multiplexing"))
	case req.Flags.Has(pdu.PendingCancel):
		return fatal(pdu.FaultNoCallActive, reason("request with a pending cancel")).notExecuted()
	}
	pres := c.presentation[req.ContextID]
	sec, peer, r := c.resolve(req)
	if r == nil {
		// Check it even if the presentation context is unknown, since the connection goes on and
		// the sequence numbers must stay in step.
		r = c.unprotect(sec, b)
		if r != nil {
			return r.on(req.ContextID)
		}
	}
	switch {
	case pres == nil:
		return unknownContext()
	case r != nil:
		return r
	}
	c.current = c.newCall(req, pres, sec, peer)
	return c.fragment(c.current, req)
}

func unknownContext() *refusal {
	return fault(pdu.FaultUnknownInterface, pdu.DidNotExecute, reason("unknown presentation context"))
}

// interrupted refuses a first fragment while another request is not complete.
func (c *serverConn) interrupted(req *pdu.Request, cur *serverCall) *refusal {
	same := req.CallID == cur.id
	if same && req.ContextID == cur.contextID && cur.sec != nil && req.Auth.Present() && req.Auth.ContextID != cur.sec.id {
		return fatal(pdu.FaultSecPkgError, reason("first fragment again, in another security context")).on(cur.contextID)
	}
	r := fatal(pdu.FaultProtocolError, reason("first fragment before the last one of another request"))
	if !c.mpx {
		return r.of(cur.id).on(cur.contextID)
	}
	if same {
		r.on(cur.contextID)
	}
	return r
}

// nextFragment continues a call.
func (c *serverConn) nextFragment(req *pdu.Request, b []byte) *refusal {
	cur := c.current
	switch {
	case cur == nil:
		return c.strayFragment(req)
	case req.CallID != cur.id && c.mpx:
		return fatal(pdu.FaultProtocolError, reason("fragment of an unknown call"))
	case req.CallID != cur.id:
		return fatal(pdu.FaultProtocolError, reason("fragment of another call")).of(cur.id).on(cur.contextID)
	case req.DataRep != cur.dataRep:
		return fatal(pdu.FaultProtocolError, reason("data representation changed")).notExecuted()
	}
	if r := c.unprotectNext(cur, req, b); r != nil {
		return r.on(cur.contextID) // the fragment's own context is ignored
	}
	return c.fragment(cur, req)
}

// strayFragment refuses a fragment that is not the first of a call, while no request is incomplete.
func (c *serverConn) strayFragment(req *pdu.Request) *refusal {
	r := fatal(pdu.FaultProtocolError, reason("fragment without a first one"))
	if !c.mpx {
		return r
	}
	if c.presentation[req.ContextID] == nil {
		return unknownContext()
	}
	if _, _, r := c.resolve(req); r != nil {
		return r
	}
	return r.on(req.ContextID)
}

// resolve returns the security context of a first fragment, nil if the call has none, and the
// context.Context that carries its peer.
func (c *serverConn) resolve(req *pdu.Request) (*serverSecurity, context.Context, *refusal) {
	refuse := func(status pdu.FaultStatus, why error) (*serverSecurity, context.Context, *refusal) {
		return nil, nil, fatal(status, why).on(req.ContextID)
	}
	unfinished := func() (*serverSecurity, context.Context, *refusal) {
		why := reason("request before the end of the security exchange")
		return nil, nil, fatal(pdu.FaultProtocolError, why).notExecuted()
	}
	if c.lostExchange {
		return refuse(pdu.FaultAccessDenied, reason("the security exchange has failed"))
	}
	only := c.only()
	if !req.Auth.Present() {
		// A request without a trailer has the identity of the connection itself, even if there are
		// security contexts. Only a context of the connect level, which protects nothing, applies
		// to all requests, while it is the only one.
		switch {
		case only != nil && !only.done:
			return unfinished()
		case only != nil && only.level == LevelInsecureConnect && !c.explicit:
			return only, only.peer, nil
		}
		if c.anonymous == nil {
			c.anonymous = WithPeer(c.ctx, c.peer(nil))
		}
		return nil, c.anonymous, nil
	}
	sec := c.security[req.Auth.ContextID]
	switch {
	case sec == nil:
		return refuse(pdu.FaultAccessDenied, reason("unknown security context"))
	case !sec.done:
		return unfinished()
	case req.Auth.Type != uint8(sec.typ) || req.Auth.Level != uint8(sec.level):
		return refuse(pdu.FaultAccessDenied, reason("auth type or level changed"))
	case sec.lacking:
		return refuse(pdu.FaultSecPkgError, errLacking)
	}
	c.explicit = true
	return sec, sec.peer, nil
}

// unprotect checks or unseals a fragment, and traces it.
func (c *serverConn) unprotect(sec *serverSecurity, b []byte) *refusal {
	if sec == nil || !sec.protects() {
		c.traced(b, false)
		return nil
	}
	parts, err := pdu.Split(b)
	if err == nil {
		err = sec.unprotect(parts, c.signing)
	}
	if err != nil {
		c.traced(b, sec.level == LevelPrivacy)
		return fatal(pdu.FaultSecPkgError, err).noted(RefusedProtection)
	}
	c.traced(b, false)
	return nil
}

// unprotectNext is unprotect for a later fragment, whose auth fields are ignored except the
// context's id.
func (c *serverConn) unprotectNext(cur *serverCall, req *pdu.Request, b []byte) *refusal {
	switch {
	case cur.sec == nil && req.Auth.Present():
		return fatal(pdu.FaultAccessDenied, reason("auth trailer in the middle of a call without one"))
	case cur.sec != nil && cur.sec.protects() && !req.Auth.Present():
		return fatal(pdu.FaultProtocolError, reason("fragment without an auth trailer"))
	case req.Auth.Present() && req.Auth.ContextID != cur.sec.id && c.security[req.Auth.ContextID] != nil:
		return fatal(pdu.FaultSecPkgError, reason("fragment in another security context"))
	}
	return c.unprotect(cur.sec, b)
}

// fragment adds a fragment, in clear, to its call, and hands the call on when it is complete.
func (c *serverConn) fragment(call *serverCall, req *pdu.Request) *refusal {
	last := req.Flags.Has(pdu.LastFrag)
	hint := uint64(req.AllocHint) // means nothing in the last fragment
	call.fragments++
	tooLarge := call.size+len(req.Stub) > c.limits.RequestBytes || call.fragments > c.limits.Fragments
	if tooLarge || !last && hint+uint64(call.size) > uint64(c.limits.RequestBytes) {
		return fatal(pdu.FaultAccessDenied, reason("request too large")).on(call.contextID)
	}
	call.size += len(req.Stub)
	if call.refused == nil && !c.hold(call, len(req.Stub)) {
		c.unhold(call)
		call.refused = tooBusy("too many bytes held")
		call.stub = nil
	}
	if call.refused == nil {
		call.stub = append(call.stub, req.Stub...)
	}
	if last {
		if call.fragments > 1 {
			c.requesting(false)
		}
		c.current = nil
		return c.dispatch(call)
	}
	if call.fragments == 1 {
		c.requesting(true)
	}
	return nil
}
