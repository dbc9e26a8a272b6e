package interop

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	msrpc "github.com/oiweiwei/go-msrpc/dcerpc"
	agent "github.com/oiweiwei/go-msrpc/msrpc/fsrvp/fileservervssagent/v1"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// contextDialer dials from a host, for go-msrpc.
type contextDialer struct{ h *peers.Host }

func (d contextDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d.h.Dial(ctx, network, address)
}

// BenchmarkGetSupportedVersion calls Samba's rpcd_fsrvp through the pipe, with our client and with go-msrpc's in turn, in sessions by NTLM:
// without security of RPC's, and sealed by NTLM. It gives the median time of a call with each, and ours as a share of go-msrpc's, which
// is to be 0.6 at most.
//
//	go test -run '^$' -bench GetSupportedVersion ./fsrvp/internal/peers/interop
func BenchmarkGetSupportedVersion(b *testing.B) {
	n := peers.Start(b)
	server, u := n.Host("fs"), n.User("backup")
	server.Claim(b)
	for name, sealed := range map[string]bool{"plain": false, "sealed": true} {
		b.Run(name, func(b *testing.B) {
			ours, theirs := ourVersion(b, n, server, u, sealed), goMSRPCVersion(b, n, server, u, sealed)
			var times [2][]time.Duration
			for b.Loop() {
				for i, call := range []func(){ours, theirs} {
					start := time.Now()
					call()
					times[i] = append(times[i], time.Since(start))
				}
			}
			for i := range times {
				slices.Sort(times[i])
			}
			a, t := times[0][len(times[0])/2], times[1][len(times[1])/2]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(a.Microseconds()), "us/go-fsrvp")
			b.ReportMetric(float64(t.Microseconds()), "us/go-msrpc")
			b.ReportMetric(float64(a)/float64(t), "share")
		})
	}
}

func ourVersion(b *testing.B, n *peers.Network, server *peers.Host, u peers.User, sealed bool) func() {
	auth := ntlmAuth(b, u)
	cfg := &fsrvp.Config{Transport: dialer(b, n, auth), Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{ndr.NDR20}}
	if sealed {
		cfg.Auth, cfg.Level = auth, dcerpc.LevelPrivacy
	}
	c, err := fsrvp.Dial(b.Context(), server.FQDN, cfg)
	require.NoError(b, err)
	b.Cleanup(func() { c.Close() })
	return func() {
		if v, err := c.GetSupportedVersion(context.Background()); err != nil || v.Max != 1 {
			b.Fatal(v, err)
		}
	}
}

func goMSRPCVersion(b *testing.B, n *peers.Network, server *peers.Host, u peers.User, sealed bool) func() {
	ctx := gssapi.NewSecurityContext(context.Background())
	conn, err := msrpc.Dial(ctx, server.Addr.String(), msrpc.WithEndpoint("ncacn_np:[FssagentRpc]"), msrpc.WithDialer(contextDialer{n.Host("cl")}),
		msrpc.WithMechanism(ssp.SPNEGO), msrpc.WithMechanism(ssp.NTLM),
		msrpc.WithCredentials(credential.NewFromPassword(peers.Domain+`\`+u.Name, u.Password)))
	require.NoError(b, err)
	b.Cleanup(func() { conn.Close(ctx) })
	opts := []msrpc.Option{msrpc.WithNDR20(), msrpc.WithInsecure()}
	if sealed {
		opts[1] = msrpc.WithSeal()
	}
	c, err := agent.NewFileServerVSSAgentClient(ctx, conn, opts...)
	require.NoError(b, err)
	return func() {
		if v, err := c.GetSupportedVersion(ctx, &agent.GetSupportedVersionRequest{}); err != nil || v.MaxVersion != 1 {
			b.Fatal(v, err)
		}
	}
}
