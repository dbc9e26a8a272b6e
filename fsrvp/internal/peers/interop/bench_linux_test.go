package interop

import (
	"context"
	"net"
	"os"
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
// has 0.6 as its aim; the servers take most of the time of both.
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
			a, t := median(times[0]), median(times[1])
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(a.Microseconds()), "us/go-fsrvp")
			b.ReportMetric(float64(t.Microseconds()), "us/go-msrpc")
			b.ReportMetric(float64(a)/float64(t), "share")
		})
	}
}

// BenchmarkLifeCycle takes, exposes and deletes a copy of a share of one file, from IsPathSupported to DeleteShareMapping, behind smbd on btrfs: by our
// agent on one file server and by Samba's rpcd_fsrvp on another like it, in turn and with the same client. It gives the median time of a life
// with each, and ours as a share of Samba's, and the times of the methods. The aim is a share of 0.5. It is some 20: our agent exposes and deletes shares by running
// Samba's programs, each of which takes longer to start than rpcd_fsrvp takes for all.
//
//	go test -run '^$' -bench LifeCycle -benchtime 20x ./fsrvp/internal/peers/interop
func BenchmarkLifeCycle(b *testing.B) {
	n := peers.Start(b)
	u := n.User("backup")
	var servers [2]*lifeServer
	for i, name := range []string{"fs", "nas"} {
		h := n.Host(name)
		h.Claim(b)
		servers[i] = &lifeServer{share: `\\` + h.FQDN + `\data`, methods: map[string][]time.Duration{}}
		require.NoError(b, os.WriteFile(h.Path("/srv/btrfs/data/file"), []byte("content"), 0o644))
	}
	startAgentBehindSamba(b, n)
	for i, name := range []string{"fs", "nas"} {
		auth := ntlmAuth(b, u)
		c, err := fsrvp.Dial(b.Context(), n.Host(name).FQDN, &fsrvp.Config{
			Transport: dialer(b, n, auth), Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{ndr.NDR20},
		})
		require.NoError(b, err)
		b.Cleanup(func() { c.Close() })
		servers[i].client = c
	}
	for b.Loop() {
		for _, s := range servers {
			s.life(b)
		}
		time.Sleep(time.Second) // Samba's names of snapshots have a resolution of one
	}
	b.ReportMetric(0, "ns/op")
	theirs, ours := servers[0], servers[1]
	b.ReportMetric(float64(median(ours.lives).Microseconds())/1e3, "ms/go-fsrvp")
	b.ReportMetric(float64(median(theirs.lives).Microseconds())/1e3, "ms/rpcd_fsrvp")
	b.ReportMetric(float64(median(ours.lives))/float64(median(theirs.lives)), "share")
	for name, times := range ours.methods {
		b.Logf("%-20s %10v, rpcd_fsrvp %10v", name, median(times), median(theirs.methods[name]))
	}
}

// A lifeServer is one of those that are compared, with the times of its methods.
type lifeServer struct {
	client  *fsrvp.Client
	share   string
	lives   []time.Duration
	methods map[string][]time.Duration
}

func (s *lifeServer) life(b *testing.B) {
	var (
		ctx = context.Background()
		set fsrvp.SetID
		id  fsrvp.CopyID
		err error
	)
	begun := time.Now()
	timed := func(name string, call func() error) {
		start := time.Now()
		require.NoError(b, call(), name)
		s.methods[name] = append(s.methods[name], time.Since(start))
	}
	timed("IsPathSupported", func() error { _, err = s.client.IsPathSupported(ctx, s.share); return err })
	timed("GetSupportedVersion", func() error { _, err = s.client.GetSupportedVersion(ctx); return err })
	timed("SetContext", func() error { return s.client.SetContext(ctx, fsrvp.ContextFileShareBackup) })
	timed("Start", func() error { set, err = s.client.StartShadowCopySet(ctx, fsrvp.NewSetID()); return err })
	timed("Add", func() error { id, err = s.client.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, s.share); return err })
	timed("Prepare", func() error { return s.client.PrepareShadowCopySet(ctx, set, time.Minute) })
	timed("Commit", func() error { return s.client.CommitShadowCopySet(ctx, set, time.Minute) })
	timed("Expose", func() error { return s.client.ExposeShadowCopySet(ctx, set, time.Minute) })
	timed("GetShareMapping", func() error { _, err = s.client.GetShareMapping(ctx, id, set, s.share, 1); return err })
	timed("RecoveryComplete", func() error { return s.client.RecoveryCompleteShadowCopySet(ctx, set) })
	timed("DeleteShareMapping", func() error { return s.client.DeleteShareMapping(ctx, set, id, s.share) })
	s.lives = append(s.lives, time.Since(begun))
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
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
