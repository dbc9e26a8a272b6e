// Package ntlm is the NTLM security provider of DCE/RPC (MS-NLMP): NTLMv2 with extended
// session security, 128-bit keys and key exchange, as initiator and as acceptor.
//
// LM, NTLMv1, weaker keys, anonymous and guest log-ons are refused on both sides. NTLM
// authenticates only the client; the first signed response proves that the server knows the
// client's key too. NTLM has neither forward secrecy nor a modern cipher (RC4, HMAC-MD5), so prefer
// Kerberos, and serve NTLM only to clients that have nothing else.
//
// The package reads and writes the messages itself, and uses only ssp/crypto of go-msrpc: the
// parsers in its ssp/ntlm index past the end of a short message or AV pair, and that package
// depends on two Kerberos libraries.
package ntlm

import (
	"encoding/asn1"
	"errors"
)

// Errors of a failed log-on. Other errors say what is malformed in a token.
var (
	// ErrLogonFailure means a wrong password or an unknown account, without saying which.
	ErrLogonFailure = errors.New("ntlm: logon failure")
	// ErrAnonymous means that the client asked for an anonymous log-on.
	ErrAnonymous = errors.New("ntlm: anonymous log-on refused")
	// ErrNTLMv1 means that the client answered with LM or NTLMv1.
	ErrNTLMv1 = errors.New("ntlm: LM and NTLMv1 responses are refused")
	// ErrBadMIC means that the exchange was changed on its way (MS-NLMP 3.2.5.1.2).
	ErrBadMIC = errors.New("ntlm: the exchange was tampered with: bad MIC in AUTHENTICATE_MESSAGE")
	// ErrBadSignature means that a message is not the peer's next one: it was changed, replayed,
	// reordered, or reflected.
	ErrBadSignature = errors.New("ntlm: bad signature")
)

// SignatureSize is the length of an NTLMSSP_MESSAGE_SIGNATURE at every level (MS-NLMP 2.2.2.9.2).
const SignatureSize = 16

// MaxTokenSize is the longest token that an acceptor accepts, in bytes, as on Windows.
const MaxTokenSize = 2888

// mechanismName is the value of Identity.Mechanism.
const mechanismName = "ntlm"

// oid names NTLM within SPNEGO:
// iso.org.dod.internet.private.enterprise.Microsoft.security.mechanisms.NTLM.
func oid() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
}

const (
	// strongFlags make up the only session security that this package supports.
	strongFlags = negotiateExtendedSessionSecurity | negotiateKeyExchange | negotiate128
	// baseFlags are required of every peer, even at the connect level.
	baseFlags = negotiateUnicode | negotiateNTLM | negotiateExtendedSessionSecurity
)
