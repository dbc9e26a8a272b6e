package dcerpc

import "net"

// A TracedPDU is one PDU as a Trace hook sees it.
type TracedPDU struct {
	// Local and Remote are the addresses of the connection.
	Local, Remote net.Addr
	// Sent reports whether the PDU was sent, rather than received.
	Sent bool
	// Sealed reports that the stub is still encrypted, because it could not be unsealed.
	Sealed bool
	// PDU is the whole PDU as it is on the wire, except that a sealed stub is in clear. It belongs
	// to the connection: a hook that keeps it must copy it.
	PDU []byte
}

// A Trace is called with each PDU of a connection, before a received one is checked and before a
// sent one is written. For one connection, at most one goroutine per direction calls it at a time;
// for several connections it is called concurrently. It must not use the connection that it traces.
type Trace func(TracedPDU)
