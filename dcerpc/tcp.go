package dcerpc

import (
	"context"
	"net"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
)

// TCPDialer is the Dialer of ncacn_ip_tcp (MS-RPCE 2.1.1.1). The zero value is ready to use.
type TCPDialer struct {
	// Dialer makes the connections; its zero value uses the system's defaults, among them TCP
	// keep-alive every 15 s.
	Dialer net.Dialer
	// Port, if not empty, replaces the endpoint passed to DialRPC. It is for servers that are known
	// by the name of a pipe but listen on a port.
	Port string
}

var _ Dialer = (*TCPDialer)(nil)

// DialRPC connects to a port of server, a host name or an address. The endpoint is
// a port number or a service name, unless Port is set.
func (d *TCPDialer) DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error) {
	port := endpoint
	if d.Port != "" {
		port = d.Port
	}
	return d.Dialer.DialContext(ctx, "tcp", netaddr.Join(server, port))
}
