package sspi

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A Package is a security package of the system.
type Package string

// The packages that RPC uses.
const (
	// Negotiate is SPNEGO: Kerberos where both sides can, otherwise NTLM.
	Negotiate Package = "Negotiate"
	// Kerberos alone: a client that cannot reach a domain controller fails.
	Kerberos Package = "Kerberos"
	// NTLM alone, which authenticates no server.
	NTLM Package = "NTLM"
)

// authType returns the number of the package in RPC.
func (p Package) authType() (dcerpc.AuthType, error) {
	switch p {
	case Negotiate:
		return dcerpc.AuthSPNEGO, nil
	case Kerberos:
		return dcerpc.AuthKerberos, nil
	case NTLM:
		return dcerpc.AuthNTLM, nil
	}
	return 0, fmt.Errorf("sspi: %q is none of the packages Negotiate, Kerberos and NTLM", string(p))
}

// mechanism is what the rest of this module calls a package, by its name in any case.
func mechanism(name string) string {
	switch strings.ToLower(name) {
	case "kerberos":
		return "krb5"
	case "ntlm":
		return "ntlm"
	}
	return "sspi"
}

// Errors of this package. Those of the system are an [*Error].
var (
	// ErrWeak is a context with less protection than its level needs.
	ErrWeak = errors.New("sspi: the system has agreed with the peer on less protection than the level needs; see whether a policy or the peer forbids it")
	// ErrAnonymous is a client that wants to be nobody.
	ErrAnonymous = errors.New("sspi: anonymous log-on refused")
	// ErrNobody is a client of which the system does not say who it is.
	ErrNobody = errors.New("sspi: the system does not say who the client is")
	// ErrClosed is a context, or an acceptor, that was closed.
	ErrClosed = errors.New("sspi: it is closed")
)

// Credentials are an account and its password.
type Credentials struct {
	// Domain is the account's domain or realm, or the machine that a local account is of; empty
	// with a User that is a principal name, "backup@example.com".
	Domain string
	// User is the account's name; it may not be empty.
	User string
	// Password is the account's password. It is kept for as long as whatever it is given to, as it
	// is.
	Password string
}

// String returns the account, without its password.
func (c Credentials) String() string {
	if c.Domain == "" {
		return c.User
	}
	return c.Domain + `\` + c.User
}

// Format keeps the password out of every verb's output, %+v and %#v included.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue keeps it out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps it out of whatever is encoded as text, JSON included.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// check refuses what the system would take for the log-on of the process, or would not take at all.
func (c *Credentials) check() error {
	if c == nil {
		return nil
	}
	if c.User == "" {
		return errors.New("sspi: credentials without a user; nil is the log-on of the process")
	}
	for _, s := range []string{c.Domain, c.User, c.Password} {
		if strings.ContainsRune(s, 0) {
			return errors.New("sspi: a NUL in user, domain or password")
		}
	}
	return nil
}

// A provider is a package of the system, and how it is used.
type provider struct {
	sys      secur32
	pkg      Package
	typ      dcerpc.AuthType
	id       *Credentials
	use      uint32
	maxToken int
}

// The bounds of a token's length, whatever a package says: what it writes, and what it is given.
const (
	leastToken = 4 << 10
	mostToken  = 64 << 10
)

func newProvider(sys secur32, p Package, id *Credentials, use uint32) (*provider, error) {
	if p == "" {
		p = Negotiate
	}
	typ, err := p.authType()
	if err == nil {
		err = id.check()
	}
	if err != nil {
		return nil, err
	}
	out := &provider{sys: sys, pkg: p, typ: typ, use: use}
	if id != nil {
		own := *id
		out.id = &own
	}
	n, s := sys.querySecurityPackageInfo(string(p))
	if s != StatusOK {
		return nil, &Error{Function: "QuerySecurityPackageInfo", Package: p, Status: s}
	}
	out.maxToken = int(min(max(n, leastToken), mostToken))
	return out, nil
}

// acquire takes the log-on, or the credentials.
func (p *provider) acquire() (secHandle, error) {
	cred, s := p.sys.acquireCredentialsHandle(string(p.pkg), p.use, p.id)
	if s != StatusOK {
		return secHandle{}, &Error{Function: "AcquireCredentialsHandle", Package: p.pkg, Status: s}
	}
	return cred, nil
}
