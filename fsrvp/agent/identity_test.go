package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// leave makes a snapshot with an exposed share that no table knows.
func (r *rig) leave(t testing.TB, mark agent.Mark) (snapshot fsrvp.CopyID, share string) {
	t.Helper()
	spec := agent.SnapshotSpec{ID: fsrvp.NewCopyID(), Mark: mark,
		Volume: agent.Volume{ID: "memory:/srv/b", Path: "/srv/b"}}
	list, err := r.snapshots.Create(t.Context(), []agent.SnapshotSpec{spec})
	require.NoError(t, err)
	share = fsrvp.ExposedName("db", spec.ID)
	require.NoError(t, r.shares.Expose(t.Context(), agent.Exposure{Name: share, Mark: mark,
		Base: agent.Share{Name: "db"}, Snapshot: list[0], Path: list[0].Path}))
	return spec.ID, share
}

// TestOrphansStay: what the table does not know is reported, whoever made it, and deleted by an
// administrator alone.
func TestOrphansStay(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	table := r.Table()
	require.NoError(t, r.Close())
	other := backend.NewOwner("another machine")
	marks := []agent.Mark{{Owner: r.ID(), Sequence: 1}, {Owner: r.ID()}, {Owner: other, Sequence: 1 << 60}, {}}
	var want []string
	for _, mark := range marks {
		id, share := r.leave(t, mark)
		want = append(want, id.String(), share)
	}
	for range 2 {
		r.start(t)
		require.Equal(t, table, r.Table())
		require.Len(t, r.snapshots.All(), 5)
		require.Len(t, r.shares.All(), 5)
		require.NoError(t, r.Close())
	}
	r.start(t)
	orphans, err := r.Orphans(t.Context())
	require.NoError(t, err)
	var got []string
	for _, o := range orphans {
		require.Equal(t, o.Mark.Owner == r.ID(), o.Own, o)
		if o.Share != "" {
			got = append(got, o.Share)
		} else {
			got = append(got, o.Snapshot.ID.String())
		}
		require.NoError(t, r.RemoveOrphan(t.Context(), o))
		require.NoError(t, r.RemoveOrphan(t.Context(), o), "again")
	}
	require.ElementsMatch(t, want, got)
	orphans, err = r.Orphans(t.Context())
	require.NoError(t, err)
	require.Empty(t, orphans)
	r.requireInvariant(t)
	require.Equal(t, agent.Recovered, r.status(l.set))

	for _, known := range []agent.Orphan{
		{Mark: agent.Mark{Owner: r.ID()}, Own: true, Snapshot: agent.SnapshotSpec{ID: l.copies[0], Mark: agent.Mark{Owner: r.ID()}}},
		{Mark: agent.Mark{Owner: r.ID()}, Own: true, Share: table[0].Copies[0].Shares[0].Name},
		{},
	} {
		require.Error(t, r.RemoveOrphan(t.Context(), known))
	}
	r.requireInvariant(t)
}

// TestThreeAgents: agents with the same backends see nothing of each other, in whatever order they
// come and go.
func TestThreeAgents(t *testing.T) {
	first := newRig(t, nil)
	rigs := []*rig{first}
	for range 2 {
		rigs = append(rigs, newRig(t, func(r *rig) { r.snapshots, r.shares = first.snapshots, first.shares }))
	}
	var lives []*life
	for _, r := range rigs {
		lives = append(lives, r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db))
		r.bring(t, fsrvp.ContextBackup, agent.Exposed, docs)
	}
	for i, r := range rigs {
		require.Len(t, first.snapshots.All(), 9-i)
		require.NoError(t, r.Close()) // its auto-release copy goes, and nothing else
		require.Len(t, first.snapshots.All(), 8-i)
		require.Len(t, first.shares.All(), 8-i)
	}
	for i, r := range rigs {
		r.start(t)
		require.Len(t, first.snapshots.All(), 6)
		require.Len(t, first.shares.All(), 6)
		require.Equal(t, agent.Recovered, r.status(lives[i].set))
		for j, other := range lives {
			err := r.DeleteShareMapping(client1, other.set, other.copies[0], vms)
			require.Equal(t, i == j, err == nil, "only its own")
		}
		require.NoError(t, r.DeleteShareMapping(client1, lives[i].set, lives[i].copies[1], db))
		require.Empty(t, r.Table())
		require.Len(t, first.snapshots.All(), 4)
		lives[i] = r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	}
	require.Len(t, first.snapshots.All(), 6)
}

// TestLostStore: an agent whose store is gone does not begin anew next to its copies.
func TestLostStore(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"empty":   func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
			before := r.ID()
			require.NoError(t, r.Close())
			lose(t, r.cfg.StorePath)
			for range 3 { // a start that fails does not make the next one succeed
				_, err := agent.New(t.Context(), r.cfg)
				require.ErrorIs(t, err, agent.ErrStateLost)
				require.ErrorContains(t, err, r.cfg.StorePath)
				require.Len(t, r.snapshots.All(), 2)
				require.Len(t, r.shares.All(), 2)
			}
			elsewhere := *r.cfg
			elsewhere.StorePath = filepath.Join(t.TempDir(), "other")
			a, err := agent.New(t.Context(), &elsewhere)
			require.NoError(t, err, "another agent may begin")
			require.NoError(t, a.Close())

			r.cfg.AcceptState = true
			r.start(t)
			require.NotEqual(t, before, r.ID())
			require.Empty(t, r.Table())
			require.Len(t, r.snapshots.All(), 2)
			require.NoError(t, r.Close())
			r.cfg.AcceptState = false
			r.start(t)
			orphans, err := r.Orphans(t.Context())
			require.NoError(t, err)
			require.Len(t, orphans, 4)
		})
	}
}

// TestOldStore: a store that is older than its copies deletes none of them.
func TestOldStore(t *testing.T) {
	for _, status := range []agent.SetStatus{agent.Started, agent.Added, agent.Recovered} {
		t.Run(string(status), func(t *testing.T) {
			r := newRig(t, nil)
			l := r.bring(t, fsrvp.ContextNASRollback, status, vms, db)
			require.NoError(t, r.Close())
			old, err := os.ReadFile(r.cfg.StorePath)
			require.NoError(t, err)
			r.start(t)
			if status == agent.Recovered {
				r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, docs)
			} else {
				if status == agent.Started {
					for _, share := range []string{vms, db} {
						id, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, share)
						require.NoError(t, err)
						l.copies = append(l.copies, id)
					}
				}
				require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
				require.NoError(t, r.ExposeShadowCopySet(client1, l.set, wait))
				require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
			}
			table := r.Table()
			require.NoError(t, r.Close())
			now, err := os.ReadFile(r.cfg.StorePath)
			require.NoError(t, err)
			snapshots, shares := len(r.snapshots.All()), len(r.shares.All())

			require.NoError(t, os.WriteFile(r.cfg.StorePath, old, 0o600))
			for range 2 {
				_, err = agent.New(t.Context(), r.cfg)
				require.ErrorIs(t, err, agent.ErrStateLost)
				require.Len(t, r.snapshots.All(), snapshots)
				require.Len(t, r.shares.All(), shares)
			}
			require.NoError(t, os.WriteFile(r.cfg.StorePath, now, 0o600))
			r.start(t)
			require.ElementsMatch(t, table, r.Table())
			require.NoError(t, r.Close())

			require.NoError(t, os.WriteFile(r.cfg.StorePath, old, 0o600))
			r.cfg.AcceptState = true
			r.start(t)
			require.NoError(t, r.Close())
			r.cfg.AcceptState = false
			r.start(t)
			require.Len(t, r.snapshots.All(), snapshots, "what is not known stays")
			require.Len(t, r.shares.All(), shares)
			orphans, err := r.Orphans(t.Context())
			require.NoError(t, err)
			if status == agent.Recovered {
				require.Len(t, orphans, 2)
				require.Equal(t, agent.Recovered, r.status(l.set))
			} else {
				require.Len(t, orphans, 4)
				require.Empty(t, r.Table())
			}
		})
	}
}

// TestStoreBehindShares: a set that was not committed has no shares, so a store that says so is an
// old one.
func TestStoreBehindShares(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	require.NoError(t, r.Close())
	status := func(was, now string) {
		edit(t, r.cfg.StorePath, func(m map[string][]byte) {
			key := "set/" + l.set.String()
			m[key] = replaced(t, m[key], `"status":"`+was+`"`, `"status":"`+now+`"`)
		})
	}
	status("Recovered", "CreationInProgress")
	_, err := agent.New(t.Context(), r.cfg)
	require.ErrorIs(t, err, agent.ErrStateLost)
	require.Len(t, r.snapshots.All(), 1)
	status("CreationInProgress", "Recovered")
	r.start(t)
}

// replaced returns a record of the store with a part that it has in another form.
func replaced(t *testing.T, record []byte, old, now string) []byte {
	t.Helper()
	require.Contains(t, string(record), old)
	return bytes.Replace(record, []byte(old), []byte(now), 1)
}

// TestAdoption: copies that were made before there were marks stay those of the agent whose table
// knows them.
func TestAdoption(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	table := r.Table()
	require.NoError(t, r.Close())
	// As they were: neither marks nor an identity.
	specs := r.snapshots.All()
	for _, s := range specs {
		require.NoError(t, r.snapshots.Delete(t.Context(), s))
		s.Mark = agent.Mark{}
		_, err := r.snapshots.Create(t.Context(), []agent.SnapshotSpec{s})
		require.NoError(t, err)
	}
	for _, s := range r.shares.All() {
		e, _ := r.shares.Exposed(s.Name)
		require.NoError(t, r.shares.Unexpose(t.Context(), s.Mark.Owner, s.Name))
		e.Mark = agent.Mark{}
		require.NoError(t, r.shares.Expose(t.Context(), e.Exposure))
	}
	unknown, _ := r.leave(t, agent.Mark{})
	// And a store in the format of then.
	bolt(t, r.cfg.StorePath, func(tx *bbolt.Tx) error {
		b, err := json.Marshal(table[0])
		require.NoError(t, err)
		return putSet(b)(tx)
	})
	require.NoError(t, os.Remove(r.cfg.StorePath+".id"))
	r.start(t)
	require.ElementsMatch(t, table, r.Table())
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], db))
	all := r.snapshots.All()
	require.Len(t, all, 1)
	require.Equal(t, unknown, all[0].ID)
}

// TestCreationBegun: what a Create that failed has left is deleted by the next New, since the table
// has the copy as not yet made.
func TestCreationBegun(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Added, vms)
	errBroken := errors.New("broken")
	var made *snapmem.Snapshots
	r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
		if p.Method == "Create" && p.Done {
			made = r.snapshots.Clone()
			return errBroken
		}
		return nil
	}
	require.ErrorIs(t, r.CommitShadowCopySet(client1, l.set, wait), errBroken)
	require.Equal(t, agent.Added, r.status(l.set))
	require.NoError(t, r.Close())
	require.Len(t, made.All(), 1)
	r.snapshots, r.cfg.Snapshots = made, made
	r.start(t)
	require.Empty(t, made.All())
	require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
	r.requireInvariant(t)
}

// TestSnapshotOutside: a snapshot that the backend does not list any more, but that is there, is
// not forgotten.
func TestSnapshotOutside(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	require.NoError(t, r.Close())
	dir := t.TempDir()
	edit(t, r.cfg.StorePath, func(m map[string][]byte) {
		key := "copy/" + l.set.String() + "/" + l.copies[0].String()
		m[key] = replaced(t, m[key], `"path":"/.snapshots/`+l.copies[0].String()+`"`, `"path":"`+dir+`"`)
	})
	require.NoError(t, r.snapshots.Delete(t.Context(), r.snapshots.All()[0]))
	r.start(t)
	require.Equal(t, agent.Recovered, r.status(l.set))
	require.NoError(t, r.Close())
	require.NoError(t, os.Remove(dir))
	r.start(t)
	require.Empty(t, r.Table())
}
