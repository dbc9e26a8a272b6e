package capture

import (
	"encoding/asn1"
	"errors"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// A handshake follows an exchange of security tokens from outside, of an SMB session or of an RPC
// security context. The tokens belong to Kerberos or NTLM, perhaps inside SPNEGO.
type handshake struct {
	krb5     *krb5.Observer // nil without a key
	ntlm     *ntlm.Observer
	identity dcerpc.Identity
	opened   bool  // the Kerberos observer has the initiator's token
	answered bool  // and the acceptor's token
	err      error // why there is no key; matches ErrKey
}

// The mechanisms that a handshake supports, as dcerpc.Identity names them.
const (
	mechKerberos = "krb5"
	mechNTLM     = "ntlm"
)

func newHandshake(cfg *Config) *handshake {
	h := &handshake{ntlm: ntlm.NewObserver(cfg.NTHashes)}
	if cfg.Keytab != nil || len(cfg.Tickets) > 0 {
		h.krb5 = krb5.NewObserver(cfg.Keytab, cfg.Tickets...)
	}
	return h
}

// fromClient takes a token of the initiator. It returns an error with a Reason if the keys cannot
// open the exchange, or if the exchange was changed on its way.
func (h *handshake) fromClient(token []byte) error {
	inner, mechs := spnego.MechToken(token)
	if ntlm.IsMessage(inner) {
		return h.ntlmToken(inner)
	}
	if h.identity.Mechanism == "" && isKerberos(inner, mechs) {
		h.identity.Mechanism = mechKerberos
	}
	if h.krb5 == nil || h.opened {
		return nil
	}
	err := h.krb5.APReq(token)
	switch {
	case err == nil, errors.Is(err, krb5.ErrPAC):
		h.opened, h.err = true, nil
		h.identity = h.krb5.Identity()
		return nil
	case h.identity.Mechanism != mechKerberos:
		return nil // another mechanism's
	}
	h.err = wrap(ErrKey, err)
	if errors.Is(err, krb5.ErrToken) {
		return nil // it may be a leg of SPNEGO without a token
	}
	return h.err
}

// ntlmToken takes a message of an NTLM client.
func (h *handshake) ntlmToken(token []byte) error {
	err := h.ntlm.Token(ntlm.FromInitiator, token)
	domain, user, ok := h.ntlm.Account()
	if !ok {
		return nil
	}
	h.identity = dcerpc.Identity{Account: user, Domain: domain, Mechanism: mechNTLM}
	h.opened, h.err = false, nil // Kerberos was offered but not chosen
	switch {
	case err == nil, errors.Is(err, ntlm.ErrAnonymous), errors.Is(err, ntlm.ErrNoHash):
		return nil
	case errors.Is(err, ntlm.ErrBadMIC):
		return wrap(ErrTampered, err)
	case errors.Is(err, ntlm.ErrLogonFailure):
		err = errors.New(`ntlm: no password or hash that was given is that of ` + userName(&h.identity))
	}
	h.err = wrap(ErrKey, err)
	return h.err
}

// fromServer takes a token of the acceptor.
func (h *handshake) fromServer(token []byte) {
	if inner, _ := spnego.MechToken(token); ntlm.IsMessage(inner) {
		_ = h.ntlm.Token(ntlm.FromAcceptor, inner) // the client's answer will show what is missing
		return
	}
	if !h.opened || h.answered {
		return
	}
	h.answered = h.krb5.APRep(token) == nil
}

// sessionKey returns the key of the exchange, for Kerberos even without an answer; nil if it is not
// known.
func (h *handshake) sessionKey() []byte {
	if h.opened {
		return h.krb5.SessionKey()
	}
	return h.ntlm.SessionKey()
}

// ready reports whether messages can be checked and decrypted.
func (h *handshake) ready() bool { return h.answered && h.opened || h.ntlm.Opened() }

// unseal decrypts a sealed message in place.
func (h *handshake) unseal(fromClient bool, m dcerpc.Message, token []byte) error {
	var err error
	switch {
	case !h.ready():
		return h.missing(ErrSealed)
	case h.opened:
		_, err = h.krb5.Unseal(krb5.Direction(direction(fromClient)), m, token)
	default:
		_, err = h.ntlm.Unseal(ntlm.Direction(direction(fromClient)), m, token)
	}
	if err != nil {
		return wrap(ErrSignature, err)
	}
	return nil
}

// verify checks the signature of a message in clear.
func (h *handshake) verify(fromClient bool, m dcerpc.Message, token []byte) error {
	var err error
	if h.opened {
		_, err = h.krb5.Verify(krb5.Direction(direction(fromClient)), m, token)
	} else {
		_, err = h.ntlm.Verify(ntlm.Direction(direction(fromClient)), m, token)
	}
	if err != nil {
		return wrap(ErrTampered, err)
	}
	return nil
}

// direction returns the mechanisms' direction: 0 from the initiator, 1 from the acceptor.
func direction(fromClient bool) uint8 {
	if fromClient {
		return 0
	}
	return 1
}

// missing returns an error with a Reason that says why there is no key.
func (h *handshake) missing(r Reason) error {
	switch {
	case h.err != nil:
		return h.err
	case h.identity.Mechanism == mechNTLM:
		return wrap(r, errors.New("it is from NTLM, and neither the password nor the hash of "+userName(&h.identity)+" was given"))
	case h.krb5 == nil:
		return wrap(r, errors.New("no keytab was given"))
	case !h.opened:
		return wrap(r, errors.New("the capture lacks the client's Kerberos token"))
	}
	return wrap(r, errors.New("the capture lacks the server's Kerberos token"))
}

// A wrapped error is a Reason with its cause.
type wrapped struct {
	reason Reason
	cause  error
}

func wrap(r Reason, cause error) error { return &wrapped{r, cause} }

// cause returns the second half of a wrapped error's text.
func cause(err error) string {
	if w, ok := err.(*wrapped); ok {
		return w.cause.Error()
	}
	return err.Error()
}

// reasonOf returns the Reason of a wrapped error.
func reasonOf(err error) Reason {
	var r Reason
	errors.As(err, &r)
	return r
}

func (w *wrapped) Error() string   { return "capture: " + w.reason.Error() + ": " + w.cause.Error() }
func (w *wrapped) Unwrap() []error { return []error{w.reason, w.cause} }

// isKerberos reports whether a token is an AP-REQ, raw or in the frame of RFC 2743, or SPNEGO with
// Kerberos as its first offer.
func isKerberos(token []byte, mechs []asn1.ObjectIdentifier) bool {
	const (
		applicationAPReq = 0x6E
		frame            = 0x60
	)
	switch {
	case len(mechs) > 0:
		return mechs[0].Equal(oidKerberos()) || mechs[0].Equal(oidMSKerberos())
	case len(token) == 0:
		return false
	case token[0] == applicationAPReq:
		return true
	case token[0] != frame:
		return false
	}
	var outer asn1.RawValue
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(token, &outer); err != nil {
		return false
	}
	_, err := asn1.Unmarshal(outer.Bytes, &oid)
	return err == nil && oid.Equal(oidKerberos())
}

// oidKerberos returns Kerberos' own identifier (RFC 4121 1), and oidMSKerberos the one from Windows
// 2000 (MS-SPNG 3.1.5.2).
func oidKerberos() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2} }
func oidMSKerberos() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2} }
