package dcerpc_test

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/midl/uuid"
	"github.com/oiweiwei/go-msrpc/msrpc/dcetypes"
	"github.com/oiweiwei/go-msrpc/msrpc/dtyp"
	"github.com/oiweiwei/go-msrpc/msrpc/epm/epm/v3"
	"github.com/oiweiwei/go-msrpc/msrpc/mgmt/mgmt/v1"
	"github.com/stretchr/testify/require"

	ours "github.com/go-fsrvp/go-fsrvp/dcerpc"
	mapper "github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
)

// TestMSRPC lets the client of another library, go-msrpc, call our server over TCP: mgmt and the
// endpoint mapper, in NDR 2.0 and NDR64.
func TestMSRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &ours.Server{}
	srv.Handle(mapper.Interface(), &mapper.Mapper{Entries: []mapper.Entry{
		{Interface: fsrvpInterface(), Port: 5555, Addr: netip.MustParseAddr("10.99.0.4"), Annotation: "agent"},
		{Interface: otherInterface(), Port: 49152},
	}}, &ours.InterfaceOptions{MinLevel: ours.LevelInsecureNone})
	srv.Handle(fsrvpInterface(), &echo{}, nil)
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		<-done
	})

	for name, syntax := range map[string]dcerpc.Option{"NDR20": dcerpc.WithNDR20(), "NDR64": dcerpc.WithNDR64()} {
		dial := func(t *testing.T) dcerpc.Conn {
			port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
			cc, err := dcerpc.Dial(t.Context(), "127.0.0.1", dcerpc.WithEndpoint("ncacn_ip_tcp:["+port+"]"))
			require.NoError(t, err)
			t.Cleanup(func() { cc.Close(context.Background()) })
			return cc
		}
		t.Run(name+" mgmt", func(t *testing.T) {
			c, err := mgmt.NewManagementClient(t.Context(), dial(t), dcerpc.WithInsecure(), syntax)
			require.NoError(t, err)
			ids, err := c.InquireInterfaceIDs(t.Context(), &mgmt.InquireInterfaceIDsRequest{})
			require.NoError(t, err)
			require.Len(t, ids.InterfaceIDVector.InterfaceID, 2)
			require.Equal(t, fsrvpInterface().UUID.String(), ids.InterfaceIDVector.InterfaceID[0].UUID.UUID().String())
			stats, err := c.InquireStats(t.Context(), &mgmt.InquireStatsRequest{Count: 4})
			require.NoError(t, err)
			require.Len(t, stats.Statistics, 4)
			require.NotZero(t, stats.Statistics[0])
			stop, err := c.StopServerListening(t.Context(), &mgmt.StopServerListeningRequest{})
			require.NoError(t, err)
			require.EqualValues(t, 5, stop.Status)
			principal, err := c.InquirePrincName(t.Context(), &mgmt.InquirePrincNameRequest{AuthnProto: 10, PrincNameSize: 64})
			require.NoError(t, err)
			require.EqualValues(t, 0x6D3, principal.Status)
		})
		t.Run(name+" epm", func(t *testing.T) {
			c, err := epm.NewEpmClient(t.Context(), dial(t), dcerpc.WithInsecure(), syntax)
			require.NoError(t, err)
			all, err := c.Lookup(t.Context(), &epm.LookupRequest{VersOption: 1, MaxEntries: 500})
			require.NoError(t, err)
			require.Len(t, all.Entries, 2)
			require.Equal(t, "agent", all.Entries[0].Annotation)
			require.Equal(t, "5555", all.Entries[0].Tower.Binding().StringBinding.Endpoint)
			require.Equal(t, "10.99.0.4", all.Entries[0].Tower.Binding().StringBinding.NetworkAddress)
			require.Equal(t, "49152", all.Entries[1].Tower.Binding().StringBinding.Endpoint)

			found, err := c.Map(t.Context(), &epm.MapRequest{
				Object:    dtyp.GUIDFromUUID(&uuid.UUID{}),
				MapTower:  msrpcTower(),
				MaxTowers: 4,
			})
			require.NoError(t, err)
			require.Len(t, found.Towers, 1)
			require.Equal(t, "5555", found.Towers[0].Binding().StringBinding.Endpoint)
		})
	}
}

// msrpcTower asks for FSRVP over TCP.
func msrpcTower() *dcetypes.Tower {
	return dcetypes.FloorsToTower([]*dcetypes.Floor{
		{Protocol: 0x0D, UUID: uuid.MustParse(fsrvpInterface().UUID.String()), VersionMajor: 1, Data: zeros(2)},
		{Protocol: 0x0D, UUID: dcerpc.TransferNDR, VersionMajor: 2, Data: zeros(2)},
		{Protocol: 0x0B, Data: zeros(2)},
		{Protocol: 0x07, Data: zeros(2)},
		{Protocol: 0x09, Data: zeros(4)},
	})
}
