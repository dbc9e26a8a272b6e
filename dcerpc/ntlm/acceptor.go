package ntlm

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// AcceptorConfig configures an Acceptor.
type AcceptorConfig struct {
	// Verifier checks the accounts: a [HashFile], a [WinbindHelper]. It must not be nil.
	Verifier Verifier

	// ComputerName is the server's NetBIOS name; empty means the first label of the host's name, in
	// capitals and cut at 15 bytes. A domain controller behind the Verifier refuses log-ons if this
	// is not the name of the machine account.
	ComputerName string
	// DomainName is the NetBIOS name of the server's domain; empty means a server without a domain,
	// which sends its own name instead.
	DomainName string
	// DNSComputerName, DNSDomainName and DNSTreeName are the full names of server, domain and
	// forest; empty ones are not sent.
	DNSComputerName, DNSDomainName, DNSTreeName string

	// Targets are the service principal names that clients may name, such as
	// "host/fs1.example.com", compared without regard to case. A client that names another target
	// may have been relayed, and is refused, as is one that names none. Nil accepts any target.
	Targets []string
}

// An Acceptor starts NTLM contexts for a server ([dcerpc.Acceptor]). It is safe for concurrent use.
type Acceptor struct {
	verifier Verifier
	targets  []string
	name     string         // TargetName
	nameType negotiateFlags // whether name is a domain or a server
	info     []byte         // AV pairs of the names, without the end
}

// NewAcceptor returns an Acceptor. It does not keep cfg.
func NewAcceptor(cfg *AcceptorConfig) (*Acceptor, error) {
	if cfg == nil || cfg.Verifier == nil {
		return nil, errors.New("ntlm: an acceptor without a Verifier")
	}
	computer := cfg.ComputerName
	if computer == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("ntlm: ComputerName is empty and the host has no name: %w", err)
		}
		host, _, _ = strings.Cut(host, ".")
		computer = strings.ToUpper(host[:min(len(host), 15)])
	}
	a := &Acceptor{verifier: cfg.Verifier, targets: slices.Clone(cfg.Targets)}
	a.name, a.nameType = cfg.DomainName, targetTypeDomain
	if a.name == "" {
		a.name, a.nameType = computer, targetTypeServer
	}
	for _, n := range []struct {
		id   avID
		name string
	}{
		{msvAvNetBIOSDomainName, a.name}, {msvAvNetBIOSComputerName, computer}, {msvAvDNSDomainName, cfg.DNSDomainName},
		{msvAvDNSComputerName, cfg.DNSComputerName}, {msvAvDNSTreeName, cfg.DNSTreeName},
	} {
		value := utf16le(n.name)
		if len(value) > maxName {
			return nil, fmt.Errorf("ntlm: the name %.64q... has %d bytes of UTF-16, more than %d", n.name, len(value),
				maxName)
		}
		if n.name != "" {
			a.info = appendAV(a.info, n.id, value)
		}
	}
	return a, nil
}

// AuthType is RPC_C_AUTHN_WINNT, 10.
func (a *Acceptor) AuthType() dcerpc.AuthType { return dcerpc.AuthNTLM }

// OID returns the mechanism's object identifier in SPNEGO.
func (a *Acceptor) OID() asn1.ObjectIdentifier { return oid() }

// NewContext starts a context for one client. Besides those of [dcerpc.Context], the result has the
// methods that an Initiator's context has.
func (a *Acceptor) NewContext(level dcerpc.AuthLevel) (dcerpc.Context, error) {
	c := &acceptorContext{acceptor: a, need: baseFlags}
	if level >= dcerpc.LevelPacket {
		c.need |= strongFlags | negotiateSign
	}
	if level >= dcerpc.LevelPrivacy {
		c.need |= negotiateSeal
	}
	return c, nil
}

// acceptorContext takes NEGOTIATE_MESSAGE, then AUTHENTICATE_MESSAGE (MS-NLMP 3.2.5.1).
type acceptorContext struct {
	established
	acceptor             *Acceptor
	need                 negotiateFlags
	flags                negotiateFlags // of the CHALLENGE_MESSAGE; once done, those that both sides agree on
	negotiate, challenge []byte         // as sent on the wire; the MIC covers them
	serverChallenge      [8]byte
	done                 bool
	identity             dcerpc.Identity
}

// Step returns a CHALLENGE_MESSAGE at the first call, and an empty token with done set at the
// second.
func (c *acceptorContext) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	switch {
	case c.done:
		err = errors.New("ntlm: a token after the last one")
	case len(in) > MaxTokenSize:
		err = fmt.Errorf("ntlm: token of %d bytes, more than %d", len(in), MaxTokenSize)
	case c.challenge == nil:
		out, err = c.challengeClient(ctx, in)
	default:
		err = c.authenticate(ctx, in)
		done = err == nil
	}
	c.done = done || err != nil
	return out, done, err
}

// Protection reports, once the exchange is over, whether messages can be signed and sealed: whether
// the client has asked for that, and for keys as strong as ours. Other clients may still log on, as
// on Windows.
func (c *acceptorContext) Protection() (sign, seal bool) {
	sign = c.flags&(strongFlags|negotiateSign) == strongFlags|negotiateSign
	return sign, sign && c.flags.IsSet(negotiateSeal)
}

// challengeClient answers a NEGOTIATE_MESSAGE (MS-NLMP 3.2.5.1.1).
func (c *acceptorContext) challengeClient(ctx context.Context, in []byte) ([]byte, error) {
	offered, err := parseNegotiate(in)
	if err != nil {
		return nil, err
	}
	need := negotiateFlags(baseFlags)
	if offered&(negotiateSign|negotiateSeal) != 0 {
		need |= strongFlags // a signature that anybody can forge is worse than none
	}
	if missing := need &^ offered; missing != 0 {
		return nil, fmt.Errorf("ntlm: the client is too weak (NegotiateFlags %#08x lack %#08x)", uint32(offered),
			uint32(missing))
	}
	c.flags = offered&(baseFlags|strongFlags|negotiateSign|negotiateSeal|negotiate56|negotiateVersion) |
		negotiateAlwaysSign | requestTarget | negotiateTargetInfo | c.acceptor.nameType
	rand.Read(c.serverChallenge[:])
	now := binary.LittleEndian.AppendUint64(nil, filetime(time.Now()))
	info := appendAV(appendAV(slices.Clone(c.acceptor.info), msvAvTimestamp, now), msvAvEOL, nil)
	c.negotiate = slices.Clone(in)
	c.challenge = appendChallenge(nil, c.flags, c.serverChallenge, c.acceptor.name, info)
	return slices.Clone(c.challenge), nil
}

// authenticate checks an AUTHENTICATE_MESSAGE (MS-NLMP 3.2.5.1.2).
func (c *acceptorContext) authenticate(ctx context.Context, in []byte) error {
	m, err := parseAuthenticate(in)
	if err != nil {
		return err
	}
	if !m.flags.IsSet(negotiateUnicode) {
		return errors.New("ntlm: AUTHENTICATE_MESSAGE is not in Unicode")
	}
	if m.anonymous() {
		return ErrAnonymous
	}
	if len(m.nt) <= 24 {
		return ErrNTLMv1
	}
	flags := m.flags & c.flags
	if missing := (c.need & c.flags) &^ flags; missing != 0 {
		return fmt.Errorf("ntlm: the client withdrew flags that it had offered (NegotiateFlags %#08x lack %#08x)",
			uint32(m.flags), uint32(missing))
	}
	pairs, err := parseClientChallenge(m.nt)
	if err != nil {
		return err
	}
	avs, err := avFlags(pairs)
	if err != nil {
		return err
	}
	if avs.IsSet(micProvided) && len(in) < micEnd {
		return errTruncated
	}

	result, err := c.acceptor.verifier.Verify(ctx, &Challenge{
		Domain: m.domain, User: m.user, Workstation: m.workstation,
		ServerChallenge: c.serverChallenge, Response: m.nt,
	})
	if err != nil {
		return fmt.Errorf("%w (account %q)", err, accountName(m.domain, m.user))
	}

	exported, keyExchange := result.SessionBaseKey, flags.IsSet(negotiateKeyExchange)
	if keyExchange {
		if len(m.encryptedSessionKey) != len(exported) {
			return fmt.Errorf("ntlm: EncryptedRandomSessionKey of %d bytes", len(m.encryptedSessionKey))
		}
		copy(exported[:], rc4K(result.SessionBaseKey, m.encryptedSessionKey))
	}
	// The account's key signs the flag, so nobody can strip the MIC.
	if avs.IsSet(micProvided) {
		want := micOf(exported, c.negotiate, c.challenge, in)
		if subtle.ConstantTimeCompare(want[:], in[micOffset:micEnd]) != 1 {
			return ErrBadMIC
		}
	}
	if err := c.checkTarget(pairs); err != nil {
		return err
	}
	c.flags = flags
	c.session = newSession(exported, keyExchange, false)
	c.identity = result.Identity
	c.identity.Mechanism = mechanismName
	return nil
}

// checkTarget compares the client's MsvAvTargetName with our names.
func (c *acceptorContext) checkTarget(pairs []avPair) error {
	if c.acceptor.targets == nil {
		return nil
	}
	v, _ := findAV(pairs, msvAvTargetName)
	target, err := decodeUTF16(v)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.acceptor.targets, func(t string) bool { return strings.EqualFold(t, target) }) {
		return fmt.Errorf("ntlm: the client asked for %q, which is not this server", target)
	}
	return nil
}

// Identity returns the account as the Verifier names it.
func (c *acceptorContext) Identity() dcerpc.Identity { return c.identity }
