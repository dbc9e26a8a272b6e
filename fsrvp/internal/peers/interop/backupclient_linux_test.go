package interop

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// A backupClient takes copies of shares of nas, as the backup operator on the host cl.
type backupClient struct {
	*fsrvp.Client
	d   *smbpipe.Dialer
	nas *peers.Host
}

func newBackupClient(t *testing.T, n *peers.Network) *backupClient {
	t.Helper()
	auth := kerberos(t, n, n.User("backup"))
	d := dialer(t, n, auth)
	c, err := fsrvp.Dial(t.Context(), n.Host("nas").FQDN, &fsrvp.Config{Transport: d, Auth: auth})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return &backupClient{c, d, n.Host("nas")}
}

// expose goes as far as to an exposed copy of a share, and returns it.
func (c *backupClient) expose(t *testing.T, kind fsrvp.ContextValue, share string) *fsrvp.ShareMapping {
	t.Helper()
	ctx := t.Context()
	share = c.unc(share)
	require.NoError(t, c.SetContext(ctx, kind))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.NoError(t, c.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	m, err := c.GetShareMapping(ctx, id, set, share, 1)
	require.NoError(t, err)
	return m
}

// delete ends a mapping that expose has returned.
func (c *backupClient) delete(t *testing.T, m *fsrvp.ShareMapping) {
	t.Helper()
	require.NoError(t, c.DeleteShareMapping(t.Context(), m.SetID, m.CopyID, m.Share))
}

func (c *backupClient) unc(share string) string { return `\\` + c.nas.FQDN + `\` + share }

// open opens a share over SMB.
func (c *backupClient) open(t *testing.T, share string) fs.FS {
	t.Helper()
	fsys, closer, err := c.d.OpenShare(t.Context(), c.unc(share))
	require.NoError(t, err)
	t.Cleanup(func() { _ = closer.Close() }) // the server may have closed it
	return fsys
}

// requireNoShare fails where a share can be opened, or is listed.
func (c *backupClient) requireNoShare(t *testing.T, n *peers.Network, share string) {
	t.Helper()
	_, _, err := c.d.OpenShare(t.Context(), c.unc(share))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotContains(t, listedOn(t, n, c.nas), share)
}
