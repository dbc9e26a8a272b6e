package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf16"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// A handshake is an exchange of security tokens seen from outside: that of an SMB session, or of an RPC
// security context. The tokens are Kerberos's, NTLM's, or either's inside SPNEGO.
type handshake struct {
	observer *krb5.Observer // nil without a keytab
	identity dcerpc.Identity
	opened   bool  // the observer has the initiator's token
	answered bool  // and the acceptor's
	err      error // why the ticket was not opened; matches ErrKey
}

// mechanisms that a handshake knows, as dcerpc.Identity names them.
const (
	mechKerberos = "krb5"
	mechNTLM     = "ntlm"
)

func newHandshake(kt *krb5.Keytab) *handshake {
	h := new(handshake)
	if kt != nil {
		h.observer = krb5.NewObserver(kt)
	}
	return h
}

// fromClient takes a token of the initiator. It returns what keeps the keytab from opening a ticket,
// where there is one.
func (h *handshake) fromClient(token []byte) error {
	if user, domain, ok := ntlmUser(token); ok {
		h.identity = dcerpc.Identity{Account: user, Domain: domain, Mechanism: mechNTLM}
		return nil
	}
	if h.identity.Mechanism == "" && looksLikeKerberos(token) {
		h.identity.Mechanism = mechKerberos
	}
	if h.observer == nil || h.opened {
		return nil
	}
	err := h.observer.APReq(token)
	switch {
	case err == nil, errors.Is(err, krb5.ErrPAC):
		h.opened, h.err = true, nil
		h.identity = h.observer.Identity()
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

// fromServer takes a token of the acceptor.
func (h *handshake) fromServer(token []byte) {
	if !h.opened || h.answered {
		return
	}
	h.answered = h.observer.APRep(token) == nil
}

// kerberosKey is the key of a session that was opened with Kerberos, with or without an answer; nil
// where it is not known.
func (h *handshake) kerberosKey() []byte {
	if !h.opened {
		return nil
	}
	return h.observer.SessionKey()
}

// unseal decrypts a sealed message in place.
func (h *handshake) unseal(fromClient bool, m dcerpc.Message, token []byte) error {
	if !h.answered {
		return h.missing(ErrSealed)
	}
	d := krb5.FromAcceptor
	if fromClient {
		d = krb5.FromInitiator
	}
	if _, err := h.observer.Unseal(d, m, token); err != nil {
		return wrap(ErrSignature, err)
	}
	return nil
}

// missing says why there is no key, as an error with a Reason.
func (h *handshake) missing(r Reason) error {
	switch {
	case h.identity.Mechanism == mechNTLM:
		return wrap(r, errors.New("it comes of NTLM and no keytab holds it"))
	case h.err != nil:
		return h.err
	case h.observer == nil:
		return wrap(r, errors.New("no keytab was given"))
	case !h.opened:
		return wrap(r, errors.New("the capture lacks the client's Kerberos token"))
	}
	return wrap(r, errors.New("the capture lacks the server's Kerberos token"))
}

// A wrapped error is a Reason with what caused it.
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

func (w *wrapped) Error() string   { return "capture: " + w.reason.Error() + ": " + w.cause.Error() }
func (w *wrapped) Unwrap() []error { return []error{w.reason, w.cause} }

// looksLikeKerberos finds a raw AP-REQ, or Kerberos's name as the first mechanism of SPNEGO or of a GSS frame.
func looksLikeKerberos(token []byte) bool {
	const applicationAPReq = 0x6E
	if len(token) > 0 && token[0] == applicationAPReq {
		return true
	}
	krb := []byte{0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02}
	microsoft := []byte{0x06, 0x09, 0x2A, 0x86, 0x48, 0x82, 0xF7, 0x12, 0x01, 0x02, 0x02}
	ntlm := []byte("NTLMSSP\x00")
	return (bytes.Contains(token, krb) || bytes.Contains(token, microsoft)) && !bytes.Contains(token, ntlm)
}

// ntlmUser finds the user in an AUTHENTICATE_MESSAGE, inside of SPNEGO or not (MS-NLMP 2.2.1.3):
//
//	0 "NTLMSSP\0" | 8 type 3 | 12 and 20 responses | 28 domain | 36 user | 44 workstation | 52 session key | 60 flags
//
// where a field is its length, twice, in 2 bytes each, and its offset, 4 bytes.
func ntlmUser(token []byte) (user, domain string, ok bool) {
	i := bytes.Index(token, []byte("NTLMSSP\x00\x03\x00\x00\x00"))
	if i < 0 || len(token)-i < 64 {
		return "", "", false
	}
	msg := token[i:]
	unicode := binary.LittleEndian.Uint32(msg[60:])&1 != 0
	return ntlmString(msg, 36, unicode), ntlmString(msg, 28, unicode), true
}

func ntlmString(msg []byte, at int, unicode bool) string {
	n := uint64(binary.LittleEndian.Uint16(msg[at:]))
	off := uint64(binary.LittleEndian.Uint32(msg[at+4:]))
	if off+n > uint64(len(msg)) {
		return ""
	}
	b := msg[off : off+n]
	if !unicode {
		return string(b)
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
