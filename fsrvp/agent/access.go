package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// access decides who may call (MS-FSRVP 3.1.4). The agent checks it before it looks at anything
// else in a call. fsrvp.NewHandler checks how a call is protected.
type access struct {
	sids       map[dcerpc.SID]bool
	principals map[string]bool // "backup@example.com", in lower case if the realm ignores case
	accounts   map[string]bool // `example\backup`, likewise
	exact      []string        // realms with case
}

// SetAccess replaces Config.Allow and Config.CaseSensitiveRealms, for calls that begin from then
// on. If an entry is neither a SID nor an account, it fails and changes nothing. It may be called
// while the agent is running.
func (a *Agent) SetAccess(allow, caseSensitiveRealms []string) error {
	next, err := newAccess(allow, caseSensitiveRealms)
	if err != nil {
		return err
	}
	a.access.Store(next)
	return nil
}

func newAccess(allow, exact []string) (*access, error) {
	a := &access{
		sids:       map[dcerpc.SID]bool{dcerpc.SIDBuiltinAdmins: true, dcerpc.SIDBuiltinBackupOperators: true},
		principals: map[string]bool{},
		accounts:   map[string]bool{},
		exact:      slices.Clone(exact),
	}
	for _, who := range allow {
		switch {
		case strings.Contains(who, `\`):
			realm, _, _ := strings.Cut(who, `\`)
			a.accounts[a.folded(who, realm)] = true
		case strings.Contains(who, "@"):
			a.principals[a.folded(who, who[strings.LastIndexByte(who, '@')+1:])] = true
		default:
			sid, err := dcerpc.ParseSID(who)
			if err != nil {
				return nil, fmt.Errorf("agent: Config.Allow: %q is no SID, no name@REALM and no DOMAIN\\account", who)
			}
			a.sids[sid] = true
		}
	}
	return a, nil
}

// check returns the caller, or ErrAccessDenied.
func (a *access) check(ctx context.Context) (dcerpc.Peer, error) {
	p, ok := dcerpc.PeerFromContext(ctx)
	if !ok {
		return p, fmt.Errorf("agent: the caller is unknown: %w", fsrvp.ErrAccessDenied)
	}
	if a.permits(&p.Identity) {
		return p, nil
	}
	// Local groups and privileges are known to the SMB server; a Kerberos ticket has the domain's
	// only.
	if s := &p.SessionIdentity; p.Session && sameUser(&p.Identity, s) && a.permits(s) {
		return p, nil
	}
	return p, fmt.Errorf("agent: %s may not call: %w", who(&p), fsrvp.ErrAccessDenied)
}

func (a *access) permits(id *dcerpc.Identity) bool {
	if id.Privileges&dcerpc.PrivilegeBackup != 0 {
		return true
	}
	for _, sid := range id.SIDs {
		if a.sids[sid] {
			return true
		}
	}
	if id.Principal != "" && a.principals[a.folded(id.Principal, id.Domain)] {
		return true
	}
	return id.Account != "" && a.accounts[a.folded(id.Domain+`\`+id.Account, id.Domain)]
}

// folded returns the form in which names of a realm are compared: in lower case, unless the realm
// respects case. It folds only ASCII letters, because Unicode's rules fold other characters to
// them: the Kelvin sign would become a k.
func (a *access) folded(name, realm string) string {
	if slices.Contains(a.exact, realm) {
		return name
	}
	lower := func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	return strings.Map(lower, name)
}

// sameUser reports whether two identities belong to the same user, whose SID comes first.
func sameUser(x, y *dcerpc.Identity) bool {
	return len(x.SIDs) > 0 && len(y.SIDs) > 0 && x.SIDs[0] == y.SIDs[0]
}

// who names a caller in a log.
func who(p *dcerpc.Peer) string {
	switch {
	case p.Principal != "":
		return p.Principal
	case p.Account != "":
		return p.Domain + `\` + p.Account
	case len(p.SIDs) > 0:
		return string(p.SIDs[0])
	}
	return "an anonymous caller"
}

// clientAddress is ShadowCopyClientAddress (MS-FSRVP 3.1.1.1): the address without the port, as a
// string.
func clientAddress(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	s := addr.String()
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().String()
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return s
}
