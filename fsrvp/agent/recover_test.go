package agent_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// TestRestart: in each status, persistent sets stay for their client to go on with, auto-release
// ones go with Close.
func TestRestart(t *testing.T) {
	for _, c := range []fsrvp.ContextValue{fsrvp.ContextBackup, fsrvp.ContextFileShareBackup, fsrvp.ContextAppRollback,
		fsrvp.ContextNASRollback} {
		for _, status := range []agent.SetStatus{agent.Started, agent.Added, agent.Committed, agent.Exposed,
			agent.Recovered} {
			t.Run(c.String()+"/"+string(status), func(t *testing.T) {
				r := newRig(t, nil)
				l := r.bring(t, c, status, vms, db)
				before := r.Table()
				require.NoError(t, r.Close())
				if !c.Persistent() {
					r.bare(t)
				}
				r.start(t)
				if !c.Persistent() {
					r.empty(t)
					require.NoError(t, r.SetContext(client2, 0))
					return
				}
				require.Equal(t, before, r.Table())
				r.requireInvariant(t)
				if status != agent.Recovered {
					requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(client2, 0))
				}
				r.finish(t)
				require.Empty(t, r.status(l.set))
			})
		}
	}
}

// TestRestartedSetTimesOut: nobody is blocked for ever by a set that was unfinished when the agent
// ended.
func TestRestartedSetTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		l := r.bring(t, fsrvp.ContextNASRollback, agent.Committed, vms)
		require.NoError(t, r.Close())
		r.start(t)
		time.Sleep(short - time.Nanosecond)
		require.Equal(t, agent.Committed, r.status(l.set))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		r.empty(t)
		r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	})
}

// TestContextAloneIsForgotten: ContextSet is false at start (MS-FSRVP 3.1.3).
func TestContextAloneIsForgotten(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.SetContext(client1, fsrvp.ContextNASRollback))
	require.NoError(t, r.Close())
	r.start(t)
	_, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
	requireStatus(t, fsrvp.ErrBadState, err)
	require.NoError(t, r.SetContext(client2, 0))
}

// TestSnapshotIsGone: somebody deleted a snapshot behind the agent's back.
func TestSnapshotIsGone(t *testing.T) {
	for _, status := range []agent.SetStatus{agent.Committed, agent.Exposed, agent.Recovered} {
		r := newRig(t, nil)
		l := r.bring(t, fsrvp.ContextNASRollback, status, vms, docs, db)
		require.NoError(t, r.Close())
		require.NoError(t, r.snapshots.Delete(context.Background(),
			agent.SnapshotSpec{ID: l.copies[0], Mark: agent.Mark{Owner: r.ID()}}))
		r.start(t)
		r.requireInvariant(t)
		if status != agent.Recovered {
			r.empty(t) // half of a set that is in creation is of no use to its client
			continue
		}
		table := r.Table()
		require.Len(t, table, 1)
		require.Len(t, table[0].Copies, 1)
		require.Equal(t, l.copies[2], table[0].Copies[0].ID)
	}
}

// TestVolumeIsNotThere: a volume that is not mounted when the agent starts has not lost its
// snapshots.
func TestVolumeIsNotThere(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	before := r.Table()
	require.NoError(t, r.Close())
	mounted := r.snapshots.Clone()
	require.NoError(t, r.snapshots.Delete(context.Background(),
		agent.SnapshotSpec{ID: l.copies[0], Mark: agent.Mark{Owner: r.ID()}}))
	r.snapshots.SetSupported("/srv/a", false)
	r.start(t)
	require.Equal(t, before, r.Table())
	require.NoError(t, r.Close())

	r.snapshots, r.cfg.Snapshots = mounted, mounted
	r.start(t)
	require.Equal(t, before, r.Table())
	r.requireInvariant(t)
}

// TestShareIsGone: the exposed shares are gone, as after a restart of a server that keeps them in
// memory.
func TestShareIsGone(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery, agent.Recovered, vms, docs)
	require.NoError(t, r.Close())
	for _, name := range r.listShares(t) {
		require.NoError(t, r.shares.Unexpose(context.Background(), r.ID(), name))
	}
	r.shares.Remove("docs")
	r.start(t)
	r.requireShares(t, l, true, false)
	m, err := r.GetShareMapping(client1, l.copies[1], l.set, docs, 1)
	require.NoError(t, err)
	require.Empty(t, m.Exposed, "IsExposed is false: there is no name")
	exposed, _ := r.shares.Exposed("vms@{" + l.copies[0].String() + "}")
	require.False(t, exposed.Writable, "the copy was sealed")
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], docs))
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	r.empty(t)
}

// requireShares checks which shares of a life are exposed.
func (r *rig) requireShares(t *testing.T, l *life, want ...bool) {
	t.Helper()
	for i, share := range l.shares {
		m, err := r.GetShareMapping(client1, l.copies[i], l.set, share, 1)
		require.NoError(t, err)
		_, have := r.shares.Exposed(m.Exposed)
		require.Equal(t, want[i], have, share)
	}
}

// TestListFails: without knowing what is there, the agent does not start.
func TestListFails(t *testing.T) {
	errBroken := errors.New("broken")
	r := newRig(t, nil)
	require.NoError(t, r.Close())
	mend := r.failAt(errBroken, func(p snapmem.Point) bool { return p.Method == "List" }, nil)
	_, err := agent.New(context.Background(), r.cfg)
	require.ErrorIs(t, err, errBroken)
	mend()
	mend = r.failAt(errBroken, nil, func(p sharemem.Point) bool { return p.Method == "List" })
	_, err = agent.New(context.Background(), r.cfg)
	require.ErrorIs(t, err, errBroken)
	mend()
	r.start(t)
}

// TestRecoveryFails: what a starting agent cannot delete it deletes later.
func TestRecoveryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.bring(t, fsrvp.ContextBackup, agent.Recovered, vms, db)
		mend := r.failAt(errors.New("broken"), func(p snapmem.Point) bool { return p.Method == "Delete" }, nil)
		require.Error(t, r.Close())
		r.start(t)
		require.Len(t, r.listSnapshots(t), 2)
		require.NoError(t, r.SetContext(client2, 0))
		mend()
		time.Sleep(time.Minute)
		synctest.Wait()
		r.empty(t)
	})
}
