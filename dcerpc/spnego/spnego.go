// Package spnego negotiates the mechanism of a security context (RFC 4178, MS-SPNG), as initiator
// and as acceptor, around any mechanisms, such as dcerpc/krb5 and dcerpc/ntlm.
//
// The initiator offers its mechanisms in order of preference, with a token of the first one that it
// can start. The acceptor chooses the first offered one that it has. If that is not the initiator's
// first choice, both sides prove with a mechListMIC that nobody changed the list on the way;
// without that proof the negotiation fails.
//
// Kerberos has two names, its own and the one that Windows 2000 gave it; the package offers and
// accepts both, as Windows does.
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
	// ErrToken means a malformed token, or one at the wrong time.
	ErrToken = errors.New("spnego: bad token")
	// ErrNoMechanism means that this side has none of the offered mechanisms.
	ErrNoMechanism = errors.New("spnego: no common mechanism")
	// ErrRejected means that the peer rejected the negotiation.
	ErrRejected = errors.New("spnego: the peer rejected the negotiation")
	// ErrMechListMIC means that the list of mechanisms was changed on its way, or that the proof of
	// the contrary is missing (RFC 4178 section 5).
	ErrMechListMIC = errors.New("spnego: the list of mechanisms is not proved to be unchanged")
)

// An InitiatorMechanism can be offered by an Initiator.
type InitiatorMechanism interface {
	dcerpc.Initiator
	// OID returns the mechanism's object identifier in SPNEGO.
	OID() asn1.ObjectIdentifier
}

// An AcceptorMechanism can be chosen by an Acceptor.
type AcceptorMechanism interface {
	dcerpc.Acceptor
	// OID returns the mechanism's object identifier in SPNEGO.
	OID() asn1.ObjectIdentifier
}

// A MICContext is a mechanism's context that can prove the list of mechanisms. A mechanism without
// one can be used only as the initiator's first choice.
type MICContext interface {
	dcerpc.Context
	// GetMIC returns the integrity code of data, as the next message of this side.
	GetMIC(data []byte) ([]byte, error)
	// VerifyMIC checks an integrity code that the peer's GetMIC returned.
	VerifyMIC(data, mic []byte) error
}

// Optional methods of a mechanism's context.
type (
	// keyResetter restarts its cipher after mechListMICs, while the sequence numbers go on: NTLM
	// (MS-SPNG 3.2.5.1).
	keyResetter interface{ ResetKeys() }
	// micPreferrer is an initiator's context whose peers expect a mechListMIC even where RFC 4178
	// makes it optional: NTLM.
	micPreferrer interface{ PrefersMIC() bool }
	// sessionKeyer has a key from which protocols derive theirs.
	sessionKeyer interface{ SessionKey() []byte }
)

// oids returns the names under which a mechanism is offered and accepted, in the order of the
// offer.
func oids(oid asn1.ObjectIdentifier) []asn1.ObjectIdentifier {
	kerberos := asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	if oid.Equal(kerberos) {
		// 113554 cut to 16 bits; Windows puts it first (MS-SPNG 3.1.5.2).
		return []asn1.ObjectIdentifier{{1, 2, 840, 48018, 1, 2, 2}, kerberos}
	}
	return []asn1.ObjectIdentifier{oid}
}

// named reports whether a mechanism has this name.
func named(oid, name asn1.ObjectIdentifier) bool {
	for _, o := range oids(oid) {
		if o.Equal(name) {
			return true
		}
	}
	return false
}

// negotiation is the common part of both sides' contexts: the mechanism inside, the MICs over the
// list, and, once the negotiation is done, protection by the mechanism.
type negotiation struct {
	mech     dcerpc.Context // nil before one was chosen
	mechDone bool
	mechList []byte // DER of the MechTypeList as sent; the MICs cover it

	sentMIC, verifiedMIC bool

	done bool
	over bool // done, or failed
}

// step passes a token to the mechanism.
func (n *negotiation) step(ctx context.Context, in []byte) (out []byte, err error) {
	out, n.mechDone, err = n.mech.Step(ctx, in)
	return out, err
}

// verifyMIC checks the peer's mechListMIC.
func (n *negotiation) verifyMIC(mic []byte) error {
	m, ok := n.mech.(MICContext)
	switch {
	case !n.mechDone:
		return fmt.Errorf("%w: a mechListMIC before the mechanism has finished", ErrToken)
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

// getMIC returns our mechListMIC.
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

// finish ends the negotiation successfully.
func (n *negotiation) finish() {
	if r, ok := n.mech.(keyResetter); ok && (n.sentMIC || n.verifiedMIC) {
		r.ResetKeys()
	}
	n.done, n.over = true, true
}

var (
	errNotEstablished = errors.New("spnego: the context is not established")
	errOver           = fmt.Errorf("%w: it came after the end of the negotiation", ErrToken)
)

// TokenSize returns the mechanism's value, or zero before the sides have agreed on a mechanism.
func (n *negotiation) TokenSize(level dcerpc.AuthLevel) int {
	if !n.done {
		return 0
	}
	return n.mech.TokenSize(level)
}

// Sign, Seal, Verify and Unseal are the mechanism's.
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

// Protection returns the mechanism's value.
func (n *negotiation) Protection() (sign, seal bool) {
	if p, ok := n.mech.(dcerpc.PartialContext); ok && n.done {
		return p.Protection()
	}
	return n.done, n.done
}

// Identity returns the mechanism's Identity, whose Mechanism is the mechanism inside.
func (n *negotiation) Identity() dcerpc.Identity {
	if !n.done {
		return dcerpc.Identity{}
	}
	return n.mech.Identity()
}

// SessionKey returns the mechanism's key, for protocols that derive keys from it; nil before the
// context is established, and for a mechanism without one.
func (n *negotiation) SessionKey() []byte {
	if k, ok := n.mech.(sessionKeyer); ok && n.done {
		return k.SessionKey()
	}
	return nil
}
