// Package netaddr reads the addresses of connections.
package netaddr

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
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

// ipv6Literal is the domain of IPv6 addresses as UNC paths have them: colons as dashes, the % of a
// zone as s.
const ipv6Literal = ".ipv6-literal.net"

// Join returns what to dial for a host as a UNC path spells it, and a port. An IPv6 address may be
// in brackets, or a name below ipv6-literal.net, which no resolver but that of Windows knows.
func Join(host, port string) string {
	at := host
	if in, ok := strings.CutPrefix(at, "["); ok {
		at = strings.TrimSuffix(in, "]")
	} else if i := len(at) - len(ipv6Literal); i > 0 && strings.EqualFold(at[i:], ipv6Literal) {
		at = strings.Replace(strings.ReplaceAll(strings.ToLower(at[:i]), "-", ":"), "s", "%", 1)
	}
	if addr, err := netip.ParseAddr(at); err == nil && addr.Is6() {
		host = at
	}
	return net.JoinHostPort(host, port)
}
