package sambapipe

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// maxFragment is the largest fragment on a named pipe, as on Windows.
const maxFragment = 4280

// SIDs in a token that smbd uses for other information than groups (Samba's
// libcli/security/dom_sid.h).
const (
	// prefixEncrypted is followed by the dialect, by how the SMB session is encrypted (2: all of
	// it), and by the cipher.
	prefixEncrypted = "S-1-22-1397571891-"
	// prefixFlags is followed by flags for other servers of Samba's.
	prefixFlags = "S-1-22-2041152804-"
)

// SIDs of callers that are not authenticated.
const (
	sidBuiltinGuests = dcerpc.SID("S-1-5-32-546")
	ridGuest         = "-501" // of a domain's account Guest
)

// sessionOf returns the description of the caller for a dcerpc.Server.
func (r *request) sessionOf() dcerpc.Session {
	t := r.session.token
	id := dcerpc.Identity{Mechanism: "smb", Privileges: dcerpc.Privileges(t.privileges)}
	var encrypted bool
	for _, sid := range t.sids {
		switch rest, ok := strings.CutPrefix(string(sid), prefixEncrypted); {
		case ok:
			encrypted = encrypted || sessionEncrypted(rest)
		case !strings.HasPrefix(string(sid), prefixFlags):
			id.SIDs = append(id.SIDs, sid)
		}
	}
	anonymous := id.HasSID(dcerpc.SIDAnonymous)
	if u := r.session.user; u != nil && !anonymous {
		id.Account = u.account.String
		id.Domain = u.domain.String
		if u.principalConstructed == 0 {
			id.Principal = u.principal.String
		}
	}
	guest := id.HasSID(sidBuiltinGuests) || (len(id.SIDs) > 0 && strings.HasSuffix(string(id.SIDs[0]), ridGuest))
	return dcerpc.Session{
		MaxFragment:   maxFragment,
		Authenticated: id.HasSID(dcerpc.SIDAuthenticatedUsers) && !anonymous && !guest,
		Identity:      id,
		Encrypted:     encrypted,
	}
}

// sessionEncrypted reads "dialect-mode-cipher". Everything must be encrypted, by SMB 3 or later.
func sessionEncrypted(s string) bool {
	f := strings.Split(s, "-")
	if len(f) != 3 {
		return false
	}
	dialect, err := strconv.Atoi(f[0])
	return err == nil && dialect >= 0x300 && f[1] == "2" && f[2] != "0"
}

// addrOfClient returns the address of the SMB client.
func (r *request) addrOfClient() net.Addr {
	a, err := netip.ParseAddr(r.clientAddr.String)
	if err != nil {
		return textAddr(cmp.Or(r.clientAddr.String, "unknown"))
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, r.clientPort))
}

// A channel names a TCP connection, from the side of smbd.
type channel struct {
	local, remote netip.AddrPort
}

// channel returns the client's connection on which the pipe was opened, or the zero channel.
func (r *request) channel() channel {
	local, err1 := netip.ParseAddr(r.serverAddr.String)
	remote, err2 := netip.ParseAddr(r.clientAddr.String)
	if err1 != nil || err2 != nil || local.Is4() != remote.Is4() {
		return channel{}
	}
	return channel{netip.AddrPortFrom(local.WithZone(""), r.serverPort),
		netip.AddrPortFrom(remote.WithZone(""), r.clientPort)}
}

// A textAddr is the address of a client that is not an IP address.
type textAddr string

func (textAddr) Network() string  { return "smb" }
func (a textAddr) String() string { return string(a) }
