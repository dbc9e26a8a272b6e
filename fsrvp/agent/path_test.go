package agent_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func TestNames(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.Names = append(r.cfg.Names, "2001:db8::1", "fe80::1%eth0") })
	for share, want := range map[string]fsrvp.Status{
		`\\fs1\vms`:                                        0,
		`\\FS1\VMS\`:                                       0,
		`\\fs1.Example.com\vms\disks\1.vhdx`:               0,
		`\\192.0.2.1\vms`:                                  0,
		`\\[2001:db8::1]\vms`:                              0,
		`\\2001:DB8:0::1\vms`:                              0,
		`\\2001-db8--1.ipv6-literal.net\vms`:               0,
		`\\fe80--1s3.ipv6-literal.net\vms`:                 0,
		`\\fs1.example\vms`:                                fsrvp.ErrObjectNotFound,
		`\\fs\vms`:                                         fsrvp.ErrObjectNotFound,
		`\\192.0.2.2\vms`:                                  fsrvp.ErrObjectNotFound,
		`\\127.0.0.1\vms`:                                  fsrvp.ErrObjectNotFound,
		`\\attacker.example.org@8080\share\x.txt`:          fsrvp.ErrObjectNotFound,
		`\\fs1\vms@{00000000-0000-0000-0000-000000000000}`: fsrvp.ErrObjectNotFound,
		``:                fsrvp.ErrInvalidArg,
		`vms`:             fsrvp.ErrInvalidArg,
		`\\fs1`:           fsrvp.ErrInvalidArg,
		`\\fs1\`:          fsrvp.ErrInvalidArg,
		`//fs1/vms`:       fsrvp.ErrInvalidArg,
		`\\?\UNC\fs1\vms`: fsrvp.ErrInvalidArg,
		`\\fs1\..\vms`:    fsrvp.ErrInvalidArg,
		`C:\vms`:          fsrvp.ErrInvalidArg,
	} {
		p, err := r.IsPathSupported(client1, share)
		requireStatus(t, want, err, share)
		if err == nil {
			require.Equal(t, fsrvp.PathSupport{Supported: true, Owner: "fs1"}, p, share)
		}
		_, err = r.IsPathShadowCopied(client1, share)
		requireStatus(t, want, err, share)
	}
}

// TestDefaultNames: without Config.Names the host's names and the addresses of its interfaces
// count.
func TestDefaultNames(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.Names, r.cfg.Aliases = nil, []string{"Role.example.com"} })
	host, err := os.Hostname()
	require.NoError(t, err)
	first, _, _ := strings.Cut(host, ".")
	names := []string{host, strings.ToUpper(first), "localhost", "role.EXAMPLE.com"}
	list, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range list {
		ip, _, err := net.ParseCIDR(a.String())
		require.NoError(t, err)
		names = append(names, ip.String())
	}
	for _, name := range names {
		for _, dot := range []string{"", "."} {
			p, err := r.IsPathSupported(client1, `\\`+name+dot+`\vms`)
			require.NoError(t, err, name)
			require.Equal(t, name, p.Owner, "the client can resolve the name that it has used")
		}
	}
	require.Empty(t, r.Machine())
	require.Contains(t, r.Names(), "role.example.com")
	_, err = r.IsPathSupported(client1, `\\192.0.2.77\vms`)
	requireStatus(t, fsrvp.ErrObjectNotFound, err)
}

// namedShares is a file server that knows its names.
type namedShares struct {
	*sharemem.Shares
	names backend.ServerNames
	err   error
}

func (s *namedShares) ServerNames(context.Context) (backend.ServerNames, error) {
	return s.names, s.err
}

// TestServerNames takes the names of a file server, and its machine where the Config names none.
func TestServerNames(t *testing.T) {
	named := func(r *rig) *namedShares {
		s := &namedShares{Shares: r.shares, names: backend.ServerNames{Machine: "NAS.",
			Aliases: []string{"Files.example.com.", "192.0.2.9"}}}
		r.cfg.Shares = s
		return s
	}
	for _, names := range [][]string{nil, {"fs1"}} {
		r := newRig(t, func(r *rig) { r.cfg.Names = names; named(r) })
		require.Equal(t, "NAS", r.Machine())
		for _, host := range []string{"nas", "Nas.", "files.example.com", "192.0.2.9"} {
			p, err := r.IsPathSupported(client1, `\\`+host+`\vms`)
			require.NoError(t, err, host)
			require.Equal(t, "NAS", p.Owner)
		}
	}
	r := newRig(t, func(r *rig) { named(r); r.cfg.Machine = "fs1.example.com." })
	p, err := r.IsPathSupported(client1, `\\NAS\vms`)
	require.NoError(t, err)
	require.Equal(t, "fs1.example.com", p.Owner)

	_, err = agent.New(t.Context(), &agent.Config{StorePath: filepath.Join(t.TempDir(), "store"),
		Snapshots: r.snapshots, Shares: &namedShares{err: errors.New("no luck")}})
	require.ErrorContains(t, err, "the names of the file server: no luck")
}

// TestWrongHost: an administrator sees whether it was the host or the share that is not known.
func TestWrongHost(t *testing.T) {
	for _, profile := range []agent.Profile{agent.Windows, agent.Strict} {
		var log bytes.Buffer
		r := newRig(t, func(r *rig) { r.cfg.Profile, r.cfg.Logger = profile, slog.New(slog.NewTextHandler(&log, nil)) })
		l := r.bring(t, 0, agent.Started)
		const host, share = "the host is wrong", "there is no share"
		for _, call := range []func(unc string) error{
			func(unc string) error { _, err := r.IsPathSupported(client1, unc); return err },
			func(unc string) error { _, err := r.IsPathShadowCopied(client1, unc); return err },
			func(unc string) error {
				_, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, unc)
				return err
			},
		} {
			log.Reset()
			require.Error(t, call(alien))
			require.Contains(t, log.String(), host)
			require.Contains(t, log.String(), "192.0.2.1, fs1, fs1.example.com")
			require.NotContains(t, log.String(), share)
			log.Reset()
			require.Error(t, call(absent))
			require.Contains(t, log.String(), share)
			require.NotContains(t, log.String(), host)
		}
	}
}

func TestUnsupportedVolumes(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.snapshots.Mount("/srv/a/vms/usb"))
	r.snapshots.SetSupported("/srv/b", false)
	require.NoError(t, r.SetContext(client1, 0))
	set, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
	require.NoError(t, err)
	for _, share := range []string{vms, db} {
		_, err := r.IsPathSupported(client1, share)
		requireStatus(t, fsrvp.ErrNotSupported, err)
		_, err = r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), set, share)
		requireStatus(t, fsrvp.ErrNotSupported, err)
		p, err := r.IsPathShadowCopied(client1, share)
		require.NoError(t, err)
		require.False(t, p.Present)
	}
	_, err = r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), set, docs)
	require.NoError(t, err, "what is mounted below another share does not matter")
}

// TestMountedTwice adds shares on one volume that is mounted at two places.
func TestMountedTwice(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.shares = sharemem.New(r.snapshots, agent.Share{Name: "vms", Path: "/srv/a/vms"},
			agent.Share{Name: "docs", Path: "/mnt/again/docs"})
		r.cfg.Snapshots = mountedTwice{r.snapshots}
	})
	require.NoError(t, r.snapshots.WriteFile("/srv/a/docs/file", []byte("content")))
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms, docs)
	require.Equal(t, l.copies[0], l.copies[1])
	m, err := r.GetShareMapping(client1, l.copies[1], l.set, docs, 1)
	require.NoError(t, err)
	b, err := r.shares.ReadFile(m.Exposed, "file")
	require.NoError(t, err)
	require.Equal(t, "content", string(b))

	require.NoError(t, r.Close())
	r.cfg.Snapshots, r.cfg.Shares = mountedTwice{r.snapshots}, r.shares
	r.start(t)
	require.Equal(t, agent.Exposed, r.status(l.set), "the store gives it back")
}

// mountedTwice has /srv/a at /mnt/again, too.
type mountedTwice struct{ *snapmem.Snapshots }

func (m mountedTwice) Volume(ctx context.Context, dir string) (agent.Volume, error) {
	again, ok := strings.CutPrefix(dir, "/mnt/again")
	if !ok {
		return m.Snapshots.Volume(ctx, dir)
	}
	v, err := m.Snapshots.Volume(ctx, "/srv/a"+again)
	v.Path = "/mnt/again"
	return v, err
}

func TestCompatibility(t *testing.T) {
	r := newRig(t, func(r *rig) { r.snapshots.Flags = fsrvp.DisableDefrag })
	r.bring(t, 0, agent.Recovered, vms)
	p, err := r.IsPathShadowCopied(client1, docs)
	require.NoError(t, err)
	require.Equal(t, fsrvp.PathShadowCopied{Present: true, Compatibility: fsrvp.DisableDefrag}, p)
	p, err = r.IsPathShadowCopied(client1, db)
	require.NoError(t, err)
	require.Equal(t, fsrvp.PathShadowCopied{}, p)
}

// TestOwner: in a cluster each share belongs to a node.
func TestOwner(t *testing.T) {
	own := ""
	r := newRig(t, func(r *rig) {
		r.cfg.Machine = "node1"
		r.cfg.Owner = func(_ context.Context, host string, share agent.Share) (string, error) {
			require.Equal(t, "fs1", strings.ToLower(host))
			switch share.Name {
			case "vms":
				return "NODE1", nil
			case "docs":
				return "node2", nil
			case "hidden$":
				return "", errors.New("the cluster has no quorum")
			case "db":
				return own, nil
			}
			return "", nil
		}
	})
	for share, owner := range map[string]string{vms: "node1", `\\fs1\docs`: "node2", `\\fs1\db`: "node1"} {
		p, err := r.IsPathSupported(client1, share)
		require.NoError(t, err)
		require.Equal(t, fsrvp.PathSupport{Supported: true, Owner: owner}, p)
	}
	for _, own = range []string{"192.0.2.1", "FS1.example.com", "fs1.example.com.", "node1."} { // other names of this machine
		p, err := r.IsPathSupported(client1, `\\fs1\db`)
		require.NoError(t, err)
		require.True(t, strings.EqualFold(strings.TrimSuffix(own, "."), p.Owner), "%s", p.Owner)
	}
	own = "192.0.2.1"
	_, err := r.IsPathSupported(client1, hidden)
	requireStatus(t, fsrvp.ErrFail, err)
	l := r.bring(t, 0, agent.Added, vms, `\\fs1\db`)
	_, err = r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, `\\fs1\docs`)
	requireStatus(t, fsrvp.ErrInvalidArg, err)
}

// TestExposedNames: the names are checked before anything is made, and hidden shares have two
// spellings.
func TestExposedNames(t *testing.T) {
	r := newRig(t, func(r *rig) { r.shares.MaxName = len("docs@{00000000-0000-0000-0000-000000000000}") })
	_, err := r.IsPathSupported(client1, vms)
	require.NoError(t, err)
	_, err = r.IsPathSupported(client1, hidden)
	requireStatus(t, fsrvp.ErrNotSupported, err)

	for _, tt := range []struct {
		unc    string
		plain  bool
		dollar string
	}{
		{hidden, false, ""}, {hidden + `\`, false, "$"}, {hidden + `\`, true, ""}, {hidden, true, ""}, {`\\FS1.\HIDDEN$\`, false, "$"},
		{hidden + `\dir$\`, false, "$"}, {hidden + `\dir`, false, ""}, {vms + `\`, false, ""}, {vms + `\x$\`, false, ""},
	} {
		r = newRig(t, func(r *rig) { r.cfg.PlainHiddenNames = tt.plain })
		l := r.bring(t, 0, agent.Exposed, tt.unc)
		m, err := r.GetShareMapping(client1, l.copies[0], l.set, tt.unc, 1)
		require.NoError(t, err)
		share := "hidden$"
		if strings.HasPrefix(tt.unc, vms) {
			share = "vms"
		}
		require.Equal(t, share+"@{"+l.copies[0].String()+"}"+tt.dollar, m.Exposed, "%q, plain %v", tt.unc, tt.plain)
	}
}

// TestDeleteWithoutBaseShare: Samba needs the base share to delete a mapping; this agent does not.
func TestDeleteWithoutBaseShare(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, 0, agent.Recovered, vms)
	r.shares.Remove("vms")
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	r.empty(t)
}

// TestExposeWithoutBaseShare: the base share went between Commit and Expose.
func TestExposeWithoutBaseShare(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, 0, agent.Committed, vms, docs)
	r.shares.Remove("docs")
	requireStatus(t, fsrvp.ErrObjectNotFound, r.ExposeShadowCopySet(client1, l.set, wait))
	require.Empty(t, r.listShares(t))
	require.NoError(t, r.AbortShadowCopySet(client1, l.set))
	r.empty(t)
}
