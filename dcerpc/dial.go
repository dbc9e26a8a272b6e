package dcerpc

import (
	"context"
	"net"
)

// A Dialer opens the transport to an RPC endpoint: TCPDialer, smbpipe.Dialer.
type Dialer interface {
	// DialRPC connects to endpoint on server. The context bounds only the dialing.
	//
	// The endpoint is the name of a pipe (`\PIPE\FssagentRpc`) or a port; a Dialer that cannot use
	// it documents what it uses instead.
	DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error)
}
