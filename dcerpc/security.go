package dcerpc

import "context"

// AuthType is the security provider of an auth trailer (MS-RPCE 2.2.1.1.7).
type AuthType uint8

// The security providers that MS-FSRVP 2.1 names.
const (
	AuthNone     AuthType = 0
	AuthSPNEGO   AuthType = 9
	AuthNTLM     AuthType = 10
	AuthKerberos AuthType = 16
)

// AuthLevel is the protection level of a security context (MS-RPCE 2.2.1.1.8).
//
// The zero value means [LevelPrivacy] for a client, and for a server [LevelIntegrity] as the lowest
// level that it accepts.
type AuthLevel uint8

// Protection levels. A level that leaves calls unprotected has Insecure in its name.
const (
	LevelDefault         AuthLevel = 0
	LevelInsecureNone    AuthLevel = 1
	LevelInsecureConnect AuthLevel = 2
	LevelInsecureCall    AuthLevel = 3 // for connectionless RPC; others refuse it or use LevelPacket (MS-RPCE 2.2.1.1.8)
	LevelPacket          AuthLevel = 4 // signed, like LevelIntegrity; Windows does the same
	LevelIntegrity       AuthLevel = 5
	LevelPrivacy         AuthLevel = 6
)

// An Initiator starts security contexts for a client. It is safe for concurrent use.
type Initiator interface {
	AuthType() AuthType
	// NewContext starts a context towards target, a service principal name
	// such as "host/fs1.example.com", at the given level (never zero).
	NewContext(target string, level AuthLevel) (Context, error)
}

// An Acceptor starts security contexts for a server. It is safe for concurrent use. The
// context.Context passed to [Context.Step] carries a [Peer] with the client's address, and ends
// before the client's time for the bind runs out.
type Acceptor interface {
	AuthType() AuthType
	NewContext(level AuthLevel) (Context, error)
}

// A Context is one security context on one connection, of either side: first the
// exchange of tokens, then the protection of PDUs.
//
// Step is called by one goroutine at a time and returns before anything is protected. After that,
// one goroutine may protect (Sign, Seal) while another checks (Verify, Unseal).
//
// A Context that holds more than memory implements [io.Closer]. Its Close is called once, when the
// exchange has failed or the connection has ended, and possibly while other methods are running;
// those, and later calls, then return an error.
type Context interface {
	// Step takes the peer's token (nil for an initiator's first leg) and returns the next one to
	// send; an empty token with done set means that there is nothing to send. An error ends the
	// context. Step does not keep in; out belongs to the caller.
	Step(ctx context.Context, in []byte) (out []byte, done bool, err error)

	// TokenSize returns the exact size in bytes of a signature at a level; at [LevelPrivacy], of the
	// token of a sealed message.
	TokenSize(level AuthLevel) int

	// Sign writes the signature of m into token, which has TokenSize([LevelIntegrity]) bytes.
	Sign(m Message, token []byte) error
	// Seal encrypts m.Body in place and writes the signature into token, which
	// has TokenSize([LevelPrivacy]) bytes.
	Seal(m Message, token []byte) error
	// Verify checks a signature that the peer made with Sign. The length of a peer's token may
	// differ from TokenSize.
	Verify(m Message, token []byte) error
	// Unseal decrypts m.Body in place and checks the signature. After an error the contents of the
	// body must not be used.
	Unseal(m Message, token []byte) error

	// Identity returns the authenticated peer, once Step has returned done.
	Identity() Identity
}

// A PartialContext is a Context whose exchange may succeed with less protection than its level
// needs, because the peer did not ask for more. A [Server] refuses such a context as Windows does:
// at the privacy level at the end of the exchange, and at other levels at the first call.
type PartialContext interface {
	Context
	// Protection reports, once Step has returned done, whether the peers have agreed to sign and to
	// seal.
	Protection() (sign, seal bool)
}

// A Message is one PDU, divided for a security context into three adjacent ranges that alias the
// PDU's buffer:
//
//	| header (with object UUID) | stub + auth padding | 8-byte sec_trailer | token |
//	| Header                    | Body                | Trailer            |       |
//
// frag_length and auth_length are final.
type Message struct {
	Header  []byte // signed if SignHeader is set, never encrypted
	Body    []byte // signed; encrypted at LevelPrivacy
	Trailer []byte // signed if SignHeader is set, never encrypted
	// SignHeader reports whether header signing was negotiated (MS-RPCE 3.3.1.5.2.2).
	// Without it Kerberos protects the body alone; NTLM signs all three in any case.
	SignHeader bool
}

// An Identity describes a peer that a security context, or the session under a pipe, has
// authenticated.
type Identity struct {
	Account   string // the account's name, "backup"; empty for an anonymous peer
	Domain    string // the account's domain or realm as the mechanism gives it, "FSRVP" or "FSRVP.TEST"
	Principal string // the Kerberos principal, "backup@FSRVP.TEST", where there is one
	Mechanism string // "krb5", "ntlm", "smb"; for SPNEGO, the mechanism inside
	// SIDs are the user's SID, then those of the groups; nil if the mechanism knows none.
	SIDs []SID
	// Privileges is a mask of privileges in the LUID bits that Samba and MS-LSAD use, if the
	// session under a pipe knows them; zero otherwise.
	Privileges Privileges
}

// Privileges is a set of privileges of an account.
type Privileges uint64

// The privileges that matter for backups.
const (
	PrivilegeBackup  Privileges = 0x200
	PrivilegeRestore Privileges = 0x400
)

// HasSID reports whether the peer's token holds sid.
func (id *Identity) HasSID(sid SID) bool {
	for _, s := range id.SIDs {
		if s == sid {
			return true
		}
	}
	return false
}
