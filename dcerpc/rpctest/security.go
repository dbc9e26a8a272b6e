package rpctest

import (
	"fmt"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A security is the script's side of a security context: the client's, or in a script for a client
// the server's.
type security struct {
	dcerpc.Context
	id    uint32
	typ   dcerpc.AuthType
	level dcerpc.AuthLevel
	token []byte // the next one to send
	done  bool
}

// trailer returns the auth trailer of a PDU in the context.
func (s *security) trailer(token []byte) pdu.Auth {
	return pdu.Auth{Type: uint8(s.typ), Level: uint8(s.level), ContextID: s.id, Token: token}
}

// newSecurity makes a context and, for a client, its first token.
func (r *runner) newSecurity(st *step) error {
	level, err := r.levelOf(st, "level", dcerpc.LevelPrivacy)
	if err != nil {
		return err
	}
	ask, err := r.levelOf(st, "ask", level)
	if err != nil {
		return err
	}
	s := &security{id: st.id, level: level}
	if r.client != nil {
		acceptor := r.client.target.Acceptor
		s.typ = acceptor.AuthType()
		s.Context, err = acceptor.NewContext(ask)
	} else {
		m, why := r.target.mechanism(st)
		if m == nil {
			return r.errorf("%s", why)
		}
		s.typ = m.AuthType()
		if s.Context, err = m.NewContext(m.Target, ask); err == nil {
			s.token, s.done, err = s.Step(r.ctx, nil)
		}
	}
	if err != nil {
		return r.errorf("the security mechanism: %w", err)
	}
	r.security[st.id] = s
	return nil
}

func (r *runner) levelOf(st *step, name string, def dcerpc.AuthLevel) (dcerpc.AuthLevel, error) {
	f := st.field(name)
	if f == nil {
		return def, nil
	}
	n, err := r.number(f.e)
	return dcerpc.AuthLevel(n), err
}

// securityOf returns the context that an auth= names.
func (r *runner) securityOf(word string) (*security, error) {
	var id uint32
	if _, err := fmt.Sscan(word, &id); err != nil {
		return nil, r.errorf("auth=%s: %w", word, err)
	}
	s := r.security[id]
	if s == nil {
		return nil, r.errorf("there is no security context %s", word)
	}
	return s, nil
}

// take passes the peer's token to the mechanism.
func (r *runner) take(s *security, token []byte) error {
	if s.done {
		if len(token) > 0 {
			return r.errorf("the exchange was over, and the peer has sent another token")
		}
		return nil
	}
	var err error
	s.token, s.done, err = s.Step(r.ctx, token)
	if err != nil {
		return r.errorf("the security mechanism refuses the peer's token: %w", err)
	}
	return nil
}

// protect signs or seals the request or response b in place. The token is filled in.
func (r *runner) protect(s *security, b []byte) error {
	parts, err := pdu.Split(b)
	if err != nil {
		return r.errorf("%w", err)
	}
	m := dcerpc.Message{Header: parts.Header, Body: parts.Body, Trailer: parts.Trailer, SignHeader: r.cur.sign}
	switch {
	case s.level == dcerpc.LevelPrivacy:
		err = s.Seal(m, parts.Token)
	case protects(s.level):
		err = s.Sign(m, parts.Token)
	}
	if err != nil {
		return r.errorf("the security mechanism cannot protect: %w", err)
	}
	return nil
}

// opened checks the trailer of a PDU against the line, unseals the PDU in place, and returns it
// parsed. The string auth names a context; "" and "none" mean no trailer, "*" means any.
func (r *runner) opened(b []byte, auth string) (pdu.PDU, error) {
	p, err := pdu.Parse(b)
	if err != nil {
		return nil, r.mismatch("the answer", "no PDU that can be read: "+err.Error(), "a PDU")
	}
	a := authOf(p)
	switch {
	case auth == "*":
		return p, nil
	case auth == "" || auth == "none":
		if a != nil && a.Present() {
			return nil, r.mismatch("the auth trailer", "there", "none")
		}
		return p, nil
	case a == nil || !a.Present():
		return nil, r.mismatch("the auth trailer", "not there ("+describe(p)+")", "of security context "+auth)
	}
	s, err := r.securityOf(auth)
	if err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"auth_type", uint64(a.Type), uint64(s.typ)},
		{"auth_level", uint64(a.Level), uint64(s.level)},
		{"auth_context_id", uint64(a.ContextID), uint64(s.id)},
	} {
		if c.got != c.want {
			return nil, r.mismatch(c.name, fmt.Sprint(c.got), fmt.Sprint(c.want))
		}
	}
	switch p.(type) {
	case *pdu.Request, *pdu.Response:
		return r.unprotected(s, b)
	}
	return p, r.take(s, a.Token)
}

// unprotected verifies or unseals a request or response in place and parses it.
func (r *runner) unprotected(s *security, b []byte) (pdu.PDU, error) {
	if protects(s.level) {
		parts, err := pdu.Split(b)
		if err != nil {
			return nil, r.mismatch("the PDU", err.Error(), "one that can be read")
		}
		m := dcerpc.Message{Header: parts.Header, Body: parts.Body, Trailer: parts.Trailer, SignHeader: r.cur.sign}
		if s.level == dcerpc.LevelPrivacy {
			err = s.Unseal(m, parts.Token)
		} else {
			err = s.Verify(m, parts.Token)
		}
		if err != nil {
			return nil, r.mismatch("the signature", "wrong: "+err.Error(), "right")
		}
	}
	p, err := pdu.Parse(b)
	if err != nil {
		return nil, r.mismatch("the PDU", err.Error(), "one that can be read")
	}
	return p, nil
}

// authOf returns the auth trailer of a PDU, or nil for those that have none.
func authOf(p pdu.PDU) *pdu.Auth {
	switch p := p.(type) {
	case *pdu.Bind:
		return &p.Auth
	case *pdu.AlterContext:
		return &p.Auth
	case *pdu.BindAck:
		return &p.Auth
	case *pdu.AlterContextResp:
		return &p.Auth
	case *pdu.Auth3:
		return &p.Auth
	case *pdu.Request:
		return &p.Auth
	case *pdu.Response:
		return &p.Auth
	case *pdu.Fault:
		return &p.Auth
	case *pdu.CoCancel:
		return &p.Auth
	case *pdu.Orphaned:
		return &p.Auth
	}
	return nil
}

// secured sends a bind or alter_context with a new security context, and makes the whole exchange,
// whatever its number of legs.
func (r *runner) secured(st *step) error {
	if err := r.newSecurity(st); err != nil {
		return err
	}
	s := r.security[st.id]
	name := fmt.Sprint(st.id)
	if err := r.sendIn(st, s); err != nil {
		return err
	}
	ack := "bind_ack"
	if st.ptype == "alter_context" {
		ack = "alter_context_resp"
	}
	if err := r.expectAck(ack, &name); err != nil {
		return err
	}
	return r.exchange(st, s)
}

// exchange makes the rest of the exchange of a security context.
func (r *runner) exchange(st *step, s *security) error {
	name := fmt.Sprint(s.id)
	const most = 10
	for leg := 0; len(s.token) > 0; leg++ {
		if leg == most {
			return r.errorf("the exchange is not over after %d legs", most)
		}
		next := &step{line: st.line, text: st.text, op: opSend, ptype: "alter_context", fields: contextsOf(st)}
		if s.done {
			next.ptype, next.fields = "auth3", nil
		}
		if err := r.sendIn(next, s); err != nil {
			return err
		}
		if next.ptype == "auth3" {
			return nil
		}
		if err := r.expectAck("alter_context_resp", &name); err != nil {
			return err
		}
	}
	return nil
}

// contextsOf returns the contexts that a bind has offered, except features, for the alter_contexts
// after it.
func contextsOf(st *step) []field {
	var out []field
	for _, f := range st.fields {
		if f.name == "p_cont_elem" && len(f.ctx.transfer) > 0 {
			if _, ok := f.ctx.transfer[0].id.Features(); !ok {
				out = append(out, f)
			}
		}
	}
	if len(out) > 1 {
		out = out[:1]
	}
	return out
}
