package replay

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	sharememory "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// TestRunAgainstSamba replays what rpcclient and smbtorture did with Samba's server against Samba's
// server, and what was recorded of our agent. It has to answer the former as it did.
func TestRunAgainstSamba(t *testing.T) {
	n := peers.Start(t)
	server := n.Host("fs")
	server.Claim(t)
	user := n.User("backup")
	auth, err := krb5.NewInitiatorWithPassword(user.Principal(), user.Password,
		&krb5.InitiatorConfig{Krb5Conf: filepath.Join(n.Scripts, "etc", "krb5.conf"), Dial: n.Host("cl").Dial})
	require.NoError(t, err)
	d := &smbpipe.Dialer{Auth: auth, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.Host("cl").Dial(ctx, network, address)
	}}
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	dial := func(ctx context.Context, _ transcript.Connection) (fsrvp.Service, error) {
		return fsrvp.Dial(ctx, server.FQDN, &fsrvp.Config{Transport: d, Auth: auth})
	}
	names, err := NewShareMap(map[string]string{`\\fs1\data`: `\\` + server.FQDN + `\fsrvp_share`,
		`\\fs1`: `\\` + server.FQDN})
	require.NoError(t, err)

	snapshots := func(t *testing.T) []string {
		left, err := filepath.Glob(server.Path("/srv/btrfs/share") + "/@GMT-*")
		require.NoError(t, err)
		return left
	}
	// requireClean fails where Samba's agent still has a share or a snapshot.
	requireClean := func(t *testing.T) {
		require.NotContains(t, server.Output(t, "net", "conf", "listshares"), "@{")
		require.Eventually(t, func() bool { return len(snapshots(t)) == 0 }, time.Minute, 50*time.Millisecond)
	}
	read := func(t *testing.T, name string) []*transcript.Exchange {
		f, err := os.Open(filepath.Join("testdata", name))
		require.NoError(t, err)
		defer f.Close()
		recording, err := transcript.ReadAll(f)
		require.NoError(t, err)
		return recording
	}

	t.Run("lifecycle", func(t *testing.T) {
		server.Reset(t, 0)
		recording := read(t, "lifecycle.jsonl")
		report, err := Run(t.Context(), recording, &Config{Dial: dial})
		require.NoError(t, err)
		require.Empty(t, lines(report.Differences))
		require.Equal(t, len(recording), report.Same)
		requireClean(t)
	})
	t.Run("smbtorture at its pace", func(t *testing.T) {
		if testing.Short() {
			t.Skip("takes as long as the recording, 18 s")
		}
		recording := read(t, "smbtorture.jsonl")
		var report *Report
		for range 3 {
			server.Reset(t, 2*time.Second)
			var err error
			report, err = Run(t.Context(), recording, &Config{Dial: dial, Speed: 1})
			require.NoError(t, err)
			// Samba names snapshots by the second. Two that were one apart may not be where the
			// machine is busy: Commit fails.
			if all := lines(report.Differences); len(all) == 0 ||
				!strings.Contains(all[0], "CommitShadowCopySet: Return: recorded 0x00000000 ZERO, now 0x80004005") {
				break
			}
		}
		require.Empty(t, lines(report.Differences))
		require.Equal(t, len(recording), report.Same)
		require.NotContains(t, server.Output(t, "net", "conf", "listshares"), "@{")
		// Samba's own timer forgets a set that is committed, and leaves its snapshot to nobody.
		require.LessOrEqual(t, len(snapshots(t)), 1)
	})
	for end := 7; end < 15; end += 2 {
		t.Run(fmt.Sprintf("the first %d calls", end), func(t *testing.T) {
			server.Reset(t, 0)
			recording := read(t, "lifecycle.jsonl")
			report, err := Run(t.Context(), recording[:end], &Config{Dial: dial})
			require.NoError(t, err)
			require.Empty(t, lines(report.Differences))
			requireClean(t)
		})
	}
	// Samba names itself by its NetBIOS name, has no IsPathShadowCopied, takes shadow copies of
	// exposed shares, and has an E_INVALIDARG for most of what is wrong; it starts a set for a null
	// id, so that what was recorded of the next one fails.
	for life, want := range map[string][]string{
		"read-only": {
			"1 IsPathSupported OwnerMachineName",
			"9 GetShareMapping ShareNameUNC",
			"10 IsPathSupported 0x80042308 0x00000000",
			"11 IsPathShadowCopied 0x00000000 0x8004230C",
		},
		"abort": { // the server has no share "vms$"
			"5 IsPathSupported OwnerMachineName",
			"6 IsPathSupported 0x00000000 0x80070057",
			"11 AddToShadowCopySet 0x00000000 0x80070057",
			"15 GetShareMapping ShareNameUNC",
			"16 IsPathSupported 0x80042308 0x00000000",
			"17 GetShareMapping 0x00000000 0x80070057",
			"18 IsPathSupported 0x80042308 0x80070057",
		},
		"errors": {
			"2 SetContext 0x8004231B 0x80070057",
			"4 StartShadowCopySet 0x80070057 0x00000000",
			"5 StartShadowCopySet 0x00000000 0x80042316",
			"7 PrepareShadowCopySet 0x80042301 0x80070057",
			"11 AddToShadowCopySet 0x00000000 0x80070057",
			"12 AddToShadowCopySet 0x8004230D 0x80070057",
			"13 GetShareMapping 0x80042311 0x80070057",
			"15 CommitShadowCopySet 0x00000000 0x80070057",
			"16 RecoveryCompleteShadowCopySet 0x80042301 0x80070057",
			"17 ExposeShadowCopySet 0x00000000 0x80070057",
			"20 GetShareMapping 0x00000000 0x80070057",
			"21 RecoveryCompleteShadowCopySet 0x00000000 0x80070057",
			"22 AbortShadowCopySet 0x80042301 0x80070057",
			"23 DeleteShareMapping 0x80070057 0x80042308",
			"24 DeleteShareMapping 0x00000000 0x80042308",
			"26 IsPathSupported 0x80042308 0x80070057",
		},
	} {
		t.Run("our agent, "+life, func(t *testing.T) {
			server.Reset(t, 0)
			report, err := Run(t.Context(), recorded(t, life), &Config{Dial: dial, Shares: names.Rewrite})
			require.NoError(t, err)
			var got []string
			for _, d := range report.Differences {
				s := fmt.Sprintf("%d %v %s", d.Index+1, d.Exchange.Opnum(), d.Field)
				if d.Field == "Return" {
					s = fmt.Sprintf("%d %v 0x%08X 0x%08X", d.Index+1, d.Exchange.Opnum(),
						uint32(d.Recorded.(fsrvp.Status)), uint32(d.Now.(fsrvp.Status)))
				}
				got = append(got, s)
			}
			require.Equal(t, want, got)
			requireClean(t)
		})
	}
}

// TestServiceToSmbtorture records smbtorture with our agent, and then answers it out of the
// recording.
func TestServiceToSmbtorture(t *testing.T) {
	if testing.Short() {
		t.Skip("smbtorture waits for time-outs, twice for 12 s")
	}
	n := peers.Start(t)
	host := n.Host("agent")
	host.Claim(t)
	acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: n.Keytab("agent")})
	require.NoError(t, err)
	tests := []string{"set_ctx", "get_version", "is_path_supported", "create_simple", "bad_id", "sc_set_abort",
		"seq_timeout"}
	torture := func(t *testing.T, s fsrvp.Service) {
		l, err := host.Listen(t.Context(), "tcp", ":0")
		require.NoError(t, err)
		srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
		fsrvp.Register(srv, s, nil)
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		defer func() {
			require.NoError(t, srv.Close())
			require.ErrorIs(t, <-done, dcerpc.ErrServerClosed)
		}()
		admin := n.User("Administrator")
		args := []string{
			fmt.Sprintf("ncacn_ip_tcp:%s[%d,krb5,seal]", host.FQDN, l.Addr().(*net.TCPAddr).Port),
			"-s", "/etc/samba/smb.conf", "--option=fss:sequence timeout=2", "-U", admin.Principal() + "%" + admin.Password,
		}
		for _, test := range tests {
			args = append(args, "rpc.fsrvp.fsrvp."+test)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		out, err := n.Host("cl").Command(ctx, "smbtorture", args...).CombinedOutput()
		require.NoError(t, err, string(out))
		for _, test := range tests {
			require.Contains(t, string(out), "success: fsrvp."+test+"\n")
		}
	}
	two := 2 * time.Second
	fs := newFileServer(t, func(cfg *agent.Config) {
		cfg.Shares = sharememory.New(cfg.Snapshots.(*snapmemory.Snapshots),
			backend.Share{Name: "fsrvp_share", Path: "/v0/data"})
		cfg.Allow = []string{n.User("Administrator").Principal()}
		cfg.Names = []string{host.Name, host.FQDN, host.Addr.String()}
		cfg.Timers = agent.Timers{SetContext: two, Start: two, Add: two, Prepare: two, Commit: two, Expose: two,
			GetShareMapping: two, Failure: two}
	})
	torture(t, fs.recorder)
	recording := fs.recording(t)
	require.Greater(t, len(recording), 50)
	service := newService(t, recording, &ServiceConfig{OnDeparture: func(_ context.Context, d *Departure) error {
		t.Error(d)
		return nil
	}})
	torture(t, service)
	require.Empty(t, service.Unasked())
}
