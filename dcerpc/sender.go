package dcerpc

import (
	"net"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A sender writes PDUs to a connection, one Write each, so that a peer on a message-based transport
// reads one PDU at a time. It is used under a lock, since sequence numbers must follow the order on
// the wire.
type sender struct {
	conn       net.Conn
	trace      Trace
	buf        []byte // of the PDU being sent
	clear      []byte // the same before sealing, for the trace
	maxXmit    int    // of the peer
	signHeader bool   // header signing is negotiated
}

// write sends one finished PDU.
func (s *sender) write(b []byte) error {
	s.traced(b)
	_, err := s.conn.Write(b)
	return err
}

// next builds the next fragment of f, protected by sec, which may be nil. It is valid until the
// next call.
func (s *sender) next(f *pdu.Fragmenter, sec *securityContext) ([]byte, error) {
	parts, err := f.Next(s.buf[:0])
	if err != nil {
		return nil, err
	}
	s.buf = parts.PDU
	if !sec.protects() {
		s.traced(parts.PDU)
		return parts.PDU, nil
	}
	if s.trace != nil {
		s.clear = append(s.clear[:0], parts.PDU...)
	}
	if err := sec.protect(parts, s.signHeader); err != nil {
		return nil, err
	}
	if s.trace != nil {
		copy(s.clear[len(s.clear)-len(parts.Token):], parts.Token)
		s.traced(s.clear)
	}
	return parts.PDU, nil
}

func (s *sender) traced(b []byte) {
	if s.trace != nil {
		s.trace(TracedPDU{Local: s.conn.LocalAddr(), Remote: s.conn.RemoteAddr(), Sent: true, PDU: b})
	}
}

// A token is a right that one goroutine has at a time. Unlike a mutex, it lets a goroutine wait
// long, and for other events at the same time.
type token chan struct{}

func newToken() token {
	t := make(token, 1)
	t.release()
	return t
}

func (t token) acquire() { <-t }
func (t token) release() { t <- struct{}{} }
