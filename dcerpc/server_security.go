package dcerpc

import (
	"context"
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A serverSecurity is one security context of a connection. Requests name it by its id.
type serverSecurity struct {
	securityContext
	done bool
	peer context.Context // of its calls, once done
}

// peer returns who makes the calls of a security context, which may be nil.
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
	out, done, err := sec.Step(c.ctx, token)
	if err != nil {
		return nil, err
	}
	if !done {
		return out, nil
	}
	sec.done = true
	p := c.peer(sec)
	sec.peer = WithPeer(c.ctx, p)
	if sec.protects() {
		c.strong = true
	}
	if p.Account != "" || p.Principal != "" {
		c.server.authenticated(c)
	}
	return out, nil
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

// unfinished returns a security context whose exchange of tokens is not over, or nil.
func (c *serverConn) unfinished() *serverSecurity {
	for _, sec := range c.security {
		if !sec.done {
			return sec
		}
	}
	return nil
}

// only returns the connection's security context where it has just one.
func (c *serverConn) only() *serverSecurity {
	if len(c.security) == 1 {
		for _, sec := range c.security {
			return sec
		}
	}
	return nil
}

// answerTrailer makes the trailer of an answer. The one that ends an exchange may have an empty
// token, but has its eight bytes all the same.
func answerTrailer(sec *serverSecurity, token []byte) pdu.Auth {
	if sec == nil {
		return pdu.Auth{}
	}
	return pdu.Auth{Type: uint8(sec.typ), Level: uint8(sec.level), ContextID: sec.id, Token: token}
}
