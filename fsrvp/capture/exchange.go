package capture

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A pending call is one whose request has begun and whose answer has not ended.
type pending struct {
	call     *Call
	context  presentation
	request  pdu.Reassembler
	response pdu.Reassembler
	complete bool // the request is
	held     int  // bytes of the association's account
}

// request takes one fragment of a request; b is the whole PDU.
func (a *association) request(p *pdu.Request, b []byte, at moment) {
	c := a.begin(p, at)
	if c == nil {
		return
	}
	stub, err := a.plain(true, &p.Auth, p.Stub, b)
	a.mark(c)
	p.Stub = stub
	a.requestFragment(c, p, err)
}

// begin returns the call that a fragment of a request belongs to, or nil where it is not one of the
// interface.
func (a *association) begin(p *pdu.Request, at moment) *pending {
	context, ok := a.presentation(p)
	if !ok || !context.fsrvp {
		return nil
	}
	a.found()
	c := a.calls[p.CallID]
	if c != nil && (p.Flags.Has(pdu.FirstFrag) || c.complete) {
		a.giveUp(c) // the client uses the id again
		c = nil
	}
	if c == nil {
		if len(a.calls) >= maxPending {
			a.problem(ErrLimit, "unanswered calls of an association")
			a.giveUp(a.oldest())
		}
		if !a.afford(callCost) {
			return nil
		}
		c = a.newPending(p, context)
		c.held = callCost
		a.calls[p.CallID] = c
	}
	c.call.Time, c.call.Packet = at.time, at.packet
	a.mark(c)
	return c
}

func (a *association) newPending(p *pdu.Request, context presentation) *pending {
	call := &Call{
		Client:      a.stream.ends[a.stream.client],
		Server:      a.stream.ends[1-a.stream.client],
		OnPipe:      a.session != nil,
		Pipe:        a.pipe,
		Association: a.number,
		CallID:      p.CallID,
		ContextID:   p.ContextID,
		Assumed:     context.assumed,
		Opnum:       fsrvp.Opnum(p.Opnum),
	}
	call.Syntax, _ = context.transfer.NDR(p.DataRep)
	call.ResponseSyntax, _ = context.transfer.NDR(pdu.LittleEndian)
	a.identify(&call.Peer, &p.Auth)
	call.Peer.Addr = net.TCPAddrFromAddrPort(call.Client)
	if !p.Flags.Has(pdu.FirstFrag) {
		call.RequestErr = wrap(ErrLost, errors.New("its first fragment"))
	}
	return &pending{
		call:     call,
		context:  context,
		request:  pdu.Reassembler{MaxStub: a.d.cfg.MaxStub},
		response: pdu.Reassembler{MaxStub: a.d.cfg.MaxStub},
	}
}

// identify says who made a call: the peer of its security context, or else that of the session
// under the pipe.
func (a *association) identify(p *dcerpc.Peer, auth *pdu.Auth) {
	p.AuthType, p.Level = dcerpc.AuthNone, dcerpc.LevelInsecureNone
	var c *handshake
	if auth.Present() {
		p.AuthType, p.Level = dcerpc.AuthType(auth.Type), dcerpc.AuthLevel(auth.Level)
		c = a.security[auth.ContextID]
	}
	if a.session != nil {
		p.SessionIdentity = a.session.handshake.identity
		p.Session = p.SessionIdentity.Mechanism != ""
		p.SessionEncrypted = a.session.encrypted
	}
	p.Identity = p.SessionIdentity
	if c != nil && c.identity.Account != "" {
		p.Identity = c.identity
	}
}

// plain returns the stub of a fragment in clear. A sealed one is decrypted in place.
func (a *association) plain(fromClient bool, auth *pdu.Auth, stub, b []byte) ([]byte, error) {
	c := a.security[auth.ContextID]
	sealed := false
	switch dcerpc.AuthLevel(auth.Level) {
	case dcerpc.LevelPrivacy:
		sealed = true
		if c == nil {
			return nil, wrap(ErrSealed, errors.New("the capture lacks its bind"))
		}
	case dcerpc.LevelPacket, dcerpc.LevelIntegrity:
		if c == nil || !c.ready() {
			return stub, nil
		}
	default:
		return stub, nil
	}
	parts, err := pdu.Split(b)
	if err != nil {
		return nil, wrap(ErrProtocol, err)
	}
	m := dcerpc.Message{Header: parts.Header, Body: parts.Body, Trailer: parts.Trailer, SignHeader: a.headerSigning}
	if sealed {
		return stub, c.unseal(fromClient, m, parts.Token)
	}
	if err := c.verify(fromClient, m, parts.Token); err != nil {
		a.tampered("RPC", err)
	}
	return stub, nil
}

// tampered counts a message of a protocol whose signature does not verify.
func (a *association) tampered(protocol string, err error) {
	a.tamperedPDU = true
	a.problem(ErrTampered, protocol+": "+cause(err))
}

// mark notes in a call that what has just come of it was tampered with, by SMB's signature or by
// RPC's.
func (a *association) mark(c *pending) {
	c.call.Tampered = c.call.Tampered || a.tamperedPDU
}

// requestFragment adds a fragment to a call. With an error its stub cannot be read.
func (a *association) requestFragment(c *pending, p *pdu.Request, err error) {
	last := p.Flags.Has(pdu.LastFrag)
	if c.call.RequestErr == nil {
		c.call.RequestErr = err
	}
	if c.call.RequestErr != nil {
		if last {
			a.requestComplete(c, nil)
		}
		return
	}
	f := p.Fragment()
	f.AllocHint = 0 // says nothing about what comes
	stub, done, err := a.reassemble(c, &c.request, f)
	switch {
	case err != nil:
		c.call.RequestErr = err
		if last {
			a.requestComplete(c, nil)
		}
	case done:
		a.requestComplete(c, stub)
	}
}

// reassemble adds a fragment to a stub.
func (a *association) reassemble(c *pending, r *pdu.Reassembler, f pdu.Fragment) ([]byte, bool, error) {
	if !a.buffers.take(len(f.Stub)) {
		return nil, false, wrap(ErrLimit, errors.New("MaxBuffered"))
	}
	c.held += len(f.Stub)
	stub, done, err := r.Add(f)
	switch {
	case errors.Is(err, pdu.ErrTooLarge):
		err = wrap(ErrLimit, err)
	case err != nil:
		err = wrap(ErrLost, err)
	}
	return stub, done, err
}

// requestComplete decodes the request, unless it already has an error.
func (a *association) requestComplete(c *pending, stub []byte) {
	c.complete = true
	c.request.Reset(nil)
	call := c.call
	if call.RequestErr != nil {
		return
	}
	stub, _, _ = pdu.CutVerificationTrailer(stub)
	call.RequestStub = clone(stub)
	var err error
	call.Request, err = fsrvp.ParseRequest(call.Opnum, call.Syntax, call.RequestStub)
	if err != nil && c.context.assumed && call.Syntax == ndr.NDR20 {
		if m, e := fsrvp.ParseRequest(call.Opnum, ndr.NDR64, call.RequestStub); e == nil {
			call.Request, err = m, nil
			call.Syntax, call.ResponseSyntax = ndr.NDR64, ndr.NDR64
			c.context.transfer = pdu.NDR64()
		}
	}
	if err != nil {
		call.Request, call.RequestErr = nil, wrap(ErrStub, err)
	}
}

// clone copies a stub, and never returns nil.
func clone(stub []byte) []byte { return append(make([]byte, 0, len(stub)), stub...) }

// answer finds the call that a response or fault on a context belongs to; nil where the capture
// lacks it, or it is one of another interface.
func (a *association) answer(h *pdu.Header, contextID uint16, at moment) *pending {
	c := a.calls[h.CallID]
	if c == nil {
		if p, known := a.contexts[contextID]; a.number != 0 && (p.fsrvp || !known) {
			a.problem(ErrOrphan, h.Type.String())
		}
		return nil
	}
	if !c.complete {
		c.complete = true
		if c.call.RequestErr == nil {
			c.call.RequestErr = wrap(ErrLost, errors.New("its last fragment"))
		}
	}
	c.call.ResponseTime, c.call.ResponsePacket = at.time, at.packet
	a.mark(c)
	return c
}

// response takes one fragment of a response; b is the whole PDU.
func (a *association) response(p *pdu.Response, b []byte, at moment) {
	c := a.answer(&p.Header, p.ContextID, at)
	if c == nil {
		return
	}
	stub, err := a.plain(false, &p.Auth, p.Stub, b)
	a.mark(c)
	p.Stub = stub
	a.responseFragment(c, p, err)
}

func (a *association) responseFragment(c *pending, p *pdu.Response, err error) {
	call := c.call
	last := p.Flags.Has(pdu.LastFrag)
	if call.ResponseErr == nil {
		call.ResponseErr = err
	}
	var stub []byte
	done := false
	if call.ResponseErr == nil {
		f := p.Fragment()
		f.AllocHint = 0
		stub, done, call.ResponseErr = a.reassemble(c, &c.response, f)
	}
	switch {
	case done:
		call.ResponseSyntax, _ = c.context.transfer.NDR(p.DataRep)
		call.ResponseStub = clone(stub)
		var err error
		if call.Response, err = fsrvp.ParseResponse(call.Opnum, call.ResponseSyntax, call.ResponseStub); err != nil {
			call.Response, call.ResponseErr = nil, wrap(ErrStub, err)
		}
		a.finish(c)
	case last:
		a.finish(c)
	}
}

// fault takes a fault.
func (a *association) fault(p *pdu.Fault, at moment) {
	c := a.answer(&p.Header, p.ContextID, at)
	if c == nil {
		return
	}
	c.call.ResponseErr = nil
	c.call.Fault = &dcerpc.Fault{Status: p.Status, DidNotExecute: p.Flags.Has(pdu.DidNotExecute)}
	a.finish(c)
}

// damaged takes a PDU of which bytes are missing. What its fixed part says is still good.
func (a *association) damaged(h *pdu.Header, b []byte, good int, why Reason, at moment) {
	const fixed = 24
	if good < fixed || h.Type != pdu.TypeRequest && h.Type != pdu.TypeResponse {
		if a.number != 0 {
			a.problem(why, "part of a "+h.Type.String())
		}
		return
	}
	err := wrap(why, errors.New("part of a PDU"))
	order := binary.ByteOrder(binary.LittleEndian)
	if h.DataRep.IsBigEndian() {
		order = binary.BigEndian
	}
	contextID := order.Uint16(b[20:])
	if h.Type == pdu.TypeResponse {
		if c := a.answer(h, contextID, at); c != nil {
			a.responseFragment(c, &pdu.Response{Header: *h}, err)
		}
		return
	}
	p := &pdu.Request{Header: *h, ContextID: contextID, Opnum: order.Uint16(b[22:])}
	if c := a.begin(p, at); c != nil {
		a.requestFragment(c, p, err)
	}
}

// finish yields a call.
func (a *association) finish(c *pending) {
	delete(a.calls, c.call.CallID)
	a.buffers.give(c.held)
	a.d.ready = append(a.d.ready, c.call)
}

// giveUp yields a call that was not answered.
func (a *association) giveUp(c *pending) {
	if !c.complete && c.call.RequestErr == nil {
		c.call.RequestErr = wrap(ErrLost, errors.New("its last fragment"))
	}
	switch {
	case c.call.ResponseErr != nil:
	case c.call.Answered():
		c.call.ResponseErr = wrap(ErrLost, errors.New("its last fragment"))
	case a.lost > c.call.Packet:
		c.call.ResponseErr = wrap(ErrLost, errors.New("no answer was seen, and some bytes were not"))
	default:
		c.call.ResponseErr = ErrUnanswered
	}
	a.finish(c)
}

// oldest returns the call that has waited longest.
func (a *association) oldest() *pending {
	return slices.MinFunc(slices.Collect(maps.Values(a.calls)), byPacket)
}

// unanswered gives all calls up.
func (a *association) unanswered() {
	for _, c := range slices.SortedFunc(maps.Values(a.calls), byPacket) {
		a.giveUp(c)
	}
}

func byPacket(a, b *pending) int {
	return cmp.Or(cmp.Compare(a.call.Packet, b.call.Packet), cmp.Compare(a.call.CallID, b.call.CallID))
}
