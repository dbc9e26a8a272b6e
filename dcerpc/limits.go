package dcerpc

import "time"

// Limits bound what peers can cost a Server. In every field zero means the default that its comment
// gives, and a negative value no limit.
type Limits struct {
	// Connections is how many connections are served at once; 1024. Further ones are closed at
	// once.
	Connections int
	// ConnectionsPerAddress is how many of them one address, or for IPv6 one /64, may have; 128. It
	// does not apply to transports that know no address of their peer. Where it, or Connections, is
	// reached, an old connection that has not authenticated makes room; where there is none, the
	// new one is closed.
	ConnectionsPerAddress int
	// UnauthenticatedConnections is how many connections may be served of which nobody has said yet
	// who is behind: neither a session under the transport nor a finished security context; 512. A
	// further one takes the place of the oldest one of the address that has most of them.
	UnauthenticatedConnections int
	// UnauthenticatedPerAddress is how many of them one address, or for IPv6 one /64, may have; 64,
	// or no limit where UnauthenticatedConnections has none. A further one takes the place of the
	// oldest.
	UnauthenticatedPerAddress int
	// UnauthenticatedBytes is how many bytes such connections may make the server hold together, of
	// PDUs and requests that are being received or handled, beyond 4 KiB each; 8 MiB. Where it is
	// reached, the oldest connections of the address that holds most are closed. One connection may
	// hold a 64th: larger requests are answered nca_s_server_too_busy. Interfaces that serve large
	// requests without security need more.
	UnauthenticatedBytes int
	// BindTime is how long a connection may take from its start to the end of its first
	// bind, and for any later exchange of security tokens; 30 s.
	BindTime time.Duration
	// ReceiveTime is how long a peer may take to send one PDU, or a request of several; 2 min.
	ReceiveTime time.Duration
	// UnauthenticatedIdleTime is how long a connection that has bound without authenticating may be
	// without a call in flight before it is closed, where that is less than IdleTime; 1 min.
	UnauthenticatedIdleTime time.Duration
	// IdleTime is how long a bound connection may be without a call in flight before it is closed;
	// 1 h. RPC has no keep-alive of its own; TCP's finds peers that are gone.
	IdleTime time.Duration
	// WriteTime is how long a peer may take to read one PDU; 30 s.
	WriteTime time.Duration
	// RequestBytes is the largest stub of a request over all of its fragments; 4 MiB. Windows
	// and Samba have the same limit.
	RequestBytes int
	// HeldBytes is how many bytes of stubs the server keeps for all connections that have
	// authenticated together, of requests of more than 8 KiB that are being received or handled;
	// 256 MiB. One account may hold as much as is then left for the others. Requests beyond that
	// are answered nca_s_server_too_busy.
	HeldBytes int
	// Fragments is the largest number of fragments of one request; 65536. It
	// bounds requests of fragments without data.
	Fragments int
	// CallsPerConnection is how many calls of one connection may be in flight; 256. Further ones
	// are answered nca_s_server_too_busy.
	CallsPerConnection int
	// UnauthenticatedCallsPerConnection is the same for peers that have not authenticated; 8, or no
	// limit where CallsPerConnection has none.
	UnauthenticatedCallsPerConnection int
	// Calls is how many calls of peers that have authenticated may be in flight on the whole
	// server; 4096. One account may have as many as are then left for the others; all peers that
	// have not authenticated, a quarter.
	Calls int
	// PresentationContexts is how many presentation contexts a connection may have; 128.
	PresentationContexts int
	// SecurityContexts is how many security contexts a connection may open; 32. The exchange of at
	// most two of them may be unfinished.
	SecurityContexts int
}

// noLimit is larger than anything that is counted.
const noLimit = int(^uint(0) >> 1)

// filled returns l with defaults where it has zeros, and noLimit where it is negative.
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
