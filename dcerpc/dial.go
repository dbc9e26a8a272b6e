package dcerpc

import (
	"context"
	"net"
)

// A Dialer opens the transport to an RPC endpoint: TCPDialer, smbpipe.Dialer.
type Dialer interface {
	// DialRPC connects to endpoint on server. The context bounds the dialling alone.
	//
	// Endpoint is a pipe's name (`\PIPE\FssagentRpc`) or a port; a dialer
	// that cannot use it as it stands says how it finds its own.
	DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error)
}
