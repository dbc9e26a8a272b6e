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

const (
	short = 180 * time.Second
	long  = 1800 * time.Second
)

// TestSequenceTimer checks after each method that the set lives for as long as the standard says,
// and not longer.
func TestSequenceTimer(t *testing.T) {
	tests := []struct {
		name string
		to   agent.SetStatus
		then func(t *testing.T, r *rig, l *life)
		want time.Duration
	}{
		{"Start", agent.Started, nil, short},
		{"Add", agent.Added, nil, long},
		{"Add that fails before it stops the timer", agent.Started, func(t *testing.T, r *rig, l *life) {
			_, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, absent)
			requireStatus(t, fsrvp.ErrObjectNotFound, err)
		}, short},
		{"Add that fails after it stopped the timer", agent.Added, func(t *testing.T, r *rig, l *life) {
			_, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, vms)
			requireStatus(t, fsrvp.ErrObjectAlreadyExists, err)
		}, short},
		{"Prepare", agent.Added, func(t *testing.T, r *rig, l *life) {
			require.NoError(t, r.PrepareShadowCopySet(client1, l.set, wait))
		}, long},
		{"Commit", agent.Committed, nil, short},
		{"Expose", agent.Exposed, nil, short},
		{"GetShareMapping", agent.Exposed, func(t *testing.T, r *rig, l *life) {
			_, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
			require.NoError(t, err)
		}, long},
		{"GetShareMapping that fails", agent.Exposed, func(t *testing.T, r *rig, l *life) {
			_, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
			require.NoError(t, err)
			_, err = r.GetShareMapping(client1, fsrvp.NewCopyID(), l.set, vms, 1)
			requireStatus(t, fsrvp.ErrInvalidArg, err)
		}, short},
		{"GetShareMapping with null arguments leaves the timer alone", agent.Exposed, func(t *testing.T, r *rig, l *life) {
			_, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
			require.NoError(t, err)
			_, err = r.GetShareMapping(client1, fsrvp.CopyID{}, l.set, vms, 1)
			requireStatus(t, fsrvp.ErrInvalidArg, err)
			_, err = r.GetShareMapping(client1, l.copies[0], l.set, "", 1)
			requireStatus(t, fsrvp.ErrInvalidArg, err)
		}, long},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				l := r.bring(t, fsrvp.ContextNASRollback, tc.to, vms, db)
				if tc.then != nil {
					tc.then(t, r, l)
				}
				time.Sleep(tc.want - time.Nanosecond)
				synctest.Wait()
				require.Equal(t, tc.to, r.status(l.set))
				_, err := r.StartShadowCopySet(client2, fsrvp.NewSetID())
				requireStatus(t, fsrvp.ErrShadowCopySetInProgress, err)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				r.empty(t)
				_, err = r.StartShadowCopySet(client1, fsrvp.NewSetID())
				requireStatus(t, fsrvp.ErrBadState, err, "ContextSet is off")
				require.NoError(t, r.SetContext(client2, 0), "the client's address is forgotten")
			})
		})
	}
}

func TestSequenceTimerOfContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		require.NoError(t, r.SetContext(client1, 0))
		time.Sleep(short - time.Nanosecond)
		synctest.Wait()
		requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(client2, 0))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		_, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
		requireStatus(t, fsrvp.ErrBadState, err)
	})
}

func TestSequenceTimerIsConfigurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.cfg.Timers.Commit = time.Second })
		r.bring(t, 0, agent.Committed, vms)
		time.Sleep(time.Second)
		synctest.Wait()
		r.empty(t)
	})
}

func TestSequenceTimerStopsWithRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		l := r.bring(t, 0, agent.Recovered, vms)
		time.Sleep(100 * time.Hour)
		_, err := r.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
		require.NoError(t, err)
		time.Sleep(100 * time.Hour)
		require.Equal(t, agent.Recovered, r.status(l.set))
		require.Len(t, r.listShares(t), 1)
	})
}

// TestKeepExposed has a client begin one set after the other without RecoveryComplete; what it does
// with a kept set later changes nothing about the creation that is in progress then.
func TestKeepExposed(t *testing.T) {
	for name, then := range map[string]func(t *testing.T, r *rig, old *life){
		"nothing": func(*testing.T, *rig, *life) {},
		"GetShareMapping": func(t *testing.T, r *rig, old *life) {
			_, err := r.GetShareMapping(client1, old.copies[0], old.set, vms, 1)
			require.NoError(t, err)
		},
		"GetShareMapping that fails": func(t *testing.T, r *rig, old *life) {
			_, err := r.GetShareMapping(client1, fsrvp.NewCopyID(), old.set, vms, 1)
			requireStatus(t, fsrvp.ErrInvalidArg, err)
		},
		"RecoveryComplete": func(t *testing.T, r *rig, old *life) {
			require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, old.set))
			require.Equal(t, agent.Recovered, r.status(old.set))
		},
		"Abort": func(t *testing.T, r *rig, old *life) {
			require.NoError(t, r.AbortShadowCopySet(client1, old.set))
		},
		"DeleteShareMapping": func(t *testing.T, r *rig, old *life) {
			require.NoError(t, r.DeleteShareMapping(client1, old.set, old.copies[0], vms))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.cfg.KeepExposed = true })
				old := r.bring(t, fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery, agent.Exposed, vms)
				time.Sleep(100 * time.Hour)
				require.Equal(t, agent.Exposed, r.status(old.set), "no timer runs")
				_, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
				requireStatus(t, fsrvp.ErrBadState, err, "the creation has ended")

				next := r.bring(t, fsrvp.ContextNASRollback, agent.Added, vms)
				require.Equal(t, agent.Exposed, r.status(old.set))
				then(t, r, old)
				time.Sleep(long - time.Nanosecond)
				synctest.Wait()
				require.Equal(t, agent.Added, r.status(next.set), "the timer is that of the creation alone")
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.Empty(t, r.status(next.set))
			})
		})
	}
}

// TestDeletionOfUnfinishedSet: with the last mapping of an exposed set the creation ends; as the
// standard is written, its context and timer stay.
func TestDeletionOfUnfinishedSet(t *testing.T) {
	for profile, want := range map[agent.Profile]fsrvp.Status{agent.Windows: 0,
		agent.Strict: fsrvp.ErrShadowCopySetInProgress} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(r *rig) { r.cfg.Profile = profile })
			l := r.bring(t, 0, agent.Exposed, vms)
			require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
			r.empty(t)
			requireStatus(t, want, r.SetContext(client2, 0))
			time.Sleep(short)
			synctest.Wait()
			require.NoError(t, r.SetContext(client2, 0), "in any case the timer ends it")
		})
	}
}

// slow makes every step of one method of the backends take d.
func (r *rig) slow(method string, d time.Duration) {
	delay := func(ctx context.Context, m string, done bool) error {
		if m != method || done {
			return nil
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.snapshots.Fault = func(ctx context.Context, p snapmem.Point) error { return delay(ctx, p.Method, p.Done) }
	r.shares.Fault = func(ctx context.Context, p sharemem.Point) error { return delay(ctx, p.Method, p.Done) }
}

// TestWaits checks each method that waits: the wait ends when it is said to, the work goes on, and
// the next call waits on.
func TestWaits(t *testing.T) {
	const each = 40 * time.Second
	tests := []struct {
		name, method string
		calls        int // of the backend's method
		before       agent.SetStatus
		during       agent.SetStatus // after a time-out
		after        agent.SetStatus
		timeout      fsrvp.Status
		call         func(r *rig, set fsrvp.SetID, wait time.Duration) error
	}{
		{"Prepare", "Prepare", 2, agent.Added, agent.Added, agent.Added, fsrvp.ErrWaitTimeout, func(r *rig, set fsrvp.SetID, wait time.Duration) error {
			return r.PrepareShadowCopySet(r.as, set, wait)
		}},
		{"Commit", "Create", 4, agent.Added, agent.CreationInProgress, agent.Committed, fsrvp.ErrTimeout, func(r *rig, set fsrvp.SetID, wait time.Duration) error {
			return r.CommitShadowCopySet(r.as, set, wait)
		}},
		{"Expose", "Expose", 2, agent.Committed, agent.Committed, agent.Exposed, fsrvp.ErrWaitTimeout, func(r *rig, set fsrvp.SetID, wait time.Duration) error {
			return r.ExposeShadowCopySet(r.as, set, wait)
		}},
	}
	for _, tc := range tests {
		total := time.Duration(tc.calls) * each
		t.Run(tc.name+"/in time", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// far beyond the sequence timer, which is stopped
				r := newRig(t, func(r *rig) { r.slow(tc.method, 20*time.Minute) })
				l := r.bring(t, 0, agent.Added, vms, db)
				r.reach(t, l, tc.before)
				begun := time.Now()
				require.NoError(t, tc.call(r, l.set, 2*time.Hour))
				require.Equal(t, time.Duration(tc.calls)*20*time.Minute, time.Since(begun))
				require.Equal(t, tc.after, r.status(l.set))
			})
		})
		t.Run(tc.name+"/time-out, then waiting on", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.slow(tc.method, each) })
				l := r.bring(t, 0, agent.Added, vms, db)
				r.reach(t, l, tc.before)
				begun := time.Now()
				requireStatus(t, tc.timeout, tc.call(r, l.set, time.Second))
				require.Equal(t, time.Second, time.Since(begun))
				require.Equal(t, tc.during, r.status(l.set))
				requireStatus(t, tc.timeout, tc.call(r, l.set, 2*time.Second))
				require.NoError(t, tc.call(r, l.set, wait))
				require.Equal(t, total, time.Since(begun), "nothing was begun twice")
				require.Equal(t, tc.after, r.status(l.set))
			})
		})
		t.Run(tc.name+"/time-out, collected after the end", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.slow(tc.method, each) })
				l := r.bring(t, 0, agent.Added, vms, db)
				r.reach(t, l, tc.before)
				requireStatus(t, tc.timeout, tc.call(r, l.set, time.Second))
				time.Sleep(total)
				synctest.Wait()
				require.Equal(t, tc.during, r.status(l.set))
				r.slow("", 0)
				require.NoError(t, tc.call(r, l.set, time.Second))
				require.Equal(t, tc.after, r.status(l.set))
			})
		})
		t.Run(tc.name+"/the timer ends what nobody asks for", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.slow(tc.method, wait) })
				l := r.bring(t, fsrvp.ContextNASRollback, agent.Added, vms, db)
				r.reach(t, l, tc.before)
				requireStatus(t, tc.timeout, tc.call(r, l.set, time.Second))
				time.Sleep(short - time.Nanosecond)
				synctest.Wait()
				require.Equal(t, tc.during, r.status(l.set))
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				r.empty(t)
				requireStatus(t, fsrvp.ErrInvalidArg, tc.call(r, l.set, time.Second))
			})
		})
		t.Run(tc.name+"/two callers", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.slow(tc.method, each) })
				l := r.bring(t, 0, agent.Added, vms, db)
				r.reach(t, l, tc.before)
				begun := time.Now()
				other := make(chan error, 1)
				go func() { other <- tc.call(r, l.set, wait) }()
				require.NoError(t, tc.call(r, l.set, wait))
				require.NoError(t, <-other)
				require.Equal(t, total, time.Since(begun))
				require.Equal(t, tc.after, r.status(l.set))
			})
		})
		for name, end := range map[string]func(r *rig, l *life) error{
			"Abort":            func(r *rig, l *life) error { return r.AbortShadowCopySet(client1, l.set) },
			"SetContext again": func(r *rig, _ *life) error { return r.SetContext(client1, 0) },
		} {
			t.Run(tc.name+"/ended by "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, func(r *rig) { r.slow(tc.method, wait) })
					l := r.bring(t, 0, agent.Added, vms, db)
					r.reach(t, l, tc.before)
					waiting := make(chan error, 1)
					go func() { waiting <- tc.call(r, l.set, wait) }()
					time.Sleep(time.Minute)
					begun := time.Now()
					require.NoError(t, end(r, l))
					requireStatus(t, fsrvp.ErrWaitFailed, <-waiting)
					require.Zero(t, time.Since(begun))
					r.empty(t)
				})
			})
		}
		t.Run(tc.name+"/the call's context ends", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.slow(tc.method, each) })
				l := r.bring(t, 0, agent.Added, vms, db)
				r.reach(t, l, tc.before)
				ctx, cancel := context.WithTimeout(client1, time.Second)
				defer cancel()
				r.as = ctx
				err := tc.call(r, l.set, wait)
				r.as = client1
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NoError(t, tc.call(r, l.set, wait), "another call waits on")
			})
		})
	}
}

// reach takes a set that is Added further.
func (r *rig) reach(t *testing.T, l *life, to agent.SetStatus) {
	if to == agent.Committed {
		require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
	}
}

// TestCommitFailsAfterTimeout: the failure of work that nobody waited for reaches the next Commit;
// the one after begins anew.
func TestCommitFailsAfterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := true
		r := newRig(t, func(r *rig) {
			r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
				if p.Method == "Create" && fail {
					time.Sleep(time.Minute)
					return errors.New("the disk is gone")
				}
				return nil
			}
		})
		l := r.bring(t, 0, agent.Added, vms, db)
		requireStatus(t, fsrvp.ErrTimeout, r.CommitShadowCopySet(client1, l.set, time.Second))
		time.Sleep(2 * time.Minute)
		require.Equal(t, agent.CreationInProgress, r.status(l.set))
		requireStatus(t, fsrvp.ErrWaitFailed, r.CommitShadowCopySet(client1, l.set, 0))
		require.Equal(t, agent.Added, r.status(l.set))
		fail = false
		require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
	})
}

// TestCommitWaitsForPrepare: a preparation that its own call did not wait for is not cut short by
// Commit.
func TestCommitWaitsForPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.slow("Prepare", time.Minute) })
		l := r.bring(t, 0, agent.Added, vms, db)
		begun := time.Now()
		requireStatus(t, fsrvp.ErrWaitTimeout, r.PrepareShadowCopySet(client1, l.set, time.Second))
		requireStatus(t, fsrvp.ErrTimeout, r.CommitShadowCopySet(client1, l.set, time.Second))
		require.NoError(t, r.CommitShadowCopySet(client1, l.set, wait))
		require.Equal(t, 2*time.Minute, time.Since(begun))
	})
}

// TestPrepareAfterAdd: a preparation that began before a share was added does not count for it.
func TestPrepareAfterAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.slow("Prepare", time.Minute) })
		l := r.bring(t, 0, agent.Added, vms)
		begun := time.Now()
		requireStatus(t, fsrvp.ErrWaitTimeout, r.PrepareShadowCopySet(client1, l.set, time.Second))
		_, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, db)
		require.NoError(t, err)
		require.NoError(t, r.PrepareShadowCopySet(client1, l.set, wait))
		require.Equal(t, 3*time.Minute, time.Since(begun), "one volume, then two")
	})
}

// TestRetries: a client that starts over too often is refused once (MS-FSRVP 3.1.4.2).
func TestRetries(t *testing.T) {
	r := newRig(t, nil)
	for range 3 {
		for range 6 {
			r.bring(t, 0, agent.Committed, vms)
		}
		requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(client1, 0))
		r.empty(t)
		_, err := r.StartShadowCopySet(client1, fsrvp.NewSetID())
		requireStatus(t, fsrvp.ErrBadState, err, "ContextSet is off")
	}
	require.NoError(t, r.SetContext(client2, 0))

	r = newRig(t, func(r *rig) { r.cfg.MaxRetries = -1 })
	for range 20 {
		r.bring(t, 0, agent.Exposed, vms)
	}
}

// TestCloseWithStuckBackend: Close waits as long as it was told, for a backend that does not look
// at its context.
func TestCloseWithStuckBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, func(r *rig) {
			r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
				if p.Method == "Create" {
					<-release
				}
				return nil
			}
		})
		l := r.bring(t, 0, agent.Added, vms)
		waiting := make(chan error, 1)
		go func() { waiting <- r.CommitShadowCopySet(client1, l.set, wait) }()
		time.Sleep(time.Second)
		begun := time.Now()
		require.ErrorContains(t, r.Close(), "has not ended within 30s")
		require.Equal(t, 30*time.Second, time.Since(begun))
		require.Error(t, <-waiting, "calls end at once")
		close(release)
		synctest.Wait()
		r.start(t) // what the backend did meanwhile is undone
		r.empty(t)
	})
}

// TestAbortWithStuckBackend: nothing of a set that is being removed is in the way of the next one.
func TestAbortWithStuckBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newRig(t, nil)
		l := r.bring(t, 0, agent.Committed, vms)
		r.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
			if p.Method == "Delete" && p.ID == l.copies[0] {
				<-release
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(client1, time.Minute)
		defer cancel()
		require.ErrorIs(t, r.AbortShadowCopySet(ctx, l.set), context.DeadlineExceeded)
		next := r.bring(t, 0, agent.Recovered, vms)
		again := make(chan error, 1)
		go func() { again <- r.AbortShadowCopySet(client1, l.set) }()
		synctest.Wait()
		close(release)
		require.NoError(t, <-again, "it has joined the removal")
		require.NoError(t, r.DeleteShareMapping(client1, next.set, next.copies[0], vms))
		r.empty(t)
	})
}
