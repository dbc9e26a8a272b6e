package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
)

// TestRemove: an administrator deletes sets, those in creation with force alone.
func TestRemove(t *testing.T) {
	r := newRig(t, nil)
	kept := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
	require.ErrorIs(t, r.Remove(t.Context(), l.set, false), agent.ErrInCreation)
	require.Equal(t, agent.Exposed, r.status(l.set))
	require.NoError(t, r.Remove(t.Context(), l.set, true))
	require.NoError(t, r.SetContext(client2, 0), "the creation has ended")
	require.NoError(t, r.Remove(t.Context(), kept.set, false))
	require.Error(t, r.Remove(t.Context(), kept.set, false))
	r.empty(t)
}

// TestSavedState saves a table and brings it back.
func TestSavedState(t *testing.T) {
	r, whole := threeSets(t)
	saved, err := agent.ReadState(r.cfg.StorePath)
	require.NoError(t, err)
	require.Len(t, saved.Sets, 3)
	require.NoError(t, os.WriteFile(r.cfg.StorePath, whole[:len(whole)/2], 0o600))
	partly, err := agent.ReadState(r.cfg.StorePath)
	if err != nil {
		var damage *state.DamageError
		require.ErrorAs(t, err, &damage)
		require.NotNil(t, partly)
	}
	aside, err := agent.WriteState(r.cfg.StorePath, saved)
	require.NoError(t, err)
	require.FileExists(t, aside)
	r.start(t)
	require.ElementsMatch(t, saved.Sets, r.Table())
	require.Equal(t, saved.ID, r.ID())
	r.requireInvariant(t)
	_, err = agent.WriteState(r.cfg.StorePath, saved)
	require.ErrorIs(t, err, state.ErrInUse)
	require.NoError(t, r.Close())
	saved.Sets = append(saved.Sets, saved.Sets[0])
	_, err = agent.WriteState(r.cfg.StorePath, saved)
	require.ErrorContains(t, err, "twice")
}

// TestKeptSetsStayKept: sets that were kept under KeepExposed stay when the agent starts without
// it.
func TestKeptSetsStayKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.cfg.KeepExposed = true })
		a := r.bring(t, fsrvp.ContextAppRollback, agent.Exposed, vms)
		b := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, db)
		require.NoError(t, r.Close())
		r.cfg.KeepExposed = false
		r.start(t)
		require.NoError(t, r.SetContext(client2, fsrvp.ContextBackup))
		require.NoError(t, r.SetContext(client2, fsrvp.ContextBackup))
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		require.Equal(t, agent.Exposed, r.status(a.set))
		require.Equal(t, agent.Exposed, r.status(b.set))
		require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, a.set))
		require.NoError(t, r.DeleteShareMapping(client1, b.set, b.copies[0], db))
		require.Equal(t, agent.Recovered, r.status(a.set))
	})
}

// TestDeletionIsTriedAgain: a DeleteShareMapping that failed is tried again after RetryRemoval,
// also by the next agent.
func TestDeletionIsTriedAgain(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			l := r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, docs, db)
			mend := r.failAt(errors.New("broken"), nil, func(p sharemem.Point) bool { return p.Method == "Unexpose" })
			for i, share := range []string{vms, docs} {
				require.Error(t, r.DeleteShareMapping(client1, l.set, l.copies[i], share))
			}
			if restart {
				require.NoError(t, r.Close())
				r.start(t)
			}
			time.Sleep(5 * time.Minute)
			require.Len(t, r.listShares(t), 3)
			mend()
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Len(t, r.listShares(t), 1)
			require.Len(t, r.listSnapshots(t), 1)
			r.requireInvariant(t)
		})
	}
}

// A stalling store is one on a file system that stalls, when it is told to, until it is released.
type stallingStore struct {
	state.Store
	stall atomic.Bool
	free  chan struct{}
}

func (s *stallingStore) Write(ctx context.Context, c state.Change) error {
	if s.stall.Load() {
		<-s.free
	}
	return s.Store.Write(ctx, c)
}

// TestStoreStalls: while a change is being written nobody waits for it but those that have
// something to store.
func TestStoreStalls(t *testing.T) {
	file, err := state.Open(filepath.Join(quickDir(t), "state"), nil)
	require.NoError(t, err)
	defer file.Close()
	s := &stallingStore{Store: file, free: make(chan struct{})}
	r := newRig(t, func(r *rig) { r.cfg.State, r.cfg.CloseWait = s, 200*time.Millisecond })
	requireStalls(t, r, func() { s.stall.Store(true) }, func() {
		s.stall.Store(false)
		close(s.free)
	})
}

// requireStalls brings a set to Exposed, has the store stall, and checks who waits and who does
// not.
func requireStalls(t *testing.T, r *rig, stall, release func()) {
	t.Helper()
	// The store stalls until release. What does not wait for it takes far less than a millisecond,
	// and on a busy machine as long as that lets it.
	const slow = 30 * time.Second
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
	require.NoError(t, r.Check(t.Context()))
	stall()
	var waiting errgroup.Group
	waiting.Go(func() error { return r.RecoveryCompleteShadowCopySet(client1, l.set) })
	require.Eventually(t, func() bool { // once the change is on its way, the agent does not answer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return errors.Is(r.Check(ctx), context.DeadlineExceeded)
	}, time.Minute, time.Millisecond)
	waiting.Go(func() error {
		ctx, cancel := context.WithTimeout(client1, 50*time.Millisecond)
		defer cancel()
		begun := time.Now()
		err := r.AbortShadowCopySet(ctx, l.set)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > slow {
			return errors.New("a call does not return when its context ends")
		}
		return nil
	})
	time.Sleep(100 * time.Millisecond) // both are waiting, or have ended
	for name, call := range map[string]func() error{
		"GetSupportedVersion": func() error { _, err := r.GetSupportedVersion(client2); return err },
		"IsPathSupported":     func() error { _, err := r.IsPathSupported(client2, db); return err },
		"IsPathShadowCopied":  func() error { _, err := r.IsPathShadowCopied(client2, vms); return err },
		"GetShareMapping":     func() error { _, err := r.GetShareMapping(client2, l.copies[0], l.set, vms, 1); return err },
		"Table":               func() error { r.Table(); return nil },
	} {
		begun := time.Now()
		require.NoError(t, call(), name)
		require.Less(t, time.Since(begun), slow, name)
	}
	begun := time.Now()
	require.ErrorContains(t, r.Close(), "the store has not ended")
	require.Less(t, time.Since(begun), slow, "Close keeps to CloseWait")
	release()
	_ = waiting.Wait() // the agent is closed
}
