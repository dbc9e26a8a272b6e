package ntlm

import (
	"context"
	"crypto/subtle"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A Verifier knows accounts. HashFile and WinbindHelper are two; one over a database that
// holds NT hashes calls Challenge.Check.
type Verifier interface {
	// Verify decides whether the response in c proves the account's password. Its error is or
	// wraps ErrLogonFailure where the client is at fault, an unknown account included.
	//
	// It is called by several goroutines at once, and returns soon after ctx has ended.
	Verify(ctx context.Context, c *Challenge) (*Result, error)
}

// A Challenge is a server's challenge and what a client answered, well-formed so far.
type Challenge struct {
	// Domain and User are as the client wrote them. The domain is empty where the user is a
	// principal name, and with some clients for local accounts.
	Domain, User string
	Workstation  string // as the client says; not to be relied on
	// ServerChallenge is the server's nonce.
	ServerChallenge [8]byte
	// Response is the NTLMv2_RESPONSE: 16 bytes of NTProofStr and the client's
	// challenge (MS-NLMP 2.2.2.8). It belongs to the caller of Verify.
	Response []byte
}

// A Result is what a Verifier knows of an account that proved itself.
type Result struct {
	// SessionBaseKey is the NTLMv2 session base key (MS-NLMP 3.3.2): the UserSessionKey of
	// Netlogon and winbind.
	SessionBaseKey [16]byte
	// Identity is the account. The acceptor sets Mechanism.
	Identity dcerpc.Identity
}

// Check compares the response with what an account of this NT hash answers, and returns the
// session base key. The comparison takes the same time wherever they differ.
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
