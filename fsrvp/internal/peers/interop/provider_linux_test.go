package interop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// backupKeytab logs in as the backup operator, from its keytab.
func backupKeytab(tb testing.TB, n *peers.Network) dcerpc.Initiator {
	tb.Helper()
	kt, err := krb5.LoadKeytab(n.Keytab("backup"))
	require.NoError(tb, err)
	auth, err := krb5.NewInitiatorWithKeytab(n.User("backup").Principal(), kt, kerberosConfig(n))
	require.NoError(tb, err)
	return auth
}

// TestProviderOnSamba backs up two shares of Samba's own agent, and reads back byte for byte what
// was there before.
func TestProviderOnSamba(t *testing.T) {
	n := networkOnce(t)
	server := n.Host("fs")
	server.Claim(t)
	auth := backupKeytab(t, n)
	d := dialer(t, n, auth)
	client := &fsrvp.Config{Transport: d, Auth: auth}
	dirs := map[string]string{
		`\\` + server.FQDN + `\fsrvp_share`: server.Path("/srv/btrfs/share"),
		`\\` + server.FQDN + `\data`:        server.Path("/srv/btrfs/data"),
	}
	for _, kind := range []fsrvp.ContextValue{fsrvp.ContextBackup, fsrvp.ContextFileShareBackup,
		fsrvp.ContextBackup | fsrvp.AttrAutoRecovery} {
		t.Run(kind.String(), func(t *testing.T) {
			server.Reset(t, 0)
			var shares []string
			for share, dir := range dirs {
				shares = append(shares, share)
				for i := range 20 {
					require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", i)),
						fmt.Appendf(nil, "%s %d", share, i), 0o644))
				}
			}
			cfg := &provider.Config{Client: client, Context: kind}
			err := provider.Run(t.Context(), cfg, shares, func(ctx context.Context, set *provider.Set) error {
				for _, c := range set.Copies {
					for i := range 20 { // the originals go on
						require.NoError(t, os.WriteFile(filepath.Join(dirs[c.Share], fmt.Sprintf("f%d", i)),
							[]byte("changed"), 0o644))
					}
					fsys, closer, err := d.OpenShare(ctx, c.Path)
					require.NoError(t, err)
					for i := range 20 {
						data, err := fs.ReadFile(fsys, fmt.Sprintf("f%d", i))
						require.NoError(t, err)
						require.Equal(t, fmt.Sprintf("%s %d", c.Share, i), string(data))
					}
					require.NoError(t, closer.Close())
				}
				return nil
			})
			require.NoError(t, err)
			requireNoCopies(t, server)
		})
	}
	t.Run("a failing backup", func(t *testing.T) {
		server.Reset(t, 0)
		failed := errors.New("the tape is full")
		err := provider.Run(t.Context(), &provider.Config{Client: client}, []string{`\\` + server.FQDN + `\data`},
			func(context.Context, *provider.Set) error { return failed })
		require.ErrorIs(t, err, failed)
		requireNoCopies(t, server)
	})
	t.Run("an aborted set", func(t *testing.T) {
		// Samba's agent answers an Abort of a committed set with success and does nothing.
		server.Reset(t, 0)
		stop := errors.New("the writer gave up")
		cfg := &provider.Config{Client: client, Writers: []provider.Writer{{
			Name: "app", PostSnapshot: func(context.Context, *provider.Set) error { return stop },
		}}}
		err := provider.Run(t.Context(), cfg, []string{`\\` + server.FQDN + `\data`},
			func(context.Context, *provider.Set) error { return nil })
		require.ErrorIs(t, err, stop)
		requireNoCopies(t, server)
	})
	t.Run("an unprivileged account", func(t *testing.T) {
		server.Reset(t, 0)
		nobody := kerberos(t, n, n.User("nobody1"))
		err := provider.Run(t.Context(), &provider.Config{Client: &fsrvp.Config{Transport: dialer(t, n, nobody),
			Auth: nobody}},
			[]string{`\\` + server.FQDN + `\data`}, func(context.Context, *provider.Set) error { return nil })
		require.ErrorIs(t, err, fsrvp.ErrAccessDenied)
		require.ErrorContains(t, err, server.FQDN)
	})
}

// requireNoCopies fails where Samba's agent still has a share or a snapshot.
func requireNoCopies(t *testing.T, server *peers.Host) {
	t.Helper()
	require.NotContains(t, server.Output(t, "net", "conf", "listshares"), "@{")
	for _, dir := range []string{"/srv/btrfs/share", "/srv/btrfs/data"} {
		require.Eventually(t, func() bool {
			left, err := filepath.Glob(server.Path(dir) + "/@GMT-*")
			return err == nil && len(left) == 0
		}, time.Minute, 50*time.Millisecond, "snapshots in %s", dir)
	}
}
