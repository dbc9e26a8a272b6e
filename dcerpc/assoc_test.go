package dcerpc

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHostOf(t *testing.T) {
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
		require.Equal(t, test.want, hostOf(test.addr))
	}
	require.Equal(t, "", endpointOf(nil))
	require.Equal(t, "49152", endpointOf(&net.TCPAddr{Port: 49152}))
}

func TestAssociations(t *testing.T) {
	var a associations
	one := a.join(0, "tcp 49152", "10.0.0.1")
	require.NotZero(t, one.id)
	require.NotEqual(t, one.id, a.join(0, "tcp 49152", "10.0.0.1").id)
	require.Same(t, one, a.join(one.id, "tcp 49152", "10.0.0.1"))
	require.Nil(t, a.join(one.id, "tcp 49152", "10.0.0.2"))
	require.Nil(t, a.join(one.id, "tcp 49153", "10.0.0.1"))
	require.Nil(t, a.join(one.id^1, "tcp 49152", "10.0.0.1"))
	a.leave(one)
	require.Same(t, one, a.join(one.id, "tcp 49152", "10.0.0.1"))
	a.leave(one)
	a.leave(one)
	require.Nil(t, a.join(one.id, "tcp 49152", "10.0.0.1"), "the last one has left")
}
