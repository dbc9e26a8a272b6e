package interop

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// An rpcClient is Samba's rpcclient on the host cl. It opens a pipe for each name of a command, so
// that what it does for one set comes by several connections; it has no command that aborts.
type rpcClient struct {
	n      *peers.Network
	server *peers.Host
	flags  string // of the binding: "krb5,sign"; empty: no security of RPC's own
	login  []string
}

// loginsOf are a user's ways to log on to SMB.
func loginsOf(u peers.User) map[string][]string {
	return map[string][]string{
		"Kerberos": {"-U", u.Principal() + "%" + u.Password, "--use-kerberos=required"},
		"NTLM":     {"-U", peers.Domain + `\` + u.Name + "%" + u.Password, "--use-kerberos=off"},
	}
}

// run runs commands in one session and returns all that is printed. The exit status tells nothing:
// create_expose has 0 also when it was denied.
func (c *rpcClient) run(t *testing.T, commands ...string) string {
	t.Helper()
	binding := "ncacn_np:" + c.server.FQDN + "[" + c.flags + "]"
	args := append([]string{binding, "-c", strings.Join(commands, "; ")}, c.login...)
	for try := 1; ; try++ {
		cmd := c.n.Host("cl").Command(t.Context(), "rpcclient", args...)
		cmd.Env = append(cmd.Environ(), "TZ=UTC")
		out, _ := cmd.CombinedOutput()
		t.Logf("%s\n%s", commands, out)
		// It waits 10 s for the answer to its bind, which a busy machine may need.
		if try == 5 || !strings.Contains(string(out), "cli_rpc_pipe_bind failed with error NT_STATUS_IO_TIMEOUT") {
			return string(out)
		}
	}
}

// A madeSet is what fss_create_expose has printed.
type madeSet struct {
	id      string
	ids     []string // of the shadow copies, in the order of the shares
	exposed []string
}

var (
	setCreated   = regexp.MustCompile(`(?m)^([0-9a-f-]{36}): shadow-copy set created$`)
	shareExposed = regexp.MustCompile(`(?m)^([0-9a-f-]{36})\(([0-9a-f-]{36})\): share (\S+) exposed as a snapshot of \\\\(\S+)\\(\S+)\\$`)
)

// create has a set made of shares.
func (c *rpcClient) create(t *testing.T, context, access string, shares ...string) madeSet {
	t.Helper()
	out := c.run(t, "fss_create_expose "+context+" "+access+" "+strings.Join(shares, " "))
	m := setCreated.FindStringSubmatch(out)
	require.NotNil(t, m, out)
	s := madeSet{id: m[1]}
	require.Contains(t, out, s.id+": prepare completed in ")
	require.Contains(t, out, s.id+": commit completed in ")
	all := shareExposed.FindAllStringSubmatch(out, -1)
	require.Len(t, all, len(shares), out)
	for i, m := range all {
		require.Equal(t, []string{s.id, c.server.FQDN, shares[i]}, []string{m[1], m[4], m[5]})
		require.Equal(t, shares[i]+"@{"+m[2]+"}", m[3])
		s.ids, s.exposed = append(s.ids, m[2]), append(s.exposed, m[3])
	}
	return s
}

// exposedShares are the copies that Samba on nas has shares of.
func exposedShares(t *testing.T, nas *peers.Host) []string {
	t.Helper()
	all := strings.Split(strings.TrimSpace(nas.Output(t, "net", "conf", "listshares")), "\n")
	return slices.DeleteFunc(all, func(name string) bool { return !strings.Contains(name, "@{") })
}

// requireNothingLeft fails where the agent on nas still has a share, a snapshot or a previous
// version.
func requireNothingLeft(t *testing.T, nas *peers.Host) {
	t.Helper()
	require.Empty(t, exposedShares(t, nas))
	require.NotContains(t, nas.Output(t, "btrfs", "subvolume", "list", "/srv/btrfs"), ".fsrvp/")
	require.Empty(t, nas.Output(t, "find", "/srv/btrfs", "-type", "l", "-name", "@GMT-*"))
}

// TestRpcclientBehindSamba has every command of rpcclient for FSRVP answered by our agent behind
// its smbd, and looks at what each did.
func TestRpcclientBehindSamba(t *testing.T) {
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	agent := startAgentBehindSamba(t, n)
	d := dialer(t, n, kerberos(t, n, n.User("backup")))
	files := hostFiles{nas, n.User("Administrator").Password}
	for _, tt := range []struct {
		session, flags  string
		context, access string
		shares          []string
	}{
		{"Kerberos", "", "backup", "ro", []string{"fsrvp_share", "data"}},
		{"Kerberos", "krb5,sign", "file_share_backup", "rw", []string{"data"}},
		{"Kerberos", "spnego,seal", "nas_rollback", "ro", []string{"data"}},
		{"NTLM", "", "nas_rollback", "rw", []string{"data"}},
		{"NTLM", "spnego,sign", "app_rollback", "ro", []string{"data"}},
		{"NTLM", "seal", "backup", "rw", []string{"data"}},
	} {
		t.Run(strings.Join([]string{tt.session, tt.flags, tt.context, tt.access}, "/"), func(t *testing.T) {
			c := &rpcClient{n, nas, tt.flags, loginsOf(n.User("backup"))[tt.session]}
			c.lifeCycle(t, d, files, tt.context, tt.access, tt.shares)
			requireNothingLeft(t, nas)
		})
	}
	c := &rpcClient{n: n, server: nas, login: loginsOf(n.User("backup"))["NTLM"]}
	t.Run("no such share", func(t *testing.T) {
		out := c.run(t, "fss_is_path_sup nothing", "fss_has_shadow_copy nothing", "fss_create_expose backup ro nothing")
		require.Contains(t, out, "failed IsPathSupported response: 0x80042308")
		require.Contains(t, out, "failed IsPathShadowCopied response: 0x80042308")
		require.Contains(t, out, "IsPathSupported failed: NT_STATUS_OK result: 0x80042308")
		require.NotContains(t, out, "created")
	})
	t.Run("nobody1", func(t *testing.T) {
		set := c.create(t, "backup", "ro", "data")
		arguments := "data " + set.id + " " + set.ids[0]
		for session, login := range loginsOf(n.User("nobody1")) {
			for _, flags := range []string{"", "spnego,seal"} {
				nobody := &rpcClient{n, nas, flags, login}
				out := nobody.run(t, "fss_get_sup_version", "fss_is_path_sup data", "fss_has_shadow_copy data",
					"fss_create_expose backup ro data",
					"fss_get_mapping "+arguments, "fss_recovery_complete "+set.id, "fss_delete "+arguments)
				require.Equal(t, 7, strings.Count(out, "0x80070005"), "%s, %s: %s", session, flags, out)
			}
		}
		require.Contains(t, c.run(t, "fss_get_mapping "+arguments), "is a shadow-copy of")
	})
	t.Run("starting over", func(t *testing.T) {
		first := c.create(t, "nas_rollback", "ro", "data")
		second := c.create(t, "nas_rollback", "ro", "data")
		require.Equal(t, second.exposed, exposedShares(t, nas))
		require.Contains(t, c.run(t, "fss_get_mapping data "+first.id+" "+first.ids[0]),
			"failed GetShareMapping response: 0x80070057")
		require.Contains(t, c.run(t, "fss_recovery_complete "+second.id), "marked recovery complete")
		third := c.create(t, "nas_rollback", "ro", "data")
		require.ElementsMatch(t, append(second.exposed, third.exposed...), exposedShares(t, nas),
			"what is Recovered stays")
		for _, s := range []madeSet{second, third} {
			require.Contains(t, c.run(t, "fss_delete data "+s.id+" "+s.ids[0]), "shadow-copy deleted")
		}
		requireNothingLeft(t, nas)
	})
	t.Run("silence", func(t *testing.T) {
		agent.stop(t)
		agent.args = append(agent.args, "-sequence-timeout", "2s")
		agent.start(t)
		recovered := c.create(t, "backup", "ro", "fsrvp_share")
		require.Contains(t, c.run(t, "fss_recovery_complete "+recovered.id), "marked recovery complete")
		c.create(t, "backup", "ro", "data")
		require.Eventually(t, func() bool { return len(exposedShares(t, nas)) == 1 }, time.Minute,
			100*time.Millisecond)
		require.Equal(t, recovered.exposed, exposedShares(t, nas))
		require.Contains(t, c.run(t, "fss_delete fsrvp_share "+recovered.id+" "+recovered.ids[0]),
			"shadow-copy deleted")
		requireNothingLeft(t, nas)
	})
}

// lifeCycle makes a set and does all with it that rpcclient can.
func (c *rpcClient) lifeCycle(t *testing.T, d *smbpipe.Dialer, files hostFiles, context, access string,
	shares []string) {
	t.Helper()
	dirs := map[string]string{"fsrvp_share": "/srv/btrfs/share", "data": "/srv/btrfs/data"}
	for _, share := range shares {
		require.NoError(t, os.WriteFile(c.server.Path(dirs[share]+"/file"), []byte("before, in "+share), 0o644))
	}
	unc := `UNC \\` + strings.ToUpper(c.server.FQDN) + `\` + shares[0] + `\`
	out := c.run(t, "fss_get_sup_version", "fss_is_path_sup "+shares[0], "fss_has_shadow_copy "+shares[0])
	require.Contains(t, out, "server "+c.server.FQDN+" supports FSRVP versions from 1 to 1")
	require.Contains(t, out, unc+" supports shadow copy requests")
	require.Contains(t, out, unc+" does not have an associated shadow-copy with compatibility 0x0")

	set := c.create(t, context, access, shares...)
	for i, share := range shares {
		require.NoError(t, os.WriteFile(c.server.Path(dirs[share]+"/file"), []byte("after"), 0o644))
		fsys, closer, err := d.OpenShare(t.Context(), `\\`+c.server.FQDN+`\`+set.exposed[i])
		require.NoError(t, err)
		content, err := fs.ReadFile(fsys, "file")
		require.NoError(t, err)
		require.Equal(t, "before, in "+share, string(content))
		require.NoError(t, closer.Close())
		err = files.WriteFile(set.exposed[i], "recovered", nil)
		if access == "rw" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "NT_STATUS_ACCESS_DENIED")
		}
	}
	mapping := "fss_get_mapping " + shares[0] + " " + set.id + " " + set.ids[0]
	is := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(set.id+"("+set.ids[0]+"): share "+set.exposed[0]+
		` is a shadow-copy of \\`+c.server.FQDN+`\`+shares[0]+`\ at `) + "(.*)$")
	out = c.run(t, "fss_has_shadow_copy "+shares[0], mapping, "fss_recovery_complete "+set.id, mapping,
		"fss_recovery_complete "+set.id)
	require.Contains(t, out, unc+" has an associated shadow-copy with compatibility 0x1")
	mapped := is.FindAllStringSubmatch(out, -1)
	require.Len(t, mapped, 2, out)
	for _, m := range mapped {
		at, err := time.Parse("Mon Jan _2 15:04:05 2006 MST", m[1])
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, 10*time.Minute)
	}
	require.Contains(t, out, set.id+": shadow-copy set marked recovery complete")
	require.Contains(t, out, "RecoveryCompleteShadowCopySet failed: NT_STATUS_OK result: 0x80042301")
	require.ErrorContains(t, files.WriteFile(set.exposed[0], "too late", nil), "NT_STATUS_ACCESS_DENIED")

	for i, share := range shares {
		arguments := share + " " + set.id + " " + set.ids[i]
		require.Contains(t, c.run(t, "fss_delete "+arguments),
			set.id+"("+set.ids[i]+`): \\`+c.server.FQDN+`\`+share+`\ shadow-copy deleted`)
		_, _, err := d.OpenShare(t.Context(), `\\`+c.server.FQDN+`\`+set.exposed[i])
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	out = c.run(t, "fss_has_shadow_copy "+shares[0], "fss_delete "+shares[0]+" "+set.id+" "+set.ids[0], mapping)
	require.Contains(t, out, unc+" does not have an associated shadow-copy")
	require.Contains(t, out, "failed DeleteShareMapping response: 0x80042308")
	require.Contains(t, out, "failed GetShareMapping response: 0x80070057")
}
