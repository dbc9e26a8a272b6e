//go:build unix

package samba

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// TestPreviousVersionLinks has three copies of one second.
func TestPreviousVersionLinks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "previous")
	f, _ := newFake(t, Config{})
	p, err := NewPreviousVersions(t.Context(), f.Shares, dir)
	require.NoError(t, err)
	created := time.Date(2026, 11, 23, 16, 5, 33, 700, time.UTC)
	var names []string
	for range 3 {
		id := fsrvp.NewCopyID()
		name := "VMs@{" + id.String() + "}"
		e := backend.Exposure{Name: name, Path: "/snapshots/btrfs-" + id.String() + "/dir",
			Snapshot: backend.Snapshot{Created: created}}
		require.NoError(t, p.link(e))
		require.NoError(t, p.link(e), "again")
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
	require.Equal(t, []string{"@GMT-2026.11.23-16.05.33", "@GMT-2026.11.23-16.05.34", "@GMT-2026.11.23-16.05.35"},
		links())
	require.NoError(t, p.unlink(names[1]))
	require.NoError(t, p.unlink(names[1]), "nothing is left to do")
	require.Equal(t, []string{"@GMT-2026.11.23-16.05.33", "@GMT-2026.11.23-16.05.35"}, links())
	require.NoError(t, p.unlink("other@{"+fsrvp.NewCopyID().String()+"}"))
	require.NoError(t, p.unlink("no exposed share"))
	require.ErrorContains(t, p.link(backend.Exposure{Name: "..@{" + fsrvp.NewCopyID().String() + "}", Path: "/x"}),
		"no name for a directory")
	_, err = NewPreviousVersions(t.Context(), f.Shares, "relative")
	require.ErrorContains(t, err, "absolute")
}

// TestPreviousVersionDirs has the directories made of those shares that point to them.
func TestPreviousVersionDirs(t *testing.T) {
	f, _ := newFake(t, Config{})
	dir := filepath.Join(t.TempDir(), "previous")
	f.change(func(s *fakeState) {
		s.Text = "[global]\n\tregistry shares = Yes\n\tshadow:snapdir = " + dir + "/%S\n\n" +
			"[one]\n\tpath = /one\n\n[Two]\n\tpath = /two\n\tshadow:snapdir = " + dir + "//two/\n\n" +
			"[three]\n\tpath = /three\n\tshadow:snapdir = .snapshots\n\n[four]\n\tpath = /four\n\tshadow:snapdir = " + dir + "/other\n"
	})
	for range 2 {
		_, err := NewPreviousVersions(t.Context(), f.Shares, dir)
		require.NoError(t, err)
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 2)
		require.Equal(t, "one", entries[0].Name())
		require.Equal(t, "two", entries[1].Name())
	}
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	_, err := NewPreviousVersions(t.Context(), f.Shares, dir)
	require.ErrorContains(t, err, "not a directory")
	f.fail(fakeFault{Command: "testparm", Mode: "before"})
	_, err = NewPreviousVersions(t.Context(), f.Shares, dir)
	require.ErrorContains(t, err, "no such luck")
}
