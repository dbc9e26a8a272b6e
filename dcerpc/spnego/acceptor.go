package spnego

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// An Acceptor negotiates for a server ([dcerpc.Acceptor]). It is safe for concurrent use.
type Acceptor struct {
	mechs []AcceptorMechanism
}

// NewAcceptor returns an Acceptor that accepts any of the mechanisms, in the client's order of
// preference. It needs at least one.
func NewAcceptor(mechs ...AcceptorMechanism) (*Acceptor, error) {
	if len(mechs) == 0 {
		return nil, errors.New("spnego: an acceptor without mechanisms")
	}
	return &Acceptor{mechs: append([]AcceptorMechanism(nil), mechs...)}, nil
}

// AuthType is RPC_C_AUTHN_GSS_NEGOTIATE, 9.
func (a *Acceptor) AuthType() dcerpc.AuthType { return dcerpc.AuthSPNEGO }

// OID is SPNEGO's own name, 1.3.6.1.5.5.2.
func (a *Acceptor) OID() asn1.ObjectIdentifier { return spnegoOID() }

// NewContext starts a negotiation with one client.
func (a *Acceptor) NewContext(level dcerpc.AuthLevel) (dcerpc.Context, error) {
	return &acceptorContext{mechs: a.mechs, level: level}, nil
}

type acceptorContext struct {
	negotiation
	mechs   []AcceptorMechanism
	level   dcerpc.AuthLevel
	needMIC bool // the client must prove the list
}

// Step takes the client's offer first, then NegTokenResps. It returns a token at every call, and
// done with the last one.
func (c *acceptorContext) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	if c.over {
		return nil, false, errOver
	}
	var t *NegTokenResp
	if c.mech == nil {
		t, err = c.begin(ctx, in)
	} else {
		t, err = c.reply(ctx, in)
	}
	if err == nil {
		out, err = t.AppendBinary(nil)
	}
	if err != nil {
		c.over, c.done = true, false
		return nil, false, err
	}
	return out, c.done, nil
}

// choose returns the first offered mechanism that the acceptor has, and whether it is the client's
// first choice.
func (c *acceptorContext) choose(offered []asn1.ObjectIdentifier) (m AcceptorMechanism, name asn1.ObjectIdentifier,
	first bool) {
	for i, name := range offered {
		for _, m := range c.mechs {
			if named(m.OID(), name) {
				return m, name, i == 0
			}
		}
	}
	return nil, nil, false
}

// begin takes the offer. A token in it belongs to the client's first choice.
func (c *acceptorContext) begin(ctx context.Context, in []byte) (*NegTokenResp, error) {
	offer, err := ParseNegTokenInit(in)
	if err != nil {
		return nil, err
	}
	mech, name, first := c.choose(offer.MechTypes)
	if mech == nil {
		return nil, fmt.Errorf("%w: the client offers %d, %v first", ErrNoMechanism, len(offer.MechTypes),
			offer.MechTypes[:min(4, len(offer.MechTypes))])
	}
	if c.mech, err = mech.NewContext(c.level); err != nil {
		return nil, err
	}
	c.mechList = append([]byte(nil), offer.MechList...)
	if !first {
		c.needMIC = true
		return &NegTokenResp{State: RequestMIC, SupportedMech: name}, nil
	}
	if offer.MechToken == nil {
		return &NegTokenResp{State: AcceptIncomplete, SupportedMech: name}, nil
	}
	out, err := c.step(ctx, offer.MechToken)
	if err != nil {
		return nil, err
	}
	t, err := c.answer(out)
	if err != nil {
		return nil, err
	}
	t.SupportedMech = name
	return t, nil
}

// reply takes a NegTokenResp.
func (c *acceptorContext) reply(ctx context.Context, in []byte) (*NegTokenResp, error) {
	t, err := ParseNegTokenResp(in)
	if err != nil {
		return nil, err
	}
	var out []byte
	switch {
	case t.State == Reject:
		return nil, ErrRejected
	case !c.mechDone && t.ResponseToken == nil:
		return nil, fmt.Errorf("%w: the mechanism's token is missing", ErrToken)
	case !c.mechDone:
		if out, err = c.step(ctx, t.ResponseToken); err != nil {
			return nil, err
		}
	case len(t.ResponseToken) != 0:
		return nil, fmt.Errorf("%w: a token for a mechanism that has finished", ErrToken)
	}
	if t.MechListMIC != nil {
		if err := c.verifyMIC(t.MechListMIC); err != nil {
			return nil, err
		}
	}
	return c.answer(out)
}

// answer makes the reply that carries the mechanism's token, and ends the negotiation if nothing is
// missing. If the client's first choice is used, the client may omit the MIC, as impacket does (RFC
// 4178 section 5).
func (c *acceptorContext) answer(out []byte) (*NegTokenResp, error) {
	t := &NegTokenResp{State: AcceptIncomplete}
	if len(out) != 0 {
		t.ResponseToken = out
	}
	if !c.mechDone {
		return t, nil
	}
	missing := c.needMIC && !c.verifiedMIC
	if missing && (c.sentMIC || t.ResponseToken == nil) {
		return nil, fmt.Errorf("%w: the client left its mechListMIC out", ErrMechListMIC)
	}
	if (missing || c.verifiedMIC) && !c.sentMIC {
		var err error
		if t.MechListMIC, err = c.getMIC(); err != nil {
			return nil, err
		}
	}
	if !missing {
		t.State = AcceptCompleted
		c.finish()
	}
	return t, nil
}
