package agent_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The shares of every rig: vms and docs on one volume, db and the hidden one on another.
const (
	vms    = `\\fs1\vms`
	docs   = `\\FS1.example.com\docs\`
	db     = `\\192.0.2.1\db`
	hidden = `\\fs1\hidden$`
	alien  = `\\fs2\vms`
	absent = `\\fs1\absent`
)

// A rig is an agent on memory backends.
type rig struct {
	*agent.Agent
	snapshots *snapmem.Snapshots
	shares    *sharemem.Shares
	cfg       *agent.Config
	as, other context.Context // two clients
}

func newBackends() (*snapmem.Snapshots, *sharemem.Shares) {
	snapshots := snapmem.New("/srv/a", "/srv/b")
	return snapshots, sharemem.New(snapshots,
		agent.Share{Name: "vms", Path: "/srv/a/vms"},
		agent.Share{Name: "docs", Path: "/srv/a/docs"},
		agent.Share{Name: "db", Path: "/srv/b"},
		agent.Share{Name: "hidden$", Path: "/srv/b/hidden"})
}

// newRig starts an agent; prepare, if not nil, changes its parts before.
func newRig(t testing.TB, prepare func(*rig)) *rig {
	t.Helper()
	r := &rig{as: client1, other: client2, cfg: &agent.Config{
		StorePath: filepath.Join(quickDir(t), "store"), // only some tests need a disk
		Names:     []string{"fs1", "fs1.example.com", "192.0.2.1"},
	}}
	r.snapshots, r.shares = newBackends()
	if prepare != nil {
		prepare(r)
	}
	r.start(t)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// start starts the rig's agent, again after Close.
func (r *rig) start(t testing.TB) {
	t.Helper()
	if r.cfg.Snapshots == nil {
		r.cfg.Snapshots = r.snapshots
	}
	if r.cfg.Shares == nil {
		r.cfg.Shares = r.shares
	}
	var err error
	r.Agent, err = agent.New(context.Background(), r.cfg)
	require.NoError(t, err)
}

// tb is what checks need of a test, also of one of package rapid.
type tb interface {
	Helper()
	require.TestingT
}

// empty checks that nothing is left: no set, no snapshot, no exposed share.
func (r *rig) empty(t tb) {
	t.Helper()
	require.Empty(t, r.Table())
	r.bare(t)
}

// bare checks that there is no snapshot and no exposed share.
func (r *rig) bare(t tb) {
	t.Helper()
	require.Empty(t, r.listSnapshots(t))
	require.Empty(t, r.listShares(t))
}

func (r *rig) listSnapshots(t tb) []agent.SnapshotSpec {
	return r.snapshots.All()
}

func (r *rig) listShares(t tb) []string {
	var names []string
	for _, s := range r.shares.All() {
		names = append(names, s.Name)
	}
	return names
}

// operator is a caller that may call, from an address.
func operator(addr string) context.Context {
	return dcerpc.WithPeer(context.Background(), dcerpc.Peer{
		Identity: dcerpc.Identity{Account: "backup", Domain: "EXAMPLE",
			SIDs: []dcerpc.SID{"S-1-5-21-1-2-3-1105", dcerpc.SIDBuiltinBackupOperators}},
		Addr:     &net.TCPAddr{IP: net.ParseIP(addr), Port: 49152},
		AuthType: dcerpc.AuthSPNEGO,
		Level:    dcerpc.LevelPrivacy,
	})
}

var (
	client1 = operator("192.0.2.11")
	client2 = operator("192.0.2.12")
)

// wait is a time-out that no test reaches.
const wait = time.Hour

// A life is a set on its way, with the copies of its shares.
type life struct {
	set    fsrvp.SetID
	copies []fsrvp.CopyID // one for each share
	shares []string
}

// bring makes a set of shares and brings it to a status.
func (r *rig) bring(t testing.TB, c fsrvp.ContextValue, to agent.SetStatus, shares ...string) *life {
	t.Helper()
	l, err := r.tryBring(c, to, shares...)
	require.NoError(t, err)
	return l
}

func (r *rig) tryBring(c fsrvp.ContextValue, to agent.SetStatus, shares ...string) (*life, error) {
	l := &life{shares: shares}
	if err := r.SetContext(client1, c); err != nil {
		return l, err
	}
	var err error
	if l.set, err = r.StartShadowCopySet(client1, fsrvp.NewSetID()); err != nil || to == agent.Started {
		return l, err
	}
	for _, share := range shares {
		id, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, share)
		if err != nil {
			return l, err
		}
		l.copies = append(l.copies, id)
	}
	if to == agent.Added {
		return l, nil
	}
	if err := r.PrepareShadowCopySet(client1, l.set, wait); err != nil {
		return l, err
	}
	if err := r.CommitShadowCopySet(client1, l.set, wait); err != nil || to == agent.Committed {
		return l, err
	}
	if err := r.ExposeShadowCopySet(client1, l.set, wait); err != nil || to == agent.Exposed {
		return l, err
	}
	return l, r.RecoveryCompleteShadowCopySet(client1, l.set)
}

// status returns what a set's status is in the table; empty where it is not there.
func (r *rig) status(id fsrvp.SetID) agent.SetStatus {
	for _, s := range r.Table() {
		if s.ID == id && !s.Removing {
			return s.Status
		}
	}
	return ""
}

// requireStatus checks what an error means on the wire; zero is success.
func requireStatus(t testing.TB, want fsrvp.Status, err error, msg ...any) {
	t.Helper()
	require.Equal(t, want, statusOf(err), append([]any{"%v", err}, msg...)...)
}

func statusOf(err error) fsrvp.Status {
	var s fsrvp.Status
	switch {
	case err == nil:
		return 0
	case errors.As(err, &s):
		return s
	}
	return fsrvp.ErrFail
}

func TestLifeOfASet(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.snapshots.WriteFile("/srv/a/vms/disk", []byte("before")))
	l := r.bring(t, fsrvp.ContextFileShareBackup, agent.Committed, vms, docs, hidden)
	require.Equal(t, l.copies[0], l.copies[1], "shares on one volume have one shadow copy")
	require.NotEqual(t, l.copies[0], l.copies[2])
	require.NoError(t, r.snapshots.WriteFile("/srv/a/vms/disk", []byte("after")))
	r.shares.SetRights("vms", "changed after the snapshot")
	require.NoError(t, r.ExposeShadowCopySet(client1, l.set, wait))

	names := []string{"vms@{" + l.copies[0].String() + "}", "docs@{" + l.copies[1].String() + "}",
		"hidden$@{" + l.copies[2].String() + "}"}
	for i, share := range l.shares {
		m, err := r.GetShareMapping(client1, l.copies[i], l.set, share, 1)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), m.Created, time.Minute)
		require.Equal(t, &fsrvp.ShareMapping{SetID: l.set, CopyID: l.copies[i], Share: share, Exposed: names[i],
			Created: m.Created}, m)
	}
	data, err := r.shares.ReadFile(names[0], "disk")
	require.NoError(t, err)
	require.Equal(t, "before", string(data))
	exposed, ok := r.shares.Exposed(names[0])
	require.True(t, ok)
	require.Equal(t, "changed after the snapshot", exposed.Rights)
	require.Error(t, r.shares.WriteFile(names[0], "disk", nil))

	require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
	for _, share := range []string{vms, docs, db, hidden} {
		p, err := r.IsPathShadowCopied(client2, share)
		require.NoError(t, err)
		require.True(t, p.Present, share)
	}
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	require.Len(t, r.listSnapshots(t), 2, "docs is on the volume, too")
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], `\\fs1\DOCS`))
	require.Len(t, r.listSnapshots(t), 1)
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[2], hidden))
	r.empty(t)
	p, err := r.IsPathShadowCopied(client2, vms)
	require.NoError(t, err)
	require.Equal(t, fsrvp.PathShadowCopied{}, p)
}

func TestWritableUntilRecovered(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextAppRollback|fsrvp.AttrAutoRecovery, agent.Exposed, vms, db)
	m, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
	require.NoError(t, err)
	require.NoError(t, r.shares.WriteFile(m.Exposed, "log", []byte("replayed")))
	require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
	require.Error(t, r.shares.WriteFile(m.Exposed, "log", []byte("too late")))
	exposed, _ := r.shares.Exposed(m.Exposed)
	require.Error(t, r.snapshots.WriteFile(exposed.Path+"/log", []byte("below the share")))
	data, err := r.shares.ReadFile(m.Exposed, "log")
	require.NoError(t, err)
	require.Equal(t, "replayed", string(data))
}

// plainSnapshots and plainShares hide the optional sides of the memory backends.
type (
	plainSnapshots struct{ agent.Snapshots }
	plainShares    struct{ agent.Shares }
)

func TestBackendsWithoutOptions(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.Snapshots, r.cfg.Shares = plainSnapshots{r.snapshots}, plainShares{r.shares} })
	requireStatus(t, fsrvp.ErrUnsupportedContext, r.SetContext(client1, fsrvp.AttrAutoRecovery))
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	require.NoError(t, r.Close())
	r.start(t)
	require.Equal(t, agent.Recovered, r.status(l.set))
	require.Len(t, r.listShares(t), 2)
}

func TestCloseEndsCalls(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.Close())
	_, err := r.GetSupportedVersion(client1)
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, r.Close(), "a second Close")
}
