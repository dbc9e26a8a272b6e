package dcerpc

import "net"

// A TracedPDU is one PDU as a Trace hook sees it.
type TracedPDU struct {
	// Local and Remote are the addresses of the connection.
	Local, Remote net.Addr
	// Sent tells the direction.
	Sent bool
	// Sealed tells that the stub is still encrypted, since it could not be unsealed.
	Sealed bool
	// PDU is the whole PDU, as it is on the wire but for a sealed stub, which is in clear. It
	// belongs to the connection: a hook that keeps it makes a copy.
	PDU []byte
}

// A Trace sees the PDUs of a connection: what is received before it is judged, what is sent
// before it is written. For one connection it is called by at most one
// goroutine per direction at a time; for several connections at once. It must not
// call the connection that it traces.
type Trace func(TracedPDU)
