package dcerpc

import (
	"context"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A rejection is a fault that answers a request before any handler sees it.
type rejection struct {
	status pdu.FaultStatus
	flags  pdu.Flags // DidNotExecute or none
	ctx0   bool      // the fault names context 0, not the request's
	drop   bool      // the connection ends
	why    string
}

// receiveRequest takes one fragment of a request (C706 12.6.4.9).
func (c *serverConn) receiveRequest(h *pdu.Header, b []byte) bool {
	if int(h.FragLength) > c.session.MaxFragment {
		c.traced(b, false)
		return c.fatal(h, 0, pdu.FaultProtocolError, 0, "request larger than a fragment")
	}
	req, err := pdu.ParseRequest(b)
	if err != nil {
		c.traced(b, false)
		if errors.Is(err, pdu.ErrBody) {
			return c.end(err.Error())
		}
		if _, splitErr := pdu.Split(b); splitErr == nil { // the padding alone is too long
			return c.fatal(h, 0, pdu.FaultProtocolError, 0, err.Error())
		}
		return c.fatal(h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, err.Error())
	}
	if req.Auth.Present() && misaligned(h) {
		c.tracedUnread(req.Auth, b)
		return c.fatal(h, 0, pdu.FaultProtocolError, 0, "auth trailer not aligned")
	}
	if req.Flags.Has(pdu.FirstFrag) {
		return c.firstFragment(&req, b)
	}
	return c.nextFragment(&req, b)
}

// firstFragment begins a call.
func (c *serverConn) firstFragment(req *pdu.Request, b []byte) bool {
	h := &req.Header
	if cur := c.current; cur != nil {
		c.tracedUnread(req.Auth, b)
		return c.interrupted(req, cur)
	}
	if !c.mpx && c.isBusy() {
		c.tracedUnread(req.Auth, b)
		return c.fatal(h, 0, pdu.FaultProtocolError, 0, "request before the end of the last call, without multiplexing")
	}
	if h.Flags.Has(pdu.PendingCancel) {
		c.tracedUnread(req.Auth, b)
		return c.fatal(h, 0, pdu.FaultNoCallActive, pdu.DidNotExecute, "request with a pending cancel")
	}
	pres := c.presentation[req.ContextID]
	sec, peer, refused := c.resolve(req)
	if refused != nil && pres != nil {
		c.tracedUnread(req.Auth, b)
		return c.reject(req, refused)
	}
	if refused == nil {
		// Checked even if the context is unknown, which the connection survives: sequence
		// numbers must not come apart.
		if refused = c.unprotect(sec, b); refused != nil {
			return c.reject(req, refused)
		}
	} else {
		c.tracedUnread(req.Auth, b)
	}
	if pres == nil {
		return c.reject(req, unknownContext())
	}
	call := c.newCall(req, pres, sec, peer)
	c.current = call
	return c.fragment(call, req)
}

func unknownContext() *rejection {
	return &rejection{status: pdu.FaultUnknownInterface, flags: pdu.DidNotExecute, ctx0: true, why: "unknown presentation context"}
}

// interrupted answers a first fragment while another request is not complete.
func (c *serverConn) interrupted(req *pdu.Request, cur *serverCall) bool {
	same := req.CallID == cur.id
	if same && req.ContextID == cur.contextID && cur.sec != nil && req.Auth.Present() && req.Auth.ContextID != cur.sec.id {
		return c.fatal(&req.Header, cur.contextID, pdu.FaultSecPkgError, 0, "first fragment again, in another security context")
	}
	h, contextID := req.Header, uint16(0)
	if same {
		contextID = cur.contextID
	}
	if !c.mpx {
		h.CallID, contextID = cur.id, cur.contextID
	}
	return c.fatal(&h, contextID, pdu.FaultProtocolError, 0, "first fragment before the last one of another request")
}

// nextFragment continues a call.
func (c *serverConn) nextFragment(req *pdu.Request, b []byte) bool {
	h, cur := req.Header, c.current
	switch {
	case cur == nil:
		c.tracedUnread(req.Auth, b)
		return c.strayFragment(req)
	case req.CallID != cur.id && c.mpx:
		c.tracedUnread(req.Auth, b)
		return c.fatal(&h, 0, pdu.FaultProtocolError, 0, "fragment of an unknown call")
	case req.CallID != cur.id:
		c.tracedUnread(req.Auth, b)
		h.CallID = cur.id
		return c.fatal(&h, cur.contextID, pdu.FaultProtocolError, 0, "fragment of another call")
	case req.DataRep != cur.dataRep:
		c.tracedUnread(req.Auth, b)
		return c.fatal(&h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, "data representation changed")
	}
	refused := c.unprotectNext(cur, req, b)
	req.ContextID = cur.contextID // what the fragment itself says is ignored
	if refused != nil {
		return c.reject(req, refused)
	}
	return c.fragment(cur, req)
}

// strayFragment answers a fragment that is not the first of a call, while no request is incomplete.
func (c *serverConn) strayFragment(req *pdu.Request) bool {
	if !c.mpx {
		return c.fatal(&req.Header, 0, pdu.FaultProtocolError, 0, "fragment without a first one")
	}
	if c.presentation[req.ContextID] == nil {
		return c.reject(req, unknownContext())
	}
	if _, _, refused := c.resolve(req); refused != nil {
		return c.reject(req, refused)
	}
	return c.fatal(&req.Header, req.ContextID, pdu.FaultProtocolError, 0, "fragment without a first one")
}

// reject answers a fragment with a fault and tells whether the connection goes on.
func (c *serverConn) reject(req *pdu.Request, r *rejection) bool {
	contextID := req.ContextID
	if r.ctx0 {
		contextID = 0
	}
	if r.drop {
		return c.fatal(&req.Header, contextID, r.status, r.flags, r.why)
	}
	c.logger.Debug("dcerpc: request refused", "status", r.status, "reason", r.why)
	c.fault(req.CallID, contextID, r.status, r.flags)
	return true
}

// resolve finds the security context of a first fragment, which is nil where the call has none, and
// the context.Context that carries its peer.
func (c *serverConn) resolve(req *pdu.Request) (*serverSecurity, context.Context, *rejection) {
	denied := func(why string) (*serverSecurity, context.Context, *rejection) {
		return nil, nil, &rejection{status: pdu.FaultAccessDenied, drop: true, why: why}
	}
	unfinished := func() (*serverSecurity, context.Context, *rejection) {
		return nil, nil, &rejection{
			status: pdu.FaultProtocolError, flags: pdu.DidNotExecute, ctx0: true, drop: true,
			why: "request before the end of the security exchange",
		}
	}
	if c.lostExchange {
		return denied("the security exchange has failed")
	}
	only := c.only()
	if !req.Auth.Present() {
		// The identity of the connection itself, even where it has security contexts. Only a context of the
		// connect level, which protects nothing, speaks for all requests, as long as it is alone.
		switch {
		case only != nil && !only.done:
			return unfinished()
		case only != nil && only.level == LevelInsecureConnect && !c.explicit:
			return only, only.peer, nil
		}
		return nil, c.anonymous, nil
	}
	sec := c.security[req.Auth.ContextID]
	switch {
	case sec == nil:
		return denied("unknown security context")
	case !sec.done:
		return unfinished()
	case req.Auth.Type != uint8(sec.typ) || req.Auth.Level != uint8(sec.level):
		return denied("auth type or level changed")
	}
	c.explicit = true
	return sec, sec.peer, nil
}

// tracedUnread traces a fragment that is refused before anybody has unsealed it.
func (c *serverConn) tracedUnread(a pdu.Auth, b []byte) {
	c.traced(b, a.Level == uint8(LevelPrivacy))
}

// unprotect checks or unseals a fragment, and traces it.
func (c *serverConn) unprotect(sec *serverSecurity, b []byte) *rejection {
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
		c.logger.Info("dcerpc: bad signature", "err", err)
		return &rejection{status: pdu.FaultSecPkgError, drop: true, why: err.Error()}
	}
	c.traced(b, false)
	return nil
}

// unprotectNext is unprotect for a later fragment, whose auth fields but the context's id are ignored.
func (c *serverConn) unprotectNext(cur *serverCall, req *pdu.Request, b []byte) *rejection {
	var refused *rejection
	switch {
	case cur.sec == nil && req.Auth.Present():
		refused = &rejection{status: pdu.FaultAccessDenied, drop: true, why: "auth trailer in the middle of a call without one"}
	case cur.sec != nil && cur.sec.protects() && !req.Auth.Present():
		refused = &rejection{status: pdu.FaultProtocolError, drop: true, why: "fragment without an auth trailer"}
	case req.Auth.Present() && req.Auth.ContextID != cur.sec.id && c.security[req.Auth.ContextID] != nil:
		refused = &rejection{status: pdu.FaultSecPkgError, drop: true, why: "fragment in another security context"}
	}
	if refused != nil {
		c.tracedUnread(req.Auth, b)
		return refused
	}
	return c.unprotect(cur.sec, b)
}

// hold counts n bytes more for a call, unless the server holds too many; the call then holds none.
func (c *serverConn) hold(call *serverCall, n int) bool {
	held := &c.server.stats.held
	call.held += int64(n)
	if held.Add(int64(n)) <= int64(c.limits.HeldBytes) {
		return true
	}
	held.Add(-call.held)
	call.held = 0
	return false
}

// fragment adds a fragment, in clear, to its call, and hands the call on when it is complete.
func (c *serverConn) fragment(call *serverCall, req *pdu.Request) bool {
	last := req.Flags.Has(pdu.LastFrag)
	hint := uint64(req.AllocHint) // means nothing in the last fragment
	call.fragments++
	tooLarge := call.size+len(req.Stub) > c.limits.RequestBytes || call.fragments > c.limits.Fragments
	if tooLarge || !last && hint+uint64(call.size) > uint64(c.limits.RequestBytes) {
		return c.reject(req, &rejection{status: pdu.FaultAccessDenied, drop: true, why: "request too large"})
	}
	call.size += len(req.Stub)
	if call.refused == nil && !c.hold(call, len(req.Stub)) {
		call.refused = tooBusy("too many bytes held")
		call.stub = nil
	}
	if call.refused == nil {
		call.stub = append(call.stub, req.Stub...)
	}
	if !last {
		return true
	}
	c.current = nil
	return c.dispatch(call)
}
