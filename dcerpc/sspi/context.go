package sspi

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A Context is a security context of either side ([dcerpc.Context]).
type Context struct {
	p        *provider
	h        *handles
	level    dcerpc.AuthLevel
	target   string
	acceptor bool
	flags    uint32 // requested
	need     uint32 // that must be granted

	step      func(in []byte) (out []byte, done bool, err error) // nil after the last one
	granted   uint32
	mechanism string // the mechanism inside: "krb5", "ntlm"
	sizes     contextSizes
	identity  dcerpc.Identity
}

var _ dcerpc.PartialContext = (*Context)(nil)

func newContext(p *provider, level dcerpc.AuthLevel, target string) *Context {
	c := &Context{p: p, h: &handles{sys: p.sys}, level: level, target: target}
	runtime.AddCleanup(c, func(h *handles) { h.close() }, c.h)
	return c
}

// handles are the handles of a context. They are released once they are closed and unused.
type handles struct {
	sys    secur32
	cred   secHandle
	shared *credentials // the acceptor's, if cred belongs to it; nil if cred is the context's own

	mu     sync.Mutex
	begun  bool // ctx is set
	ctx    secHandle
	users  int
	closed bool
	ready  bool // the exchange is over
}

func (h *handles) own(cred secHandle)   { h.cred = cred }
func (h *handles) share(c *credentials) { h.cred, h.shared = c.handle, c }

// context returns the handle of the context, or nil before the first token.
func (h *handles) context() *secHandle {
	if !h.begun {
		return nil
	}
	ctx := h.ctx
	return &ctx
}

// use keeps the handles open for a system call.
func (h *handles) use() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.users++
	}
	return !h.closed
}

func (h *handles) unuse() {
	h.mu.Lock()
	h.users--
	last := h.closed && h.users == 0
	h.mu.Unlock()
	if last {
		h.release()
	}
}

// close releases the handles, or lets the last call release them.
func (h *handles) close() {
	h.mu.Lock()
	last := !h.closed && h.users == 0
	h.closed = true
	h.mu.Unlock()
	if last {
		h.release()
	}
}

// release is called once, when the handles are unused.
func (h *handles) release() {
	if h.begun {
		h.sys.deleteSecurityContext(h.ctx)
	}
	if h.shared != nil {
		h.shared.unuse()
	} else {
		h.sys.freeCredentialsHandle(h.cred)
	}
}

var errOver = errors.New("sspi: a token after the last one")

// Step takes the peer's token and returns the next one (see [dcerpc.Context]). The system may ask a
// domain controller meanwhile, and cannot be interrupted: if ctx ends first, Step returns its
// error, the context becomes unusable, and the handles are released when the system call returns.
func (c *Context) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	step := c.step
	switch {
	case step == nil:
		return nil, false, errOver
	case len(in) > mostToken:
		c.step = nil
		return nil, false, fmt.Errorf("sspi: a token of %d bytes, more than %d", len(in), mostToken)
	case ctx.Err() != nil:
		c.step = nil
		return nil, false, context.Cause(ctx)
	case !c.h.use():
		return nil, false, ErrClosed
	}
	if ctx.Done() == nil {
		defer c.h.unuse()
		return c.run(step, in)
	}
	type result struct {
		out  []byte
		done bool
		err  error
	}
	// The goroutine works on a copy of the context, which replaces c if Step still waits for it.
	own, finished := *c, make(chan result, 1)
	in = append([]byte(nil), in...)
	go func() {
		var r result
		r.out, r.done, r.err = own.run(own.method(), in)
		own.h.unuse() // before Step returns, so that a later Close releases the handles
		finished <- r
	}()
	select {
	case r := <-finished:
		*c = own
		c.step = c.method()
		if r.done || r.err != nil {
			c.step = nil
		}
		return r.out, r.done, r.err
	case <-ctx.Done():
		c.step = nil
		c.h.close()
		return nil, false, fmt.Errorf("sspi: %s: %w while the system was working on the log-on", c.p.pkg, context.Cause(ctx))
	}
}

// method returns the step of this side.
func (c *Context) method() func([]byte) ([]byte, bool, error) {
	if c.acceptor {
		return c.accept
	}
	return c.initialize
}

func (c *Context) run(step func([]byte) ([]byte, bool, error), in []byte) ([]byte, bool, error) {
	out, done, err := step(in)
	if done && err == nil {
		err = c.establish()
	}
	if done || err != nil {
		c.step = nil
	}
	if err != nil {
		return nil, false, err
	}
	return out, done, nil
}

// room returns the buffer that the system writes a token to.
func (c *Context) room() secBuffer { return secBuffer{bufferToken, make([]byte, c.p.maxToken)} }

// took handles the result of a step of either side.
func (c *Context) took(function string, ctx secHandle, granted uint32, out *secBuffer, s Status) ([]byte, bool, error) {
	if !s.succeeded() {
		return nil, false, c.failure(function, s)
	}
	c.h.ctx, c.h.begun, c.granted = ctx, true, granted
	if s == StatusCompleteNeeded || s == StatusCompleteContinue {
		if s := c.p.sys.completeAuthToken(ctx, out); s != StatusOK {
			return nil, false, c.failure("CompleteAuthToken", s)
		}
	}
	switch s {
	case StatusOK, StatusLocalLogon, StatusCompleteNeeded:
		return out.data, true, nil
	case StatusContinueNeeded, StatusCompleteContinue:
		return out.data, false, nil
	}
	return nil, false, c.failure(function, s)
}

// failure returns the error for a status of the system.
func (c *Context) failure(function string, s Status) error {
	return &Error{Function: function, Package: c.p.pkg, Target: c.target, Status: s}
}

// establish reads, at the end of the exchange, what was agreed on.
func (c *Context) establish() error {
	name := string(c.p.pkg)
	if c.p.pkg == Negotiate {
		got, s := c.p.sys.negotiated(c.h.ctx)
		if s != StatusOK {
			return c.failure("QueryContextAttributes", s)
		}
		name = got
	}
	c.mechanism = mechanism(name)
	if c.level >= dcerpc.LevelPacket {
		sizes, s := c.p.sys.sizes(c.h.ctx)
		if s != StatusOK {
			return c.failure("QueryContextAttributes", s)
		}
		if max(sizes.maxSignature, sizes.securityTrailer) > leastToken {
			return fmt.Errorf("sspi: %s: signatures of %d bytes are too long", c.p.pkg,
				max(sizes.maxSignature, sizes.securityTrailer))
		}
		c.sizes = sizes
	}
	check := c.checkInitiator
	if c.acceptor {
		check = c.checkAcceptor
	}
	if err := check(); err != nil {
		return err
	}
	c.h.mu.Lock()
	c.h.ready = true
	c.h.mu.Unlock()
	return nil
}

// splitName splits `DOMAIN\user` and "user@REALM".
func splitName(name string) (account, domain string) {
	if domain, account, ok := strings.Cut(name, `\`); ok {
		return account, domain
	}
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// TokenSize returns the package's size of signatures (cbMaxSignature), or for sealed messages
// cbSecurityTrailer; zero before the exchange is over, and for levels that protect nothing.
func (c *Context) TokenSize(level dcerpc.AuthLevel) int {
	switch level {
	case dcerpc.LevelPrivacy:
		return int(c.sizes.securityTrailer)
	case dcerpc.LevelPacket, dcerpc.LevelIntegrity:
		return int(c.sizes.maxSignature)
	}
	return 0
}

// Protection reports, once the exchange is over, whether the system can sign and seal messages.
func (c *Context) Protection() (sign, seal bool) {
	integrity := uint32(flagInitIntegrity)
	if c.acceptor {
		integrity = flagAcceptIntegrity
	}
	sign = c.granted&(integrity|flagReplayDetect|flagSequenceDetect) == integrity|flagReplayDetect|flagSequenceDetect
	return sign, sign && c.granted&flagConfidentiality != 0
}

// buffers returns the buffers of a message for the system, in the order of RPC. A buffer that is
// only signed is read-only with checksum.
//
//	| Header, read-only | Body | Trailer, read-only | token |
//
// Without header signing Kerberos gets only body and token (MS-RPCE 3.3.1.5.2.2); NTLM signs all of
// it in any case.
func (c *Context) buffers(m *dcerpc.Message, token []byte) []secBuffer {
	body := secBuffer{bufferData, m.Body}
	last := secBuffer{bufferToken, token}
	if !m.SignHeader && c.mechanism != "ntlm" {
		return []secBuffer{body, last}
	}
	const signed = bufferData | bufferReadOnlyWithChecksum
	return []secBuffer{{signed, m.Header}, body, {signed, m.Trailer}, last}
}

// A protector is a function of the system that protects or checks a message.
type protector func(ctx secHandle, message []secBuffer) Status

// protect signs or seals a message. The length of the token is fixed in advance, since header
// signing covers it.
func (c *Context) protect(function string, f protector, m *dcerpc.Message, token []byte, size int) error {
	if len(token) != size {
		return fmt.Errorf("sspi: %d bytes of room for a token of %d", len(token), size)
	}
	b := c.buffers(m, token)
	if err := c.call(function, f, b); err != nil {
		return err
	}
	if n := len(b[len(b)-1].data); n != size {
		return fmt.Errorf("sspi: %s: %s made a token of %d bytes after announcing %d; "+
			"use NTLM or Negotiate instead, or an AES encryption type", c.p.pkg, function, n, size)
	}
	return nil
}

// call calls the system, unless the handles are closed.
func (c *Context) call(function string, f protector, b []secBuffer) error {
	if !c.h.use() {
		return ErrClosed
	}
	defer c.h.unuse()
	c.h.mu.Lock()
	ready := c.h.ready
	c.h.mu.Unlock()
	if !ready {
		return errors.New("sspi: the context is not established")
	}
	if s := f(c.h.ctx, b); s != StatusOK {
		return c.failure(function, s)
	}
	return nil
}

// Sign calls MakeSignature.
func (c *Context) Sign(m dcerpc.Message, token []byte) error {
	return c.protect("MakeSignature", c.p.sys.makeSignature, &m, token, c.TokenSize(dcerpc.LevelIntegrity))
}

// Seal calls EncryptMessage.
func (c *Context) Seal(m dcerpc.Message, token []byte) error {
	return c.protect("EncryptMessage", c.p.sys.encryptMessage, &m, token, c.TokenSize(dcerpc.LevelPrivacy))
}

// Verify calls VerifySignature. It does not change the token.
func (c *Context) Verify(m dcerpc.Message, token []byte) error {
	return c.call("VerifySignature", c.p.sys.verifySignature, c.buffers(&m, token))
}

// Unseal calls DecryptMessage. After an error the body is zero.
func (c *Context) Unseal(m dcerpc.Message, token []byte) error {
	b := c.buffers(&m, token)
	err := c.call("DecryptMessage", c.p.sys.decryptMessage, b)
	if err == nil {
		for _, b := range b {
			if b.kind == bufferData && len(b.data) != len(m.Body) {
				err = fmt.Errorf("sspi: %s: DecryptMessage made %d bytes of %d", c.p.pkg, len(b.data), len(m.Body))
			}
		}
	}
	if err != nil {
		clear(m.Body)
	}
	return err
}

// Identity returns, once the exchange is over, the client on an acceptor, and the service on an
// initiator with Kerberos.
func (c *Context) Identity() dcerpc.Identity { return c.identity }

// Close releases the system's handles as soon as the calls in progress have returned. It may be
// called at any time, and repeatedly; later calls of other methods fail with [ErrClosed].
func (c *Context) Close() error {
	c.h.close()
	return nil
}
