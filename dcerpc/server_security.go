package dcerpc

import (
	"context"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A serverSecurity is one security context of a connection. Requests name it by its id.
type serverSecurity struct {
	securityContext
	done    bool
	lacking bool            // done, but the mechanism cannot protect as the level requires
	peer    context.Context // of its calls, once done
}

// unfinishedContexts is how many exchanges of tokens may be underway at once on a connection.
const unfinishedContexts = 2

const errLacking = reason("the security exchange has agreed on less than the auth level needs")

// keep adds a security context to the connection.
func (c *serverConn) keep(sec *serverSecurity) {
	if c.security == nil {
		c.security = make(map[uint32]*serverSecurity)
	}
	c.security[sec.id] = sec
}

// peer returns the caller behind a security context, which may be nil.
func (c *serverConn) peer(sec *serverSecurity) Peer {
	p := Peer{
		Identity:         c.session.Identity,
		Addr:             c.conn.RemoteAddr(),
		Level:            LevelInsecureNone,
		Session:          c.session.Authenticated,
		SessionIdentity:  c.session.Identity,
		SessionEncrypted: c.session.Encrypted,
	}
	if sec != nil {
		p.Identity, p.AuthType, p.Level = sec.Identity(), sec.typ, sec.level
	}
	return p
}

// step gives a token to the mechanism and returns its answer.
func (c *serverConn) step(sec *serverSecurity, token []byte) ([]byte, error) {
	if sec.typ == AuthNTLM && len(token) > largestNTLMToken {
		return nil, fmt.Errorf("NTLM token of %d bytes", len(token))
	}
	ctx := WithPeer(c.ctx, Peer{Addr: c.conn.RemoteAddr(), Level: LevelInsecureNone})
	ctx, cancel := context.WithTimeout(ctx, c.stepTime())
	defer cancel()
	out, done, err := sec.Step(ctx, token)
	if err != nil {
		return nil, logs.Short(err)
	}
	if !done {
		return out, nil
	}
	sec.done = true
	sec.lacking = !provides(sec.Context, sec.level)
	p := c.peer(sec)
	sec.peer = WithPeer(c.ctx, p)
	if sec.protects() {
		c.strong = true
	}
	if p.Account != "" || p.Principal != "" {
		c.server.authenticated(c, &p.Identity)
	}
	return out, nil
}

// stepTime returns the time that a mechanism may take for a token. It is less than BindTime, so
// that the peer gets an answer.
func (c *serverConn) stepTime() time.Duration {
	if c.limits.BindTime <= 0 {
		return time.Hour
	}
	return c.limits.BindTime * 9 / 10
}

// provides reports whether a finished exchange has agreed on the protection that a level needs.
func provides(ctx Context, level AuthLevel) bool {
	partial, ok := ctx.(PartialContext)
	if !ok || level < LevelPacket {
		return true
	}
	sign, seal := partial.Protection()
	return sign && (seal || level != LevelPrivacy)
}

// open starts a security context.
func (c *serverConn) open(a Acceptor, trailer *pdu.Auth) (*serverSecurity, error) {
	level := AuthLevel(trailer.Level)
	sec, err := a.NewContext(level)
	if err != nil {
		return nil, err
	}
	return &serverSecurity{securityContext: securityContext{
		Context: sec, id: trailer.ContextID, typ: a.AuthType(), level: level,
	}}, nil
}

// unfinished returns how many exchanges of tokens are not over.
func (c *serverConn) unfinished() (n int) {
	for _, sec := range c.security {
		if !sec.done {
			n++
		}
	}
	return n
}

// only returns the connection's only security context, or nil if it has none or several.
func (c *serverConn) only() *serverSecurity {
	if len(c.security) == 1 {
		for _, sec := range c.security {
			return sec
		}
	}
	return nil
}

// answerTrailer makes the trailer of an answer. The last one of an exchange may have an empty
// token, but still has its eight bytes.
func answerTrailer(sec *serverSecurity, token []byte) pdu.Auth {
	if sec == nil {
		return pdu.Auth{}
	}
	return pdu.Auth{Type: uint8(sec.typ), Level: uint8(sec.level), ContextID: sec.id, Token: token}
}
