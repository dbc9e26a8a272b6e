package sspi

import (
	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// InitiatorConfig configures an Initiator. Nil means the zero InitiatorConfig.
type InitiatorConfig struct {
	// Package is the security package. Empty means Negotiate.
	Package Package
	// Credentials are an account and its password. Nil means the log-on of the process, or of the
	// thread if that impersonates a user.
	Credentials *Credentials
	// Identify lets the server identify the client but not act for it (RPC_C_IMP_LEVEL_IDENTIFY),
	// which is enough for an agent of this module. Otherwise the server may act for the client on
	// its own machine (RPC_C_IMP_LEVEL_IMPERSONATE), as servers on Windows need.
	Identify bool
}

// An Initiator starts contexts for a client ([dcerpc.Initiator]). It is safe for concurrent use, and
// does not need to be closed: every context opens its own handles, and so uses the log-on of that
// moment.
type Initiator struct {
	p        *provider
	identify bool
}

var _ dcerpc.Initiator = (*Initiator)(nil)

// NewInitiator returns an Initiator. It fails with an [*Error] if the system does not have the
// package or the credentials.
func NewInitiator(cfg *InitiatorConfig) (*Initiator, error) {
	sys, err := newSecur32()
	if err != nil {
		return nil, err
	}
	return newInitiator(sys, cfg)
}

func newInitiator(sys secur32, cfg *InitiatorConfig) (*Initiator, error) {
	if cfg == nil {
		cfg = new(InitiatorConfig)
	}
	p, err := newProvider(sys, cfg.Package, cfg.Credentials, credOutbound)
	if err != nil {
		return nil, err
	}
	cred, err := p.acquire()
	if err != nil {
		return nil, err
	}
	sys.freeCredentialsHandle(cred)
	return &Initiator{p: p, identify: cfg.Identify}, nil
}

// AuthType is RPC_C_AUTHN_GSS_NEGOTIATE, RPC_C_AUTHN_GSS_KERBEROS or RPC_C_AUTHN_WINNT.
func (i *Initiator) AuthType() dcerpc.AuthType { return i.p.typ }

// NewContext starts a context. Target is the service principal name, "host/fs1.example.com". It
// returns a [*Context], which must be closed; dcerpc closes it.
func (i *Initiator) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	cred, err := i.p.acquire()
	if err != nil {
		return nil, err
	}
	c := newContext(i.p, level, target)
	c.h.own(cred)
	c.flags = flagMutualAuth | flagUseDCEStyle
	c.need = 0
	if level >= dcerpc.LevelPacket {
		c.flags |= flagInitIntegrity | flagReplayDetect | flagSequenceDetect
		c.need |= flagInitIntegrity | flagReplayDetect | flagSequenceDetect
	}
	if level >= dcerpc.LevelPrivacy {
		c.flags |= flagConfidentiality
		c.need |= flagConfidentiality
	}
	if i.identify {
		c.flags |= flagInitIdentify
	}
	c.step = c.initialize
	return c, nil
}

// initialize takes one token of the server and makes the next one.
func (c *Context) initialize(in []byte) ([]byte, bool, error) {
	out := c.room()
	ctx, granted, s := c.p.sys.initializeSecurityContext(c.h.cred, c.h.context(), c.target, c.flags, in, &out)
	return c.took("InitializeSecurityContext", ctx, granted, &out, s)
}

// checkInitiator checks what was granted, and sets the server's identity.
func (c *Context) checkInitiator() error {
	if c.granted&c.need != c.need {
		return ErrWeak
	}
	c.identity = dcerpc.Identity{Mechanism: c.mechanism}
	if c.mechanism != "krb5" {
		return nil // NTLM does not authenticate servers
	}
	if c.granted&flagMutualAuth == 0 {
		return c.failure("InitializeSecurityContext", statusMutualAuthFailed)
	}
	c.identity.Principal = c.target
	if _, server, s := c.p.sys.nativeNames(c.h.ctx); s == StatusOK && server != "" {
		c.identity.Principal = server
	}
	c.identity.Account, c.identity.Domain = splitName(c.identity.Principal)
	return nil
}
