package agent_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

func TestAccess(t *testing.T) {
	sealed := dcerpc.Peer{AuthType: dcerpc.AuthKerberos, Level: dcerpc.LevelPrivacy}
	with := func(p dcerpc.Peer, change func(*dcerpc.Peer)) dcerpc.Peer {
		change(&p)
		return p
	}
	admin := with(sealed, func(p *dcerpc.Peer) { p.SIDs = []dcerpc.SID{"S-1-5-21-1-2-3-500", dcerpc.SIDBuiltinAdmins} })
	plain := with(sealed, func(p *dcerpc.Peer) {
		p.SIDs, p.Principal, p.Account, p.Domain = []dcerpc.SID{"S-1-5-21-1-2-3-1106",
			"S-1-5-21-1-2-3-512"}, "ann@EXAMPLE.COM", "ann", "EXAMPLE"
	})
	session := dcerpc.Identity{SIDs: []dcerpc.SID{"S-1-5-21-1-2-3-1106", dcerpc.SIDBuiltinAdmins}}
	tests := []struct {
		name string
		cfg  agent.Config
		peer dcerpc.Peer
		ok   bool
	}{
		{"administrator", agent.Config{}, admin, true},
		{"backup operator", agent.Config{}, with(sealed, func(p *dcerpc.Peer) { p.SIDs = []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators} }), true},
		{"SeBackupPrivilege", agent.Config{}, with(plain, func(p *dcerpc.Peer) { p.Privileges = dcerpc.PrivilegeBackup }), true},
		{"SeRestorePrivilege alone", agent.Config{}, with(plain, func(p *dcerpc.Peer) { p.Privileges = dcerpc.PrivilegeRestore }), false},
		{"domain user", agent.Config{}, plain, false},
		{"nobody", agent.Config{}, sealed, false},
		{"allowed SID of a group", agent.Config{Allow: []string{"S-1-5-21-1-2-3-512"}}, plain, true},
		{"allowed SID of others", agent.Config{Allow: []string{"S-1-5-21-1-2-3-51"}}, plain, false},
		{"allowed principal", agent.Config{Allow: []string{"Ann@example.com"}}, plain, true},
		{"principal of another realm", agent.Config{Allow: []string{"ann@EXAMPLE.ORG"}}, plain, false},
		{"allowed account", agent.Config{Allow: []string{`example\ANN`}}, plain, true},
		{"account of another domain", agent.Config{Allow: []string{`OTHER\ann`}}, plain, false},
		{"the Kelvin sign is no k", agent.Config{Allow: []string{"kim@EXAMPLE.COM"}}, with(plain, func(p *dcerpc.Peer) { p.Principal = "\u212Aim@EXAMPLE.COM" }), false},
		{"nor is it one in an account", agent.Config{Allow: []string{`EXAMPLE\kim`}}, with(plain, func(p *dcerpc.Peer) { p.Account = "\u212Aim" }), false},
		{"I with a dot is no i", agent.Config{Allow: []string{"admin@EXAMPLE.COM"}}, with(plain, func(p *dcerpc.Peer) { p.Principal = "adm\u0130n@EXAMPLE.COM" }), false},
		{"i without a dot is no i", agent.Config{Allow: []string{"admin@EXAMPLE.COM"}}, with(plain, func(p *dcerpc.Peer) { p.Principal = "adm\u0131n@EXAMPLE.COM" }), false},
		{"long s is no s", agent.Config{Allow: []string{"sam@EXAMPLE.COM"}}, with(plain, func(p *dcerpc.Peer) { p.Principal = "\u017Fam@EXAMPLE.COM" }), false},
		{"a letter beyond ASCII is itself", agent.Config{Allow: []string{"J\u00fcrg@EXAMPLE.COM"}}, with(plain, func(p *dcerpc.Peer) { p.Principal = "j\u00fcrg@example.com" }), true},
		{"and no other case of it", agent.Config{Allow: []string{"J\u00fcrg@EXAMPLE.COM"}}, with(plain, func(p *dcerpc.Peer) { p.Principal = "J\u00dcrg@EXAMPLE.COM" }), false},
		{"a realm with case", agent.Config{Allow: []string{"Ann@EXAMPLE.COM"}, CaseSensitiveRealms: []string{"EXAMPLE.COM"}},
			with(plain, func(p *dcerpc.Peer) { p.Domain = "EXAMPLE.COM" }), false},
		{"a realm with case, exactly", agent.Config{Allow: []string{"ann@EXAMPLE.COM"}, CaseSensitiveRealms: []string{"EXAMPLE.COM"}},
			with(plain, func(p *dcerpc.Peer) { p.Domain = "EXAMPLE.COM" }), true},
		{"an account of a realm with case", agent.Config{Allow: []string{`EXAMPLE.COM\Ann`}, CaseSensitiveRealms: []string{"EXAMPLE.COM"}},
			with(plain, func(p *dcerpc.Peer) { p.Domain = "EXAMPLE.COM" }), false},
		{"a realm in other letters is another realm", agent.Config{Allow: []string{"ann@Example.com"}, CaseSensitiveRealms: []string{"EXAMPLE.COM"}},
			with(plain, func(p *dcerpc.Peer) { p.Domain = "EXAMPLE.COM" }), false},
		{"an empty account is nobody's", agent.Config{Allow: []string{`EXAMPLE\`}}, with(plain, func(p *dcerpc.Peer) { p.Account = "" }), false},

		{"a session alone", agent.Config{}, dcerpc.Peer{Identity: session, Session: true, SessionIdentity: session}, true},
		{"the session knows the user's local groups", agent.Config{}, with(plain, func(p *dcerpc.Peer) { p.Session, p.SessionIdentity = true, session }), true},
		{"the session is somebody else's", agent.Config{}, with(plain, func(p *dcerpc.Peer) {
			p.Session, p.SessionIdentity = true, dcerpc.Identity{SIDs: []dcerpc.SID{"S-1-5-21-1-2-3-500",
				dcerpc.SIDBuiltinAdmins}}
		}), false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, func(r *rig) {
				r.cfg.Allow, r.cfg.CaseSensitiveRealms = tc.cfg.Allow, tc.cfg.CaseSensitiveRealms
			})
			_, err := r.GetSupportedVersion(dcerpc.WithPeer(context.Background(), tc.peer))
			want := fsrvp.ErrAccessDenied
			if tc.ok {
				want = 0
			}
			requireStatus(t, want, err)
		})
	}
}

func TestConfigErrors(t *testing.T) {
	snapshots, shares := newBackends()
	whole := agent.Config{Snapshots: snapshots, Shares: shares, StorePath: t.TempDir() + "/store"}
	for name, change := range map[string]func(*agent.Config){
		"no snapshots":      func(c *agent.Config) { c.Snapshots = nil },
		"no shares":         func(c *agent.Config) { c.Shares = nil },
		"no store":          func(c *agent.Config) { c.StorePath = "" },
		"profile":           func(c *agent.Config) { c.Profile = 2 },
		"negative timer":    func(c *agent.Config) { c.Timers.Add = -1 },
		"bare account":      func(c *agent.Config) { c.Allow = []string{"backup"} },
		"bad SID":           func(c *agent.Config) { c.Allow = []string{"S-1-5-x"} },
		"no names":          func(c *agent.Config) { c.Names = []string{} },
		"missing directory": func(c *agent.Config) { c.StorePath += "/no/such/dir" },
	} {
		cfg := whole
		change(&cfg)
		_, err := agent.New(context.Background(), &cfg)
		require.Error(t, err, name)
	}
	_, err := agent.New(context.Background(), nil)
	require.Error(t, err)
	a, err := agent.New(context.Background(), &whole)
	require.NoError(t, err)
	require.NoError(t, a.Close())
}

// TestClientAddress: one client is one address, whatever its port and however it is written.
func TestClientAddress(t *testing.T) {
	r := newRig(t, nil)
	from := func(a net.Addr) context.Context {
		p, _ := dcerpc.PeerFromContext(client1)
		p.Addr = a
		return dcerpc.WithPeer(context.Background(), p)
	}
	require.NoError(t, r.SetContext(from(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 1}), 0))
	require.NoError(t, r.SetContext(from(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1).To16(), Port: 2}), 0))
	requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(from(&net.TCPAddr{IP: net.ParseIP("2001:db8::1"),
		Port: 1}), 0))
	requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(from(nil), 0))
	requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(from(&net.UnixAddr{Name: "192.0.2.10:9",
		Net: "unix"}), 0))
}

// TestSetAccess changes who may call while the agent is at work.
func TestSetAccess(t *testing.T) {
	ann := dcerpc.WithPeer(t.Context(), dcerpc.Peer{
		Identity: dcerpc.Identity{Account: "ann",
			Domain: "EXAMPLE"}, Addr: &net.TCPAddr{}, AuthType: dcerpc.AuthNTLM, Level: dcerpc.LevelPrivacy,
	})
	r := newRig(t, nil)
	may := func() bool {
		_, err := r.GetSupportedVersion(ann)
		if err != nil {
			require.ErrorIs(t, err, fsrvp.ErrAccessDenied)
		}
		return err == nil
	}
	require.False(t, may())
	require.NoError(t, r.SetAccess([]string{`EXAMPLE\ann`}, nil))
	require.True(t, may())
	require.Error(t, r.SetAccess([]string{"nobody"}, nil))
	require.True(t, may(), "a wrong list changes nothing")
	require.NoError(t, r.SetAccess([]string{`EXAMPLE\Ann`}, []string{"EXAMPLE"}))
	require.False(t, may())
	require.NoError(t, r.SetAccess(nil, nil))
	require.False(t, may())
}
