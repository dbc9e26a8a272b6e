package agent_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/ctdb"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// A smallDisk is a file system that can be filled.
type smallDisk struct{ dir string }

func newSmallDisk(t *testing.T) *smallDisk {
	d := &smallDisk{filepath.Join(t.TempDir(), "disk")}
	require.NoError(t, os.Mkdir(d.dir, 0o700))
	if err := unix.Mount("none", d.dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		missing(t, "mounting: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(d.dir, unix.MNT_DETACH)) })
	require.NoError(t, os.Mkdir(d.table(), 0o700))
	return d
}

func (d *smallDisk) table() string { return filepath.Join(d.dir, "table") }

// fill has what is written from now on fail.
func (d *smallDisk) fill() error {
	err := os.WriteFile(filepath.Join(d.dir, "filler"), make([]byte, 1<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("the disk has room left: %w", err)
	}
	return nil
}

// mend ends that.
func (d *smallDisk) mend() error {
	if err := os.Remove(filepath.Join(d.dir, "filler")); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// TestClusterTableFull has the file system of a cluster's table be full before each call of a life,
// and in the middle of each, when a backend is at work. When there is room again nothing is lost
// that the client was told of, it can go on or start over, and nothing is left in the end.
func TestClusterTableFull(t *testing.T) {
	calls := []struct {
		name string
		call func(r *rig, l *life) error
	}{
		{"SetContext", func(r *rig, _ *life) error { return r.SetContext(client1, fsrvp.ContextNASRollback) }},
		{"Start", func(r *rig, l *life) (err error) {
			l.set, err = r.StartShadowCopySet(client1, fsrvp.NewSetID())
			return err
		}},
		{"Add", func(r *rig, l *life) error {
			id, err := r.AddToShadowCopySet(client1, fsrvp.NewCopyID(), l.set, vms)
			l.copies = []fsrvp.CopyID{id}
			return err
		}},
		{"Prepare", func(r *rig, l *life) error { return r.PrepareShadowCopySet(client1, l.set, wait) }},
		{"Commit", func(r *rig, l *life) error { return r.CommitShadowCopySet(client1, l.set, wait) }},
		{"Expose", func(r *rig, l *life) error { return r.ExposeShadowCopySet(client1, l.set, wait) }},
		{"RecoveryComplete", func(r *rig, l *life) error { return r.RecoveryCompleteShadowCopySet(client1, l.set) }},
		{"DeleteShareMapping", func(r *rig, l *life) error {
			return r.DeleteShareMapping(client1, l.set, l.copies[0], vms)
		}},
	}
	const recovered = 7
	for at := range calls {
		for _, inside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/inside %t", calls[at].name, inside), func(t *testing.T) {
				disk := newSmallDisk(t)
				c := newCluster()
				var once sync.Once
				armed := false
				fault := func() {
					if armed {
						once.Do(func() { require.NoError(t, disk.fill()) })
					}
				}
				c.snapshots.Fault = func(_ context.Context, p snapmem.Point) error {
					if p.Done && p.Method != "Volume" && p.Method != "List" {
						fault()
					}
					return nil
				}
				c.shares.Fault = nil
				nodes := [2]*rig{}
				for i := range nodes {
					s, err := ctdb.Open(t.Context(), &ctdb.Config{Dir: disk.table(), Member: fmt.Sprint("n", i),
						Poll: time.Millisecond,
						Life: func(context.Context, string) (state.Life, error) { return state.Present, nil }})
					require.NoError(t, err)
					defer s.Close()
					nodes[i] = &rig{as: client1, other: client2, snapshots: c.snapshots, shares: c.shares,
						cfg: &agent.Config{State: s, Snapshots: c.snapshots, Shares: c.shares,
							Names: []string{"fs1"}, RetryRemoval: 10 * time.Millisecond}}
					nodes[i].start(t)
					defer nodes[i].Close()
				}
				l := &life{}
				for k, call := range calls {
					if k == at {
						if armed = inside; !inside {
							require.NoError(t, disk.fill())
						}
					}
					err := call.call(nodes[0], l)
					armed = false
					require.NoError(t, disk.mend())
					// What clients were told of stays.
					for begun := time.Now(); err != nil && k >= recovered && time.Since(begun) < time.Minute; {
						if err = call.call(nodes[1], l); errors.Is(err, fsrvp.ErrObjectNotFound) {
							err = nil // that was done meanwhile
						}
					}
					if err != nil {
						require.LessOrEqual(t, k, recovered, "%v", err)
						l = nodes[1].bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms) // the client starts over
						require.NoError(t, nodes[0].DeleteShareMapping(client1, l.set, l.copies[0], vms))
						break
					}
				}
				for _, r := range nodes {
					require.Eventually(t, func() bool {
						return len(r.Table()) == 0 && len(c.snapshots.All()) == 0 && len(c.shares.All()) == 0
					}, time.Minute, time.Millisecond)
				}
				left, err := filepath.Glob(filepath.Join(disk.table(), "*", "tmp-*"))
				require.NoError(t, err)
				require.Empty(t, left)
			})
		}
	}
}
