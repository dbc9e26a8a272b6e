// Package ntlm is the NTLM security provider of DCE/RPC (MS-NLMP): NTLMv2 with extended
// session security, 128-bit keys and key exchange, as initiator and as acceptor.
//
// LM, NTLMv1, weaker keys, anonymous and guest log-ons are refused on both sides. NTLM
// authenticates the client alone: that the server knew the client's key too shows with the
// first signed response. It has neither forward secrecy nor a modern cipher (RC4, HMAC-MD5), so
// prefer Kerberos, and serve NTLM only where a client has nothing else.
//
// The messages are read and written here: the readers of go-msrpc's ssp/ntlm index past the end of
// a short message or AV pair, and the package brings two Kerberos libraries with it. Of go-msrpc
// this package uses ssp/crypto.
package ntlm

import (
	"encoding/asn1"
	"errors"
)

// The errors that a log-on ends with. Others say what is malformed in a token.
var (
	// ErrLogonFailure is a wrong password or an account that does not exist: the two cannot
	// be told apart.
	ErrLogonFailure = errors.New("ntlm: logon failure")
	// ErrAnonymous is a client that wants to be nobody.
	ErrAnonymous = errors.New("ntlm: anonymous log-on refused")
	// ErrNTLMv1 is a client that answered with LM or NTLMv1.
	ErrNTLMv1 = errors.New("ntlm: LM and NTLMv1 responses are refused")
	// ErrBadMIC is an exchange that somebody changed on its way (MS-NLMP 3.2.5.1.2).
	ErrBadMIC = errors.New("ntlm: the exchange was tampered with: bad MIC in AUTHENTICATE_MESSAGE")
	// ErrBadSignature is a message that is not the peer's next one: changed, replayed, out of
	// order, or reflected.
	ErrBadSignature = errors.New("ntlm: bad signature")
)

// SignatureSize is the length of an NTLMSSP_MESSAGE_SIGNATURE at every level (MS-NLMP 2.2.2.9.2).
const SignatureSize = 16

// MaxTokenSize is the longest token that an acceptor takes, in bytes: Windows' own limit.
const MaxTokenSize = 2888

// mechanismName is what Identity.Mechanism says.
const mechanismName = "ntlm"

// oid names NTLM within SPNEGO:
// iso.org.dod.internet.private.enterprise.Microsoft.security.mechanisms.NTLM.
func oid() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
}

const (
	// strongFlags make up the only session security that is spoken here.
	strongFlags = negotiateExtendedSessionSecurity | negotiateKeyExchange | negotiate128
	// baseFlags are demanded of every peer, at the connect level too.
	baseFlags = negotiateUnicode | negotiateNTLM | negotiateExtendedSessionSecurity
)
