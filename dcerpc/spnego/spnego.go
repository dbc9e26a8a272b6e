// Package spnego negotiates the mechanism of a security context (RFC 4178, MS-SPNG), as
// initiator and as acceptor, around any mechanisms: dcerpc/krb5, dcerpc/ntlm.
//
// The initiator offers its mechanisms in their order, together with a token of the first one that
// it can start. The acceptor takes the first offered one that it has. Where that is not the one
// that the initiator liked best, both sides prove with a mechListMIC that nobody on the way changed
// the list; without such a proof the negotiation fails.
//
// Kerberos goes by two names, its own and the one that Windows 2000 gave it; both are
// offered and taken, as Windows does.
package spnego

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// Errors of a negotiation. A mechanism's own errors are passed on.
var (
	// ErrToken is a token that is malformed or comes at the wrong time.
	ErrToken = errors.New("spnego: bad token")
	// ErrNoMechanism is an offer of which this side has nothing.
	ErrNoMechanism = errors.New("spnego: no common mechanism")
	// ErrRejected is the peer's refusal.
	ErrRejected = errors.New("spnego: the peer rejected the negotiation")
	// ErrMechListMIC is a list of mechanisms that somebody changed on its way, or the lack of
	// proof that nobody did (RFC 4178 section 5).
	ErrMechListMIC = errors.New("spnego: the list of mechanisms is not proved to be unchanged")
)

// An InitiatorMechanism can be offered by an Initiator.
type InitiatorMechanism interface {
	dcerpc.Initiator
	// OID is the mechanism's name in SPNEGO.
	OID() asn1.ObjectIdentifier
}

// An AcceptorMechanism can be chosen by an Acceptor.
type AcceptorMechanism interface {
	dcerpc.Acceptor
	// OID is the mechanism's name in SPNEGO.
	OID() asn1.ObjectIdentifier
}

// A MICContext is a mechanism's context that can prove the list of mechanisms. One that cannot
// serves only where it was the initiator's first choice.
type MICContext interface {
	dcerpc.Context
	// GetMIC returns the integrity code of data, as the next message of this side.
	GetMIC(data []byte) ([]byte, error)
	// VerifyMIC checks what the peer's GetMIC returned.
	VerifyMIC(data, mic []byte) error
}

// What a mechanism's context may have besides.
type (
	// keyResetter starts its cipher anew after mechListMICs went through it, with the sequence
	// numbers going on: NTLM (MS-SPNG 3.2.5.1).
	keyResetter interface{ ResetKeys() }
	// micPreferrer is an initiator's context whose peers expect a mechListMIC even where RFC 4178
	// lets it be left out: NTLM.
	micPreferrer interface{ PrefersMIC() bool }
	// sessionKeyer has a key for protocols that derive theirs of it.
	sessionKeyer interface{ SessionKey() []byte }
)

// oids returns the names under which a mechanism is offered and taken, the first one first.
func oids(oid asn1.ObjectIdentifier) []asn1.ObjectIdentifier {
	kerberos := asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	if oid.Equal(kerberos) {
		// 113554 cut to 16 bits; Windows puts it first (MS-SPNG 3.1.5.2).
		return []asn1.ObjectIdentifier{{1, 2, 840, 48018, 1, 2, 2}, kerberos}
	}
	return []asn1.ObjectIdentifier{oid}
}

// named reports whether a mechanism goes by name.
func named(oid, name asn1.ObjectIdentifier) bool {
	for _, o := range oids(oid) {
		if o.Equal(name) {
			return true
		}
	}
	return false
}

// negotiation is what the contexts of both sides have in common: the mechanism inside, the MICs
// over the list, and protection by the mechanism once all is done.
type negotiation struct {
	mech     dcerpc.Context // nil before one was chosen
	mechDone bool
	mechList []byte // DER of the MechTypeList as it was sent; the MICs cover it

	sentMIC, verifiedMIC bool

	done bool
	over bool // done, or failed
}

// step has the mechanism take a token.
func (n *negotiation) step(ctx context.Context, in []byte) (out []byte, err error) {
	out, n.mechDone, err = n.mech.Step(ctx, in)
	return out, err
}

// verifyMIC checks the peer's mechListMIC.
func (n *negotiation) verifyMIC(mic []byte) error {
	m, ok := n.mech.(MICContext)
	switch {
	case !n.mechDone:
		return fmt.Errorf("%w: a mechListMIC before the mechanism was done", ErrToken)
	case n.verifiedMIC:
		return fmt.Errorf("%w: a second mechListMIC", ErrToken)
	case !ok:
		return fmt.Errorf("%w: the mechanism has no MICs", ErrMechListMIC)
	}
	if err := m.VerifyMIC(n.mechList, mic); err != nil {
		return fmt.Errorf("%w: %w", ErrMechListMIC, err)
	}
	n.verifiedMIC = true
	return nil
}

// getMIC makes ours.
func (n *negotiation) getMIC() ([]byte, error) {
	m, ok := n.mech.(MICContext)
	if !ok {
		return nil, fmt.Errorf("%w: the mechanism has no MICs", ErrMechListMIC)
	}
	mic, err := m.GetMIC(n.mechList)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMechListMIC, err)
	}
	n.sentMIC = true
	return mic, nil
}

// finish ends the negotiation well.
func (n *negotiation) finish() {
	if r, ok := n.mech.(keyResetter); ok && (n.sentMIC || n.verifiedMIC) {
		r.ResetKeys()
	}
	n.done, n.over = true, true
}

var (
	errNotEstablished = errors.New("spnego: the context is not established")
	errOver           = fmt.Errorf("%w: it comes after the negotiation was over", ErrToken)
)

// TokenSize is the mechanism's; zero before one was agreed on.
func (n *negotiation) TokenSize(level dcerpc.AuthLevel) int {
	if !n.done {
		return 0
	}
	return n.mech.TokenSize(level)
}

// Sign is the mechanism's, as are Seal, Verify and Unseal.
func (n *negotiation) Sign(m dcerpc.Message, token []byte) error {
	if !n.done {
		return errNotEstablished
	}
	return n.mech.Sign(m, token)
}

func (n *negotiation) Seal(m dcerpc.Message, token []byte) error {
	if !n.done {
		return errNotEstablished
	}
	return n.mech.Seal(m, token)
}

func (n *negotiation) Verify(m dcerpc.Message, token []byte) error {
	if !n.done {
		return errNotEstablished
	}
	return n.mech.Verify(m, token)
}

func (n *negotiation) Unseal(m dcerpc.Message, token []byte) error {
	if !n.done {
		return errNotEstablished
	}
	return n.mech.Unseal(m, token)
}

// Protection is the mechanism's.
func (n *negotiation) Protection() (sign, seal bool) {
	if p, ok := n.mech.(dcerpc.PartialContext); ok && n.done {
		return p.Protection()
	}
	return n.done, n.done
}

// Identity is what the mechanism says, its name included.
func (n *negotiation) Identity() dcerpc.Identity {
	if !n.done {
		return dcerpc.Identity{}
	}
	return n.mech.Identity()
}

// SessionKey is the mechanism's, for protocols that derive their keys of it; nil before the context
// is established, and for a mechanism without one.
func (n *negotiation) SessionKey() []byte {
	if k, ok := n.mech.(sessionKeyer); ok && n.done {
		return k.SessionKey()
	}
	return nil
}
