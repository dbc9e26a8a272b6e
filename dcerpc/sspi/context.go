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

// A Context is a security context of either side (dcerpc.Context).
type Context struct {
	p        *provider
	h        *handles
	level    dcerpc.AuthLevel
	target   string
	acceptor bool
	flags    uint32 // that are asked for
	need     uint32 // that have to be granted

	step      func(in []byte) (out []byte, done bool, err error) // nil after the last one
	granted   uint32
	mechanism string // inside; "krb5", "ntlm"
	sizes     contextSizes
	identity  dcerpc.Identity
}

var _ dcerpc.PartialContext = (*Context)(nil)

func newContext(p *provider, level dcerpc.AuthLevel, target string) *Context {
	c := &Context{p: p, h: &handles{sys: p.sys}, level: level, target: target}
	runtime.AddCleanup(c, func(h *handles) { h.close() }, c.h)
	return c
}

// handles are a context's. They are released when they are closed and nothing uses them any more.
type handles struct {
	sys    secur32
	cred   secHandle
	shared *credentials // of an acceptor, that cred belongs to; nil where it is the context's own

	mu     sync.Mutex
	begun  bool // there is a ctx
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

// use keeps the handles for a call of the system's.
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

// close releases the handles, or has the last call release them.
func (h *handles) close() {
	h.mu.Lock()
	last := !h.closed && h.users == 0
	h.closed = true
	h.mu.Unlock()
	if last {
		h.release()
	}
}

// release is called once, when nobody uses them.
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

// Step takes the peer's token and gives the next one, as dcerpc.Context says. The system may ask a
// domain controller meanwhile, and cannot be interrupted: where ctx ends first, Step returns its
// error, the context is of no use any more, and the handles are released when the system's call
// returns.
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
	// The goroutine works on a context of its own, which is taken over if somebody still waits for
	// it.
	own, finished := *c, make(chan result, 1)
	in = append([]byte(nil), in...)
	go func() {
		var r result
		r.out, r.done, r.err = own.run(own.method(), in)
		own.h.unuse() // before Step returns, so that a Close after it releases
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
		return nil, false, fmt.Errorf("sspi: %s: %w while the system works on the log-on", c.p.pkg, context.Cause(ctx))
	}
}

// method is the step of this side.
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

// room is where the system writes a token to.
func (c *Context) room() secBuffer { return secBuffer{bufferToken, make([]byte, c.p.maxToken)} }

// took takes the result of a step of either side.
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

// failure is an error of the system's.
func (c *Context) failure(function string, s Status) error {
	return &Error{Function: function, Package: c.p.pkg, Target: c.target, Status: s}
}

// establish learns, at the end of the exchange, what was agreed on.
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

// TokenSize is what the package says of its signatures (cbMaxSignature) and of sealed messages
// (cbSecurityTrailer). It is zero before the exchange is over, and for levels that protect nothing.
func (c *Context) TokenSize(level dcerpc.AuthLevel) int {
	switch level {
	case dcerpc.LevelPrivacy:
		return int(c.sizes.securityTrailer)
	case dcerpc.LevelPacket, dcerpc.LevelIntegrity:
		return int(c.sizes.maxSignature)
	}
	return 0
}

// Protection reports, once the exchange is over, whether the system lets messages be signed and
// sealed.
func (c *Context) Protection() (sign, seal bool) {
	integrity := uint32(flagInitIntegrity)
	if c.acceptor {
		integrity = flagAcceptIntegrity
	}
	sign = c.granted&(integrity|flagReplayDetect|flagSequenceDetect) == integrity|flagReplayDetect|flagSequenceDetect
	return sign, sign && c.granted&flagConfidentiality != 0
}

// buffers are what the system is given of a message, in the order of RPC: what is signed alone is
// read-only, with a checksum.
//
//	| Header, read-only | Body | Trailer, read-only | token |
//
// Without header signing Kerberos gets body and token alone (MS-RPCE 3.3.1.5.2.2); NTLM signs all
// of it in any case.
func (c *Context) buffers(m *dcerpc.Message, token []byte) []secBuffer {
	body := secBuffer{bufferData, m.Body}
	last := secBuffer{bufferToken, token}
	if !m.SignHeader && c.mechanism != "ntlm" {
		return []secBuffer{body, last}
	}
	const signed = bufferData | bufferReadOnlyWithChecksum
	return []secBuffer{{signed, m.Header}, body, {signed, m.Trailer}, last}
}

// A protector is a function of the system for a message.
type protector func(ctx secHandle, message []secBuffer) Status

// protect signs or seals a message. The token has its final length before: header signing covers
// it.
func (c *Context) protect(function string, f protector, m *dcerpc.Message, token []byte, size int) error {
	if len(token) != size {
		return fmt.Errorf("sspi: %d bytes of room for a token of %d", len(token), size)
	}
	b := c.buffers(m, token)
	if err := c.call(function, f, b); err != nil {
		return err
	}
	if n := len(b[len(b)-1].data); n != size {
		return fmt.Errorf("sspi: %s: %s made a token of %d bytes, and has said that it makes %d; "+
			"use NTLM or Negotiate in its place, or an encryption type that is AES", c.p.pkg, function, n, size)
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

// Sign is MakeSignature.
func (c *Context) Sign(m dcerpc.Message, token []byte) error {
	return c.protect("MakeSignature", c.p.sys.makeSignature, &m, token, c.TokenSize(dcerpc.LevelIntegrity))
}

// Seal is EncryptMessage.
func (c *Context) Seal(m dcerpc.Message, token []byte) error {
	return c.protect("EncryptMessage", c.p.sys.encryptMessage, &m, token, c.TokenSize(dcerpc.LevelPrivacy))
}

// Verify is VerifySignature. The token is only read.
func (c *Context) Verify(m dcerpc.Message, token []byte) error {
	return c.call("VerifySignature", c.p.sys.verifySignature, c.buffers(&m, token))
}

// Unseal is DecryptMessage. After an error the body is zero.
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

// Identity is, once the exchange is over, the client on an acceptor; on an initiator with Kerberos
// the service.
func (c *Context) Identity() dcerpc.Identity { return c.identity }

// Close releases the handles of the system, when the calls that are underway have returned. It may
// be called at any time, and again; later calls fail with ErrClosed.
func (c *Context) Close() error {
	c.h.close()
	return nil
}
