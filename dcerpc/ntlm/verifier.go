package ntlm

import (
	"context"
	"crypto/subtle"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A Verifier checks log-ons. [HashFile] and [WinbindHelper] are Verifiers; one over a database of
// NT hashes can call [Challenge.Check].
type Verifier interface {
	// Verify decides whether the response in c proves the account's password. Its error matches
	// [ErrLogonFailure] if the client is at fault, or the account unknown.
	//
	// It must be safe for concurrent use, and return soon after ctx has ended.
	Verify(ctx context.Context, c *Challenge) (*Result, error)
}

// A Challenge is a server's challenge and a client's well-formed answer.
type Challenge struct {
	// Domain and User are as the client sent them. The domain is empty if the user is a principal
	// name, and with some clients for local accounts.
	Domain, User string
	Workstation  string // as the client claims; do not rely on it
	// ServerChallenge is the server's nonce.
	ServerChallenge [8]byte
	// Response is the NTLMv2_RESPONSE: 16 bytes of NTProofStr and the client's
	// challenge (MS-NLMP 2.2.2.8). It belongs to the caller of Verify.
	Response []byte
}

// A Result is what a Verifier returns about an account that has proved its password.
type Result struct {
	// SessionBaseKey is the NTLMv2 session base key (MS-NLMP 3.3.2): the UserSessionKey of
	// Netlogon and winbind.
	SessionBaseKey [16]byte
	// Identity is the account. The acceptor sets Mechanism.
	Identity dcerpc.Identity
}

// Check compares the response with that of an account with this NT hash, and returns the session
// base key. The comparison takes constant time.
//
// The response may have been computed without the domain, as some clients do (MS-NLMP 3.2.5.1.2).
func (c *Challenge) Check(hash [16]byte) (sessionBaseKey [16]byte, ok bool) {
	if len(c.Response) < 16 {
		return sessionBaseKey, false
	}
	for _, domain := range []string{c.Domain, ""} {
		proof, key := ntProof(ntowfv2(hash, c.User, domain), c.ServerChallenge, c.Response[16:])
		if subtle.ConstantTimeCompare(proof[:], c.Response[:16]) == 1 {
			return key, true
		}
	}
	return sessionBaseKey, false
}
