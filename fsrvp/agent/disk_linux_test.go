package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// TestStoreOnFullDisk fills the file system that holds the store. What needs the store is answered
// with ERROR_DISK_FULL and changes nothing; when there is space again everything goes on.
func TestStoreOnFullDisk(t *testing.T) {
	if !inNamespace(t, "mount") {
		return
	}
	dir, err := os.MkdirTemp(images, "small-")
	require.NoError(t, err)
	require.NoError(t, unix.Mount("small", dir, "tmpfs", 0, "size=256k,mode=0700"))
	r := newRig(t, func(r *rig) { r.cfg.StorePath = filepath.Join(dir, "store") })
	t.Cleanup(func() { // after the agent's end, but for its Close, which comes later
		require.NoError(t, r.Close())
		require.NoError(t, unix.Unmount(dir, 0))
	})
	var sets []*life
	filler := filepath.Join(dir, "filler")
	fill := func() {
		f, err := os.Create(filler)
		require.NoError(t, err)
		for err == nil {
			_, err = f.Write(make([]byte, 1024))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, f.Close())
	}
	full := 0
	for range 40 {
		l := &life{}
		steps := []func() error{
			func() error { return r.SetContext(client1, fsrvp.ContextNASRollback) },
			func() (err error) { l.set, err = r.StartShadowCopySet(client1, fsrvp.NewSetID()); return err },
			func() error { return addScene(vms)(r, l) },
			func() error { return addScene(db)(r, l) },
			func() error { return r.CommitShadowCopySet(client1, l.set, wait) },
			func() error { return r.ExposeShadowCopySet(client1, l.set, wait) },
			func() error { return r.RecoveryCompleteShadowCopySet(client1, l.set) },
		}
		for _, step := range steps {
			fill()
			err := step()
			require.NoError(t, os.Remove(filler))
			if err == nil {
				continue // the file had free pages
			}
			full++
			require.True(t, errors.Is(err, errDiskFull), "%v", err)
			require.NoError(t, step(), "there is space again")
		}
		sets = append(sets, l)
	}
	require.NotZero(t, full, "the disk was never full")
	t.Logf("the disk was full %d times", full)
	r.requireInvariant(t)
	require.NoError(t, r.Close())
	r.start(t)
	for _, l := range sets {
		require.Equal(t, agent.Recovered, r.status(l.set))
	}
	r.requireInvariant(t)
}
