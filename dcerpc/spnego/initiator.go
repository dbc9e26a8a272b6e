package spnego

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// An Initiator negotiates for a client ([dcerpc.Initiator]). It is safe for concurrent use.
type Initiator struct {
	mechs []InitiatorMechanism
}

// NewInitiator returns an Initiator that offers the mechanisms in this order. It needs at least
// one.
//
// A mechanism whose first token cannot be made (no ticket, no KDC) is left out of the offer, and
// the next one takes its place. So an attacker who keeps a client from its KDC can make it use
// NTLM; to prevent that, pass only one mechanism.
func NewInitiator(mechs ...InitiatorMechanism) (*Initiator, error) {
	if len(mechs) == 0 {
		return nil, errors.New("spnego: an initiator without mechanisms")
	}
	return &Initiator{mechs: append([]InitiatorMechanism(nil), mechs...)}, nil
}

// Mechanisms returns the mechanisms in the order of the offer. The caller owns the slice.
func (i *Initiator) Mechanisms() []InitiatorMechanism {
	return append([]InitiatorMechanism(nil), i.mechs...)
}

// AuthType is RPC_C_AUTHN_GSS_NEGOTIATE, 9.
func (i *Initiator) AuthType() dcerpc.AuthType { return dcerpc.AuthSPNEGO }

// OID is SPNEGO's own name, 1.3.6.1.5.5.2.
func (i *Initiator) OID() asn1.ObjectIdentifier { return spnegoOID() }

// NewContext starts a negotiation; its Step method starts the mechanisms' contexts. Besides those
// of [dcerpc.Context], the result has the method SessionKey() []byte, which returns the mechanism's
// key.
func (i *Initiator) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	return &initiatorContext{mechs: i.mechs, target: target, level: level}, nil
}

type initiatorContext struct {
	negotiation
	mechs  []InitiatorMechanism // after the offer, those that remain
	target string
	level  dcerpc.AuthLevel

	offered []asn1.ObjectIdentifier
	failed  error // of the mechanisms that are not offered
	chosen  bool  // the acceptor has replied
	needMIC bool  // the acceptor must prove the list
}

// Step sends the offer first, then NegTokenResps. It returns done when the acceptor has said so.
func (c *initiatorContext) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	switch {
	case c.over:
		return nil, false, errOver
	case c.mech == nil && len(in) != 0:
		err = fmt.Errorf("%w: the acceptor spoke first", ErrToken)
	case c.mech == nil:
		out, err = c.offer(ctx)
	default:
		out, err = c.reply(ctx, in)
	}
	if err != nil {
		c.over = true
		if c.failed != nil {
			// The usual cause is the reason why the better mechanism was not offered.
			err = fmt.Errorf("%w (not offered: %w)", err, c.failed)
		}
		return nil, false, err
	}
	return out, c.done, nil
}

// start begins the mechanism's context and returns its first token.
func (c *initiatorContext) start(ctx context.Context, m InitiatorMechanism) ([]byte, error) {
	mech, err := m.NewContext(c.target, c.level)
	if err != nil {
		return nil, err
	}
	c.mech = mech
	return c.step(ctx, nil)
}

// offer makes the NegTokenInit, with the token of the first mechanism that can make one.
func (c *initiatorContext) offer(ctx context.Context) ([]byte, error) {
	token, err := c.start(ctx, c.mechs[0])
	for err != nil {
		c.mechs = c.mechs[1:]
		if len(c.mechs) == 0 || ctx.Err() != nil {
			return nil, err
		}
		if c.failed == nil {
			c.failed = err
		} else {
			c.failed = fmt.Errorf("%w; %w", c.failed, err)
		}
		token, err = c.start(ctx, c.mechs[0])
	}
	for _, m := range c.mechs {
		c.offered = append(c.offered, oids(m.OID())...)
	}
	if c.mechList, err = appendMechList(nil, c.offered); err != nil {
		return nil, err
	}
	return (&NegTokenInit{MechTypes: c.offered, MechToken: token}).AppendBinary(nil)
}

// choose takes the acceptor's choice in its first reply. If that starts another mechanism, or the
// same one under its other name, it returns the first token of that one, with fresh set.
func (c *initiatorContext) choose(ctx context.Context, t *NegTokenResp) (out []byte, fresh bool, err error) {
	c.chosen = true
	if t.SupportedMech == nil || t.SupportedMech.Equal(c.offered[0]) {
		return nil, false, nil
	}
	for n, m := range c.mechs {
		if !named(m.OID(), t.SupportedMech) {
			continue
		}
		if n == 0 && t.ResponseToken != nil {
			return nil, false, nil // the token was accepted under its other name
		}
		if t.ResponseToken != nil {
			return nil, false, fmt.Errorf("%w: an answer of a mechanism that was not started", ErrToken)
		}
		c.needMIC = n > 0
		out, err = c.start(ctx, m)
		return out, true, err
	}
	return nil, false, fmt.Errorf("%w: the acceptor chose %v, which was not offered", ErrNoMechanism, t.SupportedMech)
}

// reply takes a NegTokenResp and makes the next one; nil if the negotiation is done.
func (c *initiatorContext) reply(ctx context.Context, in []byte) ([]byte, error) {
	t, err := ParseNegTokenResp(in)
	if err != nil {
		return nil, err
	}
	if t.State == Reject {
		return nil, ErrRejected
	}
	if t.State == StateAbsent {
		t.State = AcceptIncomplete
		if c.mechDone {
			t.State = AcceptCompleted
		}
	}
	if bytes.Equal(t.MechListMIC, t.ResponseToken) {
		t.MechListMIC = nil // Windows 2000 sends the token twice (RFC 4178 appendix C)
	}
	wasDone, out := c.mechDone, []byte(nil)
	fresh := false
	if !c.chosen {
		if out, fresh, err = c.choose(ctx, t); err != nil {
			return nil, err
		}
		// Only the first reply may ask for it; later supportedMechs have no meaning (MS-SPNG
		// 3.3.5).
		c.needMIC = c.needMIC || t.State == RequestMIC
	}
	switch {
	case fresh:
	case !wasDone && t.ResponseToken != nil:
		if out, err = c.step(ctx, t.ResponseToken); err != nil {
			return nil, err
		}
	case !wasDone:
		return nil, fmt.Errorf("%w: the mechanism's answer is missing", ErrToken)
	case len(t.ResponseToken) != 0:
		return nil, fmt.Errorf("%w: an answer to a mechanism that has finished", ErrToken)
	}
	if t.MechListMIC != nil {
		if err := c.verifyMIC(t.MechListMIC); err != nil {
			return nil, err
		}
	}
	if t.State == AcceptCompleted {
		return nil, c.complete(out)
	}
	return c.answer(out)
}

// complete ends the negotiation if the acceptor may end it here.
func (c *initiatorContext) complete(out []byte) error {
	switch {
	case !c.mechDone || len(out) != 0:
		return fmt.Errorf("%w: the acceptor finished before the mechanism", ErrToken)
	case c.needMIC && !c.verifiedMIC:
		return fmt.Errorf("%w: the acceptor left its mechListMIC out", ErrMechListMIC)
	}
	c.finish()
	return nil
}

// answer makes the next NegTokenResp. A MIC goes along with the mechanism's last token.
func (c *initiatorContext) answer(out []byte) ([]byte, error) {
	t := &NegTokenResp{State: AcceptIncomplete}
	if len(out) != 0 {
		t.ResponseToken = out
	}
	if c.mechDone && !c.sentMIC {
		p, ok := c.mech.(micPreferrer)
		if c.needMIC || c.verifiedMIC || ok && p.PrefersMIC() {
			var err error
			if t.MechListMIC, err = c.getMIC(); err != nil {
				return nil, err
			}
			c.needMIC = true
		}
	}
	if t.ResponseToken == nil && t.MechListMIC == nil {
		return nil, fmt.Errorf("%w: the acceptor waits for more, but everything has been sent", ErrToken)
	}
	return t.AppendBinary(nil)
}
