package snapshot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

func newAuto(t *testing.T, cfg *Config) *Auto {
	t.Helper()
	a, err := New(cfg)
	require.NoError(t, err)
	return a
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	require.NoError(t, os.Mkdir(path, 0o755))
	return path
}

// shares makes a directory on each of three file systems, best first.
func shares(t *testing.T) (btrfs, xfs, tmpfs string) {
	t.Helper()
	small := mkdir(t, filepath.Join(snaptest.Dir(t), "small"))
	btrfs, xfs = mkdir(t, filepath.Join(snaptest.Mount(t, "btrfs", 300), "share")), mkdir(t,
		filepath.Join(snaptest.Mount(t, "xfs", 300), "share"))
	require.NoError(t, unix.Mount("none", small, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(small, 0)) })
	return btrfs, xfs, mkdir(t, filepath.Join(small, "share"))
}

func TestConform(t *testing.T) {
	btrfs, xfs, tmpfs := shares(t)
	snaptest.Conform(t, newAuto(t, nil), btrfs, xfs, tmpfs)
}

func TestPicks(t *testing.T) {
	btrfs, xfs, tmpfs := shares(t)
	a := newAuto(t, nil)
	var volumes []backend.Volume
	for dir, want := range map[string]string{btrfs: "btrfs", xfs: "reflink", tmpfs: "copy"} {
		v, err := a.Volume(t.Context(), dir)
		require.NoError(t, err)
		name, _, _ := strings.Cut(v.ID, ":")
		require.Equal(t, want, name)
		volumes = append(volumes, v)
		c, err := a.Compatibility(t.Context(), v)
		require.NoError(t, err)
		require.Equal(t, want != "copy", c == fsrvp.DisableDefrag)
	}
	var specs []backend.SnapshotSpec
	for _, v := range volumes {
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v})
	}
	require.NoError(t, a.PrepareSnapshots(t.Context(), specs))
	list, _, err := a.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Len(t, list, 2, "reflink and copy have begun theirs")
	for _, s := range specs {
		require.NoError(t, a.Delete(t.Context(), s))
	}

	_, err = newAuto(t, &Config{NoCopy: true}).Volume(t.Context(), tmpfs)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported)

	part := mkdir(t, filepath.Join(snaptest.Dir(t), "part"))
	require.NoError(t, unix.Mount(btrfs, part, "", unix.MS_BIND, ""))
	defer func() { require.NoError(t, unix.Unmount(part, 0)) }()
	v, err := a.Volume(t.Context(), mkdir(t, filepath.Join(part, "inner")))
	require.NoError(t, err)
	require.Contains(t, v.ID, "reflink:", "the subvolume's root cannot be reached")

	snaptest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(btrfs, "nested"))
	_, err = a.Volume(t.Context(), btrfs)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported)
	require.ErrorContains(t, err, "btrfs: volume:", "the best backend says why")
}

// TestDirs has one directory for volumes of several file systems: only copies can cross over.
func TestDirs(t *testing.T) {
	btrfs, xfs, tmpfs := shares(t)
	holder := filepath.Join(filepath.Dir(xfs), "snapshots")
	a := newAuto(t, &Config{Dirs: []string{holder}})
	for dir, want := range map[string]string{btrfs: "copy", xfs: "reflink", tmpfs: "copy"} {
		v, err := a.Volume(t.Context(), dir)
		require.NoError(t, err)
		name, _, _ := strings.Cut(v.ID, ":")
		require.Equal(t, want, name)
		made, err := a.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
		require.NoError(t, err)
		require.Equal(t, holder, filepath.Dir(made[0].Path))
	}
}

// TestOneFails has one backend fail when the others are done.
func TestOneFails(t *testing.T) {
	btrfs, xfs, tmpfs := shares(t)
	a := newAuto(t, nil)
	var specs []backend.SnapshotSpec
	for _, dir := range []string{btrfs, xfs, tmpfs} {
		v, err := a.Volume(t.Context(), dir)
		require.NoError(t, err)
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v})
	}
	for i := range specs {
		bad := append([]backend.SnapshotSpec(nil), specs...)
		bad[i].Volume.Path += "/gone"
		_, err := a.Create(t.Context(), bad)
		require.ErrorIs(t, err, os.ErrNotExist)
		list, _, err := a.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []*Config{{Dirs: []string{"relative"}}, {Volumes: []string{"relative"}}} {
		_, err := New(cfg)
		require.Error(t, err)
	}
	a := newAuto(t, nil)
	alien := backend.Volume{ID: "zfs:tank", Path: "/tank"}
	require.ErrorIs(t, a.Seal(t.Context(), backend.Snapshot{SnapshotSpec: backend.SnapshotSpec{Volume: alien}}),
		fsrvp.ErrInvalidArg)
	require.ErrorIs(t, a.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{{Volume: alien}}), fsrvp.ErrInvalidArg)
	_, err := a.Compatibility(t.Context(), alien)
	require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
}
