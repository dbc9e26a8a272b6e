package krb5

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// An AcceptorConfig says which tickets an Acceptor accepts.
type AcceptorConfig struct {
	// KeytabFile is the path of the service's keytab. The Acceptor checks for every context whether
	// the file has changed, and if so reads it again. Empty means that Keytab is used.
	KeytabFile string
	// Keytab holds the service's keys if KeytabFile is empty.
	Keytab *Keytab
	// Principals are the entries of the keytab that may be used, as "host/fs1.example.com" or with
	// "@REALM". Empty means all. Note that the service's name in a ticket is not protected: only
	// the key distinguishes services, and in Active Directory all services of one account share a
	// key.
	Principals []string
	// Etypes are the encryption types that a ticket, its session key and subkeys may have. Nil
	// means AES with SHA-1 or SHA-2.
	Etypes []Etype
	// InsecureRC4 also allows RC4-HMAC, for domains that support nothing better.
	InsecureRC4 bool
	// RequirePAC refuses tickets without the client's SIDs, such as those of MIT's KDC. In an
	// Active Directory all tickets have them, except for accounts that are marked otherwise.
	RequirePAC bool
	// InsecureLocalSIDs accepts SIDs in a PAC that have a meaning only on one host, such as
	// BUILTIN\Administrators. Otherwise they are dropped, because the controllers of this domain
	// and of the domains that it trusts must not decide who belongs to this host's own groups. It
	// is for tests.
	InsecureLocalSIDs bool
	// ClockSkew is how far the client's clock may be off, and how long a ticket is accepted after
	// its end. Zero means 5 minutes.
	ClockSkew time.Duration
	// ReplayCacheSize is how many AP-REQs are remembered, for twice the ClockSkew, so that a
	// replayed one is refused. Beyond this number the oldest are forgotten. Zero means 65536, which
	// takes at most about 10 MB.
	ReplayCacheSize int
}

// An Acceptor is the server's side. It is safe for concurrent use and need not be closed.
//
// Like Windows and Samba, it leaves to the KDC whether a client may come from its realm by way of
// other realms (RFC 4120 section 2.7). It ignores addresses in a ticket, channel bindings and
// delegated credentials.
type Acceptor struct {
	allowed []Etype
	only    func(Principal) bool
	rights  pacRules
	skew    time.Duration
	replays replayCache

	file string
	mu   sync.Mutex
	info os.FileInfo // of the file when it was read
	kt   *Keytab
}

var _ dcerpc.Acceptor = (*Acceptor)(nil)

// NewAcceptor returns an Acceptor. It fails with [ErrConfig] if the keytab cannot be read or lacks
// a principal that the configuration names.
func NewAcceptor(cfg *AcceptorConfig) (*Acceptor, error) {
	if cfg == nil || (cfg.KeytabFile == "") == (cfg.Keytab == nil) {
		return nil, fmt.Errorf("krb5: %w: an acceptor needs a keytab file or a keytab, one of both", ErrConfig)
	}
	a := &Acceptor{
		allowed: allowedEtypes(cfg.Etypes, cfg.InsecureRC4),
		rights:  pacRules{require: cfg.RequirePAC, local: cfg.InsecureLocalSIDs},
		skew:    cfg.ClockSkew,
		replays: replayCache{limit: cfg.ReplayCacheSize},
		file:    cfg.KeytabFile,
		kt:      cfg.Keytab,
	}
	if a.skew == 0 {
		a.skew = 5 * time.Minute
	}
	if a.replays.limit == 0 {
		a.replays.limit = 65536
	}
	kt, err := a.keytab()
	if err != nil {
		return nil, err
	}
	if len(cfg.Principals) > 0 {
		if a.only, err = onlyPrincipals(cfg.Principals, kt); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// allowedEtypes returns the configured list or the default, with RC4 only if the flag is set.
func allowedEtypes(list []Etype, rc4 bool) []Etype {
	if list == nil {
		list = defaultEtypes()
	}
	var out []Etype
	for _, e := range list {
		if e != RC4HMAC {
			out = append(out, e)
		}
	}
	if rc4 {
		out = append(out, RC4HMAC)
	}
	return out
}

// onlyPrincipals returns the check for AcceptorConfig.Principals.
func onlyPrincipals(names []string, kt *Keytab) (func(Principal) bool, error) {
	var list []Principal
	for _, name := range names {
		p, err := ParsePrincipal(name)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	match := func(want, have Principal) bool {
		if want.Realm == "" {
			want.Realm = have.Realm
		}
		return want.equalFold(have)
	}
	for i, want := range list {
		found := false
		for _, have := range kt.Principals() {
			found = found || match(want, have)
		}
		if !found {
			return nil, fmt.Errorf("krb5: %w: %w: %s; it holds keys of: %s", ErrConfig, ErrNoKey, names[i],
				kt.describe())
		}
	}
	return func(have Principal) bool {
		for _, want := range list {
			if match(want, have) {
				return true
			}
		}
		return false
	}, nil
}

// keytab returns the keys that the file has now. While the file cannot be read, the old keys stay
// in use, because the file may just be being replaced.
func (a *Acceptor) keytab() (*Keytab, error) {
	if a.file == "" {
		return a.kt, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	info, err := os.Stat(a.file)
	if err != nil {
		if a.kt != nil {
			return a.kt, nil
		}
		return nil, fmt.Errorf("krb5: %w: the keytab cannot be read: %w", ErrConfig, err)
	}
	if a.kt != nil && os.SameFile(info, a.info) && info.ModTime().Equal(a.info.ModTime()) &&
		info.Size() == a.info.Size() {
		return a.kt, nil
	}
	kt, err := LoadKeytab(a.file)
	if err != nil {
		if a.kt != nil {
			return a.kt, nil
		}
		return nil, err
	}
	a.kt, a.info = kt, info
	return kt, nil
}

// AuthType is dcerpc.AuthKerberos.
func (a *Acceptor) AuthType() dcerpc.AuthType { return dcerpc.AuthKerberos }

// OID is the mechanism's object identifier for SPNEGO, 1.2.840.113554.1.2.2.
func (a *Acceptor) OID() asn1.ObjectIdentifier { return mechOID() }

// NewContext starts a context. It returns a *Context. The exchange has three legs if the client
// asks for DCE style, as RPC clients do, and otherwise two. A client that does not ask for mutual
// authentication is refused. Errors of the first Step match [ErrNoKey], [ErrKeyVersion],
// [ErrWrongKey], [ErrExpired], [ErrNotYetValid], [ErrSkew], [ErrReplay], [ErrEtype], [ErrPAC] or
// [ErrToken]; those of the second match [ErrMutual].
func (a *Acceptor) NewContext(dcerpc.AuthLevel) (dcerpc.Context, error) {
	x := &acceptance{acceptor: a, c: &Context{}}
	x.c.step = x.accept
	return x.c, nil
}

// An acceptance is the acceptor's side of an exchange.
type acceptance struct {
	acceptor *Acceptor
	c        *Context
}

// accept takes the AP-REQ and answers with an AP-REP. It tells the peer why its ticket is refused,
// if the peer has a right to know.
func (x *acceptance) accept(_ context.Context, in []byte) ([]byte, bool, error) {
	out, done, err := x.acceptRequest(in)
	return out, done, forPeer(err)
}

// SECURITY_STATUS values (MS-ERREF 2.1).
const (
	secETimeSkew       = 0x80090324
	secEContextExpired = 0x80090317
	secELogonDenied    = 0x8009030C
)

// forPeer marks an error for the peer if two things hold: the ticket could be read, which proves
// that the peer is a client of the realm, and the peer's user can fix the problem.
func forPeer(err error) error {
	for _, e := range []struct {
		err    error
		status uint32
	}{
		{ErrSkew, secETimeSkew}, {ErrNotYetValid, secETimeSkew}, {ErrExpired, secEContextExpired}, {ErrPAC, secELogonDenied},
	} {
		if errors.Is(err, e.err) {
			return &dcerpc.SecurityError{Status: e.status, Text: strings.TrimPrefix(err.Error(), "krb5: "), Err: err}
		}
	}
	return err
}

func (x *acceptance) acceptRequest(in []byte) ([]byte, bool, error) {
	kt, err := x.acceptor.keytab()
	if err != nil {
		return nil, false, err
	}
	req, err := parseAPReq(in)
	if err != nil {
		return nil, false, err
	}
	opened, err := req.open(kt, x.acceptor.only, x.acceptor.allowed)
	if err != nil {
		return nil, false, err
	}
	client := opened.client()
	if opened.flags&flagMutual == 0 && opened.flags&flagDCEStyle == 0 {
		return nil, false, fmt.Errorf("krb5: %w: %v did not ask for it; use a client that authenticates both sides",
			ErrMutual, client)
	}
	now := time.Now()
	if err := x.acceptor.checkTimes(opened, client, now); err != nil {
		return nil, false, err
	}
	if x.c.identity, err = opened.identity(x.acceptor.rights); err != nil {
		return nil, false, fmt.Errorf("%w (of %v)", err, client)
	}
	if !x.acceptor.replays.add(req.EncryptedAuthenticator.Cipher, now, now.Add(2*x.acceptor.skew)) {
		return nil, false, fmt.Errorf("krb5: %w: of %v, made at %v", ErrReplay, client, opened.auth.CTime)
	}
	return x.reply(opened)
}

// checkTimes checks the ticket's life and the authenticator's age.
func (a *Acceptor) checkTimes(o *openedAPReq, client Principal, now time.Time) error {
	start := o.ticket.StartTime
	if start.IsZero() {
		start = o.ticket.AuthTime
	}
	switch made := o.auth.CTime.Add(time.Duration(o.auth.Cusec) * time.Microsecond); {
	case made.Sub(now) > a.skew || now.Sub(made) > a.skew:
		return fmt.Errorf("krb5: %w: by %v with %v, more than %v; set both clocks", ErrSkew,
			now.Sub(made).Abs().Round(time.Second), client, a.skew)
	case start.Sub(now) > a.skew || bit(o.ticket.Flags, ticketFlagInvalid):
		return fmt.Errorf("krb5: %w: that of %v begins at %v; set this host's clock", ErrNotYetValid, client, start)
	case now.Sub(o.ticket.EndTime) > a.skew:
		return fmt.Errorf("krb5: %w: that of %v ended at %v; its user must log in again", ErrExpired, client,
			o.ticket.EndTime)
	}
	return nil
}

// reply makes the AP-REP.
func (x *acceptance) reply(o *openedAPReq) ([]byte, bool, error) {
	a := &x.c.agreement
	*a = o.agreement()
	base, _ := a.key()
	var err error
	if Etype(base.KeyType) == RC4HMAC {
		// With RC4 some clients ignore the acceptor's subkey (MIT without DCE style), and others
		// require one (go-msrpc). The key that clients use without a subkey suits them all.
		a.acceptorSubkey = base
	} else if a.acceptorSubkey, err = randomKey(Etype(base.KeyType)); err != nil {
		return nil, false, err
	}
	seq, err := randomSequence()
	if err != nil {
		return nil, false, fmt.Errorf("krb5: sequence number: %w", err)
	}
	a.acceptorSeq = uint64(seq)
	out, err := marshalAPRep(messages.EncAPRepPart{
		CTime:          o.auth.CTime,
		Cusec:          o.auth.Cusec,
		Subkey:         a.acceptorSubkey,
		SequenceNumber: seq,
	}, a.sessionKey)
	if err != nil {
		return nil, false, err
	}
	if a.dceStyle {
		x.c.step = x.finish
		return out, false, nil
	}
	if out, err = frame(tokAPRep, out); err != nil {
		return nil, false, fmt.Errorf("krb5: AP-REP: %w", err)
	}
	return out, true, x.c.establish(true)
}

// finish checks the third leg of DCE style, which proves that the client has read our AP-REP.
func (x *acceptance) finish(_ context.Context, in []byte) ([]byte, bool, error) {
	if len(in) == 0 {
		return nil, false, errors.New("krb5: the client left the third leg of the DCE-style exchange out")
	}
	part, err := parseAPRep(in, x.c.agreement.sessionKey)
	if err != nil {
		return nil, false, fmt.Errorf("%w (third leg of %s)", err, x.c.identity.Principal)
	}
	if wireSequence(part.SequenceNumber) != x.c.agreement.acceptorSeq {
		return nil, false, fmt.Errorf("krb5: %w: the third leg of %s answers another AP-REP", ErrMutual,
			x.c.identity.Principal)
	}
	if err := x.c.establish(true); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}
