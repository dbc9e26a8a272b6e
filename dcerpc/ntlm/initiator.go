package ntlm

import (
	"context"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// Credentials are a client's account and its password or NT hash.
type Credentials struct {
	// Domain is the account's domain, or the machine of a local account; empty if User is a
	// principal name, "backup@fsrvp.test".
	Domain string
	// User is the account's name; it must not be empty.
	User string
	// Password is the account's password. [NewInitiator] hashes it and does not keep it.
	Password string
	// NTHash, 16 bytes, replaces the password; nil means that Password is used.
	NTHash []byte
	// Workstation is the name of this machine, for the server's log; it may be empty.
	Workstation string
}

// String returns the account, without password and hash.
func (c Credentials) String() string { return accountName(c.Domain, c.User) }

// Format keeps password and hash out of the output of every verb, %+v and %#v included.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue keeps password and hash out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps password and hash out of text encodings, JSON included.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// An Initiator starts NTLM contexts for a client ([dcerpc.Initiator]). It is safe for concurrent use.
type Initiator struct {
	domain, user, workstation string
	hash                      [16]byte
}

// NewInitiator returns an Initiator. It fails for credentials that no server would accept.
func NewInitiator(c Credentials) (*Initiator, error) {
	i := &Initiator{domain: c.Domain, user: c.User, workstation: c.Workstation}
	switch {
	case c.User == "":
		return nil, errors.New("ntlm: credentials without a user; anonymous log-ons are not supported")
	case c.NTHash != nil && c.Password != "":
		return nil, fmt.Errorf("ntlm: both a password and an NT hash for %s", i.account())
	case c.NTHash != nil && len(c.NTHash) != len(i.hash):
		return nil, fmt.Errorf("ntlm: the NT hash of %s is %d bytes long, not %d", i.account(), len(c.NTHash),
			len(i.hash))
	case c.NTHash != nil:
		copy(i.hash[:], c.NTHash)
	case c.Password == "":
		return nil, fmt.Errorf("ntlm: neither a password nor an NT hash for %s", i.account())
	default:
		i.hash = NTHash(c.Password)
	}
	return i, nil
}

func (i *Initiator) account() string { return accountName(i.domain, i.user) }

func accountName(domain, user string) string {
	if domain == "" {
		return user
	}
	return domain + `\` + user
}

// AuthType is RPC_C_AUTHN_WINNT, 10.
func (i *Initiator) AuthType() dcerpc.AuthType { return dcerpc.AuthNTLM }

// OID returns the mechanism's object identifier in SPNEGO.
func (i *Initiator) OID() asn1.ObjectIdentifier { return oid() }

// NewContext starts a context. The server receives target, and may refuse a client that names
// another server; the client itself does not use it.
//
// Besides those of [dcerpc.Context], the result has the methods that SPNEGO and SMB need: GetMIC,
// VerifyMIC and ResetKeys (see package spnego), and SessionKey, which returns the 16 bytes of the
// ExportedSessionKey of an established context.
func (i *Initiator) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	c := &initiatorContext{initiator: i, target: target, need: baseFlags}
	c.ask = baseFlags | strongFlags | negotiateSign | negotiateAlwaysSign | requestTarget |
		negotiateTargetInfo | negotiateVersion | negotiate56
	if level >= dcerpc.LevelPacket {
		c.need |= strongFlags | negotiateSign
	}
	if level >= dcerpc.LevelPrivacy {
		c.ask |= negotiateSeal
		c.need |= negotiateSeal
	}
	return c, nil
}

// initiatorContext sends a NEGOTIATE_MESSAGE, takes a CHALLENGE_MESSAGE, and sends an
// AUTHENTICATE_MESSAGE (MS-NLMP 3.1.5.1).
type initiatorContext struct {
	established
	initiator *Initiator
	target    string
	ask, need negotiateFlags
	negotiate []byte // as sent; the MIC covers it
	done      bool
}

// Step returns a NEGOTIATE_MESSAGE at the first call, and an AUTHENTICATE_MESSAGE with done set at
// the second.
func (c *initiatorContext) Step(ctx context.Context, in []byte) ([]byte, bool, error) {
	switch {
	case c.done:
		return nil, false, errors.New("ntlm: a token after the last one")
	case c.negotiate == nil:
		if len(in) != 0 {
			c.done = true
			return nil, false, errors.New("ntlm: a token from the server before the first one of ours")
		}
		c.negotiate = appendNegotiate(nil, c.ask)
		return slices.Clone(c.negotiate), false, nil
	default:
		c.done = true
		out, err := c.authenticate(ctx, in)
		return out, err == nil, err
	}
}

// authenticate answers a CHALLENGE_MESSAGE (MS-NLMP 3.1.5.1.2).
func (c *initiatorContext) authenticate(ctx context.Context, in []byte) ([]byte, error) {
	challenge, err := parseChallenge(in)
	if err != nil {
		return nil, err
	}
	flags := challenge.flags & c.ask
	if missing := c.need &^ flags; missing != 0 {
		return nil, fmt.Errorf("ntlm: the server does not offer what this context needs (NegotiateFlags %#08x lack %#08x)",
			uint32(challenge.flags), uint32(missing))
	}

	key := ntowfv2(c.initiator.hash, c.initiator.user, c.initiator.domain)
	nt, lm, sessionBaseKey, err := c.responses(key, challenge)
	if err != nil {
		return nil, err
	}

	exported, keyExchange := sessionBaseKey, flags.IsSet(negotiateKeyExchange)
	var encrypted []byte
	if keyExchange {
		rand.Read(exported[:])
		encrypted = rc4K(sessionBaseKey, exported[:])
	}
	out, err := (&authenticateMessage{
		flags:               flags,
		lm:                  lm,
		nt:                  nt,
		domain:              c.initiator.domain,
		user:                c.initiator.user,
		workstation:         c.initiator.workstation,
		encryptedSessionKey: encrypted,
	}).append(nil)
	if err != nil {
		return nil, fmt.Errorf("ntlm: AUTHENTICATE_MESSAGE: %w", err)
	}
	if len(out) > MaxTokenSize {
		return nil, fmt.Errorf("ntlm: AUTHENTICATE_MESSAGE of %d bytes, more than the %d that Windows accepts", len(out),
			MaxTokenSize)
	}
	mic := hmacMD5(exported[:], c.negotiate, in, out)
	copy(out[micOffset:micEnd], mic[:])
	c.session = newSession(exported, keyExchange, true)
	return out, nil
}

// responses returns the NtChallengeResponse, the LmChallengeResponse, and their session base key.
func (c *initiatorContext) responses(key [16]byte, challenge *challengeMessage) (nt, lm []byte, sessionBaseKey [16]byte,
	err error) {
	_, hasComputer := findAV(challenge.targetInfo, msvAvNetBIOSComputerName)
	_, hasDomain := findAV(challenge.targetInfo, msvAvNetBIOSDomainName)
	if !hasComputer && !hasDomain {
		return nil, nil, sessionBaseKey, errors.New("ntlm: the server's TargetInfo names neither a computer nor a domain")
	}
	pairs, err := clientAVPairs(challenge.targetInfo, c.target)
	if err != nil {
		return nil, nil, sessionBaseKey, err
	}
	var nonce [8]byte
	rand.Read(nonce[:])

	now, lm := filetime(time.Now()), make([]byte, 24)
	if v, ok := findAV(challenge.targetInfo, msvAvTimestamp); !ok {
		lm = lmv2Response(key, challenge.challenge, nonce)
	} else if len(v) != 8 {
		return nil, nil, sessionBaseKey, errors.New("ntlm: MsvAvTimestamp is not 8 bytes long")
	} else {
		now = binary.LittleEndian.Uint64(v)
	}
	client := appendClientChallenge(nil, now, nonce, pairs)
	proof, sessionBaseKey := ntProof(key, challenge.challenge, client)
	return append(proof[:], client...), lm, sessionBaseKey, nil
}

// PrefersMIC makes SPNEGO send a mechListMIC even where RFC 4178 makes it optional: Windows and
// Samba send one when the AUTHENTICATE_MESSAGE has a MIC, and Samba requires it.
func (c *initiatorContext) PrefersMIC() bool { return c.session != nil }

// Identity names only the mechanism, since NTLM does not authenticate servers.
func (c *initiatorContext) Identity() dcerpc.Identity {
	return dcerpc.Identity{Mechanism: mechanismName}
}
