package snapdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

func TestFor(t *testing.T) {
	one, two := snaptest.Mount(t, "btrfs", 200), snaptest.Mount(t, "btrfs", 200)
	sub := filepath.Join(one, "sub")
	snaptest.Run(t, "btrfs", "subvolume", "create", sub)
	there, here := filepath.Join(two, "there"), filepath.Join(one, "not yet")
	require.NoError(t, os.Mkdir(there, 0o711))

	for name, c := range map[string]struct {
		dirs Dirs
		want string
	}{
		"same file system":      {Dirs{Paths: []string{there, here}}, here},
		"same, before anywhere": {Dirs{Paths: []string{there, here}, Anywhere: true}, here},
		"anywhere":              {Dirs{Paths: []string{there}, Anywhere: true}, there},
		"the default":           {Dirs{}, filepath.Join(one, Default)},
	} {
		got, err := c.dirs.For(sub)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got, name)
	}
	_, err := (&Dirs{Paths: []string{there}}).For(sub)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported)
	_, err = (&Dirs{}).For(filepath.Join(one, "nothing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = (&Dirs{Paths: []string{filepath.Join(one, "no/parent")}}).For(sub)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestDefaultsOfAllMounts finds snapshots without being told where, and once where a file system is
// mounted twice.
func TestDefaultsOfAllMounts(t *testing.T) {
	image := snaptest.Image(t, "btrfs", 200)
	dir := snaptest.Dir(t)
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	require.NoError(t, os.Mkdir(one, 0o755))
	require.NoError(t, os.Mkdir(two, 0o755))
	snaptest.MountImage(t, image, one)
	snaptest.Run(t, "mount", "--bind", one, two)
	t.Cleanup(func() { snaptest.Run(t, "umount", two) })

	d := &Dirs{Kind: "copy"}
	id := fsrvp.NewCopyID()
	require.NoError(t, Make(filepath.Join(one, Default)))
	require.NoError(t, os.Mkdir(d.Path(filepath.Join(one, Default), id, backend.Mark{}), 0o755))
	all, err := d.List()
	require.NoError(t, err)
	require.Contains(t, []string{one, two}, filepath.Dir(filepath.Dir(all[0].Path)))
	require.Len(t, all, 1)
	found, err := d.Find(id, backend.Owner{})
	require.NoError(t, err)
	require.Len(t, found, 1)

	elsewhere := &Dirs{Kind: "copy", Paths: []string{filepath.Join(dir, "three")}}
	all, err = elsewhere.List()
	require.NoError(t, err)
	require.Empty(t, all, "with configured directories it looks nowhere else")
	found, err = elsewhere.Find(id, backend.Owner{})
	require.NoError(t, err)
	require.Empty(t, found)
}
