package agent_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// TestFrozenStore is TestStoreStalls on a file system that is frozen.
func TestFrozenStore(t *testing.T) {
	if !inNamespace(t, "mkfs.xfs", "mount", "fsfreeze") {
		return
	}
	dir := mount(t, "xfs", 320)
	r := &rig{as: client1, other: client2}
	r.cfg = &agent.Config{StorePath: filepath.Join(dir, "store"),
		Names: []string{"fs1", "fs1.example.com", "192.0.2.1"}, CloseWait: 500 * time.Millisecond}
	r.snapshots, r.shares = newBackends()
	r.start(t)
	requireStalls(t, r,
		func() { command(t, "fsfreeze", "-f", dir) },
		func() { command(t, "fsfreeze", "-u", dir) })
	r.cfg.StoreWait = 10 * time.Second // until the write has ended
	r.start(t)
	r.requireInvariant(t)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
