package samba

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// TestPreviousVersionLinks has three copies of one second.
func TestPreviousVersionLinks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "previous")
	p, err := NewPreviousVersions(nil, dir)
	require.NoError(t, err)
	created := time.Date(2026, 11, 23, 16, 5, 33, 700, time.UTC)
	var names []string
	for range 3 {
		id := fsrvp.NewCopyID()
		name := "VMs@{" + id.String() + "}"
		e := agent.Exposure{Name: name, Path: "/snapshots/btrfs-" + id.String() + "/dir", Snapshot: agent.Snapshot{Created: created}}
		require.NoError(t, p.link(e))
		require.NoError(t, p.link(e), "once more")
		names = append(names, name)
	}
	links := func() (list []string) {
		entries, err := os.ReadDir(filepath.Join(dir, "vms"))
		require.NoError(t, err)
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	require.Equal(t, []string{"@GMT-2026.11.23-16.05.33", "@GMT-2026.11.23-16.05.34", "@GMT-2026.11.23-16.05.35"}, links())
	require.NoError(t, p.unlink(names[1]))
	require.NoError(t, p.unlink(names[1]), "nothing is left to do")
	require.Equal(t, []string{"@GMT-2026.11.23-16.05.33", "@GMT-2026.11.23-16.05.35"}, links())
	require.NoError(t, p.unlink("other@{"+fsrvp.NewCopyID().String()+"}"))
	require.NoError(t, p.unlink("no exposed share"))
	require.ErrorContains(t, p.link(agent.Exposure{Name: "..@{" + fsrvp.NewCopyID().String() + "}", Path: "/x"}), "no name for a directory")
	_, err = NewPreviousVersions(nil, "relative")
	require.ErrorContains(t, err, "absolute")
}
