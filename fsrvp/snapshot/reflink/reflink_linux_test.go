package reflink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

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
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			one, two := snaptest.Mount(t, fsType, 300), snaptest.Mount(t, fsType, 300)
			snaptest.Conform(t, newSnapshots(t, nil),
				mkdir(t, filepath.Join(one, "vms")), mkdir(t, filepath.Join(one, "more")), mkdir(t,
					filepath.Join(two, "vms")))
		})
	}
}

func TestSecure(t *testing.T) {
	base := mkdir(t, filepath.Join(snaptest.Mount(t, "xfs", 300), "base"))
	snaptest.Secure(t, newSnapshots(t, nil), base, func(path string) { mkdir(t, path) })
}

// TestSharesSpace has a snapshot of a file that would not fit twice.
func TestSharesSpace(t *testing.T) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			mount := snaptest.Mount(t, fsType, 300)
			dir := mkdir(t, filepath.Join(mount, "vms"))
			data := bytes.Repeat([]byte("0123456789abcdef"), 150<<16)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "disk"), data, 0o644))
			s := newSnapshots(t, nil)
			v, err := s.Volume(t.Context(), dir)
			require.NoError(t, err)
			spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
			require.NoError(t, s.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{spec}))
			made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
			require.NoError(t, err)
			got, err := os.ReadFile(filepath.Join(made[0].Path, "disk"))
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		})
	}
}

// TestDirs has directories on two file systems.
func TestDirs(t *testing.T) {
	one, two := snaptest.Mount(t, "xfs", 300), snaptest.Mount(t, "xfs", 300)
	s := newSnapshots(t, &Config{Dirs: []string{filepath.Join(one, "snapshots"), filepath.Join(two, "elsewhere")}})
	for mount, want := range map[string]string{one: "snapshots", two: "elsewhere"} {
		v, err := s.Volume(t.Context(), mkdir(t, filepath.Join(mount, "share")))
		require.NoError(t, err)
		made, err := s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
		require.NoError(t, err)
		require.Equal(t, filepath.Join(mount, want), filepath.Dir(made[0].Path))
	}
}

// TestVolumes has two shares in one volume, which holds the snapshots too.
func TestVolumes(t *testing.T) {
	mount := snaptest.Mount(t, "xfs", 300)
	a, b := mkdir(t, filepath.Join(mount, "a")), mkdir(t, filepath.Join(mount, "b"))
	s := newSnapshots(t, &Config{Volumes: []string{a, mount}})
	va, err := s.Volume(t.Context(), a)
	require.NoError(t, err)
	vb, err := s.Volume(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, va, vb)
	require.Equal(t, mount, va.Path)
	for range 2 { // the second does not copy the first
		made, err := s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: va}})
		require.NoError(t, err)
		require.DirExists(t, filepath.Join(made[0].Path, "b"))
		require.NoDirExists(t, filepath.Join(made[0].Path, ".fsrvp"))
	}
	_, err = s.Volume(t.Context(), mount)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported, "the share would hold them")
}

func TestUnsupported(t *testing.T) {
	s := newSnapshots(t, nil)
	small := mkdir(t, filepath.Join(snaptest.Dir(t), "tmpfs"))
	require.NoError(t, unix.Mount("none", small, "tmpfs", 0, ""))
	defer func() { require.NoError(t, unix.Unmount(small, 0)) }()
	_, err := s.Volume(t.Context(), mkdir(t, filepath.Join(small, "share")))
	require.ErrorIs(t, err, fsrvp.ErrNotSupported, "tmpfs does not clone")

	mount := snaptest.Mount(t, "btrfs", 300)
	share := mkdir(t, filepath.Join(mount, "share"))
	_, err = s.Volume(t.Context(), share)
	require.NoError(t, err)
	snaptest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(share, "nested"))
	_, err = s.Volume(t.Context(), share)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported, "a subvolume")

	other := filepath.Join(snaptest.Mount(t, "btrfs", 300), "snapshots")
	require.NoError(t, os.Remove(mkdir(t, other)))
	_, err = New(&Config{Volumes: []string{"relative"}})
	require.Error(t, err)
}

// TestCancelled ends a set after so many files.
func TestCancelled(t *testing.T) {
	mount := snaptest.Mount(t, "xfs", 300)
	var cancel context.CancelFunc
	s := newSnapshots(t, &Config{Progress: func(_ fsrvp.CopyID, files, _ int64) {
		if files == 100 {
			cancel()
		}
	}})
	var specs []backend.SnapshotSpec
	for _, name := range []string{"a", "b"} {
		dir := mkdir(t, filepath.Join(mount, name))
		snaptest.Many(t, dir, 500)
		v, err := s.Volume(t.Context(), dir)
		require.NoError(t, err)
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v})
	}
	ctx, c := context.WithCancel(t.Context())
	defer c()
	cancel = c
	_, err := s.Create(ctx, specs)
	require.ErrorIs(t, err, context.Canceled)
	nothingLeft(t, mount)
}

func nothingLeft(t *testing.T, mount string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(mount, ".fsrvp"))
	if !errors.Is(err, os.ErrNotExist) { // not one was made yet
		require.NoError(t, err)
	}
	require.Empty(t, left)
}

// TestDiskFull has two volumes that do not fit, since clones need metadata.
func TestDiskFull(t *testing.T) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			mount := snaptest.Mount(t, fsType, map[string]int64{"xfs": 300, "btrfs": 120}[fsType])
			s := newSnapshots(t, nil)
			var specs []backend.SnapshotSpec
			for _, name := range []string{"small", "large"} {
				dir := mkdir(t, filepath.Join(mount, name))
				v, err := s.Volume(t.Context(), dir)
				require.NoError(t, err)
				specs = append(specs, backend.SnapshotSpec{Volume: v})
			}
			mkdir(t, filepath.Join(mount, ".fsrvp")) // for which there may be no room later
			require.NoError(t, os.WriteFile(filepath.Join(mount, "small/file"), make([]byte, 8192), 0o644))
			snaptest.Many(t, filepath.Join(mount, "large"), 3000)
			// Long attributes take blocks of their own, which no clone shares.
			list, err := filepath.Glob(filepath.Join(mount, "large/*/*/*"))
			require.NoError(t, err)
			for _, path := range list {
				if err := unix.Setxattr(path, "user.long", bytes.Repeat([]byte("x"), 3000), 0); err != nil {
					require.ErrorIs(t, err, unix.ENOSPC)
					break
				}
			}
			snaptest.Fill(t, mount, 4)
			for made := 0; ; made++ {
				for i := range specs {
					specs[i].ID = fsrvp.NewCopyID()
				}
				_, err := s.Create(t.Context(), specs)
				if err == nil { // btrfs has set room for metadata apart
					require.Less(t, made, 30)
					continue
				}
				require.ErrorIs(t, err, unix.ENOSPC)
				list, _, err := s.List(t.Context(), backend.Owner{})
				require.NoError(t, err)
				require.Len(t, list, 2*made)
				return
			}
		})
	}
}

// TestHalfMade removes what a crash left at each step.
func TestHalfMade(t *testing.T) {
	mount := snaptest.Mount(t, "xfs", 300)
	s := newSnapshots(t, nil)
	share := mkdir(t, filepath.Join(mount, "share"))
	snaptest.Build(t, share)
	v, err := s.Volume(t.Context(), share)
	require.NoError(t, err)
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	_, err = s.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	holder := filepath.Join(mount, ".fsrvp")
	final, temp := s.set.Dirs.Path(holder, spec.ID, spec.Mark), s.set.Dirs.Temp(holder, spec.ID, spec.Mark)

	require.NoError(t, os.Rename(final, temp)) // before the rename of Create, after that of Delete
	list, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, spec.ID, list[0].ID)
	require.NoError(t, s.Delete(t.Context(), list[0]))
	nothingLeft(t, mount)

	for _, path := range []string{temp, final} { // both, as nothing should leave them
		snaptest.Many(t, mkdir(t, path), 10)
	}
	require.NoError(t, os.RemoveAll(share), "the volume may be gone")
	list, _, err = s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, s.Delete(ctx, spec))
	require.NoError(t, s.Delete(t.Context(), spec))
	nothingLeft(t, mount)
}

// killedIn is set, to the shared directory, for a process that takes and deletes snapshots until it
// is killed.
const killedIn = "FSRVP_TEST_KILLED_IN"

// TestKilled kills processes that take and delete snapshots, and removes what they left.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killedIn); dir != "" {
		s := newSnapshots(t, nil)
		v, err := s.Volume(t.Context(), dir)
		require.NoError(t, err)
		fmt.Println("ready")
		for {
			spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
			_, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
			require.NoError(t, err)
			require.NoError(t, s.Delete(t.Context(), spec))
		}
	}
	mount := snaptest.Mount(t, "xfs", 300)
	share := mkdir(t, filepath.Join(mount, "share"))
	snaptest.Many(t, share, 300)
	want := snaptest.List(t, share)
	s := newSnapshots(t, nil)
	left := 0
	for i := range 30 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), killedIn+"="+share)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		// There is no event to wait for: the point is that it may be anywhere.
		time.Sleep(time.Duration(i) * 3 * time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())

		list, _, err := s.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		left += len(list)
		for _, spec := range list {
			whole := s.set.Dirs.Path(filepath.Join(mount, ".fsrvp"), spec.ID, spec.Mark)
			if _, err := os.Stat(whole); err == nil {
				snaptest.Same(t, want, snaptest.List(t, whole), "what has its name is complete")
			}
			require.NoError(t, s.Delete(t.Context(), spec))
		}
		nothingLeft(t, mount)
	}
	require.NotZero(t, left, "no process was killed at work")
}

// TestStable cuts the power: a copy of the image as it is right after Create has the snapshot,
// whole.
func TestStable(t *testing.T) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			image, dir := snaptest.Image(t, fsType, 300), snaptest.Dir(t)
			point, after := mkdir(t, filepath.Join(dir, "mnt")), mkdir(t, filepath.Join(dir, "after"))
			snaptest.MountImage(t, image, point)
			share := mkdir(t, filepath.Join(point, "vms"))
			snaptest.Build(t, share)
			s := newSnapshots(t, nil)
			v, err := s.Volume(t.Context(), share)
			require.NoError(t, err)
			made, err := s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
			require.NoError(t, err)
			snaptest.Run(t, "cp", "--sparse=always", image, image+".cut")
			t.Cleanup(func() { os.Remove(image + ".cut") })
			want := snaptest.List(t, made[0].Path)
			require.NoError(t, unix.Unmount(point, 0)) // the copy has the same UUID
			defer func() { snaptest.Run(t, "mount", "-o", "loop", image, point) }()
			t.Run("after", func(t *testing.T) {
				snaptest.MountImage(t, image+".cut", after)
				rel, err := filepath.Rel(point, made[0].Path)
				require.NoError(t, err)
				snaptest.Same(t, want, snaptest.List(t, filepath.Join(after, rel)))
			})
		})
	}
}

func TestCompatibility(t *testing.T) {
	c, err := newSnapshots(t, nil).Compatibility(t.Context(), backend.Volume{})
	require.NoError(t, err)
	require.Equal(t, fsrvp.DisableDefrag, c)
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
		b.Run(fsType+"/reflink", func(b *testing.B) {
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
			for b.Loop() {
				to := filepath.Join(mount, "by cp")
				require.NoError(b, exec.Command("cp", "-a", "--reflink=always", dir, to).Run())
				require.NoError(b, exec.Command("sync", "-f", to).Run())
				b.StopTimer()
				require.NoError(b, os.RemoveAll(to))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkTree clones a tree of many small files and a few large ones, one in a hundred of which
// changes between Prepare and Create.
func BenchmarkTree(b *testing.B) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		b.Run(fsType, func(b *testing.B) {
			snaptest.BenchmarkTree(b, fsType, func(string) snaptest.Backend { return newSnapshots(b, nil) }, "--reflink=always")
		})
	}
}

// TestLives kills processes that take and delete snapshots, at any moment.
func TestLives(t *testing.T) {
	if snaptest.Living() {
		snaptest.Live(t, newSnapshots(t, nil))
	}
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			top := snaptest.Mount(t, fsType, 300)
			// Only root may pass through what is above the share.
			inner := mkdir(t, filepath.Join(top, "private"))
			require.NoError(t, os.Chmod(inner, 0o700))
			share := mkdir(t, filepath.Join(inner, "share"))
			snaptest.Build(t, share)
			snaptest.Many(t, share, 200)
			snaptest.Lives(t, snaptest.Life{
				Backend: func(t *testing.T) snaptest.Backend { return newSnapshots(t, nil) }, Share: share,
				Left: func(t *testing.T) []string { return snaptest.Entries(t, filepath.Join(top, ".fsrvp")) },
			})
		})
	}
}
