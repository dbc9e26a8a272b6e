package dcerpc

import "time"

// Limits bound what peers can cost a Server. In every field, zero means the default in its comment,
// and a negative value means no limit.
type Limits struct {
	// Connections is the number of connections served at a time; 1024. The server closes further
	// ones immediately.
	Connections int
	// ConnectionsPerAddress is the number of them for one address, or for one /64 with IPv6; 128.
	// It does not apply to transports that do not know the address of their peer. When it, or
	// Connections, is reached, the server closes an old connection that has not authenticated; if
	// there is none, it closes the new one.
	ConnectionsPerAddress int
	// UnauthenticatedConnections is the number of connections that may be served whose peer is not
	// authenticated, neither by a session under the transport nor by a finished security context;
	// 512. A further one replaces the oldest connection of the address that has the most of them.
	UnauthenticatedConnections int
	// UnauthenticatedPerAddress is the number of them for one address, or for one /64 with IPv6;
	// 64, or no limit if UnauthenticatedConnections has none. A further one replaces the oldest.
	UnauthenticatedPerAddress int
	// UnauthenticatedBytes is the number of bytes that all such connections together may make the
	// server hold, in PDUs and requests that are being received or handled, beyond 4 KiB each; 8
	// MiB. When it is reached, the server closes the oldest connections of the address that holds
	// the most. One connection may hold a 64th of it: the server answers larger requests with
	// nca_s_server_too_busy. Interfaces that serve large requests without security need more.
	UnauthenticatedBytes int
	// BindTime limits the time from the start of a connection to the end of its first bind, and
	// that of any later exchange of security tokens; 30 s.
	BindTime time.Duration
	// ReceiveTime limits the time that a peer may take to send one PDU, or a request of several; 2
	// min.
	ReceiveTime time.Duration
	// UnauthenticatedIdleTime is how long a connection that has bound without authenticating may be
	// without a call in flight before it is closed, if that is less than IdleTime; 1 min.
	UnauthenticatedIdleTime time.Duration
	// IdleTime is how long a bound connection may be without a call in flight before it is closed;
	// 1 h. RPC has no keep-alive of its own; TCP's finds peers that are gone.
	IdleTime time.Duration
	// WriteTime limits the time that a peer may take to read one PDU; 30 s.
	WriteTime time.Duration
	// RequestBytes is the largest stub of a request over all of its fragments; 4 MiB. Windows
	// and Samba have the same limit.
	RequestBytes int
	// HeldBytes is the number of bytes of stubs that the server keeps for all authenticated
	// connections together, for requests of more than 8 KiB that are being received or handled; 256
	// MiB. One account may hold no more than remains free for the others. The server answers
	// requests beyond that with nca_s_server_too_busy.
	HeldBytes int
	// Fragments is the largest number of fragments of one request; 65536. It bounds requests whose
	// fragments are empty.
	Fragments int
	// CallsPerConnection is the number of calls that may be in flight on one connection; 256. The
	// server answers further ones with nca_s_server_too_busy.
	CallsPerConnection int
	// UnauthenticatedCallsPerConnection is the same for peers that have not authenticated; 8, or no
	// limit if CallsPerConnection has none.
	UnauthenticatedCallsPerConnection int
	// Calls is the number of calls of authenticated peers that may be in flight on the whole
	// server; 4096. One account may have no more than remain free for the others. All peers that
	// have not authenticated may together have a quarter of this number besides.
	Calls int
	// PresentationContexts is the number of presentation contexts of a connection; 128.
	PresentationContexts int
	// SecurityContexts is the number of security contexts that a connection may open; 32. At most
	// two exchanges may be unfinished at a time.
	SecurityContexts int
}

// noLimit is larger than anything that is counted.
const noLimit = int(^uint(0) >> 1)

// filled returns l with zeros replaced by the defaults, and negative values by noLimit.
func (l Limits) filled() *Limits {
	count := func(v *int, def int) {
		switch {
		case *v == 0:
			*v = def
		case *v < 0:
			*v = noLimit
		}
	}
	wait := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	count(&l.Connections, 1024)
	count(&l.ConnectionsPerAddress, 128)
	if l.UnauthenticatedConnections < 0 && l.UnauthenticatedPerAddress == 0 {
		l.UnauthenticatedPerAddress = -1
	}
	if l.CallsPerConnection < 0 && l.UnauthenticatedCallsPerConnection == 0 {
		l.UnauthenticatedCallsPerConnection = -1
	}
	count(&l.UnauthenticatedConnections, 512)
	count(&l.UnauthenticatedPerAddress, 64)
	count(&l.UnauthenticatedBytes, 8<<20)
	wait(&l.BindTime, 30*time.Second)
	wait(&l.ReceiveTime, 2*time.Minute)
	wait(&l.UnauthenticatedIdleTime, time.Minute)
	wait(&l.IdleTime, time.Hour)
	wait(&l.WriteTime, 30*time.Second)
	count(&l.RequestBytes, 4<<20)
	count(&l.HeldBytes, 256<<20)
	count(&l.Fragments, 1<<16)
	count(&l.CallsPerConnection, 256)
	count(&l.UnauthenticatedCallsPerConnection, 8)
	count(&l.Calls, 4096)
	count(&l.PresentationContexts, 128)
	count(&l.SecurityContexts, 32)
	return &l
}
