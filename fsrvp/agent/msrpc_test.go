package agent_test

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	msrpc "github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	vss "github.com/oiweiwei/go-msrpc/msrpc/fsrvp/fileservervssagent/v1"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// everybody is a Service for callers that RPC does not know: they count as a backup operator of
// their address.
type everybody struct{ fsrvp.Service }

func (e everybody) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	peer, _ := dcerpc.PeerFromContext(ctx)
	peer.Identity = dcerpc.Identity{Account: "backup", SIDs: []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators}}
	peer.AuthType, peer.Level = dcerpc.AuthKerberos, dcerpc.LevelPrivacy
	return fsrvp.NewHandler(e.Service, nil).ServeRPC(dcerpc.WithPeer(ctx, peer), call)
}

// TestMSRPC has the client of another library, go-msrpc, go through all 13 methods over TCP, in NDR
// 2.0 and NDR64. It is not authenticated: that is tested with the mechanisms.
func TestMSRPC(t *testing.T) {
	memory := fsrvptest.NewMemory()
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: memory.Snapshots, Shares: memory.Shares, StorePath: filepath.Join(t.TempDir(),
			"agent.db"), Names: []string{"FS01"},
	})
	require.NoError(t, err)
	defer a.Close()
	srv := new(dcerpc.Server)
	srv.Handle(fsrvp.Interface(), everybody{a}, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		<-served
	}()

	for name, syntax := range map[string]msrpc.Option{"NDR20": msrpc.WithNDR20(), "NDR64": msrpc.WithNDR64()} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
			cc, err := msrpc.Dial(ctx, "127.0.0.1", msrpc.WithEndpoint("ncacn_ip_tcp:["+port+"]"))
			require.NoError(t, err)
			defer cc.Close(context.Background())
			c, err := vss.NewFileServerVSSAgentClient(ctx, cc, msrpc.WithInsecure(), syntax)
			require.NoError(t, err)
			const share = `\\FS01\share`
			guid := func() *dtyp.GUID {
				return &dtyp.GUID{Data1: 1, Data2: 2, Data3: 3, Data4: []byte("12345678")}
			}

			version, err := c.GetSupportedVersion(ctx, &vss.GetSupportedVersionRequest{})
			require.NoError(t, err)
			require.EqualValues(t, 1, version.MinVersion)
			require.EqualValues(t, 1, version.MaxVersion)
			path, err := c.IsPathSupported(ctx, &vss.IsPathSupportedRequest{ShareName: share})
			require.NoError(t, err)
			require.True(t, path.SupportedByThisProvider)
			require.Equal(t, "FS01", path.OwnerMachineName)

			begin := func() *dtyp.GUID {
				_, err := c.SetContext(ctx, &vss.SetContextRequest{Context: uint32(fsrvp.ContextBackup)})
				require.NoError(t, err)
				set, err := c.StartShadowCopySet(ctx, &vss.StartShadowCopySetRequest{ClientShadowCopySetID: guid()})
				require.NoError(t, err)
				return set.ShadowCopySetID
			}
			_, err = c.AbortShadowCopySet(ctx, &vss.AbortShadowCopySetRequest{ShadowCopySetID: begin()})
			require.NoError(t, err)

			set := begin()
			add, err := c.AddToShadowCopySet(ctx, &vss.AddToShadowCopySetRequest{ClientShadowCopyID: guid(),
				ShadowCopySetID: set, ShareName: share})
			require.NoError(t, err)
			_, err = c.PrepareShadowCopySet(ctx, &vss.PrepareShadowCopySetRequest{ShadowCopySetID: set,
				TimeoutInMilliseconds: 1000})
			require.NoError(t, err)
			_, err = c.CommitShadowCopySet(ctx, &vss.CommitShadowCopySetRequest{ShadowCopySetID: set,
				TimeoutInMilliseconds: 60000})
			require.NoError(t, err)
			_, err = c.ExposeShadowCopySet(ctx, &vss.ExposeShadowCopySetRequest{ShadowCopySetID: set,
				TimeoutInMilliseconds: 60000})
			require.NoError(t, err)
			mapping, err := c.GetShareMapping(ctx, &vss.GetShareMappingRequest{
				ShadowCopyID: add.ShadowCopyID, ShadowCopySetID: set, ShareName: share, Level: 1,
			})
			require.NoError(t, err)
			m := mapping.ShareMapping.GetValue().(*vss.ShareMapping1)
			require.Equal(t, add.ShadowCopyID, m.ShadowCopyID)
			require.Equal(t, set, m.ShadowCopySetID)
			require.Equal(t, share, m.ShareNameUNC)
			require.Contains(t, m.ShadowCopyShareName, "share@{")
			copied, err := c.IsPathShadowCopied(ctx, &vss.IsPathShadowCopiedRequest{ShareName: share})
			require.NoError(t, err)
			require.True(t, copied.ShadowCopyPresent)
			_, err = c.RecoveryCompleteShadowCopySet(ctx,
				&vss.RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set})
			require.NoError(t, err)
			_, err = c.DeleteShareMapping(ctx, &vss.DeleteShareMappingRequest{ShadowCopySetID: set,
				ShadowCopyID: add.ShadowCopyID, ShareName: share})
			require.NoError(t, err)
			require.Empty(t, a.Table())
		})
	}
}
