package agent_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/ctdb"
)

// BenchmarkLifeInCluster is BenchmarkLife on three nodes with a table in files on one file system:
// once where the client stays at a node, and once where each call comes to another.
func BenchmarkLifeInCluster(b *testing.B) {
	for name, moves := range map[string]bool{"one node": false, "each call at another node": true} {
		b.Run(name, func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "table")
			require.NoError(b, os.Mkdir(dir, 0o700))
			snapshots, shares := newBackends()
			var nodes []*agent.Agent
			var first state.Shared
			for i := range 3 {
				s, err := ctdb.Open(b.Context(), &ctdb.Config{Dir: dir, Member: fmt.Sprint("n", i),
					Life: func(context.Context, string) (state.Life, error) { return state.Present, nil }})
				require.NoError(b, err)
				defer s.Close()
				a, err := agent.New(b.Context(), &agent.Config{State: s, Snapshots: snapshots, Shares: shares,
					Names: []string{"fs1", "192.0.2.1"}})
				require.NoError(b, err)
				defer a.Close()
				nodes = append(nodes, a)
				if i == 0 {
					first = s
				}
			}
			at := 0
			next := func() fsrvp.Service {
				if moves {
					at++
				}
				return nodes[at%len(nodes)]
			}
			before := first.Sequence()
			for b.Loop() {
				require.NoError(b, lifeAt(next))
			}
			b.ReportMetric(float64(first.Sequence()-before)/float64(b.N), "changes/op")
		})
	}
}

// lifeAt is the life of a set of two volumes.
func lifeAt(next func() fsrvp.Service) error {
	shares := []string{vms, db}
	if err := next().SetContext(client1, fsrvp.ContextNASRollback); err != nil {
		return err
	}
	set, err := next().StartShadowCopySet(client1, fsrvp.NewSetID())
	if err != nil {
		return err
	}
	var copies []fsrvp.CopyID
	for _, share := range shares {
		id, err := next().AddToShadowCopySet(client1, fsrvp.NewCopyID(), set, share)
		if err != nil {
			return err
		}
		copies = append(copies, id)
	}
	if err := next().PrepareShadowCopySet(client1, set, wait); err != nil {
		return err
	}
	if err := next().CommitShadowCopySet(client1, set, wait); err != nil {
		return err
	}
	if err := next().ExposeShadowCopySet(client1, set, wait); err != nil {
		return err
	}
	if err := next().RecoveryCompleteShadowCopySet(client1, set); err != nil {
		return err
	}
	for i, share := range shares {
		if err := next().DeleteShareMapping(client1, set, copies[i], share); err != nil {
			return err
		}
	}
	return nil
}
