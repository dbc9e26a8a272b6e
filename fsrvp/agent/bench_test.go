package agent_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// BenchmarkLife is the whole life of a set of two volumes, on memory backends: what is left is the store, once where it syncs to a
// disk, and once in memory.
func BenchmarkLife(b *testing.B) {
	for name, dir := range map[string]string{"disk": b.TempDir(), "memory": quickDir(b)} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, func(r *rig) { r.cfg.StorePath = filepath.Join(dir, "store") })
			for b.Loop() {
				l := r.bring(b, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
				for i, share := range l.shares {
					require.NoError(b, r.DeleteShareMapping(client1, l.set, l.copies[i], share))
				}
			}
		})
	}
}
