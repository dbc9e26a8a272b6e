package dcerpc

import (
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A refusedAlter is why an alter_context ends the connection.
type refusedAlter struct {
	status pdu.FaultStatus
	why    string
}

// receiveAlter answers an alter_context (C706 12.6.4.1, MS-RPCE 3.3.1.5.4 and 3.3.1.5.6). All of its faults end
// the connection.
func (c *serverConn) receiveAlter(b []byte) bool {
	alter, err := pdu.ParseAlterContext(b)
	h, _ := pdu.ParseHeader(b) // the Framer has read it
	if errors.Is(err, pdu.ErrBody) {
		return c.end(err.Error())
	}
	refuse := func(status pdu.FaultStatus, why string) bool {
		return c.fatal(&h, 0, status, pdu.DidNotExecute, why)
	}
	if err != nil {
		return refuse(pdu.FaultProtocolError, err.Error())
	}
	trailer := &alter.Auth
	if trailer.Present() && (misaligned(&h) || trailer.PadLength != 0) {
		return refuse(pdu.FaultProtocolError, "auth trailer not aligned, or padded")
	}
	sec := c.security[trailer.ContextID]
	if trailer.Present() && sec != nil && sec.done {
		return refuse(pdu.FaultAccessDenied, "security exchange was over")
	}
	if len(alter.Contexts) == 0 {
		return refuse(pdu.FaultProtocolError, "no presentation context")
	}
	for _, e := range alter.Contexts {
		if len(e.Transfer) == 0 {
			return refuse(pdu.FaultProtocolError, "no transfer syntax")
		}
	}
	results, problem := c.negotiate(alter.Contexts, true)
	switch problem {
	case contextConflict:
		return refuse(pdu.FaultProtocolError, "presentation context changes its interface or syntax")
	case tooManyContexts:
		return c.nak(&h, pdu.NakLocalLimitExceeded, "too many presentation contexts")
	}
	var token []byte
	if trailer.Present() {
		var refused *refusedAlter
		if sec, token, refused = c.alterSecurity(sec, trailer); refused != nil {
			return refuse(refused.status, refused.why)
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
	c.send(&pdu.AlterContextResp{
		Header: pdu.Header{
			Flags:  pdu.FirstFrag | pdu.LastFrag | h.Flags&(pdu.ConcMPX|pdu.SupportHeaderSign),
			CallID: h.CallID,
		},
		MaxXmit:    size,
		MaxRecv:    size,
		AssocGroup: c.group.id,
		Results:    results,
		Auth:       answerTrailer(sec, token),
	})
	c.settleIfDone()
	return true
}

// alterSecurity takes the next token of the exchange of sec, or with a nil one begins another.
func (c *serverConn) alterSecurity(sec *serverSecurity, trailer *pdu.Auth) (*serverSecurity, []byte, *refusedAlter) {
	if sec == nil {
		var refused *refusedAlter
		if sec, refused = c.furtherSecurity(trailer); refused != nil {
			return nil, nil, refused
		}
	}
	switch {
	case c.lostExchange:
		return nil, nil, &refusedAlter{pdu.FaultAccessDenied, "the security exchange has failed"}
	case trailer.Type == 0:
		return nil, nil, &refusedAlter{pdu.FaultAccessDenied, "auth type 0"}
	case trailer.Type != uint8(sec.typ):
		return nil, nil, &refusedAlter{pdu.FaultSecPkgError, "auth type changed"}
	case trailer.Level != uint8(sec.level):
		return nil, nil, &refusedAlter{pdu.FaultAccessDenied, "auth level changed"}
	}
	token, err := c.step(sec, trailer.Token)
	if err != nil {
		c.logger.Info("dcerpc: authentication failed", "err", err)
		return nil, nil, &refusedAlter{pdu.FaultAccessDenied, err.Error()}
	}
	return sec, token, nil
}

// furtherSecurity opens a security context beside those that the connection has.
func (c *serverConn) furtherSecurity(trailer *pdu.Auth) (*serverSecurity, *refusedAlter) {
	denied := func(why string) (*serverSecurity, *refusedAlter) {
		return nil, &refusedAlter{pdu.FaultAccessDenied, why}
	}
	multiplexing := c.features&pdu.SecurityContextMultiplexing != 0
	switch level := AuthLevel(trailer.Level); {
	case c.unfinished() != nil && !multiplexing:
		if trailer.Type != 0 && trailer.Type != uint8(c.unfinished().typ) {
			return nil, &refusedAlter{pdu.FaultSecPkgError, "auth type changed"}
		}
		return denied("auth context changed in the middle of an exchange")
	case len(c.security) >= c.limits.SecurityContexts:
		return nil, &refusedAlter{pdu.FaultProtocolError, "too many security contexts"}
	case level <= LevelInsecureNone || level == levelCall || level > LevelPrivacy:
		return denied("no such auth level")
	}
	acceptor := c.server.acceptor(AuthType(trailer.Type))
	if acceptor == nil {
		return denied(fmt.Sprintf("no auth type %d", trailer.Type))
	}
	sec, err := c.open(acceptor, trailer)
	if err != nil {
		return denied(err.Error())
	}
	c.security[sec.id] = sec
	return sec, nil
}

// receiveAuth3 takes the last token of an exchange, which nothing answers (MS-RPCE 3.3.1.5.4). Where the mechanism refuses
// it, the next request learns that.
func (c *serverConn) receiveAuth3(h *pdu.Header, b []byte) bool {
	if int(h.FragLength) > c.session.MaxFragment {
		return c.fatal(h, 0, pdu.FaultProtocolError, 0, "auth3 larger than a fragment")
	}
	p, err := pdu.ParseAuth3(b)
	trailer := &p.Auth
	sec := c.security[trailer.ContextID]
	switch {
	case errors.Is(err, pdu.ErrBody):
		return c.end(err.Error())
	case len(c.security) == 0:
		return c.fatal(h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, "auth3 without an exchange")
	case err != nil || !trailer.Present():
		return c.fatal(h, 0, pdu.FaultRemoteNoMemory, 0, "auth3 without a token")
	case misaligned(h):
		return c.fatal(h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, "auth trailer not aligned")
	case trailer.PadLength != 0:
		return c.fatal(h, 0, pdu.FaultRemoteNoMemory, 0, "auth padding in an auth3")
	case len(trailer.Token) > largestAuth3Token:
		return c.fatal(h, 0, pdu.FaultProtocolError, 0, "auth3 token too long")
	case sec == nil:
		return c.fatal(h, 0, pdu.FaultProtocolError, 0, "auth3 for an unknown security context")
	case sec.done || c.lostExchange:
		return c.fatal(h, 0, pdu.FaultProtocolError, pdu.DidNotExecute, "security exchange was over")
	case trailer.Type != uint8(sec.typ) || trailer.Level != uint8(sec.level):
		return c.fatal(h, 0, pdu.FaultRemoteNoMemory, 0, "auth type or level changed")
	}
	if _, err := c.step(sec, trailer.Token); err != nil || !sec.done {
		c.logger.Info("dcerpc: authentication failed", "err", err)
		c.lostExchange = true
		return true
	}
	c.settleIfDone()
	return true
}
