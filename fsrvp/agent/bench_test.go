package agent_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// BenchmarkLife is the whole life of a set of two volumes, on memory backends: what is left is the
// store, once where it syncs to a disk, and once in memory.
func BenchmarkLife(b *testing.B) {
	for name, dir := range map[string]string{"disk": b.TempDir(), "memory": quickDir(b)} {
		b.Run(name, func(b *testing.B) {
			file, err := state.Open(filepath.Join(dir, "state"), nil)
			require.NoError(b, err)
			defer file.Close()
			r := newRig(b, func(r *rig) { r.cfg.State = file })
			before := file.Syncs()
			defer func() { b.ReportMetric(float64(file.Syncs()-before)/float64(b.N), "fdatasyncs/op") }()
			for b.Loop() {
				l := r.bring(b, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
				for i, share := range l.shares {
					require.NoError(b, r.DeleteShareMapping(client1, l.set, l.copies[i], share))
				}
			}
		})
	}
}

// BenchmarkLifeOfManyShares is the life of a set of 256 shares, the most that one has by default:
// each Add and each DeleteShareMapping stores its share alone.
func BenchmarkLifeOfManyShares(b *testing.B) {
	const n = 256
	var list []agent.Share
	for i := range n {
		list = append(list, agent.Share{Name: fmt.Sprint("s", i), Path: fmt.Sprint("/srv/a/s", i)})
	}
	r := newRig(b, func(r *rig) {
		r.snapshots = snapmem.New("/srv/a")
		r.shares = sharemem.New(r.snapshots, list...)
	})
	var shares []string
	for _, s := range list {
		shares = append(shares, `\\fs1\`+s.Name)
	}
	for b.Loop() {
		l := r.bring(b, fsrvp.ContextNASRollback, agent.Recovered, shares...)
		for i, share := range l.shares {
			require.NoError(b, r.DeleteShareMapping(client1, l.set, l.copies[i], share))
		}
	}
}
