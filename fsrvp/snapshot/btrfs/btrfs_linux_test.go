package btrfs

import (
	"context"
	"os"
	"os/exec"
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

func newSnapshots(t testing.TB, cfg *Config) *Snapshots {
	t.Helper()
	s, err := New(cfg)
	require.NoError(t, err)
	return s
}

func subvolume(t testing.TB, path string) string {
	t.Helper()
	snaptest.Run(t, "btrfs", "-q", "subvolume", "create", path)
	return path
}

func mkdir(t testing.TB, path string) string {
	t.Helper()
	require.NoError(t, os.Mkdir(path, 0o755))
	return path
}

func TestSubvolumes(t *testing.T) {
	one, two := snaptest.Mount(t, "btrfs", 300), snaptest.Mount(t, "btrfs", 300)
	snaptest.Conform(t, newSnapshots(t, nil),
		subvolume(t, filepath.Join(one, "vms")), subvolume(t, filepath.Join(one, "more")), subvolume(t,
			filepath.Join(two, "vms")))
}

func TestSecure(t *testing.T) {
	base := mkdir(t, filepath.Join(snaptest.Mount(t, "btrfs", 300), "base"))
	snaptest.Secure(t, newSnapshots(t, nil), base, func(path string) { subvolume(t, path) })
}

// TestPlainDirectory shares a directory of the subvolume that is mounted.
func TestPlainDirectory(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	snaptest.Conform(t, newSnapshots(t, nil), mkdir(t, filepath.Join(mount, "share")))
	require.DirExists(t, filepath.Join(mount, ".fsrvp"))
}

// TestWholeFileSystem shares the root of a mount, with snapshots elsewhere on the file system.
func TestWholeFileSystem(t *testing.T) {
	image := snaptest.Image(t, "btrfs", 300)
	dir := snaptest.Dir(t)
	top, share := mkdir(t, filepath.Join(dir, "top")), mkdir(t, filepath.Join(dir, "share"))
	snaptest.MountImage(t, image, top)
	subvolume(t, filepath.Join(top, "@share"))
	device, err := os.ReadFile("/proc/self/mounts")
	require.NoError(t, err)
	for line := range strings.Lines(string(device)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[1] == top {
			snaptest.Run(t, "mount", "-o", "subvol=@share", fields[0], share)
			t.Cleanup(func() { require.NoError(t, unix.Unmount(share, 0)) })
		}
	}
	_, err = newSnapshots(t, nil).Volume(t.Context(), share)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported, "they would lie in the share")
	require.ErrorContains(t, err, "configure another snapshot directory")

	s := newSnapshots(t, &Config{Dirs: []string{filepath.Join(dir, "elsewhere"), filepath.Join(top, "snapshots")}})
	byShare, err := s.Volume(t.Context(), share)
	require.NoError(t, err)
	byTop, err := s.Volume(t.Context(), filepath.Join(top, "@share"))
	require.NoError(t, err)
	require.Equal(t, byTop.ID, byShare.ID, "one volume, by two paths")
	require.Equal(t, share, byShare.Path)
	snaptest.Conform(t, s, share)
}

func TestReadOnlyEnforced(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	dir := subvolume(t, filepath.Join(mount, "vms"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "disk"), []byte("data"), 0o666))
	s := newSnapshots(t, nil)
	v, err := s.Volume(t.Context(), dir)
	require.NoError(t, err)
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	writable := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v, Writable: true}
	made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec, writable})
	require.NoError(t, err)

	require.ErrorIs(t, os.WriteFile(filepath.Join(made[0].Path, "disk"), nil, 0), unix.EROFS)
	require.ErrorIs(t, os.Remove(filepath.Join(made[0].Path, "disk")), unix.EROFS)
	require.NoError(t, os.WriteFile(filepath.Join(made[1].Path, "disk"), []byte("new"), 0))
	list, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	for i := range list {
		require.Equal(t, list[i].ID == writable.ID, list[i].Writable)
	}
	require.NoError(t, s.Seal(t.Context(), made[1]))
	require.ErrorIs(t, os.WriteFile(filepath.Join(made[1].Path, "disk"), nil, 0), unix.EROFS)

	open, err := os.Open(filepath.Join(made[0].Path, "disk"))
	require.NoError(t, err)
	defer open.Close()
	require.NoError(t, s.Delete(t.Context(), spec))
	got := make([]byte, 4)
	_, err = open.ReadAt(got, 0)
	require.NoError(t, err, "open files stay readable")
	require.Equal(t, "data", string(got))
}

func TestNested(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	dir := subvolume(t, filepath.Join(mount, "vms"))
	mkdir(t, filepath.Join(dir, "a"))
	mkdir(t, filepath.Join(dir, "b"))
	subvolume(t, filepath.Join(dir, "a/.snapshots"))
	s := newSnapshots(t, nil)
	for path, want := range map[string]error{"": fsrvp.ErrNotSupported, "a": fsrvp.ErrNotSupported, "b": nil,
		"a/.snapshots": nil} {
		_, err := s.Volume(t.Context(), filepath.Join(dir, path))
		require.ErrorIs(t, err, want, path)
	}
	v, err := newSnapshots(t, &Config{IgnoreNested: []string{".snapshots"}}).Volume(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, dir, v.Path)
}

// TestNestedLater has a subvolume made in the share after that was added: no share is exposed
// without what is in it.
func TestNestedLater(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	dir := subvolume(t, filepath.Join(mount, "vms"))
	mkdir(t, filepath.Join(dir, "a"))
	mkdir(t, filepath.Join(dir, "b"))
	s := newSnapshots(t, nil)
	v, err := s.Volume(t.Context(), filepath.Join(dir, "a"))
	require.NoError(t, err)
	later := subvolume(t, filepath.Join(dir, "a/later"))
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	require.NoError(t, s.CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, "b")))
	err = s.CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, "a"))
	require.ErrorIs(t, err, fsrvp.ErrNotSupported)
	require.ErrorContains(t, err, later)
	require.NoError(t, newSnapshots(t, nil).CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, "a")),
		"an agent that is started anew exposes again what was exposed")
}

// TestBindMount shares parts of subvolumes that are mounted elsewhere: a snapshot has nothing at
// that path.
func TestBindMount(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	dir := subvolume(t, filepath.Join(mount, "vms"))
	part, inside := mkdir(t, filepath.Join(dir, "part")), mkdir(t, filepath.Join(dir, "inside"))
	outside := mkdir(t, filepath.Join(snaptest.Dir(t), "outside"))
	for _, at := range []string{inside, outside} {
		require.NoError(t, unix.Mount(part, at, "", unix.MS_BIND, ""))
		defer func() { require.NoError(t, unix.Unmount(at, 0)) }()
		_, err := newSnapshots(t, nil).Volume(t.Context(), at)
		require.ErrorIs(t, err, fsrvp.ErrNotSupported, at)
	}
	_, err := newSnapshots(t, nil).Volume(t.Context(), snaptest.Dir(t))
	require.ErrorIs(t, err, fsrvp.ErrNotSupported, "no btrfs")
}

// TestVolumeReplaced has another subvolume at the volume's path.
func TestVolumeReplaced(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	dir := subvolume(t, filepath.Join(mount, "vms"))
	s := newSnapshots(t, nil)
	v, err := s.Volume(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, os.Rename(dir, dir+".old"))
	subvolume(t, dir)
	_, err = s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
	require.ErrorContains(t, err, "is volume")
}

// TestNotMounted does not take a file system that is not mounted for one without snapshots.
func TestNotMounted(t *testing.T) {
	image, point := snaptest.Image(t, "btrfs", 300), mkdir(t, filepath.Join(snaptest.Dir(t), "mnt"))
	s := newSnapshots(t, nil)
	var spec backend.SnapshotSpec
	t.Run("mounted", func(t *testing.T) {
		snaptest.MountImage(t, image, point)
		v, err := s.Volume(t.Context(), mkdir(t, filepath.Join(point, "share")))
		require.NoError(t, err)
		spec = backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
		_, err = s.Create(t.Context(), []backend.SnapshotSpec{spec})
		require.NoError(t, err)
	})
	require.ErrorContains(t, s.Delete(t.Context(), spec), "is not mounted")
	t.Run("again", func(t *testing.T) {
		snaptest.MountImage(t, image, point)
		require.NoError(t, s.Delete(t.Context(), spec))
		require.NoError(t, s.Delete(t.Context(), spec))
		list, _, err := s.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

// TestOneFails has a set of volumes of which one cannot be had: its snapshot's name is taken.
func TestOneFails(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	s := newSnapshots(t, nil)
	var specs []backend.SnapshotSpec
	for _, name := range []string{"a", "b", "c", "d"} {
		v, err := s.Volume(t.Context(), subvolume(t, filepath.Join(mount, name)))
		require.NoError(t, err)
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v})
	}
	taken := s.dirs.Path(mkdir(t, filepath.Join(mount, ".fsrvp")), specs[2].ID, specs[2].Mark)
	mkdir(t, taken)
	for range 10 {
		_, err := s.Create(t.Context(), specs)
		require.ErrorIs(t, err, fsrvp.ErrObjectAlreadyExists)
		list, _, err := s.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list, "a plain directory is no snapshot")
	}
	require.DirExists(t, taken)
	require.NoError(t, os.Remove(taken))
	_, err := s.Create(t.Context(), specs)
	require.NoError(t, err)
}

// TestCancelled ends a set while its snapshots are being taken.
func TestCancelled(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	s := newSnapshots(t, nil)
	var specs []backend.SnapshotSpec
	for _, name := range []string{"a", "b", "c", "d"} {
		v, err := s.Volume(t.Context(), subvolume(t, filepath.Join(mount, name)))
		require.NoError(t, err)
		specs = append(specs, backend.SnapshotSpec{Volume: v})
	}
	for i := range 20 {
		for j := range specs {
			specs[j].ID = fsrvp.NewCopyID()
		}
		ctx, cancel := context.WithCancel(t.Context())
		appeared := make(chan struct{})
		go func() { // when the first snapshot is there; the others may be
			defer close(appeared)
			for ctx.Err() == nil {
				if list, _, _ := s.List(t.Context(), backend.Owner{}); len(list) > i%3 {
					break
				}
			}
			cancel()
		}()
		made, err := s.Create(ctx, specs)
		cancel()
		<-appeared
		if err == nil {
			for _, m := range made {
				require.NoError(t, s.Delete(t.Context(), m.SnapshotSpec))
			}
			continue
		}
		require.ErrorIs(t, err, context.Canceled)
		list, _, err := s.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
	}
}

// TestStable cuts the power: a copy of the image as it is right after Create has the snapshot, and
// the data.
func TestStable(t *testing.T) {
	image, dir := snaptest.Image(t, "btrfs", 300), snaptest.Dir(t)
	point, after := mkdir(t, filepath.Join(dir, "mnt")), mkdir(t, filepath.Join(dir, "after"))
	snaptest.MountImage(t, image, point)
	share := subvolume(t, filepath.Join(point, "vms"))
	s := newSnapshots(t, nil)
	v, err := s.Volume(t.Context(), share)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(share, "disk"), make([]byte, 5<<20), 0o644)) // not synced
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	snaptest.Run(t, "cp", "--sparse=always", image, image+".cut")
	t.Cleanup(func() { os.Remove(image + ".cut") })

	require.NoError(t, s.Delete(t.Context(), spec))
	snaptest.Run(t, "cp", "--sparse=always", image, image+".deleted")
	t.Cleanup(func() { os.Remove(image + ".deleted") })
	require.NoError(t, unix.Unmount(point, 0)) // the copies have the same UUID
	defer func() { snaptest.Run(t, "mount", "-o", "loop", image, point) }()

	rel, err := filepath.Rel(point, made[0].Path)
	require.NoError(t, err)
	t.Run("created", func(t *testing.T) {
		snaptest.MountImage(t, image+".cut", after)
		fi, err := os.Stat(filepath.Join(after, rel, "disk"))
		require.NoError(t, err)
		require.Equal(t, int64(5<<20), fi.Size())
	})
	t.Run("deleted", func(t *testing.T) {
		snaptest.MountImage(t, image+".deleted", after)
		require.NoDirExists(t, filepath.Join(after, rel))
	})
}

func TestDiskFull(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 114)
	s := newSnapshots(t, nil)
	dir := subvolume(t, filepath.Join(mount, "vms"))
	v, err := s.Volume(t.Context(), dir)
	require.NoError(t, err)
	snaptest.Fill(t, dir, 0)
	for i := 0; ; i++ { // small files fill what there is for metadata
		if os.WriteFile(filepath.Join(dir, fsrvp.NewCopyID().String()), make([]byte, 1500), 0o644) != nil {
			break
		}
		require.Less(t, i, 200_000)
	}
	for range 3 {
		spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
		made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
		list, _, listErr := s.List(t.Context(), backend.Owner{})
		require.NoError(t, listErr)
		if err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			require.Empty(t, list)
			continue
		}
		require.Len(t, list, 1, "a snapshot may fit into what btrfs keeps for itself")
		require.NoError(t, s.Delete(t.Context(), made[0].SnapshotSpec))
	}
}

func TestPrepare(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 300)
	s := newSnapshots(t, nil)
	v, err := s.Volume(t.Context(), subvolume(t, filepath.Join(mount, "vms")))
	require.NoError(t, err)
	require.NoError(t, s.Prepare(t.Context(), []backend.Volume{v}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Prepare(ctx, []backend.Volume{v}), context.Canceled)
	c, err := s.Compatibility(t.Context(), v)
	require.NoError(t, err)
	require.Equal(t, fsrvp.DisableDefrag, c)
}

func TestConfig(t *testing.T) {
	_, err := New(&Config{Dirs: []string{"relative"}})
	require.Error(t, err)
}

// BenchmarkCreate takes and deletes a snapshot of 10,000 files.
func BenchmarkCreate(b *testing.B) {
	mount := snaptest.Mount(b, "btrfs", 1000)
	dir := subvolume(b, filepath.Join(mount, "vms"))
	snaptest.Many(b, dir, 10_000)
	s := newSnapshots(b, nil)
	v, err := s.Volume(b.Context(), dir)
	require.NoError(b, err)
	require.NoError(b, s.Prepare(b.Context(), []backend.Volume{v}))
	for b.Loop() {
		spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
		_, err := s.Create(b.Context(), []backend.SnapshotSpec{spec})
		require.NoError(b, err)
		b.StopTimer()
		require.NoError(b, s.Delete(b.Context(), spec))
		b.StartTimer()
	}
}

// TestLives kills processes that take and delete snapshots, at any moment.
func TestLives(t *testing.T) {
	if snaptest.Living() {
		snaptest.Live(t, newSnapshots(t, nil))
	}
	top := snaptest.Mount(t, "btrfs", 300)
	inner := mkdir(t, filepath.Join(top, "private")) // only root may pass through it: there are gates
	require.NoError(t, os.Chmod(inner, 0o700))
	share := subvolume(t, filepath.Join(inner, "share"))
	snaptest.Build(t, share)
	snaptest.Lives(t, snaptest.Life{
		Backend: func(t *testing.T) snaptest.Backend { return newSnapshots(t, nil) }, Share: share,
		Left: func(t *testing.T) []string {
			left := snaptest.Entries(t, filepath.Join(top, ".fsrvp"))
			out, err := exec.Command("btrfs", "subvolume", "list", "-o", top).Output()
			require.NoError(t, err)
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, ".fsrvp") {
					left = append(left, line)
				}
			}
			return left
		},
	})
}

// TestDeleteUnsynced deletes snapshots and waits once for all of them.
func TestDeleteUnsynced(t *testing.T) {
	image, point := snaptest.Image(t, "btrfs", 300), mkdir(t, filepath.Join(snaptest.Dir(t), "mnt"))
	s := newSnapshots(t, nil)
	var volumes []backend.Volume
	t.Run("mounted", func(t *testing.T) {
		snaptest.MountImage(t, image, point)
		var specs []backend.SnapshotSpec
		for _, name := range []string{"one", "two"} {
			v, err := s.Volume(t.Context(), subvolume(t, filepath.Join(point, name)))
			require.NoError(t, err)
			volumes = append(volumes, v)
			specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v})
		}
		_, err := s.Create(t.Context(), specs)
		require.NoError(t, err)
		for _, spec := range specs {
			require.NoError(t, s.DeleteUnsynced(t.Context(), spec))
			require.NoError(t, s.DeleteUnsynced(t.Context(), spec), "there is none")
		}
		list, _, err := s.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
		require.NoError(t, os.RemoveAll(filepath.Join(point, "one")), "that it was of is gone")
		require.NoError(t, s.SyncDeletions(t.Context(), volumes))
	})
	require.ErrorContains(t, s.SyncDeletions(t.Context(), volumes), "is not mounted")
	require.ErrorIs(t, s.SyncDeletions(t.Context(), []backend.Volume{{ID: "zfs:1"}}), fsrvp.ErrInvalidArg)
}
