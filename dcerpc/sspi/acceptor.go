package sspi

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// AcceptorConfig configures an Acceptor. Nil means the zero AcceptorConfig.
type AcceptorConfig struct {
	// Package is the security package. Empty means Negotiate.
	Package Package
	// Credentials are the service's account and its password. Nil means the log-on of the process;
	// a service that runs as LocalSystem or NetworkService accepts clients that ask for the
	// machine's account.
	Credentials *Credentials
}

// An Acceptor starts contexts for a server ([dcerpc.Acceptor]). It is safe for concurrent use.
//
// The system identifies the clients: their SIDs come from the access token that it makes for them,
// including groups of this machine, but without deny-only groups, such as UAC makes of the
// administrators group of local administrators. Anonymous clients, and clients without a token, are
// refused.
type Acceptor struct {
	p *provider
	c *credentials
}

var _ dcerpc.Acceptor = (*Acceptor)(nil)

// NewAcceptor returns an Acceptor. It fails with an [*Error] if the system does not have the
// package or the credentials. The caller must close it.
func NewAcceptor(cfg *AcceptorConfig) (*Acceptor, error) {
	sys, err := newSecur32()
	if err != nil {
		return nil, err
	}
	return newAcceptor(sys, cfg)
}

func newAcceptor(sys secur32, cfg *AcceptorConfig) (*Acceptor, error) {
	if cfg == nil {
		cfg = new(AcceptorConfig)
	}
	p, err := newProvider(sys, cfg.Package, cfg.Credentials, credInbound)
	if err != nil {
		return nil, err
	}
	cred, err := p.acquire()
	if err != nil {
		return nil, err
	}
	a := &Acceptor{p: p, c: &credentials{sys: sys, handle: cred, users: 1}}
	runtime.AddCleanup(a, func(c *credentials) { c.close() }, a.c)
	return a, nil
}

// credentials are the handle that an acceptor shares with its contexts.
type credentials struct {
	sys    secur32
	handle secHandle

	mu     sync.Mutex
	users  int // contexts, and one for the acceptor
	closed bool
}

// use adds a context, unless the acceptor is closed.
func (c *credentials) use() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.users++
	}
	return !c.closed
}

// unuse removes a context.
func (c *credentials) unuse() {
	c.mu.Lock()
	c.users--
	last := c.users == 0
	c.mu.Unlock()
	if last {
		c.sys.freeCredentialsHandle(c.handle)
	}
}

// close removes the acceptor, once.
func (c *credentials) close() bool {
	c.mu.Lock()
	was := c.closed
	c.closed = true
	c.mu.Unlock()
	if !was {
		c.unuse()
	}
	return !was
}

// Close releases the credentials when the existing contexts have ended. New contexts fail with
// [ErrClosed].
func (a *Acceptor) Close() error {
	if !a.c.close() {
		return ErrClosed
	}
	return nil
}

// AuthType is RPC_C_AUTHN_GSS_NEGOTIATE, RPC_C_AUTHN_GSS_KERBEROS or RPC_C_AUTHN_WINNT.
func (a *Acceptor) AuthType() dcerpc.AuthType { return a.p.typ }

// NewContext starts a context. It returns a [*Context], which must be closed; dcerpc closes it.
func (a *Acceptor) NewContext(level dcerpc.AuthLevel) (dcerpc.Context, error) {
	if !a.c.use() {
		return nil, ErrClosed
	}
	c := newContext(a.p, level, "")
	c.h.share(a.c)
	c.flags = flagMutualAuth | flagUseDCEStyle | flagReplayDetect | flagSequenceDetect | flagConfidentiality |
		flagAcceptIntegrity
	c.acceptor = true
	c.step = c.accept
	return c, nil
}

// accept takes one token of the client and makes the next one.
func (c *Context) accept(in []byte) ([]byte, bool, error) {
	out := c.room()
	ctx, granted, s := c.p.sys.acceptSecurityContext(c.h.cred, c.h.context(), c.flags, in, &out)
	return c.took("AcceptSecurityContext", ctx, granted, &out, s)
}

// checkAcceptor sets the client's identity.
func (c *Context) checkAcceptor() error {
	token, s := c.p.sys.token(c.h.ctx)
	if s != StatusOK {
		return fmt.Errorf("%w: %w", ErrNobody, c.failure("QuerySecurityContextToken", s))
	}
	if token.user == dcerpc.SIDAnonymous {
		return ErrAnonymous
	}
	id := dcerpc.Identity{Mechanism: c.mechanism, Privileges: token.privileges}
	if token.user != "" {
		id.SIDs = append([]dcerpc.SID{token.user}, token.groups...)
	}
	name, s := c.p.sys.names(c.h.ctx)
	if s != StatusOK {
		return fmt.Errorf("%w: %w", ErrNobody, c.failure("QueryContextAttributes", s))
	}
	id.Account, id.Domain = splitName(name)
	if c.mechanism == "krb5" {
		if client, _, s := c.p.sys.nativeNames(c.h.ctx); s == StatusOK {
			id.Principal = client
		}
	}
	if id.Account == "" {
		return ErrNobody
	}
	c.identity = id
	return nil
}
