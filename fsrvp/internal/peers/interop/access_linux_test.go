package interop

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// A caller is somebody in an SMB session, with security of RPC's own or without.
type caller struct {
	name    string
	session dcerpc.Initiator
	rpc     dcerpc.Initiator // nil: none
	level   dcerpc.AuthLevel
}

// callersOf are a user's ways to call.
func callersOf(t *testing.T, n *peers.Network, u peers.User) []caller {
	krb, ntlm := kerberos(t, n, u), ntlmAuth(t, u)
	return []caller{
		{u.Name + ", Kerberos, the session alone", krb, nil, dcerpc.LevelInsecureNone},
		{u.Name + ", Kerberos, integrity", krb, krb, dcerpc.LevelIntegrity},
		{u.Name + ", Kerberos, privacy", krb, krb, dcerpc.LevelPrivacy},
		{u.Name + ", NTLM, the session alone", ntlm, nil, dcerpc.LevelInsecureNone},
		{u.Name + ", NTLM, integrity", ntlm, ntlm, dcerpc.LevelIntegrity},
		{u.Name + ", NTLM, privacy", ntlm, ntlm, dcerpc.LevelPrivacy},
	}
}

func (c *caller) dial(t *testing.T, n *peers.Network, server *peers.Host) *fsrvp.Client {
	t.Helper()
	client, err := fsrvp.Dial(t.Context(), server.FQDN, &fsrvp.Config{Transport: dialer(t, n, c.session), Auth: c.rpc, Level: c.level})
	require.NoError(t, err, c.name)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// A step is a call of a method, with the ids that are right at its moment of a life cycle.
type step struct {
	op   fsrvp.Opnum
	call func(s fsrvp.Service) error
}

// everyMethod is a life cycle in which each method is called. Who is denied can call any step, and
// changes nothing in it.
func everyMethod(t *testing.T, share string) []step {
	ctx := t.Context()
	var set fsrvp.SetID
	var id fsrvp.CopyID
	setContext := step{fsrvp.OpSetContext, func(s fsrvp.Service) error { return s.SetContext(ctx, fsrvp.ContextBackup) }}
	start := step{fsrvp.OpStartShadowCopySet, func(s fsrvp.Service) error {
		made, err := s.StartShadowCopySet(ctx, fsrvp.NewSetID())
		if err == nil {
			set = made
		}
		return err
	}}
	return []step{
		{fsrvp.OpGetSupportedVersion, func(s fsrvp.Service) error { _, err := s.GetSupportedVersion(ctx); return err }},
		{fsrvp.OpIsPathSupported, func(s fsrvp.Service) error { _, err := s.IsPathSupported(ctx, share); return err }},
		setContext,
		start,
		{fsrvp.OpAddToShadowCopySet, func(s fsrvp.Service) error {
			made, err := s.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
			if err == nil {
				id = made
			}
			return err
		}},
		{fsrvp.OpPrepareShadowCopySet, func(s fsrvp.Service) error { return s.PrepareShadowCopySet(ctx, set, time.Minute) }},
		{fsrvp.OpCommitShadowCopySet, func(s fsrvp.Service) error { return s.CommitShadowCopySet(ctx, set, time.Minute) }},
		{fsrvp.OpExposeShadowCopySet, func(s fsrvp.Service) error { return s.ExposeShadowCopySet(ctx, set, time.Minute) }},
		{fsrvp.OpIsPathShadowCopied, func(s fsrvp.Service) error { _, err := s.IsPathShadowCopied(ctx, share); return err }},
		{fsrvp.OpGetShareMapping, func(s fsrvp.Service) error { _, err := s.GetShareMapping(ctx, id, set, share, 1); return err }},
		{fsrvp.OpRecoveryCompleteShadowCopySet, func(s fsrvp.Service) error { return s.RecoveryCompleteShadowCopySet(ctx, set) }},
		{fsrvp.OpDeleteShareMapping, func(s fsrvp.Service) error { return s.DeleteShareMapping(ctx, set, id, share) }},
		setContext,
		start,
		{fsrvp.OpAbortShadowCopySet, func(s fsrvp.Service) error { return s.AbortShadowCopySet(ctx, set) }},
	}
}

// TestAccess has an ordinary user try each step of a backup operator's life cycle before that takes
// it, each of them as smbd and RPC can hand them over.
func TestAccess(t *testing.T) {
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	startAgentBehindSamba(t, n)
	backup, nobody := n.User("backup"), n.User("nobody1")
	outsiders := append(callersOf(t, n, nobody),
		// Who has authenticated to RPC is the caller, whose session it may be.
		caller{"nobody1 by Kerberos in a session of backup", kerberos(t, n, backup), kerberos(t, n, nobody), dcerpc.LevelPrivacy},
		caller{"nobody1 by NTLM in a session of backup", ntlmAuth(t, backup), ntlmAuth(t, nobody), dcerpc.LevelPrivacy},
		// RPC security that is too little is not made good by the session.
		caller{"backup at packet level", kerberos(t, n, backup), kerberos(t, n, backup), dcerpc.LevelPacket},
	)
	refused := make([]*fsrvp.Client, len(outsiders))
	for i := range outsiders {
		refused[i] = outsiders[i].dial(t, n, nas)
	}
	insiders := append(callersOf(t, n, backup),
		caller{"backup by NTLM in a session of nobody1", kerberos(t, n, nobody), ntlmAuth(t, backup), dcerpc.LevelPrivacy})
	for i, insider := range insiders {
		if testing.Short() && i%3 != 0 {
			continue // each life takes seconds, since all others are refused in it
		}
		t.Run(insider.name, func(t *testing.T) {
			client := insider.dial(t, n, nas)
			called := map[fsrvp.Opnum]bool{}
			for _, step := range everyMethod(t, `\\`+nas.FQDN+`\data`) {
				for i, c := range refused {
					require.ErrorIs(t, step.call(c), fsrvp.ErrAccessDenied, "%v of %s", step.op, outsiders[i].name)
				}
				require.NoError(t, step.call(client), step.op)
				called[step.op] = true
			}
			for op := fsrvp.OpGetSupportedVersion; op.Valid(); op++ {
				require.True(t, called[op], op)
			}
		})
	}
	requireNothingLeft(t, nas)
}

// TestAccessWithoutLogOn calls the agent in SMB sessions that nobody has authenticated.
func TestAccessWithoutLogOn(t *testing.T) {
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	agent := startAgentBehindSamba(t, n)
	t.Cleanup(func() {
		nas.Output(t, "net", "conf", "delparm", "global", "map to guest")
		nas.Output(t, "smbcontrol", "all", "reload-config")
	})
	nas.Output(t, "net", "conf", "setparm", "global", "map to guest", "Bad User")
	nas.Output(t, "smbcontrol", "all", "reload-config")
	for name, login := range map[string][]string{
		"anonymous": {"-U%"},
		// Nothing can be signed in a guest's session.
		"guest": {"-U", `nosuchuser%password`, "--client-protection=off", "--option=client ipc signing=off"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &rpcClient{n: n, server: nas, login: login}
			set, id := fsrvp.NewSetID().String(), fsrvp.NewCopyID().String()
			out := c.run(t, "fss_get_sup_version", "fss_is_path_sup data", "fss_has_shadow_copy data", "fss_create_expose backup ro data",
				"fss_get_mapping data "+set+" "+id, "fss_recovery_complete "+set, "fss_delete data "+set+" "+id)
			require.Equal(t, 7, strings.Count(out, "0x80070005"), out)
		})
	}
	require.Equal(t, 14, strings.Count(agent.logged(t), "call without the required protection"))
}
