// Package netaddr reads the addresses of connections.
package netaddr

import (
	"net"
	"net/netip"
	"strconv"
)

// Host returns the part of an address that tells hosts apart, without port and zone. It is empty
// where the transport knows no address.
func Host(addr net.Addr) string {
	switch a := addr.(type) {
	case nil:
		return ""
	case *net.TCPAddr:
		return a.IP.String()
	}
	s := addr.String()
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	if s == "@" { // an unnamed Unix socket
		return ""
	}
	return s
}

// Block returns what the addresses of one owner have in common, of a host that Host returned: the
// first 64 bits for IPv6, where every host may choose the others, and the whole of any other
// address.
func Block(host string) string {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap().WithZone(""); ip.Is4() {
		return ip.String()
	}
	prefix, _ := ip.Prefix(64) // never fails for an IPv6 address
	return prefix.String()
}

// Endpoint returns the endpoint that a local address stands for: the port, where it has one.
func Endpoint(addr net.Addr) string {
	switch a := addr.(type) {
	case nil:
		return ""
	case *net.TCPAddr:
		return strconv.Itoa(a.Port)
	}
	return addr.String()
}
