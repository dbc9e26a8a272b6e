package dcerpc

import "net"

// A RefusalReason says, roughly, why a Server refused a peer. There are few reasons, so that they
// can be labels of a metric; later versions may add some.
type RefusalReason string

// The reasons.
const (
	// RefusedLimit: one of the Server's [Limits]: a connection that was not accepted or was closed
	// to make room for another, or one call too many in flight.
	RefusedLimit RefusalReason = "limit"
	// RefusedSession: the session under the transport did not admit the peer.
	RefusedSession RefusalReason = "session"
	// RefusedAuthentication: the exchange of security tokens failed.
	RefusedAuthentication RefusalReason = "authentication"
	// RefusedProtection: the protection of a PDU was wrong, or weaker than required.
	RefusedProtection RefusalReason = "protection"
	// RefusedProtocol: a PDU that violates the protocol ended the connection.
	RefusedProtocol RefusalReason = "protocol"
)

// A Refusal is the argument of Server.Refused.
type Refusal struct {
	Reason RefusalReason
	// Mechanism is the mechanism of the failed exchange, for [RefusedAuthentication].
	Mechanism AuthType
	// Peer is the peer's address.
	Peer net.Addr
	// Err is the detailed reason. Its text may contain text that the peer sent.
	Err error
}

// observeRefusal calls Server.Refused.
func (s *Server) observeRefusal(r Refusal) {
	if s.Refused != nil {
		s.Refused(r)
	}
}

// observe reports a refusal to Server.Refused if an administrator may want to know of it, if it was
// for lack of room, or if it ends the connection.
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
