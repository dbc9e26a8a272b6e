package sambapipe

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

func TestSession(t *testing.T) {
	const user, users, authenticated = "S-1-5-21-1-2-3-1104", "S-1-5-21-1-2-3-513", dcerpc.SIDAuthenticatedUsers
	for _, tt := range []struct {
		name string
		sids []dcerpc.SID
		want dcerpc.Session
		kept int
	}{
		{"user", []dcerpc.SID{user, users, authenticated, "S-1-22-2041152804-0"}, dcerpc.Session{Authenticated: true}, 3},
		{"pseudo SID in the middle", []dcerpc.SID{user, "S-1-22-2041152804-7", authenticated}, dcerpc.Session{Authenticated: true}, 2},
		{"one like it is a group", []dcerpc.SID{user, "S-1-22-20411528041-7", authenticated}, dcerpc.Session{Authenticated: true}, 3},
		{"encrypted", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-785-2-2"}, dcerpc.Session{Authenticated: true, Encrypted: true}, 2},
		{"encrypted, AES-256", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-785-2-4"}, dcerpc.Session{Authenticated: true, Encrypted: true}, 2},
		{"encryption only desired", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-785-1-2"}, dcerpc.Session{Authenticated: true}, 2},
		{"encrypted before SMB 3", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-528-2-2"}, dcerpc.Session{Authenticated: true}, 2},
		{"encrypted without cipher", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-785-2-0"}, dcerpc.Session{Authenticated: true}, 2},
		{"short", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-785-2"}, dcerpc.Session{Authenticated: true}, 2},
		{"long", []dcerpc.SID{user, authenticated, "S-1-22-1397571891-785-2-2-2"}, dcerpc.Session{Authenticated: true}, 2},
		{"not authenticated", []dcerpc.SID{user, users}, dcerpc.Session{}, 2},
		{"anonymous", []dcerpc.SID{dcerpc.SIDAnonymous}, dcerpc.Session{}, 1},
		{"anonymous, and yet authenticated", []dcerpc.SID{dcerpc.SIDAnonymous, authenticated}, dcerpc.Session{}, 2},
		{"guest of a domain", []dcerpc.SID{"S-1-5-21-1-2-3-501", authenticated}, dcerpc.Session{}, 2},
		{"among the guests", []dcerpc.SID{user, "S-1-5-32-546", authenticated}, dcerpc.Session{}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &request{session: &sessionInfo{
				token: &securityToken{sids: tt.sids, privileges: uint64(dcerpc.PrivilegeBackup)},
				user: &userInfo{account: ndr.StringOf("alice"), domain: ndr.StringOf("D"),
					principal: ndr.StringOf("alice@D.TEST")},
			}}
			s := r.sessionOf()
			require.Equal(t, tt.want.Authenticated, s.Authenticated)
			require.Equal(t, tt.want.Encrypted, s.Encrypted)
			require.Len(t, s.Identity.SIDs, tt.kept)
			require.Equal(t, dcerpc.PrivilegeBackup, s.Identity.Privileges)
			if s.Identity.HasSID(dcerpc.SIDAnonymous) {
				require.Empty(t, s.Identity.Account)
			} else {
				require.Equal(t, "alice", s.Identity.Account)
				require.Equal(t, "alice@D.TEST", s.Identity.Principal)
			}
			r.session.user.principalConstructed = 1
			require.Empty(t, r.sessionOf().Identity.Principal)
			r.session.user = nil
			require.Empty(t, r.sessionOf().Identity.Account)
		})
	}
}

func TestClientAddr(t *testing.T) {
	for addr, want := range map[string]string{
		"10.99.0.3":   "10.99.0.3:1234",
		"fe80::1%eth": "[fe80::1%eth]:1234",
		"":            "unknown",
		"NETBIOS":     "NETBIOS",
	} {
		r := &request{clientAddr: ndr.StringOf(addr), clientPort: 1234}
		require.Equal(t, want, r.addrOfClient().String())
	}
}
