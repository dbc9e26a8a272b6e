package agent_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
)

// batchShares does many shares at once, and notes how many; it fails where the test says so.
type batchShares struct {
	*sharemem.Shares
	mu    sync.Mutex
	calls []string
	fail  map[string]error // by method
}

func (s *batchShares) note(method string, names []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, name := range names {
		names[i], _, _ = strings.Cut(name, "@")
	}
	s.calls = append(s.calls, method+" "+strings.Join(names, " "))
	return s.fail[method]
}

func (s *batchShares) noted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *batchShares) Unexpose(ctx context.Context, owner agent.Owner, name string) error {
	if err := s.note("Unexpose", []string{name}); err != nil {
		return err
	}
	return s.Shares.Unexpose(ctx, owner, name)
}

func (s *batchShares) ExposeShares(ctx context.Context, list []agent.Exposure) error {
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
		if err := s.Expose(ctx, e); err != nil {
			return err
		}
	}
	return s.note("ExposeShares", names) // an error is one after the work
}

func (s *batchShares) UnexposeShares(ctx context.Context, owner agent.Owner, names []string) error {
	if err := s.note("UnexposeShares", append([]string(nil), names...)); err != nil {
		return err
	}
	for _, name := range names {
		if err := s.Shares.Unexpose(ctx, owner, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *batchShares) SealShares(ctx context.Context, list []agent.Exposure) error {
	var names []string
	for _, e := range list {
		names = append(names, e.Name)
		if err := s.SealShare(ctx, e); err != nil {
			return err
		}
	}
	return s.note("SealShares", names)
}

func newBatchRig(t *testing.T) (*rig, *batchShares) {
	var s *batchShares
	r := newRig(t, func(r *rig) {
		s = &batchShares{Shares: r.shares, fail: map[string]error{}}
		r.cfg.Shares = s
	})
	return r, s
}

// TestBatch: what concerns many shares of a set is one step of the backend.
func TestBatch(t *testing.T) {
	r, s := newBatchRig(t)
	l := r.bring(t, fsrvp.ContextAppRollback|fsrvp.AttrAutoRecovery, agent.Exposed, vms, docs, db)
	require.Equal(t, []string{"ExposeShares vms docs db"}, s.noted())
	require.Len(t, r.listShares(t), 3)
	require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
	require.Equal(t, []string{"SealShares vms docs db"}, s.noted())
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[0], vms))
	require.Equal(t, []string{"Unexpose vms"}, s.noted(), "that is for one")
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[1], docs))
	require.NoError(t, r.DeleteShareMapping(client1, l.set, l.copies[2], db))
	s.noted()
	r.empty(t)

	l = r.bring(t, fsrvp.ContextBackup, agent.Exposed, vms, docs, db)
	require.NoError(t, r.AbortShadowCopySet(client1, l.set))
	require.Equal(t, []string{"ExposeShares vms docs db", "UnexposeShares vms docs db"}, s.noted())
	r.empty(t)

	l = r.bring(t, fsrvp.ContextBackup, agent.Exposed, vms)
	require.NoError(t, r.AbortShadowCopySet(client1, l.set))
	require.Equal(t, []string{"Unexpose vms"}, s.noted(), "there is one share only")
	r.empty(t)
}

// TestBatchFails: after a failed batch nothing is left, or the shares go one by one.
func TestBatchFails(t *testing.T) {
	r, s := newBatchRig(t)
	luck := errors.New("no luck")
	l := r.bring(t, fsrvp.ContextAppRollback|fsrvp.AttrAutoRecovery, agent.Committed, vms, docs, db)
	s.fail["ExposeShares"] = luck
	require.ErrorIs(t, r.ExposeShadowCopySet(client1, l.set, wait), luck)
	require.Equal(t, []string{"ExposeShares vms docs db", "UnexposeShares vms docs db"}, s.noted())
	require.Empty(t, r.listShares(t))
	delete(s.fail, "ExposeShares")
	require.NoError(t, r.ExposeShadowCopySet(client1, l.set, wait))

	s.fail["SealShares"] = luck
	require.ErrorIs(t, r.RecoveryCompleteShadowCopySet(client1, l.set), luck)
	require.Equal(t, agent.Exposed, r.status(l.set))
	s.noted()

	s.fail["UnexposeShares"] = luck
	require.NoError(t, r.AbortShadowCopySet(client1, l.set))
	require.Equal(t, []string{"UnexposeShares vms docs db", "Unexpose vms", "Unexpose docs", "Unexpose db"}, s.noted())
	r.empty(t)

	l = r.bring(t, fsrvp.ContextBackup, agent.Exposed, vms, docs, db)
	s.fail["Unexpose"] = luck
	require.ErrorIs(t, r.AbortShadowCopySet(client1, l.set), luck)
	require.NotEmpty(t, r.listSnapshots(t), "their shares are there")
	clear(s.fail)
	require.NoError(t, r.AbortShadowCopySet(client1, l.set))
	r.empty(t)
}
