package agent_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// errDiskFull is ERROR_DISK_FULL as an HRESULT (MS-ERREF 2.1).
const errDiskFull fsrvp.Status = 0x80070070

// failAt makes a point of the backends fail until the returned function is called.
func (r *rig) failAt(err error, at func(snapmem.Point) bool, share func(sharemem.Point) bool) (mend func()) {
	var mended atomic.Bool
	r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
		if !mended.Load() && at != nil && at(p) {
			return err
		}
		return nil
	}
	r.shares.Fault = func(_ context.Context, p sharemem.Point) error {
		if !mended.Load() && share != nil && share(p) {
			return err
		}
		return nil
	}
	return func() { mended.Store(true) }
}

// TestBackendFailures makes each step of a life fail, in every way, and checks the answer, that
// nothing of the failed step is left, and that the same call succeeds when the backend works again.
func TestBackendFailures(t *testing.T) {
	errBroken := errors.New("broken")
	commit := func(r *rig, l *life) error { return r.CommitShadowCopySet(client1, l.set, wait) }
	expose := func(r *rig, l *life) error { return r.ExposeShadowCopySet(client1, l.set, wait) }
	recovery := func(r *rig, l *life) error { return r.RecoveryCompleteShadowCopySet(client1, l.set) }
	remove := func(r *rig, l *life) error { return r.DeleteShareMapping(client1, l.set, l.copies[0], vms) }
	tests := []struct {
		name   string
		before agent.SetStatus
		err    error
		at     func(snapmem.Point) bool
		share  func(sharemem.Point) bool
		call   func(r *rig, l *life) error
		want   fsrvp.Status
	}{
		{"Prepare", agent.Added, errBroken, func(p snapmem.Point) bool { return p.Method == "Prepare" }, nil, func(r *rig, l *life) error {
			return r.PrepareShadowCopySet(client1, l.set, wait)
		}, fsrvp.ErrWaitFailed},
		{"disk full in Commit", agent.Added, fmt.Errorf("write: %w", syscall.ENOSPC), func(p snapmem.Point) bool { return p.Method == "Create" && p.Done }, nil, commit, errDiskFull},
		{"quota in Commit", agent.Added, syscall.EDQUOT, func(p snapmem.Point) bool { return p.Method == "Create" }, nil, commit, errDiskFull},
		{"no memory in Commit", agent.Added, syscall.ENOMEM, func(p snapmem.Point) bool { return p.Method == "Create" }, nil, commit, fsrvp.ErrOutOfMemory},
		{"first volume in Commit", agent.Added, errBroken, func(p snapmem.Point) bool { return p.Method == "Create" && p.Volume == "/srv/a" }, nil, commit, fsrvp.ErrWaitFailed},
		{"second volume in Commit", agent.Added, errBroken, func(p snapmem.Point) bool { return p.Method == "Create" && p.Volume == "/srv/b" }, nil, commit, fsrvp.ErrWaitFailed},
		{"after the second volume in Commit", agent.Added, errBroken, func(p snapmem.Point) bool { return p.Method == "Create" && p.Volume == "/srv/b" && p.Done }, nil, commit, fsrvp.ErrWaitFailed},
		{"a status of the backend in Commit", agent.Added, fmt.Errorf("backend: %w", fsrvp.ErrNotSupported), func(p snapmem.Point) bool { return p.Method == "Create" }, nil, commit, fsrvp.ErrNotSupported},
		{"first share in Expose", agent.Committed, errBroken, nil, func(p sharemem.Point) bool { return p.Method == "Expose" && p.Share[:3] == "vms" }, expose, fsrvp.ErrWaitFailed},
		{"last share in Expose", agent.Committed, errBroken, nil, func(p sharemem.Point) bool { return p.Method == "Expose" && p.Share[:2] == "db" }, expose, fsrvp.ErrWaitFailed},
		{"after the last share in Expose", agent.Committed, errBroken, nil, func(p sharemem.Point) bool { return p.Method == "Expose" && p.Share[:2] == "db" && p.Done }, expose, fsrvp.ErrWaitFailed},
		{"disk full in Expose", agent.Committed, syscall.ENOSPC, nil, func(p sharemem.Point) bool { return p.Method == "Expose" }, expose, errDiskFull},
		{"Expose and Unexpose", agent.Committed, errBroken, nil, func(p sharemem.Point) bool { return p.Method == "Unexpose" || p.Share[:2] == "db" }, expose, fsrvp.ErrWaitFailed},
		{"sealing a share", agent.Exposed, errBroken, nil, func(p sharemem.Point) bool { return p.Method == "SealShare" && p.Share[:2] == "db" }, recovery, fsrvp.ErrFail},
		{"sealing a snapshot", agent.Exposed, errBroken, func(p snapmem.Point) bool { return p.Method == "Seal" && p.Volume == "/srv/b" }, nil, recovery, fsrvp.ErrFail},
		{"after sealing a snapshot", agent.Exposed, errBroken, func(p snapmem.Point) bool { return p.Method == "Seal" && p.Done }, nil, recovery, fsrvp.ErrFail},
		{"Unexpose in Delete", agent.Recovered, errBroken, nil, func(p sharemem.Point) bool { return p.Method == "Unexpose" }, remove, fsrvp.ErrFail},
		{"deleting a snapshot in Delete", agent.Recovered, errBroken, func(p snapmem.Point) bool { return p.Method == "Delete" }, nil, remove, fsrvp.ErrFail},
		{"after deleting a snapshot in Delete", agent.Recovered, errBroken, func(p snapmem.Point) bool { return p.Method == "Delete" && p.Done }, nil, remove, fsrvp.ErrFail},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				l := r.bring(t, fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery, tc.before, vms, db)
				mend := r.failAt(tc.err, tc.at, tc.share)
				for range 3 {
					err := tc.call(r, l)
					requireStatus(t, tc.want, err)
					require.ErrorIs(t, err, tc.err, "the cause is told")
					require.Equal(t, tc.before, r.status(l.set))
					switch tc.before {
					case agent.Added:
						r.bare(t)
					case agent.Committed:
						require.Len(t, r.listSnapshots(t), 2)
						if tc.name != "Expose and Unexpose" {
							require.Empty(t, r.listShares(t))
						}
					}
				}
				if tc.before != agent.Recovered { // a failure sets the timer to 180 s
					time.Sleep(short - time.Nanosecond)
					synctest.Wait()
					require.Equal(t, tc.before, r.status(l.set))
				}
				mend()
				require.NoError(t, tc.call(r, l))
				r.finish(t)
			})
		})
		if tc.before == agent.Recovered {
			continue
		}
		t.Run(tc.name+", given up", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				l := r.bring(t, fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery, tc.before, vms, db)
				mend := r.failAt(tc.err, tc.at, tc.share)
				requireStatus(t, tc.want, tc.call(r, l))
				mend()
				time.Sleep(short)
				synctest.Wait()
				r.empty(t)
			})
		})
	}
}

// TestRemovalFails: what a backend fails to delete is deleted later: by the agent itself, by
// another Abort, or by the next agent.
func TestRemovalFails(t *testing.T) {
	for _, unmake := range []string{"Delete", "Unexpose"} {
		begin := func(t *testing.T) (*rig, *life, func()) {
			r := newRig(t, nil)
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms, db)
			mend := r.failAt(errors.New("broken"),
				func(p snapmem.Point) bool { return p.Method == unmake },
				func(p sharemem.Point) bool { return p.Method == unmake })
			requireStatus(t, fsrvp.ErrFail, r.AbortShadowCopySet(client1, l.set))
			require.Empty(t, r.status(l.set), "the set is gone for everyone else")
			_, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
			requireStatus(t, fsrvp.ErrInvalidArg, err)
			require.NotEmpty(t, r.listSnapshots(t))
			return r, l, mend
		}
		t.Run(unmake+"/tried again", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _, mend := begin(t)
				time.Sleep(10 * time.Minute)
				require.NotEmpty(t, r.listSnapshots(t))
				mend()
				time.Sleep(time.Minute)
				synctest.Wait()
				r.empty(t)
			})
		})
		t.Run(unmake+"/aborted again", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, l, mend := begin(t)
				requireStatus(t, fsrvp.ErrFail, r.AbortShadowCopySet(client1, l.set))
				mend()
				require.NoError(t, r.AbortShadowCopySet(client1, l.set))
				r.empty(t)
				requireStatus(t, fsrvp.ErrInvalidArg, r.AbortShadowCopySet(client1, l.set))
			})
		})
		t.Run(unmake+"/next agent", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _, mend := begin(t)
				require.Error(t, r.Close(), "Close tries, too")
				r.start(t)
				require.Len(t, r.Table(), 1)
				require.Error(t, r.Close())
				mend()
				r.start(t)
				r.empty(t)
			})
		})
	}
}

// TestStoreFails closes the store under the agent: no answer of success without it, and nothing is
// begun that is not written down.
func TestStoreFails(t *testing.T) {
	for _, situation := range situations {
		t.Run(situation, func(t *testing.T) {
			r := &rig{as: client1, cfg: &agent.Config{StorePath: filepath.Join(t.TempDir(), "store"),
				Names: []string{"fs1", "192.0.2.1"}}}
			r.snapshots, r.shares = newBackends()
			r.start(t)
			l := r.situation(t, situation)
			snapshots, shares, before := len(r.listSnapshots(t)), len(r.listShares(t)), r.status(l.set)
			require.NoError(t, agent.CloseStore(r.Agent))
			for name, call := range map[string]func() error{
				"SetContext": func() error { return r.SetContext(client1, 0) },
				"Start":      func() error { _, err := r.StartShadowCopySet(client1, fsrvp.NewSetID()); return err },
				"Add":        func() error { _, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, db); return err },
				"Commit":     func() error { return r.CommitShadowCopySet(client1, l.set, 0) },
				"Recovery":   func() error { return r.RecoveryCompleteShadowCopySet(client1, l.set) },
				"Abort":      func() error { return r.AbortShadowCopySet(client1, l.set) },
				"Delete":     func() error { return r.DeleteShareMapping(client1, l.set, l.copies[0], vms) },
			} {
				require.Error(t, call(), name)
				require.Equal(t, before, r.status(l.set), name)
			}
			require.Len(t, r.listSnapshots(t), snapshots)
			require.Len(t, r.listShares(t), shares)
			_ = r.Close() // it cannot write either
		})
	}
}

// TestStoreFailsInTheMiddle: the snapshots are taken and the shares exposed when the store fails;
// the result waits until it works again.
func TestStoreFailsInTheMiddle(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, 0, agent.Added, vms)
	r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
		if p.Method == "Create" && p.Done {
			return agent.CloseStore(r.Agent)
		}
		return nil
	}
	requireStatus(t, fsrvp.ErrFail, r.CommitShadowCopySet(client1, l.set, wait))
	require.Equal(t, agent.CreationInProgress, r.status(l.set))
	require.NoError(t, agent.ReopenStore(r.Agent))
	require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))

	r.shares.Fault = func(_ context.Context, p sharemem.Point) error {
		if p.Method == "Expose" && p.Done {
			return agent.CloseStore(r.Agent)
		}
		return nil
	}
	requireStatus(t, fsrvp.ErrFail, r.ExposeShadowCopySet(client1, l.set, wait))
	require.Equal(t, agent.Committed, r.status(l.set))
	require.NoError(t, agent.ReopenStore(r.Agent))
	require.NoError(t, r.ExposeShadowCopySet(client1, l.set, wait))

	r.shares.Fault = func(_ context.Context, p sharemem.Point) error {
		if p.Method == "Unexpose" && p.Done {
			return agent.CloseStore(r.Agent)
		}
		return nil
	}
	requireStatus(t, fsrvp.ErrFail, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	require.NoError(t, agent.ReopenStore(r.Agent))
	r.shares.Fault = nil
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	r.empty(t)
}

// TestBackendMakesTooLittle: a backend that says nil and has not taken what it was asked for.
func TestBackendMakesTooLittle(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.Snapshots = forgetful{r.snapshots} })
	l := r.bring(t, 0, agent.Added, vms, db)
	requireStatus(t, fsrvp.ErrWaitFailed, r.CommitShadowCopySet(client1, l.set, wait))
	require.Equal(t, agent.Added, r.status(l.set))
	r.bare(t)
}

type forgetful struct{ *snapmem.Snapshots }

func (f forgetful) Create(ctx context.Context, specs []agent.SnapshotSpec) ([]agent.Snapshot, error) {
	list, err := f.Snapshots.Create(ctx, specs[:1])
	return list, err
}

// TestPathsThatAreNotText: the store holds text, and a path that it would change must not get
// there.
func TestPathsThatAreNotText(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.snapshots = snapmem.New("/srv/a", "/srv/\xff")
		r.shares = sharemem.New(r.snapshots, agent.Share{Name: "vms", Path: "/srv/a/\xfe"},
			agent.Share{Name: "db", Path: "/srv/\xff"})
	})
	for _, share := range []string{vms, db} {
		_, err := r.IsPathSupported(client1, share)
		requireStatus(t, fsrvp.ErrNotSupported, err)
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.MaxSets, r.cfg.MaxShares = 2, 3 })
	for range 2 {
		l := r.bring(t, 0, agent.Added, vms, docs, db)
		_, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, hidden)
		requireStatus(t, fsrvp.ErrOutOfMemory, err)
		require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
		require.NoError(t, r.ExposeShadowCopySet(client1, l.set, wait))
		require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
	}
	require.NoError(t, r.SetContext(client1, 0))
	_, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
	requireStatus(t, fsrvp.ErrOutOfMemory, err)
}
