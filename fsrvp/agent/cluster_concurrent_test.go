package agent_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// TestClusterConcurrentClients has three clients make sets on three nodes at once, each call at any
// node, and others read and delete them. Only one set at a time is in creation, so each creation
// goes as if nobody else were there.
func TestClusterConcurrentClients(t *testing.T) {
	snapshots, shares := newBackends()
	table := state.NewMemory(state.ID{})
	var nodes []*rig
	for i := range 3 {
		s, err := table.Open(fmt.Sprint("node", i), nil)
		require.NoError(t, err)
		r := &rig{as: client1, snapshots: snapshots, shares: shares, cfg: &agent.Config{
			State: s, Snapshots: snapshots, Shares: shares, Names: []string{"fs1", "fs1.example.com",
				"192.0.2.1"}, MaxSets: -1,
		}}
		r.start(t)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		nodes = append(nodes, r)
	}
	var made, deleted atomic.Int64
	var creating atomic.Int64
	var wg sync.WaitGroup
	until := time.Now().Add(*hammer)
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), rand.Uint64()))
			as := operator(fmt.Sprintf("192.0.2.%d", 20+i))
			any := func() *rig { return nodes[rnd.IntN(len(nodes))] }
			for own := 0; (own == 0 || time.Now().Before(until)) && errs[i] == nil; {
				l, err := oneLife(as, any, &creating)
				switch {
				case errors.Is(err, fsrvp.ErrShadowCopySetInProgress):
					continue
				case err != nil:
					errs[i] = err
					return
				}
				made.Add(1)
				own++
				for k, share := range l.shares {
					if p, err := any().IsPathShadowCopied(as, share); err != nil || !p.Present {
						errs[i] = fmt.Errorf("%s has a copy, and IsPathShadowCopied says %v, %w", share, p.Present, err)
					}
					if err := any().DeleteShareMapping(as, l.set, l.copies[k], share); err != nil {
						errs[i] = fmt.Errorf("deleting %s of %s: %w", share, l.set, err)
						return
					}
				}
				deleted.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, make([]error, len(errs)), errs)
	require.Equal(t, made.Load(), deleted.Load())
	require.GreaterOrEqual(t, made.Load(), int64(len(errs)))
	t.Logf("%d sets", made.Load())
	for _, r := range nodes {
		require.Eventually(t, func() bool { return reflect.DeepEqual(r.Table(), []agent.Set{}) }, time.Minute,
			time.Millisecond)
	}
	nodes[0].empty(t)
}

// oneLife makes a set, each call at any node.
func oneLife(as context.Context, any func() *rig, creating *atomic.Int64) (l *life, err error) {
	l = &life{shares: []string{vms, docs, db}}
	if err = any().SetContext(as, fsrvp.ContextNASRollback); err != nil {
		return l, err
	}
	if n := creating.Add(1); n != 1 {
		return l, fmt.Errorf("%d clients create sets at once", n)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("set %s: %w", l.set, err)
			creating.Add(-1)
		}
	}()
	if l.set, err = any().StartShadowCopySet(as, fsrvp.NewSetID()); err != nil {
		return l, err
	}
	for _, share := range l.shares {
		id, err := any().AddToShadowCopySet(as, fsrvp.NewCopyID(), l.set, share)
		if err != nil {
			return l, err
		}
		l.copies = append(l.copies, id)
	}
	for _, method := range []func(context.Context, fsrvp.SetID, time.Duration) error{
		any().PrepareShadowCopySet, any().CommitShadowCopySet, any().ExposeShadowCopySet,
	} {
		if err = method(as, l.set, wait); err != nil {
			return l, err
		}
	}
	for k, share := range l.shares {
		m, err := any().GetShareMapping(as, l.copies[k], l.set, share, 1)
		if err != nil {
			return l, err
		}
		if m.Exposed == "" || m.CopyID != l.copies[k] {
			return l, fmt.Errorf("mapping of %s: %+v", share, m)
		}
	}
	creating.Add(-1) // before the answer lets others begin
	if err = any().RecoveryCompleteShadowCopySet(as, l.set); err != nil {
		creating.Add(1)
	}
	return l, err
}
