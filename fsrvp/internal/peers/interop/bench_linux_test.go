package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
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

// BenchmarkGetSupportedVersion calls Samba's rpcd_fsrvp through the pipe, with our client and with
// go-msrpc's in turn, in sessions by NTLM: without security of RPC's, and sealed by NTLM. It gives
// the median time of a call with each, and ours as a share of go-msrpc's, which has 0.56 as its aim;
// the servers take most of the time of both.
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

// BenchmarkLifeCycle takes, exposes and deletes copies, from IsPathSupported to DeleteShareMapping,
// behind smbd on btrfs: by our agent on one file server and by Samba's rpcd_fsrvp on another like
// it, in turn and with the same client. Ours changes the registry by the helper, or by programs.
// Both servers sync their databases to the disk, and nothing runs when a client connects to the
// shares. It gives the median time of a life with each, and ours as a share of Samba's, and logs
// the times of the methods: with one share exposed at a time, with 9 and 99 others that stay
// exposed, with 1,000 other shares in the registry, and with a set of 64 shares. The aim is a share
// of 1.2 with the helper, and of 7 without.
//
//	go test -run '^$' -bench LifeCycle -benchtime 20x ./fsrvp/internal/peers/interop
func BenchmarkLifeCycle(b *testing.B) {
	n := peers.Start(b)
	for _, mode := range []string{"helper", "programs"} {
		b.Run(mode, func(b *testing.B) {
			servers := newLifeServers(b, n, mode)
			one := func(b *testing.B) { timeLives(b, servers, []string{"data"}) }
			b.Run("1 exposed", one)
			expose := func(shares []string) {
				for _, s := range servers {
					s.expose(b, shares)
				}
			}
			expose(volumes[:9])
			b.Run("10 exposed", one)
			expose(volumes[:64])
			expose(volumes[:26])
			b.Run("100 exposed", one)
			for i, s := range servers {
				s.unexpose(b)
				addKnownShares(b, n.Host(lifeHosts[i]), 1000)
			}
			b.Run("1000 known", one)
			b.Run("64 in a set", func(b *testing.B) { timeLives(b, servers, volumes[:64]) })
		})
	}
}

// lifeHosts are the servers that are compared: Samba's, and ours.
var lifeHosts = [2]string{"fs", "nas"}

// volumes are the names of shares that are subvolumes of their own: a set of Samba's has one share
// of a volume.
var volumes = func() (names []string) {
	for i := range 64 {
		names = append(names, fmt.Sprintf("volume%d", i))
	}
	return names
}()

// newLifeServers prepares both servers.
func newLifeServers(b *testing.B, n *peers.Network, mode string) [2]*lifeServer {
	u := n.User("backup")
	var servers [2]*lifeServer
	for i, name := range lifeHosts {
		h := n.Host(name)
		h.Claim(b)
		restartSmbdWith(b, h, "")
		b.Cleanup(func() {
			h.Output(b, "/usr/bin/python3", "-I", "-c", dropShares) // faster than one by one
			h.Reset(b, 0)
			restartSmbd(b, h)
		})
		servers[i] = &lifeServer{host: h}
		require.NoError(b, os.WriteFile(h.Path("/srv/btrfs/data/file"), []byte("content"), 0o644))
		for _, v := range volumes {
			h.Output(b, "btrfs", "-q", "subvolume", "create", "/srv/btrfs/"+v)
		}
		addShares(b, h, volumes)
	}
	args := []string{"-samba-programs"}
	if mode == "helper" {
		args = nil
	}
	agent := startAgentBehindSamba(b, n, args...)
	require.Equal(b, mode == "helper", strings.Contains(agent.logged(b), "a helper changes the registry's shares"))
	for i, name := range lifeHosts {
		auth := ntlmAuth(b, u)
		c, err := fsrvp.Dial(b.Context(), n.Host(name).FQDN, &fsrvp.Config{
			Transport: dialer(b, n, auth), Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{ndr.NDR20},
		})
		require.NoError(b, err)
		b.Cleanup(func() { c.Close() })
		servers[i].client = c
	}
	_, err := servers[0].client.GetSupportedVersion(b.Context()) // starts it
	require.NoError(b, err)
	require.NotContains(b, n.Host("fs").Output(b, "sh", "-c", "cat /proc/$(pgrep -x rpcd_fsrvp)/environ"), "TDB_NO_FSYNC", "it has to sync, too")
	return servers
}

// dropShares removes all shares of the registry.
const dropShares = `
from samba.samba3 import param, smbconf
param.get_context().load("/etc/samba/smb.conf")
smbconf.init_reg(None).drop()
`

// addShares makes registry shares of a server's, all at once, with what Samba's agent needs for
// snapshots.
func addShares(b *testing.B, h *peers.Host, names []string) {
	const script = `
import sys
from samba.samba3 import param, smbconf
param.get_context().load("/etc/samba/smb.conf")
registry = smbconf.init_reg(None)
registry.transaction_start()
for name in sys.argv[1:]:
    registry.create_set_share(name, [("path", "/srv/btrfs/" + name), ("read only", "no"), ("vfs objects", "btrfs shadow_copy2"),
        ("btrfs:manipulate snapshots", "yes"), ("shadow:snapdir", ".")])
registry.transaction_commit()
`
	h.Output(b, "/usr/bin/python3", append([]string{"-I", "-c", script}, names...)...)
	h.Output(b, "smbcontrol", "all", "reload-config")
}

// addKnownShares makes shares that nobody uses.
func addKnownShares(b *testing.B, h *peers.Host, count int) {
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("known%d", i))
	}
	addShares(b, h, names)
}

// timeLives compares lives of sets of some shares.
func timeLives(b *testing.B, servers [2]*lifeServer, shares []string) {
	for _, s := range servers {
		s.lives, s.methods = nil, map[string][]time.Duration{}
		s.life(b, shares) // the first finds nothing prepared
		s.lives, s.methods = nil, map[string][]time.Duration{}
	}
	time.Sleep(time.Second)
	for b.Loop() {
		for _, s := range servers {
			s.life(b, shares)
		}
		time.Sleep(time.Second) // Samba's names of snapshots have a resolution of one
	}
	b.ReportMetric(0, "ns/op")
	theirs, ours := servers[0], servers[1]
	var ratios []float64
	for i := range ours.lives {
		ratios = append(ratios, float64(ours.lives[i])/float64(theirs.lives[i]))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "median-of-shares")
	b.ReportMetric(float64(median(ours.lives).Microseconds())/1e3, "ms/go-fsrvp")
	b.ReportMetric(float64(median(theirs.lives).Microseconds())/1e3, "ms/rpcd_fsrvp")
	b.ReportMetric(float64(median(ours.lives))/float64(median(theirs.lives)), "share")
	b.ReportMetric(float64(ours.lives[0])/float64(theirs.lives[0]), "best-of-shares") // sorted by median
	for name, times := range ours.methods {
		b.Logf("%-20s %10v, rpcd_fsrvp %10v; at best %10v, %10v", name, median(times), median(theirs.methods[name]),
			times[0], theirs.methods[name][0])
	}
}

// A lifeServer is one of those that are compared, with the times of its methods.
type lifeServer struct {
	host    *peers.Host
	client  *fsrvp.Client
	lives   []time.Duration
	methods map[string][]time.Duration
	exposed []exposedSet
}

// An exposedSet is one that stays exposed.
type exposedSet struct {
	set    fsrvp.SetID
	copies []fsrvp.CopyID
	shares []string
}

// timed calls a method.
func (s *lifeServer) timed(b *testing.B, name string, call func() error) {
	start := time.Now()
	require.NoError(b, call(), name)
	if s.methods != nil {
		s.methods[name] = append(s.methods[name], time.Since(start))
	}
}

// begin takes and exposes copies of shares.
func (s *lifeServer) begin(b *testing.B, shares []string) (e exposedSet) {
	ctx := context.Background()
	var err error
	for _, share := range shares {
		e.shares = append(e.shares, `\\`+s.host.FQDN+`\`+share)
	}
	for _, share := range e.shares {
		s.timed(b, "IsPathSupported", func() error { _, err = s.client.IsPathSupported(ctx, share); return err })
	}
	s.timed(b, "GetSupportedVersion", func() error { _, err = s.client.GetSupportedVersion(ctx); return err })
	s.timed(b, "SetContext", func() error { return s.client.SetContext(ctx, fsrvp.ContextFileShareBackup) })
	s.timed(b, "Start", func() error { e.set, err = s.client.StartShadowCopySet(ctx, fsrvp.NewSetID()); return err })
	for _, share := range e.shares {
		var id fsrvp.CopyID
		s.timed(b, "Add", func() error { id, err = s.client.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), e.set, share); return err })
		e.copies = append(e.copies, id)
	}
	s.timed(b, "Prepare", func() error { return s.client.PrepareShadowCopySet(ctx, e.set, time.Minute) })
	s.timed(b, "Commit", func() error { return s.client.CommitShadowCopySet(ctx, e.set, time.Minute) })
	s.timed(b, "Expose", func() error { return s.client.ExposeShadowCopySet(ctx, e.set, time.Minute) })
	for i, share := range e.shares {
		s.timed(b, "GetShareMapping", func() error { _, err = s.client.GetShareMapping(ctx, e.copies[i], e.set, share, 1); return err })
	}
	s.timed(b, "RecoveryComplete", func() error { return s.client.RecoveryCompleteShadowCopySet(ctx, e.set) })
	return e
}

// end deletes what was exposed.
func (s *lifeServer) end(b *testing.B, e exposedSet) {
	for i, share := range e.shares {
		s.timed(b, "DeleteShareMapping", func() error { return s.client.DeleteShareMapping(context.Background(), e.set, e.copies[i], share) })
	}
}

func (s *lifeServer) life(b *testing.B, shares []string) {
	begun := time.Now()
	s.end(b, s.begin(b, shares))
	s.lives = append(s.lives, time.Since(begun))
}

// expose leaves copies of shares exposed.
func (s *lifeServer) expose(b *testing.B, shares []string) {
	time.Sleep(time.Second)
	s.exposed = append(s.exposed, s.begin(b, shares))
}

// unexpose deletes what was left.
func (s *lifeServer) unexpose(b *testing.B) {
	for _, e := range s.exposed {
		s.end(b, e)
	}
	s.exposed = nil
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
