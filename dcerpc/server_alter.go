package dcerpc

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// receiveAlter answers an alter_context (C706 12.6.4.1, MS-RPCE 3.3.1.5.4 and 3.3.1.5.6). All of
// its faults name context 0, say that nothing was executed, and end the connection. The order of
// the checks is that of Windows 2022.
func (c *serverConn) receiveAlter(h *pdu.Header, b []byte) *refusal {
	r := c.answerAlter(h, b)
	if r != nil && r.answer == pdu.TypeFault {
		r.notExecuted()
	}
	return r
}

func (c *serverConn) answerAlter(h *pdu.Header, b []byte) *refusal {
	alter, err := pdu.ParseAlterContext(b)
	if errors.Is(err, pdu.ErrBody) {
		return silence(err)
	}
	if err != nil {
		return fatal(pdu.FaultProtocolError, err)
	}
	trailer := &alter.Auth
	secured := trailer.Present()
	sec := c.security[trailer.ContextID]
	if secured {
		switch {
		case sec != nil && sec.done:
			return fatal(pdu.FaultAccessDenied, reason("security exchange was over"))
		case misaligned(h) || trailer.PadLength != 0:
			return fatal(pdu.FaultProtocolError, reason("auth trailer not aligned, or padded"))
		case trailer.Type == 0:
			return fatal(pdu.FaultAccessDenied, reason("auth type 0"))
		}
	}
	if len(alter.Contexts) == 0 {
		return fatal(pdu.FaultProtocolError, reason("no presentation context"))
	}
	for _, e := range alter.Contexts {
		if len(e.Transfer) == 0 {
			return fatal(pdu.FaultProtocolError, reason("no transfer syntax"))
		}
	}
	results, problem := c.negotiate(alter.Contexts, true)
	switch problem {
	case contextConflict:
		return fatal(pdu.FaultProtocolError, problem)
	case tooManyContexts:
		return nak(pdu.NakLocalLimitExceeded, problem)
	}
	var token []byte
	if secured {
		var r *refusal
		if sec, token, r = c.alterSecurity(sec, trailer); r != nil {
			return r
		}
	} else {
		sec = nil
	}
	c.sending.acquire()
	if h.Flags.Has(pdu.SupportHeaderSign) {
		c.signing, c.out.signHeader = true, true
	}
	size := uint16(c.out.maxXmit)
	c.sending.release()
	flags := pdu.FirstFrag | pdu.LastFrag | h.Flags&pdu.SupportHeaderSign
	if c.mpx {
		flags |= h.Flags & pdu.ConcMPX
	}
	c.exchanging(c.unfinished() > 0)
	c.send(&pdu.AlterContextResp{
		Header:     pdu.Header{Flags: flags, CallID: h.CallID},
		MaxXmit:    size,
		MaxRecv:    size,
		AssocGroup: c.group.id,
		Results:    results,
		Auth:       answerTrailer(sec, token),
	})
	return nil
}

// alterSecurity takes the next token of sec's exchange; if sec is nil it begins a new exchange.
func (c *serverConn) alterSecurity(sec *serverSecurity, trailer *pdu.Auth) (*serverSecurity, []byte, *refusal) {
	if sec == nil {
		var r *refusal
		if sec, r = c.furtherSecurity(trailer); r != nil {
			return nil, nil, r
		}
	}
	switch {
	case c.lostExchange:
		return nil, nil, fatal(pdu.FaultAccessDenied, reason("the security exchange has failed"))
	case trailer.Type != uint8(sec.typ):
		return nil, nil, fatal(pdu.FaultSecPkgError, reason("auth type changed"))
	case trailer.Level != uint8(sec.level):
		return nil, nil, fatal(pdu.FaultAccessDenied, reason("auth level changed"))
	}
	token, err := c.step(sec, trailer.Token)
	switch {
	case err != nil:
		return nil, nil, fatal(pdu.FaultAccessDenied, err).unauthenticated(sec.typ)
	case sec.lacking && sec.level == LevelPrivacy:
		return nil, nil, fatal(pdu.FaultSecPkgError, errLacking).noted(RefusedProtection)
	}
	return sec, token, nil
}

// furtherSecurity opens another security context on the connection.
func (c *serverConn) furtherSecurity(trailer *pdu.Auth) (*serverSecurity, *refusal) {
	denied := func(why error) (*serverSecurity, *refusal) { return nil, fatal(pdu.FaultAccessDenied, why) }
	multiplexing := c.features&pdu.SecurityContextMultiplexing != 0
	switch level, open := AuthLevel(trailer.Level), c.unfinished(); {
	case open > 0 && !multiplexing:
		for _, sec := range c.security {
			if !sec.done && trailer.Type != uint8(sec.typ) {
				return nil, fatal(pdu.FaultSecPkgError, reason("auth type changed"))
			}
		}
		return denied(reason("auth context changed in the middle of an exchange"))
	case len(c.security) >= c.limits.SecurityContexts || open >= unfinishedContexts:
		return nil, fatal(pdu.FaultProtocolError, reason("too many security contexts"))
	case level <= LevelInsecureNone || level == LevelInsecureCall || level > LevelPrivacy:
		return denied(reason("no such auth level"))
	}
	acceptor := c.server.acceptor(AuthType(trailer.Type))
	if acceptor == nil {
		return denied(fmt.Errorf("no auth type %d", trailer.Type))
	}
	sec, err := c.open(acceptor, trailer)
	if err != nil {
		return denied(err)
	}
	c.keep(sec)
	return sec, nil
}

// receiveAuth3 takes the last token of an exchange, which has no answer (MS-RPCE 3.3.1.5.4). If the
// mechanism refuses it, or has an answer to it, the next request is refused. All of its faults name
// context 0, say that nothing was executed, and end the connection, as on Windows 2022.
func (c *serverConn) receiveAuth3(h *pdu.Header, b []byte) *refusal {
	r := c.takeAuth3(h, b)
	if r != nil && r.answer == pdu.TypeFault {
		r.notExecuted()
	}
	return r
}

func (c *serverConn) takeAuth3(h *pdu.Header, b []byte) *refusal {
	if int(h.FragLength) > c.session.MaxFragment {
		return fatal(pdu.FaultProtocolError, reason("auth3 larger than a fragment"))
	}
	p, err := pdu.ParseAuth3(b)
	trailer := &p.Auth
	sec := c.security[trailer.ContextID]
	switch {
	case errors.Is(err, pdu.ErrBody):
		return silence(err)
	case len(c.security) == 0:
		return fatal(pdu.FaultProtocolError, reason("auth3 without an exchange"))
	case err != nil || !trailer.Present():
		return fatal(pdu.FaultRemoteNoMemory, reason("auth3 without a token"))
	case misaligned(h):
		return fatal(pdu.FaultProtocolError, reason("auth trailer not aligned"))
	case trailer.PadLength != 0:
		return fatal(pdu.FaultRemoteNoMemory, reason("auth padding in an auth3"))
	case len(trailer.Token) > largestAuth3Token:
		return fatal(pdu.FaultProtocolError, reason("auth3 token too long"))
	case sec == nil:
		return fatal(pdu.FaultProtocolError, reason("auth3 for an unknown security context"))
	case sec.done || c.lostExchange:
		return fatal(pdu.FaultProtocolError, reason("security exchange was over"))
	case trailer.Type != uint8(sec.typ) || trailer.Level != uint8(sec.level):
		return fatal(pdu.FaultRemoteNoMemory, reason("auth type or level changed"))
	}
	token, err := c.step(sec, trailer.Token)
	switch {
	case err != nil:
	case !sec.done:
		err = reason("the security exchange was not over with an auth3")
	case len(token) > 0:
		err = reason("an auth3 cannot be answered, and the mechanism has an answer")
	default:
		c.exchanging(c.unfinished() > 0)
		return nil
	}
	c.server.refusals.Note(c.logger(), c.block, err)
	c.server.observeRefusal(Refusal{Reason: RefusedAuthentication, Mechanism: sec.typ, Peer: c.conn.RemoteAddr(), Err: err})
	c.lostExchange = true
	return nil
}
