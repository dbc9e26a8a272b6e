package dcerpc

import "net"

// A RefusalReason is the kind of reason for which a Server refuses a peer. There are few, so that
// they can be labels of a metric; later versions may add some.
type RefusalReason string

// The reasons.
const (
	// RefusedLimit: a limit of the Server, see Limits: a connection that was not taken or made room
	// for another, a call beyond what may be in flight.
	RefusedLimit RefusalReason = "limit"
	// RefusedSession: the session under the transport does not let the peer in.
	RefusedSession RefusalReason = "session"
	// RefusedAuthentication: the exchange of tokens has failed.
	RefusedAuthentication RefusalReason = "authentication"
	// RefusedProtection: a PDU whose protection is not right, or less than its level needs.
	RefusedProtection RefusalReason = "protection"
	// RefusedProtocol: a PDU against the protocol, which has ended the connection.
	RefusedProtocol RefusalReason = "protocol"
)

// A Refusal is what Server.Refused is told.
type Refusal struct {
	Reason RefusalReason
	// Mechanism is that of the exchange that has failed, for RefusedAuthentication.
	Mechanism AuthType
	// Peer is where the peer is.
	Peer net.Addr
	// Err says more. A peer may have a say in its text.
	Err error
}

// observeRefusal tells Server.Refused.
func (s *Server) observeRefusal(r Refusal) {
	if s.Refused != nil {
		s.Refused(r)
	}
}

// observe tells Server.Refused of a refusal of a peer: one that an administrator may want to know
// of, one for want of room, or one that ends the connection.
func (c *serverConn) observe(r *refusal) {
	kind := r.kind
	switch {
	case kind != "":
	case r.status == ErrServerTooBusy.Status:
		kind = RefusedLimit
	case r.lives:
		return
	default:
		kind = RefusedProtocol
	}
	c.server.observeRefusal(Refusal{Reason: kind, Mechanism: r.mechanism, Peer: c.conn.RemoteAddr(), Err: r.why})
}
