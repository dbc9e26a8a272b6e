package netaddr_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/netaddr"
)

func TestHost(t *testing.T) {
	for _, test := range []struct {
		addr net.Addr
		want string
	}{
		{nil, ""},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 445}, "10.0.0.1"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 445, Zone: "eth0"}, "fe80::1"},
		{&net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 445}, "fe80::1"},
		{&net.UnixAddr{Name: "@", Net: "unix"}, ""},
		{&net.UnixAddr{Name: "", Net: "unix"}, ""},
		{&net.UnixAddr{Name: "/run/client", Net: "unix"}, "/run/client"},
	} {
		require.Equal(t, test.want, netaddr.Host(test.addr))
	}
	require.Equal(t, "", netaddr.Endpoint(nil))
	require.Equal(t, "49152", netaddr.Endpoint(&net.TCPAddr{Port: 49152}))
}

func TestBlock(t *testing.T) {
	for _, test := range []struct{ host, want string }{
		{"", ""},
		{"client-1", "client-1"},
		{"10.0.0.1", "10.0.0.1"},
		{"::ffff:10.0.0.1", "10.0.0.1"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"2001:db8:1:2::", "2001:db8:1:2::/64"},
		{"2001:db8:1:3::", "2001:db8:1:3::/64"},
		{"fe80::1%eth0", "fe80::/64"},
	} {
		require.Equal(t, test.want, netaddr.Block(test.host), test.host)
	}
}

func TestJoin(t *testing.T) {
	for _, test := range []struct{ host, want string }{
		{"fs1.example.test", "fs1.example.test:445"},
		{"10.0.0.1", "10.0.0.1:445"},
		{"::1", "[::1]:445"},
		{"[2001:db8::1]", "[2001:db8::1]:445"},
		{"[fe80::1%eth0]", "[fe80::1%eth0]:445"},
		{"2001-DB8--1.ipv6-literal.net", "[2001:db8::1]:445"},
		{"--1.IPV6-LITERAL.NET", "[::1]:445"},
		{"fe80--1s4.ipv6-literal.net", "[fe80::1%4]:445"},
		{"1.ipv6-literal.net", "1.ipv6-literal.net:445"},
		{".ipv6-literal.net", ".ipv6-literal.net:445"},
		{"[10.0.0.1]", "[10.0.0.1]:445"},
		{"", ":445"},
	} {
		require.Equal(t, test.want, netaddr.Join(test.host, "445"), test.host)
	}
}
