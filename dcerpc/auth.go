package dcerpc

import (
	"io"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A securityContext is a Context on one connection, with the fields that name it in the trailers of
// PDUs.
//
// The protected part of a request or response (MS-RPCE 3.3.1.5.2):
//
//	none       nothing; no trailer
//	connect    nothing; no trailer in responses, and one that means nothing in requests
//	call       as packet; our server knows no such level
//	packet     as integrity, which is what Windows does
//	integrity  signature over stub and padding, with header signing over header and trailer too
//	privacy    the same, and stub and padding encrypted
type securityContext struct {
	Context
	id    uint32
	typ   AuthType
	level AuthLevel
}

// protects reports whether PDUs are signed.
func (s *securityContext) protects() bool { return s != nil && s.level >= LevelInsecureCall }

// strength returns the level at which PDUs are really protected.
func (l AuthLevel) strength() AuthLevel {
	if l == LevelInsecureCall {
		return LevelPacket
	}
	return l
}

// describe sets the trailer of the fragments that f makes. A nil context makes none.
func (s *securityContext) describe(f *pdu.Fragmenter) {
	if !s.protects() {
		return
	}
	f.AuthType, f.AuthLevel, f.AuthContextID = uint8(s.typ), uint8(s.level), s.id
	f.TokenSize = s.TokenSize(s.level.strength())
}

// release frees what a context holds besides memory.
func release(c Context) {
	if closer, ok := c.(io.Closer); ok {
		_ = closer.Close() // nothing can be done about an error
	}
}

func message(p pdu.Parts, signHeader bool) Message {
	return Message{Header: p.Header, Body: p.Body, Trailer: p.Trailer, SignHeader: signHeader}
}

// protect signs or seals p, whose token is still empty.
func (s *securityContext) protect(p pdu.Parts, signHeader bool) error {
	if s.level == LevelPrivacy {
		return s.Seal(message(p, signHeader), p.Token)
	}
	return s.Sign(message(p, signHeader), p.Token)
}

// unprotect checks or unseals p.
func (s *securityContext) unprotect(p pdu.Parts, signHeader bool) error {
	if s.level == LevelPrivacy {
		return s.Unseal(message(p, signHeader), p.Token)
	}
	return s.Verify(message(p, signHeader), p.Token)
}
