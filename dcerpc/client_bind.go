package dcerpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// maxLegs is more than any mechanism needs; it stops exchanges with servers that never end them.
const maxLegs = 16

// A negotiation agrees with the server on a presentation context and, where there is an initiator,
// on a security context: a bind or alter_context, as many further alter_contexts as the mechanism
// needs, and an auth3 if the last token is the client's and needs no answer.
type negotiation struct {
	iface    SyntaxID
	syntaxes []ndr.Syntax
	auth     Initiator // nil without security
	level    AuthLevel
	target   string
	cfg      *Config // of a bind

	link    *link
	firstID uint16 // of the presentation contexts offered
	sec     *securityContext
	begun   bool // the server may have seen a token
}

func newNegotiation(iface SyntaxID, cfg *Config) (*negotiation, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	n := &negotiation{iface: iface, cfg: cfg, auth: cfg.Auth, level: cfg.Level, target: cfg.Target, syntaxes: cfg.Syntaxes}
	if n.level == LevelDefault {
		n.level = LevelPrivacy
	}
	switch {
	case n.auth == nil && n.level != LevelInsecureNone:
		return nil, errors.New("no Config.Auth: set Level to LevelInsecureNone to connect without security")
	case n.auth != nil && n.level == LevelInsecureNone:
		return nil, errors.New("Config.Auth together with LevelInsecureNone")
	case n.level > LevelPrivacy:
		return nil, fmt.Errorf("there is no level %d", n.level)
	}
	if len(n.syntaxes) == 0 {
		n.syntaxes = []ndr.Syntax{ndr.NDR20, ndr.NDR64}
	}
	if m := cfg.MaxFragment; m != 0 && (m < minFragment || m > pdu.MaxFragment) {
		return nil, fmt.Errorf("Config.MaxFragment is %d, not from %d to %d", m, minFragment, pdu.MaxFragment)
	}
	return n, nil
}

// bind opens the association of l.
func (n *negotiation) bind(ctx context.Context, l *link) (*ClientConn, error) {
	n.link = l
	token, done, err := n.firstToken(ctx)
	if err != nil {
		return nil, err
	}
	size := defaultFragment
	if n.cfg.MaxFragment != 0 {
		size = n.cfg.MaxFragment
	}
	flags := pdu.FirstFrag | pdu.LastFrag
	if !n.cfg.NoMultiplexing {
		flags |= pdu.ConcMPX
	}
	if n.auth != nil && !n.cfg.NoHeaderSigning {
		flags |= pdu.SupportHeaderSign
		l.signOffered = true
	}
	req := pdu.Bind{
		Header:     pdu.Header{Flags: flags, DataRep: l.dataRep},
		MaxXmit:    uint16(size),
		MaxRecv:    uint16(size),
		AssocGroup: n.cfg.AssociationGroup,
		Contexts:   n.offer(),
		Auth:       n.trailer(token),
	}
	if !n.cfg.NoFeatures {
		req.Contexts = append(req.Contexts, l.featureContext(n.iface))
	}
	answer, err := l.exchange(ctx, &req)
	if err != nil {
		return nil, err
	}
	ack, ok := answer.(*pdu.BindAck)
	if !ok {
		return nil, refusedBy(answer)
	}
	if err := l.opened(ack, flags, size); err != nil {
		return nil, err
	}
	return n.finish(ctx, (*pdu.AlterContextResp)(ack), token, done)
}

// alter negotiates on an association that is open.
func (n *negotiation) alter(ctx context.Context, l *link) (*ClientConn, error) {
	n.link = l
	token, done, err := n.firstToken(ctx)
	if err != nil {
		return nil, err
	}
	flags := pdu.FirstFrag | pdu.LastFrag
	offerSigning := n.auth != nil && !n.cfg.NoHeaderSigning && l.offerSigning()
	if offerSigning {
		flags |= pdu.SupportHeaderSign
	}
	req := pdu.AlterContext{
		Header:     pdu.Header{Flags: flags, DataRep: l.dataRep},
		MaxXmit:    uint16(l.out.maxXmit),
		MaxRecv:    uint16(l.out.maxXmit),
		AssocGroup: l.group,
		Contexts:   n.offer(),
		Auth:       n.trailer(token),
	}
	n.begun = n.sec != nil
	resp, err := n.exchangeAlter(ctx, &req)
	if err != nil {
		return nil, err
	}
	if offerSigning && resp.Flags.Has(pdu.SupportHeaderSign) {
		if err := l.signHeaders(ctx); err != nil {
			return nil, err
		}
	}
	return n.finish(ctx, resp, token, done)
}

// offer returns one context for each syntax, as Windows offers them.
func (n *negotiation) offer() []pdu.ContextElement {
	n.firstID = n.link.contextIDs(len(n.syntaxes))
	contexts := make([]pdu.ContextElement, 0, len(n.syntaxes)+1)
	for i, s := range n.syntaxes {
		contexts = append(contexts, pdu.ContextElement{
			ID:       n.firstID + uint16(i),
			Abstract: n.iface,
			Transfer: []SyntaxID{transferSyntax(s)},
		})
	}
	return contexts
}

// chosen returns the context that the server accepted, the last one if there are several.
func (n *negotiation) chosen(results []pdu.ContextResult) (*ClientConn, error) {
	if len(results) < len(n.syntaxes) {
		return nil, badPeer("%d results for %d contexts", len(results), len(n.syntaxes))
	}
	for i := len(n.syntaxes) - 1; i >= 0; i-- {
		if results[i].Result != pdu.Acceptance {
			continue
		}
		if results[i].Transfer != transferSyntax(n.syntaxes[i]) {
			return nil, badPeer("context accepted with transfer syntax %v, which was not offered", results[i].Transfer)
		}
		return &ClientConn{
			link:      n.link,
			iface:     n.iface,
			syntax:    n.syntaxes[i],
			contextID: n.firstID + uint16(i),
			sec:       n.sec,
		}, nil
	}
	return nil, &RejectedError{Interface: n.iface, Result: results[0].Result, Reason: results[0].Reason}
}

// finish takes the answer to the first leg and completes the security exchange.
func (n *negotiation) finish(ctx context.Context, resp *pdu.AlterContextResp, token []byte, done bool) (*ClientConn, error) {
	cc, err := n.chosen(resp.Results)
	if err != nil || n.sec == nil {
		return cc, err
	}
	for range maxLegs {
		if err := n.checkTrailer(&resp.Auth); err != nil {
			return nil, err
		}
		if !done {
			if token, done, err = n.sec.Step(ctx, resp.Auth.Token); err != nil {
				return nil, err
			}
			if done && len(token) > 0 {
				err := n.sendAuth3(ctx, resp.CallID, token)
				if err != nil {
					return nil, err
				}
			}
		}
		if done {
			n.link.addSecurity(n.sec)
			return cc, nil
		}
		resp, err = n.exchangeAlter(ctx, &pdu.AlterContext{
			Header:     pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, DataRep: n.link.dataRep},
			MaxXmit:    uint16(n.link.out.maxXmit),
			MaxRecv:    uint16(n.link.out.maxXmit),
			AssocGroup: n.link.group,
			Contexts: []pdu.ContextElement{{
				ID:       cc.contextID,
				Abstract: n.iface,
				Transfer: []SyntaxID{transferSyntax(cc.syntax)},
			}},
			Auth: n.trailer(token),
		})
		if err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no end of the security exchange after %d legs", maxLegs)
}

func (n *negotiation) firstToken(ctx context.Context) (token []byte, done bool, err error) {
	if n.auth == nil {
		return nil, false, nil
	}
	sec, err := n.auth.NewContext(n.target, n.level.strength())
	if err != nil {
		return nil, false, err
	}
	n.link.own(sec)
	n.sec = &securityContext{Context: sec, id: n.link.securityID(), typ: n.auth.AuthType(), level: n.level}
	return sec.Step(ctx, nil)
}

func (n *negotiation) trailer(token []byte) pdu.Auth {
	if n.sec == nil {
		return pdu.Auth{}
	}
	return pdu.Auth{Type: uint8(n.sec.typ), Level: uint8(n.sec.level), ContextID: n.sec.id, Token: token}
}

// checkTrailer checks that an answer belongs to the security exchange.
func (n *negotiation) checkTrailer(a *pdu.Auth) error {
	if !a.Present() {
		return badPeer("the answer has no security token")
	}
	if a.Type != uint8(n.sec.typ) || a.Level != uint8(n.sec.level) || a.ContextID != n.sec.id {
		return badPeer("auth type %d, level %d, context %d in answer to %d, %d, %d",
			a.Type, a.Level, a.ContextID, n.sec.typ, n.sec.level, n.sec.id)
	}
	return nil
}

func (n *negotiation) exchangeAlter(ctx context.Context, req *pdu.AlterContext) (*pdu.AlterContextResp, error) {
	answer, err := n.link.exchange(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := answer.(*pdu.AlterContextResp)
	if !ok {
		return nil, refusedBy(answer)
	}
	return resp, nil
}

// sendAuth3 sends the last token. The first call shows whether the server accepts it.
func (n *negotiation) sendAuth3(ctx context.Context, callID uint32, token []byte) error {
	flags := pdu.FirstFrag | pdu.LastFrag
	if n.link.signOffered {
		flags |= pdu.SupportHeaderSign
	}
	return n.link.post(ctx, &pdu.Auth3{
		Header: pdu.Header{Flags: flags, DataRep: n.link.dataRep, CallID: callID},
		Auth:   n.trailer(token),
	})
}

// refusedBy returns the error for an answer that does not accept the bind or alter_context.
func refusedBy(answer pdu.PDU) error {
	switch p := answer.(type) {
	case *pdu.BindNak:
		return &BindError{Reason: p.Reason, Extended: p.Extended()}
	case *pdu.Fault:
		return &Fault{Status: p.Status, DidNotExecute: p.Flags.Has(pdu.DidNotExecute)}
	}
	return badPeer("%v in answer to a bind or alter_context", answer.Head().Type)
}
