package dcerpc

import (
	"errors"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// supportedFeatures are granted in bind-time feature negotiation (MS-RPCE 3.3.1.5.3).
const supportedFeatures = pdu.SecurityContextMultiplexing | pdu.KeepConnectionOnOrphan

// receiveBind answers a bind with a bind_ack or bind_nak (C706 12.6.4.3 to 12.6.4.5).
func (c *serverConn) receiveBind(b []byte) bool {
	bind, err := pdu.ParseBind(b)
	h, _ := pdu.ParseHeader(b) // the Framer has read it
	switch {
	case errors.Is(err, pdu.ErrBody):
		return c.end(err.Error())
	case err != nil:
		return c.nak(&h, pdu.NakReasonNotSpecified, err.Error())
	case c.bound:
		return c.nak(&h, pdu.NakReasonNotSpecified, "second bind")
	case c.session.Refuse != nil:
		c.logger.Info("dcerpc: bind refused", "reason", c.session.Refuse)
		return c.nak(&h, pdu.NakReasonNotSpecified, "refused by the transport")
	}
	if reason, why := checkBind(&bind); why != "" {
		return c.nak(&h, reason, why)
	}
	results, problem := c.negotiate(bind.Contexts, false)
	if problem == tooManyContexts {
		return c.nak(&h, pdu.NakLocalLimitExceeded, "too many presentation contexts")
	}
	sec, token, reason, why := c.bindSecurity(&bind.Auth)
	if why != "" {
		return c.nak(&h, reason, why)
	}
	c.group = c.server.groups.join(bind.AssocGroup, c.network+" "+c.session.Endpoint, c.host)
	if c.group == nil {
		return c.nak(&h, pdu.NakReasonNotSpecified, "unknown association group")
	}

	c.bound = true
	c.mpx = h.Flags.Has(pdu.ConcMPX)
	c.signing = h.Flags.Has(pdu.SupportHeaderSign)
	c.sending.acquire()
	c.out.maxXmit = c.fragmentSize(&bind)
	c.out.signHeader = c.signing
	c.sending.release()
	if sec != nil {
		c.security[sec.id] = sec
	}
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
	c.settleIfDone()
	return true
}

// fragmentSize is what a bind_ack says in both directions: what both of the client's numbers allow, but within what
// Windows uses at least and the transport carries at most, as a multiple of 8.
func (c *serverConn) fragmentSize(bind *pdu.Bind) int {
	size := max(int(min(bind.MaxXmit, bind.MaxRecv)), leastNegotiated)
	return min(size, c.session.MaxFragment, pdu.MaxFragment) &^ 7
}

// checkBind checks the form of a bind. why is empty where there is nothing wrong.
func checkBind(bind *pdu.Bind) (reason pdu.NakReason, why string) {
	if bind.Auth.Present() {
		if misaligned(&bind.Header) {
			return pdu.NakReasonNotSpecified, "auth trailer not aligned"
		}
		// Whatever lies before the trailer is ignored: Windows reuses the buffers of its binds.
		if bind.Auth.PadLength != 0 {
			return pdu.NakProtocolVersionNotSupported, "auth padding in a bind"
		}
	}
	if len(bind.Contexts) == 0 {
		return pdu.NakProtocolVersionNotSupported, "no presentation context"
	}
	features := 0
	for _, e := range bind.Contexts {
		if len(e.Transfer) == 0 {
			return pdu.NakReasonNotSpecified, "no transfer syntax"
		}
		if _, ok := e.Transfer[0].Features(); ok {
			features++
		}
	}
	if features > 1 {
		return pdu.NakReasonNotSpecified, "two feature negotiations"
	}
	return 0, ""
}

// misaligned tells whether the auth trailer of a PDU is not where it may be, at a multiple of 4.
func misaligned(h *pdu.Header) bool {
	off, ok := h.AuthOffset()
	return ok && off%4 != 0
}

// bindSecurity starts the security context of a bind. why is empty where there is nothing wrong.
func (c *serverConn) bindSecurity(trailer *pdu.Auth) (sec *serverSecurity, token []byte, reason pdu.NakReason, why string) {
	if !trailer.Present() {
		return nil, nil, 0, ""
	}
	switch level := AuthLevel(trailer.Level); {
	case level <= LevelInsecureNone || level > LevelPrivacy:
		return nil, nil, pdu.NakReasonNotSpecified, "no such auth level"
	case level == levelCall:
		return nil, nil, pdu.NakInvalidChecksum, "auth level call"
	}
	acceptor := c.server.acceptor(AuthType(trailer.Type))
	if acceptor == nil {
		return nil, nil, pdu.NakAuthTypeNotRecognized, "no such auth type"
	}
	sec, err := c.open(acceptor, trailer)
	if err == nil {
		token, err = c.step(sec, trailer.Token)
	}
	if err != nil {
		c.logger.Info("dcerpc: authentication failed", "err", err)
		return nil, nil, pdu.NakInvalidChecksum, err.Error()
	}
	return sec, token, 0, ""
}

// levelCall protects the beginning of each call, of connectionless RPC alone. Windows takes it for none that it knows.
const levelCall AuthLevel = 3

// settleIfDone ends the time that a peer has for its bind.
func (c *serverConn) settleIfDone() {
	if c.unfinished() == nil {
		c.settle()
	}
}

// A contextProblem is why an offer of presentation contexts cannot be answered context by context.
type contextProblem int

const (
	contextsFine contextProblem = iota
	contextConflict
	tooManyContexts
)

// negotiate answers each of the contexts that a bind or alter_context offers, and keeps the one that it
// accepts: at most one, with NDR64 before NDR 2.0 wherever in the list it stands (MS-RPCE 3.3.1.5.6, Windows).
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
				c.presentation[e.ID] = &presentation{iface: ifaces[i], syntax: syntax}
			}
			results[i] = pdu.ContextResult{Result: pdu.Acceptance, Transfer: syntax}
			return results, contextsFine
		}
	}
	return results, contextsFine
}
