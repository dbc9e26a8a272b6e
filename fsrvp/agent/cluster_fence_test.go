package agent_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// A slowBackend is a node's way to the backends of a cluster: one call ends late, and all calls
// that begin after that are counted.
type slowBackend struct {
	slow    string        // the method whose first call ends late
	reached chan struct{} // closed when that call has had its effect
	end     chan struct{} // closed to end it

	mu    sync.Mutex
	stuck bool
	after []string // methods that were called after it had ended
}

func (b *slowBackend) call(method string, f func() error) error {
	b.mu.Lock()
	is := !b.stuck && method == b.slow
	switch {
	case is:
		b.stuck = true
	case b.stuck:
		b.after = append(b.after, method)
	}
	b.mu.Unlock()
	err := f()
	if is {
		close(b.reached)
		<-b.end
	}
	return err
}

func (b *slowBackend) later() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.after)
}

// Of both backends these have all that is not for several at once, so that each step is a call.
type (
	slowSnapshots struct {
		*snapmem.Snapshots
		b *slowBackend
	}
	slowShares struct {
		agent.Shares
		shares *sharemem.Shares
		b      *slowBackend
	}
)

func (s slowSnapshots) Prepare(ctx context.Context, v []agent.Volume) error {
	return s.b.call("Prepare", func() error { return s.Snapshots.Prepare(ctx, v) })
}

func (s slowSnapshots) Create(ctx context.Context, specs []agent.SnapshotSpec) (made []agent.Snapshot, err error) {
	return made, s.b.call("Create", func() (err error) { made, err = s.Snapshots.Create(ctx, specs); return err })
}

func (s slowSnapshots) Delete(ctx context.Context, spec agent.SnapshotSpec) error {
	return s.b.call("Delete", func() error { return s.Snapshots.Delete(ctx, spec) })
}

func (s slowSnapshots) Seal(ctx context.Context, sn agent.Snapshot) error {
	return s.b.call("Seal", func() error { return s.Snapshots.Seal(ctx, sn) })
}

func (s slowShares) Expose(ctx context.Context, e agent.Exposure) error {
	return s.b.call("Expose", func() error { return s.Shares.Expose(ctx, e) })
}

func (s slowShares) Unexpose(ctx context.Context, owner agent.Owner, name string) error {
	return s.b.call("Unexpose", func() error { return s.Shares.Unexpose(ctx, owner, name) })
}

func (s slowShares) SealShare(ctx context.Context, e agent.Exposure) error {
	return s.b.call("SealShare", func() error { return s.shares.SealShare(ctx, e) })
}

func (s slowShares) List(ctx context.Context, owner agent.Owner) (own, foreign []agent.ExposedShare, err error) {
	return s.shares.List(ctx, owner)
}

// A deafStore is a member that does not look for the changes of others, as that of a process which
// is not scheduled, until it hears again.
type deafStore struct {
	state.Shared
	hears chan struct{}
}

func (s deafStore) Wait(ctx context.Context) error {
	<-s.hears
	return s.Shared.Wait(ctx)
}

// TestFence has a node be in the middle of a work when the cluster goes on without it, and wake up
// before it has looked at the table: it does not take the next step of the work, whatever that is.
// The check before each step is all that keeps it from it.
func TestFence(t *testing.T) {
	both := []string{vms, db} // two volumes
	for _, tt := range []struct {
		name, slow string
		status     agent.SetStatus
		context    fsrvp.ContextValue
		work       func(r *rig, l *life) []func() error
	}{
		{"Create after Prepare", "Prepare", agent.Added, fsrvp.ContextNASRollback, func(r *rig, l *life) []func() error {
			return []func() error{
				func() error { return r.PrepareShadowCopySet(client1, l.set, wait) },
				func() error { return r.CommitShadowCopySet(client1, l.set, wait) },
			}
		}},
		{"the second Expose", "Expose", agent.Committed, fsrvp.ContextNASRollback, func(r *rig, l *life) []func() error {
			return []func() error{func() error { return r.ExposeShadowCopySet(client1, l.set, wait) }}
		}},
		{"Seal after SealShare", "SealShare", agent.Exposed, fsrvp.AttrAutoRecovery, func(r *rig, l *life) []func() error {
			return []func() error{func() error { return r.RecoveryCompleteShadowCopySet(client1, l.set) }}
		}},
		{"Delete after Unexpose", "Unexpose", agent.Recovered, fsrvp.ContextNASRollback, func(r *rig, l *life) []func() error {
			return []func() error{func() error {
				return r.DeleteShareMapping(client1, l.set, l.copies[0], l.shares[0])
			}}
		}},
		{"the second Delete", "Delete", agent.Committed, fsrvp.ContextNASRollback, func(r *rig, l *life) []func() error {
			return []func() error{func() error { return r.AbortShadowCopySet(client1, l.set) }}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster()
				slow := &slowBackend{slow: tt.slow, reached: make(chan struct{}), end: make(chan struct{})}
				store, err := c.table.Open("a", nil)
				require.NoError(t, err)
				deaf := deafStore{store, make(chan struct{})}
				a := &rig{as: client1, other: client2, snapshots: c.snapshots, shares: c.shares, cfg: &agent.Config{
					State: deaf, Snapshots: slowSnapshots{c.snapshots, slow}, Shares: slowShares{c.shares, c.shares, slow},
					Names: []string{"fs1", "fs1.example.com", "192.0.2.1"},
				}}
				a.start(t)
				wake, hear := sync.OnceFunc(func() { close(slow.end) }), sync.OnceFunc(func() { close(deaf.hears) })
				defer func() {
					wake()
					hear()
					require.NoError(t, a.Close())
				}()
				l := a.bring(t, tt.context, tt.status, both...)
				b := c.start(t, "b", nil)
				defer func() { require.NoError(t, b.Close()) }()

				calls := tt.work(a, l)
				ended := make(chan error, len(calls))
				for _, call := range calls {
					go func() { ended <- call() }()
					synctest.Wait() // the first one is in the backend, the others wait for it
				}
				<-slow.reached
				c.table.SetLife("a", state.Lost)
				time.Sleep(5 * time.Second)
				require.NotContains(t, string(c.table.Records()["node/a"]), "stay", "b has ended its stay")
				wake()
				for range calls {
					require.Error(t, <-ended)
				}
				synctest.Wait()
				require.Empty(t, slow.later(), "the node is lost, and acts")

				c.table.SetLife("a", state.Present)
				hear()
				time.Sleep(5 * time.Second)
				b.requireInvariant(t)
				b.finish(t)
				time.Sleep(2 * time.Minute)
				require.NotContains(t, fmt.Sprint(keys(c.table.Records())), "lost/")
				b.empty(t)
			})
		})
	}
}
