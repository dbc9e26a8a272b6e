package dcerpc

import (
	"errors"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// supportedFeatures are granted in bind-time feature negotiation (MS-RPCE 3.3.1.5.3).
const supportedFeatures = pdu.SecurityContextMultiplexing | pdu.KeepConnectionOnOrphan

// receiveBind answers a bind with a bind_ack (C706 12.6.4.3 to 12.6.4.5).
func (c *serverConn) receiveBind(h *pdu.Header, b []byte) *refusal {
	bind, err := pdu.ParseBind(b)
	switch {
	case errors.Is(err, pdu.ErrBody):
		return silence(err)
	case err != nil:
		return nak(pdu.NakProtocolVersionNotSupported, err)
	case c.bound:
		return nak(pdu.NakReasonNotSpecified, reason("second bind"))
	case c.session.Refuse != nil:
		return nak(pdu.NakReasonNotSpecified, c.session.Refuse).noted(RefusedSession)
	}
	if r := checkBind(&bind); r != nil {
		return r
	}
	results, problem := c.negotiate(bind.Contexts, false)
	if problem == tooManyContexts {
		return nak(pdu.NakLocalLimitExceeded, problem)
	}
	sec, token, r := c.bindSecurity(&bind.Auth)
	if r != nil {
		return r
	}
	c.group = c.server.groups.join(bind.AssocGroup, c.network+" "+c.session.Endpoint, c.host)
	if c.group == nil {
		if sec != nil {
			release(sec.Context)
		}
		return nak(pdu.NakReasonNotSpecified, reason("unknown association group"))
	}

	c.bound = true
	c.mpx = h.Flags.Has(pdu.ConcMPX)
	c.signing = h.Flags.Has(pdu.SupportHeaderSign)
	c.sending.acquire()
	c.out.maxXmit = c.fragmentSize(&bind)
	c.out.signHeader = c.signing
	c.sending.release()
	if sec != nil {
		c.keep(sec)
	}
	c.exchanging(c.unfinished() > 0)
	c.send(&pdu.BindAck{
		Header: pdu.Header{
			Flags:  pdu.FirstFrag | pdu.LastFrag | h.Flags&(pdu.ConcMPX|pdu.SupportHeaderSign),
			CallID: h.CallID,
		},
		MaxXmit:          uint16(c.out.maxXmit),
		MaxRecv:          uint16(c.out.maxXmit),
		AssocGroup:       c.group.id,
		SecondaryAddress: c.session.Endpoint + "\x00",
		Results:          results,
		Auth:             answerTrailer(sec, token),
	})
	return nil
}

// fragmentSize returns the size that a bind_ack names for both directions: the smaller of the
// client's two numbers, but at least Windows' minimum and at most the transport's maximum, rounded
// to a multiple of 8.
func (c *serverConn) fragmentSize(bind *pdu.Bind) int {
	size := max(int(min(bind.MaxXmit, bind.MaxRecv)), leastNegotiated)
	return min(size, c.session.MaxFragment, pdu.MaxFragment) &^ 7
}

// checkBind checks the form of a bind.
func checkBind(bind *pdu.Bind) *refusal {
	if bind.Auth.Present() {
		if misaligned(&bind.Header) {
			return nak(pdu.NakReasonNotSpecified, reason("auth trailer not aligned"))
		}
		// Whatever lies before the trailer is ignored: Windows reuses buffers for its binds without
		// clearing them.
		if bind.Auth.PadLength != 0 {
			return nak(pdu.NakProtocolVersionNotSupported, reason("auth padding in a bind"))
		}
	}
	if len(bind.Contexts) == 0 {
		return nak(pdu.NakProtocolVersionNotSupported, reason("no presentation context"))
	}
	features := 0
	for _, e := range bind.Contexts {
		if len(e.Transfer) == 0 {
			return nak(pdu.NakReasonNotSpecified, reason("no transfer syntax"))
		}
		if _, ok := e.Transfer[0].Features(); ok {
			features++
		}
	}
	if features > 1 {
		return nak(pdu.NakReasonNotSpecified, reason("two feature negotiations"))
	}
	return nil
}

// misaligned reports whether the auth trailer of a PDU does not begin at a multiple of 4.
func misaligned(h *pdu.Header) bool {
	off, ok := h.AuthOffset()
	return ok && off%4 != 0
}

// bindSecurity starts the security context of a bind.
func (c *serverConn) bindSecurity(trailer *pdu.Auth) (*serverSecurity, []byte, *refusal) {
	if !trailer.Present() {
		return nil, nil, nil
	}
	level := AuthLevel(trailer.Level)
	if level <= LevelInsecureNone || level > LevelPrivacy {
		return nil, nil, nak(pdu.NakReasonNotSpecified, reason("no such auth level"))
	}
	acceptor := c.server.acceptor(AuthType(trailer.Type))
	switch {
	case acceptor == nil:
		return nil, nil, nak(pdu.NakAuthTypeNotRecognized, reason("no such auth type"))
	case level == LevelInsecureCall: // Windows does not know this level
		return nil, nil, nak(pdu.NakInvalidChecksum, reason("auth level call"))
	}
	sec, err := c.open(acceptor, trailer)
	if err != nil {
		return nil, nil, nak(pdu.NakInvalidChecksum, err).unauthenticated(AuthType(trailer.Type)).explained()
	}
	token, err := c.step(sec, trailer.Token)
	if err != nil {
		release(sec.Context)
		return nil, nil, nak(pdu.NakInvalidChecksum, err).unauthenticated(AuthType(trailer.Type)).explained()
	}
	return sec, token, nil
}

// A contextProblem is an error that says why the offered presentation contexts cannot be answered
// one by one.
type contextProblem int

const (
	contextsFine contextProblem = iota
	contextConflict
	tooManyContexts
)

func (p contextProblem) Error() string {
	if p == tooManyContexts {
		return "too many presentation contexts"
	}
	return "presentation context changes its interface or syntax"
}

// negotiate answers each of the contexts that a bind or alter_context offers. It accepts and keeps
// at most one, and prefers NDR64 to NDR 2.0 whatever their order (MS-RPCE 3.3.1.5.6, Windows).
func (c *serverConn) negotiate(offered []pdu.ContextElement, alter bool) ([]pdu.ContextResult, contextProblem) {
	results := make([]pdu.ContextResult, len(offered))
	ifaces := make([]*serverInterface, len(offered)) // nil: not to be accepted
	for i, e := range offered {
		results[i] = pdu.ContextResult{Result: pdu.ProviderRejection, Reason: pdu.ProposedTransferSyntaxesUnsupported}
		if have := c.presentation[e.ID]; alter && have != nil && have.iface.id != e.Abstract {
			return nil, contextConflict
		}
		if f, ok := e.Transfer[0].Features(); ok && !alter {
			c.features = f & supportedFeatures
			results[i] = pdu.ContextResult{Result: pdu.NegotiateAck, Reason: pdu.Reason(c.features)}
			continue
		}
		if ifaces[i] = c.server.lookup(e.Abstract); ifaces[i] == nil {
			results[i].Reason = pdu.AbstractSyntaxNotSupported
		}
	}
	for _, syntax := range []SyntaxID{pdu.NDR64(), pdu.NDR20()} {
		for i, e := range offered {
			if ifaces[i] == nil || !slices.Contains(e.Transfer, syntax) {
				continue
			}
			have := c.presentation[e.ID]
			switch {
			case have != nil && have.syntax != syntax:
				return nil, contextConflict
			case have == nil && len(c.presentation) >= c.limits.PresentationContexts:
				return nil, tooManyContexts
			case have == nil:
				if c.presentation == nil {
					c.presentation = make(map[uint16]*presentation)
				}
				c.presentation[e.ID] = &presentation{iface: ifaces[i], syntax: syntax}
			}
			results[i] = pdu.ContextResult{Result: pdu.Acceptance, Transfer: syntax}
			return results, contextsFine
		}
	}
	return results, contextsFine
}
