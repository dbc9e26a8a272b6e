package agent_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// A cachedDisk is a backend whose deletions are on stable storage when SyncDeletions says so: until
// then the disk has what was there before.
type cachedDisk struct {
	*snapmem.Snapshots
	mu    sync.Mutex
	disk  *snapmem.Snapshots // what a crash of the machine leaves; nil: what Snapshots has
	fails error              // of SyncDeletions
	syncs int
	may   chan struct{} // SyncDeletions waits until it is closed; nil: it does not wait
}

// Create puts all on the disk, as a file system with transactions does.
func (d *cachedDisk) Create(ctx context.Context, specs []agent.SnapshotSpec) ([]agent.Snapshot, error) {
	made, err := d.Snapshots.Create(ctx, specs)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disk = nil
	return made, err
}

func (d *cachedDisk) DeleteUnsynced(ctx context.Context, s agent.SnapshotSpec) error {
	d.mu.Lock()
	if d.disk == nil {
		d.disk = d.Clone()
	}
	d.mu.Unlock()
	return d.Snapshots.Delete(ctx, s)
}

func (d *cachedDisk) SyncDeletions(ctx context.Context, volumes []agent.Volume) error {
	d.mu.Lock()
	may := d.may
	d.mu.Unlock()
	if may != nil {
		select {
		case <-may:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if d.fails == nil {
		d.disk = nil
	}
	return d.fails
}

// hold has SyncDeletions wait, until the test calls release.
func (d *cachedDisk) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.may = make(chan struct{})
	return sync.OnceFunc(func() { close(d.may) })
}

func (d *cachedDisk) failWith(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = err
}

func newDiskRig(t *testing.T) (*rig, *cachedDisk) {
	var d *cachedDisk
	r := newRig(t, func(r *rig) {
		d = &cachedDisk{Snapshots: r.snapshots}
		r.cfg.Snapshots = d
		r.cfg.RetryRemoval = 10 * time.Millisecond
		r.cfg.CloseWait = time.Minute
	})
	return r, d
}

// powerCut returns what a crash of the machine would leave now.
func (d *cachedDisk) powerCut(t *testing.T, r *rig) *image {
	d.mu.Lock()
	defer d.mu.Unlock()
	disk := d.disk
	if disk == nil {
		disk = d.Snapshots
	}
	store, err := os.ReadFile(r.cfg.StorePath)
	require.NoError(t, err)
	disk = disk.Clone()
	return &image{at: "power cut", store: store, snapshots: disk, shares: r.shares.Clone(disk)}
}

// stored returns the keys of the records of sets, copies and shares in the store.
func stored(t *testing.T, r *rig) (keys []string) {
	report, err := state.Check(r.cfg.StorePath)
	require.NoError(t, err)
	for k := range report.Records {
		if strings.Contains(k, "/") {
			keys = append(keys, k)
		}
	}
	return keys
}

// requireForgotten waits until the store has nothing but what the table has.
func requireForgotten(t *testing.T, r *rig) {
	t.Helper()
	require.Eventually(t, func() bool { return len(stored(t, r)) == 0 }, time.Minute, time.Millisecond)
}

// TestDeletionIsDeferred: a deletion is answered before it is on stable storage. What a crash of
// the machine then brings back is deleted at the next start.
func TestDeletionIsDeferred(t *testing.T) {
	r, d := newDiskRig(t)
	l := r.bring(t, fsrvp.ContextAppRollback, agent.Recovered, vms, docs, db)
	release := d.hold()
	defer release()
	for i, share := range l.shares {
		require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[i], share))
		after := d.powerCut(t, r).restart(t, quickDir(t), nil)
		after.finish(t)
		require.NoError(t, after.Close())
	}
	r.empty(t)
	require.NotEmpty(t, stored(t, r), "the copies come back in a crash, so they must be known")
	requireStatus(t, fsrvp.ErrObjectNotFound, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))

	next := r.bring(t, fsrvp.ContextAppRollback, agent.Exposed, vms) // the store is written meanwhile
	after := d.powerCut(t, r).restart(t, quickDir(t), nil)
	require.Equal(t, agent.Exposed, after.status(next.set))
	require.Len(t, after.Table(), 1, "what was deleted is not there again")
	require.Len(t, after.listSnapshots(t), 1)
	require.NoError(t, after.Close())
	release()
	require.NoError(t, r.AbortShadowCopySet(client1, next.set))
	requireForgotten(t, r)
	require.NoError(t, r.Close())
}

// TestDeletionsAreSyncedAtOnce: one wait is enough for many deletions.
func TestDeletionsAreSyncedAtOnce(t *testing.T) {
	r, d := newDiskRig(t)
	var sets []*life
	for range 20 {
		sets = append(sets, r.bring(t, fsrvp.ContextAppRollback, agent.Recovered, db))
	}
	release := d.hold()
	for _, l := range sets {
		require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], db))
	}
	release()
	requireForgotten(t, r)
	require.NoError(t, r.Close())
	require.LessOrEqual(t, d.syncs, 2)
}

// TestDeferredAtClose: Close waits for what is deferred.
func TestDeferredAtClose(t *testing.T) {
	r, d := newDiskRig(t)
	l := r.bring(t, fsrvp.ContextAppRollback, agent.Recovered, db)
	release := d.hold()
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], db))
	time.AfterFunc(20*time.Millisecond, release)
	require.NoError(t, r.Close())
	require.Empty(t, stored(t, r))
}

// TestSetWithDeferredCopyGoes: the rest of a set is deleted while one of its copies is deferred.
// The store never has a copy without its set.
func TestSetWithDeferredCopyGoes(t *testing.T) {
	ends := map[string]func(*rig, *life) error{
		"abort":       func(r *rig, l *life) error { return r.AbortShadowCopySet(client1, l.set) },
		"set context": func(r *rig, l *life) error { return r.SetContext(client1, fsrvp.ContextAppRollback) },
		"delete":      func(r *rig, l *life) error { return r.DeleteShareMapping(client1, l.set, l.copies[0], vms) },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			r, d := newDiskRig(t)
			l := r.bring(t, fsrvp.ContextAppRollback, agent.Exposed, vms, db)
			var images []*image
			var mu sync.Mutex
			release := d.hold()
			require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], db))
			images = append(images, d.powerCut(t, r))
			ended := make(chan error)
			go func() { ended <- end(r, l) }()
			if name != "delete" { // which does not wait
				require.Eventually(t, func() bool { return r.status(l.set) == "" }, time.Minute, time.Millisecond)
				mu.Lock()
				images = append(images, d.powerCut(t, r))
				mu.Unlock()
			}
			release()
			require.NoError(t, <-ended)
			images = append(images, d.powerCut(t, r))
			requireForgotten(t, r)
			images = append(images, d.powerCut(t, r))
			r.bare(t)
			require.NoError(t, r.Close())
			for _, im := range images {
				after := im.restart(t, quickDir(t), nil)
				after.finish(t)
				require.NoError(t, after.Close())
			}
		})
	}
}

// TestDeferredSyncFails: when it is not known whether deletions are on stable storage the store
// keeps them, nothing more is deferred, and it is tried again.
func TestDeferredSyncFails(t *testing.T) {
	r, d := newDiskRig(t)
	l := r.bring(t, fsrvp.ContextAppRollback, agent.Recovered, vms, db)
	luck := errors.New("no luck")
	d.failWith(luck)
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms), "that is found later")
	require.Eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.syncs > 0 }, time.Minute,
		time.Millisecond)
	require.Eventually(t, func() bool { // from now on answers wait
		other := r.bring(t, fsrvp.ContextAppRollback, agent.Recovered, vms)
		return errors.Is(r.DeleteShareMapping(client1, other.set, other.copies[0], vms), luck)
	}, time.Minute, time.Millisecond)
	require.NotEmpty(t, stored(t, r))
	after := d.powerCut(t, r).restart(t, quickDir(t), nil)
	for _, c := range after.Table() {
		require.Equal(t, l.set, c.ID)
		require.Len(t, c.Copies, 1)
	}
	require.NoError(t, after.Close())

	d.failWith(nil)
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], db))
	requireForgotten(t, r)
	r.empty(t)
	require.NoError(t, r.Close())
}
