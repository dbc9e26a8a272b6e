package fsrvp

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A ShareName is a parsed UNC path: \\Host\Share\Rest (MS-DTYP 2.2.57).
type ShareName struct {
	// Host is the server as the path spells it, without a dot at the end of a full name: a name, an
	// IPv4 address, or an IPv6 address, which may be bare, in brackets, or a name below
	// ipv6-literal.net. See [ShareName.Addr].
	Host string
	// Share is the bare name of the share.
	Share string
	// Rest is the path below the share, without the backslashes around it. It is usually empty: the
	// protocol is about shares, and a longer path names the share that contains it. It is checked
	// only for characters that no path may have; do not open it.
	Rest string
}

// The limits of names, in UTF-16 code units.
const (
	maxShareName = 80  // MS-DTYP 2.2.57, MS-FSCC 2.1.6
	maxHostName  = 255 // MS-SRVS 3.1.6.8
)

// A ShareNameError says why a string is not the name of a share. It wraps [ErrInvalidArg], the
// status that a server answers for it.
type ShareNameError struct {
	Name   string
	Reason string
}

func (e *ShareNameError) Error() string {
	return fmt.Sprintf("fsrvp: %q is not a share's UNC path: %s", e.Name, e.Reason)
}

// Unwrap returns [ErrInvalidArg].
func (e *ShareNameError) Unwrap() error { return ErrInvalidArg }

// maxUNC is the longest UNC path, in bytes of UTF-8: the same as for a path on Linux.
const maxUNC = 4096

// ParseShareName parses a UNC path: \\host\share, optionally with a backslash at its end, as
// diskshadow writes it, or with a path below the share. It keeps the spelling, but drops the dot at
// the end of a full name (\\fs1.example.com.\vms), which names the same host for a resolver, but no
// host for Kerberos.
//
// It fails with a [*ShareNameError] for paths of more than 4096 bytes, device paths (\\.\ and \\?\,
// \\?\UNC\ too), an empty or overlong host or share (255 and 80 UTF-16 code units), characters that
// they must not have (in a share, control characters and any of "\/[]:|<>+=;,*?), slashes in place
// of backslashes, and invalid UTF-8, lone surrogates included.
func ParseShareName(unc string) (ShareName, error) {
	fail := func(reason string) (ShareName, error) {
		return ShareName{}, &ShareNameError{Name: unc, Reason: reason}
	}
	if len(unc) > maxUNC {
		unc = strings.ToValidUTF8(unc[:64], "") + "..."
		return fail(fmt.Sprintf("it is longer than %d bytes", maxUNC))
	}
	if unc == "" {
		return fail("it is empty")
	}
	if !utf8.ValidString(unc) {
		return fail("it is not UTF-8, or has a lone surrogate")
	}
	path, ok := strings.CutPrefix(unc, `\\`)
	if !ok {
		return fail(`it does not begin with \\`)
	}
	host, path, _ := strings.Cut(path, `\`)
	if host == "." || host == "?" {
		return fail("it is a device path")
	}
	host = strings.TrimSuffix(host, ".")
	share, rest, _ := strings.Cut(path, `\`)
	if reason := checkHost(host); reason != "" {
		return fail(reason)
	}
	if reason := checkShare(share); reason != "" {
		return fail(reason)
	}
	if strings.ContainsFunc(rest, func(r rune) bool { return r < 0x20 || strings.ContainsRune(`"/<>|*?`, r) }) {
		return fail("the path below the share has a forbidden character")
	}
	return ShareName{Host: host, Share: share, Rest: strings.Trim(rest, `\`)}, nil
}

// checkHost returns what is wrong with a host.
func checkHost(host string) string {
	switch {
	case host == "":
		return "the host is empty"
	case utf16Units(host) > maxHostName:
		return "the host has more than 255 characters"
	case strings.HasSuffix(host, "."):
		return "the host has an empty label"
	case strings.ContainsAny(host, ":[]") || isIPv6Literal(host):
		if _, ok := hostAddr(host); !ok {
			return "the host is not an IPv6 address"
		}
	case strings.ContainsFunc(host, func(r rune) bool { return r <= 0x20 || strings.ContainsRune("\"*+,/;<=>?|", r) }):
		return "the host has a forbidden character"
	}
	return ""
}

// checkShare returns what is wrong with the bare name of a share.
func checkShare(share string) string {
	switch {
	case share == "":
		return "the share is empty"
	case share == "." || share == "..":
		return "the share is a relative path"
	case utf16Units(share) > maxShareName:
		return "the share has more than 80 characters"
	case strings.ContainsFunc(share, func(r rune) bool { return r < 0x20 || strings.ContainsRune(`"\/[]:|<>+=;,*?`, r) }):
		return "the share has a forbidden character"
	}
	return ""
}

// utf16Units counts the UTF-16 code units of valid UTF-8.
func utf16Units(s string) int {
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

// UNC returns \\Host\Share, without the rest and without a final backslash.
func (n ShareName) UNC() string { return `\\` + n.Host + `\` + n.Share }

// String returns the whole path, \\Host\Share\Rest.
func (n ShareName) String() string {
	if n.Rest == "" {
		return n.UNC()
	}
	return n.UNC() + `\` + n.Rest
}

// Equal reports whether n and o name the same share of the same host, without regard to case
// (Unicode's simple folding), the way an address is written, and the path below the share. It
// cannot know whether two host names belong to the same server.
func (n ShareName) Equal(o ShareName) bool {
	if !strings.EqualFold(n.Share, o.Share) {
		return false
	}
	if strings.EqualFold(n.Host, o.Host) {
		return true
	}
	a, ok := n.Addr()
	b, okOther := o.Addr()
	return ok && okOther && a == b
}

// Addr returns the host if it is an address: 10.0.0.1, fe80::1%2, [2001:db8::1], or
// 2001-db8--1.ipv6-literal.net, which is Windows' form for UNC paths.
func (n ShareName) Addr() (netip.Addr, bool) { return hostAddr(n.Host) }

// ipv6Literal is the domain of addresses written as names: colons as dashes, the % of a zone as s.
const ipv6Literal = ".ipv6-literal.net"

func isIPv6Literal(host string) bool {
	i := len(host) - len(ipv6Literal)
	return i > 0 && strings.EqualFold(host[i:], ipv6Literal)
}

func hostAddr(host string) (netip.Addr, bool) {
	wantIPv6 := true
	if in, ok := strings.CutPrefix(host, "["); ok {
		if host, ok = strings.CutSuffix(in, "]"); !ok {
			return netip.Addr{}, false
		}
	} else if isIPv6Literal(host) {
		host = strings.ReplaceAll(strings.ToLower(host[:len(host)-len(ipv6Literal)]), "-", ":")
		host = strings.Replace(host, "s", "%", 1)
	} else {
		wantIPv6 = false
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || (wantIPv6 && !addr.Is6()) {
		return netip.Addr{}, false
	}
	return addr.Unmap(), true
}
