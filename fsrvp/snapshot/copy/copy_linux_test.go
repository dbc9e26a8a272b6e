package copy

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

func newSnapshots(t testing.TB, cfg *Config) *Snapshots {
	t.Helper()
	s, err := New(cfg)
	require.NoError(t, err)
	return s
}

func mkdir(t testing.TB, path string) string {
	t.Helper()
	require.NoError(t, os.Mkdir(path, 0o755))
	return path
}

func TestConform(t *testing.T) {
	one, two := snaptest.Mount(t, "ext4", 100), snaptest.Mount(t, "btrfs", 300)
	small := mkdir(t, filepath.Join(snaptest.Dir(t), "tmpfs"))
	require.NoError(t, unix.Mount("none", small, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(small, 0)) })
	snaptest.Conform(t, newSnapshots(t, nil), mkdir(t, filepath.Join(one, "vms")), mkdir(t, filepath.Join(one, "more")),
		mkdir(t, filepath.Join(two, "vms")), mkdir(t, filepath.Join(small, "vms")))
}

func TestConformTmpfs(t *testing.T) {
	small := mkdir(t, filepath.Join(snaptest.Dir(t), "tmpfs"))
	require.NoError(t, unix.Mount("none", small, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(small, 0)) })
	snaptest.Conform(t, newSnapshots(t, nil), mkdir(t, filepath.Join(small, "vms")))
}

func TestSecure(t *testing.T) {
	base := mkdir(t, filepath.Join(snaptest.Mount(t, "ext4", 100), "base"))
	snaptest.Secure(t, newSnapshots(t, nil), base, func(path string) { mkdir(t, path) })
}

// TestAnywhere copies to another file system, which has to hold what the first does.
func TestAnywhere(t *testing.T) {
	share := mkdir(t, filepath.Join(snaptest.Mount(t, "btrfs", 300), "share"))
	dir := filepath.Join(snaptest.Mount(t, "xfs", 300), "snapshots")
	snaptest.Conform(t, newSnapshots(t, &Config{Dirs: []string{dir}}), share)
}

// TestHere needs no root, and no file system of its own.
func TestHere(t *testing.T) {
	base := snaptest.Dir(t)
	share := mkdir(t, filepath.Join(base, "share"))
	snaptest.Build(t, share)
	want := snaptest.List(t, share)
	var log bytes.Buffer
	var files, size int64
	id := fsrvp.NewCopyID()
	s := newSnapshots(t, &Config{
		Dirs:     []string{filepath.Join(base, "snapshots")},
		Progress: func(of fsrvp.CopyID, f, b int64) { require.Equal(t, id, of); files, size = f, b },
		Logger:   slog.New(slog.NewTextHandler(&log, nil)),
	})
	v, err := s.Volume(t.Context(), share)
	require.NoError(t, err)
	require.NotEmpty(t, v.Pin)
	require.Equal(t, backend.Volume{ID: "copy:" + share, Path: share, Pin: v.Pin}, v)
	made, err := s.Create(t.Context(), []backend.SnapshotSpec{{ID: id, Volume: v}})
	require.NoError(t, err)
	snaptest.Same(t, want, snaptest.List(t, made[0].Path))
	require.Empty(t, log.String())
	inodes := make(map[uint64]bool)
	count := 0
	require.NoError(t, filepath.WalkDir(share, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			count++
			var st unix.Stat_t
			require.NoError(t, unix.Lstat(path, &st))
			inodes[st.Ino] = true
		}
		return err
	}))
	require.GreaterOrEqual(t, files, int64(count), "some maybe twice")
	require.Greater(t, size, int64(1<<20))
	require.NoError(t, s.Delete(t.Context(), made[0].SnapshotSpec))
	require.NoDirExists(t, made[0].Path)
}

// TestNested has a share in another one: volumes of their own, unless the outer one is configured.
func TestNested(t *testing.T) {
	base := snaptest.Dir(t)
	outer := mkdir(t, filepath.Join(base, "outer"))
	inner := mkdir(t, filepath.Join(outer, "inner"))
	for _, c := range []struct {
		volumes []string
		inner   string
	}{{nil, inner}, {[]string{inner}, inner}, {[]string{inner, outer}, outer}, {[]string{outer, inner}, outer}, {[]string{outer + "x"}, inner}} {
		s := newSnapshots(t, &Config{Dirs: []string{filepath.Join(base, "snapshots")}, Volumes: c.volumes})
		v, err := s.Volume(t.Context(), inner)
		require.NoError(t, err)
		require.Equal(t, c.inner, v.Path)
		v, err = s.Volume(t.Context(), outer)
		require.NoError(t, err)
		require.Equal(t, outer, v.Path)
	}
}

func TestCancelled(t *testing.T) {
	base := snaptest.Dir(t)
	share := mkdir(t, filepath.Join(base, "share"))
	require.NoError(t, os.WriteFile(filepath.Join(share, "disk"), make([]byte, 64<<20), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var size int64
	s := newSnapshots(t, &Config{
		Dirs: []string{filepath.Join(base, "snapshots")}, Progress: func(_ fsrvp.CopyID, _, b int64) { size = b; cancel() },
	})
	v, err := s.Volume(t.Context(), share)
	require.NoError(t, err)
	_, err = s.Create(ctx, []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, size, int64(64<<20))
	left, err := os.ReadDir(filepath.Join(base, "snapshots"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestDiskFull(t *testing.T) {
	share := mkdir(t, filepath.Join(snaptest.Dir(t), "share"))
	require.NoError(t, os.WriteFile(filepath.Join(share, "disk"), make([]byte, 16<<20), 0o644))
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			mount := snaptest.Mount(t, fsType, 300)
			snaptest.Fill(t, mount, 8)
			s := newSnapshots(t, &Config{Dirs: []string{filepath.Join(mount, "snapshots")}})
			v, err := s.Volume(t.Context(), share)
			require.NoError(t, err)
			_, err = s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
			require.ErrorIs(t, err, unix.ENOSPC)
			left, err := os.ReadDir(filepath.Join(mount, "snapshots"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// TestFullLater has no room left, or no quota, for what changes between Prepare and Create, and
// then for what changes under a Prepare.
func TestFullLater(t *testing.T) {
	for name, c := range map[string]struct {
		fsType string
		mib    int64
		fill   func(t *testing.T, mount, dir string)
		want   error
	}{
		"space": {"ext4", 100, func(t *testing.T, mount, _ string) { snaptest.Fill(t, mount, 4) }, unix.ENOSPC},
		"quota": {"btrfs", 400, func(t *testing.T, mount, dir string) {
			snaptest.Run(t, "btrfs", "quota", "enable", mount)
			snaptest.Run(t, "btrfs", "quota", "rescan", "-w", mount)
			snaptest.Run(t, "btrfs", "qgroup", "limit", "24m", dir)
		}, unix.EDQUOT},
	} {
		t.Run(name, func(t *testing.T) {
			mount := snaptest.Mount(t, c.fsType, c.mib)
			dir := filepath.Join(mount, "snapshots")
			if c.fsType == "btrfs" {
				snaptest.Run(t, "btrfs", "-q", "subvolume", "create", dir)
			}
			data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
			share := mkdir(t, filepath.Join(snaptest.Dir(t), "share")) // of the same file system nothing might be copied
			require.NoError(t, os.WriteFile(filepath.Join(share, "disk"), data, 0o644))
			s := newSnapshots(t, &Config{Dirs: []string{dir}})
			v, err := s.Volume(t.Context(), share)
			require.NoError(t, err)
			spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
			require.NoError(t, s.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{spec}))
			require.NoError(t, os.WriteFile(filepath.Join(share, "more"), data, 0o644))
			c.fill(t, mount, dir)
			_, err = s.Create(t.Context(), []backend.SnapshotSpec{spec})
			require.ErrorIs(t, err, c.want)
			require.Empty(t, snaptest.Entries(t, dir))
			require.ErrorIs(t, s.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{spec}), c.want)
			require.Empty(t, snaptest.Entries(t, dir))
			list, _, err := s.List(t.Context(), backend.Owner{})
			require.NoError(t, err)
			require.Empty(t, list)
		})
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []*Config{{Dirs: []string{"relative"}}, {Volumes: []string{"/a/../b"}}} {
		_, err := New(cfg)
		require.Error(t, err)
	}
	base := snaptest.Dir(t)
	s := newSnapshots(t, &Config{Dirs: []string{filepath.Join(base, "snapshots")}})
	require.NoError(t, os.Mkdir(filepath.Join(base, "snapshots"), 0o777))
	require.NoError(t, os.Chmod(filepath.Join(base, "snapshots"), 0o777))
	v, err := s.Volume(t.Context(), mkdir(t, filepath.Join(base, "share")))
	require.NoError(t, err)
	_, err = s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
	require.ErrorContains(t, err, "could replace")
}

// BenchmarkCreate takes a snapshot of 10,000 files of 4 KiB, and has cp do the same.
func BenchmarkCreate(b *testing.B) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		mount := snaptest.Mount(b, fsType, 1000)
		dir := mkdir(b, filepath.Join(mount, "vms"))
		snaptest.Many(b, dir, 10_000)
		s := newSnapshots(b, nil)
		v, err := s.Volume(b.Context(), dir)
		require.NoError(b, err)
		b.Run(fsType+"/copy", func(b *testing.B) {
			b.SetBytes(10_000 * 4096)
			for b.Loop() {
				spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
				_, err := s.Create(b.Context(), []backend.SnapshotSpec{spec})
				require.NoError(b, err)
				b.StopTimer()
				require.NoError(b, s.Delete(b.Context(), spec))
				b.StartTimer()
			}
		})
		b.Run(fsType+"/cp", func(b *testing.B) {
			b.SetBytes(10_000 * 4096)
			for b.Loop() {
				to := filepath.Join(mount, "by cp")
				require.NoError(b, exec.Command("cp", "-a", "--reflink=never", dir, to).Run())
				require.NoError(b, exec.Command("sync", "-f", to).Run())
				b.StopTimer()
				require.NoError(b, os.RemoveAll(to))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkTree copies a tree of many small files and a few large ones, one in a hundred of which
// changes between Prepare and Create.
func BenchmarkTree(b *testing.B) {
	for _, fsType := range []string{"ext4", "xfs"} {
		b.Run(fsType, func(b *testing.B) {
			snaptest.BenchmarkTree(b, fsType, func(string) snaptest.Backend { return newSnapshots(b, nil) }, "--reflink=never")
		})
	}
}

// TestLives kills processes that take and delete snapshots, at any moment.
func TestLives(t *testing.T) {
	if snaptest.Living() {
		snaptest.Live(t, newSnapshots(t, nil))
	}
	for name, mount := range map[string]func(t *testing.T) string{
		"ext4":  func(t *testing.T) string { return snaptest.Mount(t, "ext4", 100) },
		"tmpfs": tmpfs,
	} {
		t.Run(name, func(t *testing.T) {
			top := mount(t)
			snaptest.Lives(t, snaptest.Life{
				Backend: func(t *testing.T) snaptest.Backend { return newSnapshots(t, nil) }, Share: full(t, top),
				Left: func(t *testing.T) []string { return snaptest.Entries(t, filepath.Join(top, ".fsrvp")) },
			})
		})
	}
}

// full makes a share below a directory that only root may pass through.
func full(t *testing.T, top string) string {
	t.Helper()
	inner := mkdir(t, filepath.Join(top, "private"))
	require.NoError(t, os.Chmod(inner, 0o700))
	share := mkdir(t, filepath.Join(inner, "share"))
	snaptest.Build(t, share)
	snaptest.Many(t, share, 200)
	return share
}

func tmpfs(t *testing.T) string {
	t.Helper()
	point := mkdir(t, filepath.Join(snaptest.Dir(t), "tmpfs"))
	if err := unix.Mount("none", point, "tmpfs", 0, "mode=755"); err != nil {
		snaptest.Missing(t, "mounting tmpfs: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Unmount(point, 0)) })
	return point
}
