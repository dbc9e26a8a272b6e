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
	// Negotiate is SPNEGO: Kerberos if both sides can use it, otherwise NTLM.
	Negotiate Package = "Negotiate"
	// Kerberos is Kerberos alone: a client that cannot reach a domain controller fails.
	Kerberos Package = "Kerberos"
	// NTLM is NTLM alone, which does not authenticate servers.
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
	return 0, fmt.Errorf("sspi: unknown package %q; use Negotiate, Kerberos or NTLM", string(p))
}

// mechanism returns this module's name for a package, whose name may be in any case.
func mechanism(name string) string {
	switch strings.ToLower(name) {
	case "kerberos":
		return "krb5"
	case "ntlm":
		return "ntlm"
	}
	return "sspi"
}

// Errors of this package. Errors of the system are of type [*Error].
var (
	// ErrWeak means that a context has less protection than its level needs.
	ErrWeak = errors.New("sspi: the system has agreed with the peer on less protection than the level needs; see whether a policy or the peer forbids it")
	// ErrAnonymous means that the client asked for an anonymous log-on.
	ErrAnonymous = errors.New("sspi: anonymous log-on refused")
	// ErrNobody means that the system does not identify the client.
	ErrNobody = errors.New("sspi: the system does not say who the client is")
	// ErrClosed means that a context or acceptor is closed.
	ErrClosed = errors.New("sspi: context or acceptor closed")
)

// Credentials are an account and its password.
type Credentials struct {
	// Domain is the account's domain or realm, or the machine of a local account; empty if User is
	// a principal name, "backup@example.com".
	Domain string
	// User is the account's name; it must not be empty.
	User string
	// Password is the account's password. The Initiator or Acceptor that gets it keeps it in
	// memory, in clear.
	Password string
}

// String returns the account, without its password.
func (c Credentials) String() string {
	if c.Domain == "" {
		return c.User
	}
	return c.Domain + `\` + c.User
}

// Format keeps the password out of the output of every verb, %+v and %#v included.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// LogValue keeps the password out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText keeps the password out of text encodings, JSON included.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// check refuses credentials that the system would ignore in favour of the log-on of the process, or
// would not accept.
func (c *Credentials) check() error {
	if c == nil {
		return nil
	}
	if c.User == "" {
		return errors.New("sspi: credentials without a user; use nil for the log-on of the process")
	}
	for _, s := range []string{c.Domain, c.User, c.Password} {
		if strings.ContainsRune(s, 0) {
			return errors.New("sspi: a NUL in user, domain or password")
		}
	}
	return nil
}

// A provider is a package of the system and the way it is used.
type provider struct {
	sys      secur32
	pkg      Package
	typ      dcerpc.AuthType
	id       *Credentials
	use      uint32
	maxToken int
}

// The largest tokens to write and to read, whatever a package says, in bytes.
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

// acquire opens a handle for the log-on, or for the credentials.
func (p *provider) acquire() (secHandle, error) {
	cred, s := p.sys.acquireCredentialsHandle(string(p.pkg), p.use, p.id)
	if s != StatusOK {
		return secHandle{}, &Error{Function: "AcquireCredentialsHandle", Package: p.pkg, Status: s}
	}
	return cred, nil
}
