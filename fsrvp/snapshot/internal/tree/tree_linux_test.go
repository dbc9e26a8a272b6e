package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

// onEach runs a test on several file systems, with each way to copy data that they have.
func onEach(t *testing.T, f func(t *testing.T, dir string, clone bool)) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		for _, clone := range []bool{false, true} {
			if testing.Short() && clone != (fsType == "xfs") { // each file system and each way once
				continue
			}
			t.Run(fmt.Sprintf("%s clone=%v", fsType, clone), func(t *testing.T) {
				f(t, snaptest.Mount(t, fsType, 400), clone)
			})
		}
	}
}

// Copy makes a whole copy of a tree by its path. What moved meanwhile is in the log.
func Copy(ctx context.Context, dst, src string, cfg *Config) error {
	f, err := os.OpenFile(src, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return finish(ctx, f, dst, cfg, newRunner)
}

func finish(ctx context.Context, src *os.File, dst string, cfg *Config,
	with func(string, *os.File, *Config) (runner, error)) error {
	run, err := with(dst, src, cfg.withDefaults())
	if err != nil {
		return err
	}
	c := &Copier{src: src.Name(), run: run}
	report, err := c.Finish(ctx)
	if err == nil {
		for _, path := range report.Moved {
			cfg.withDefaults().Logger.Warn("moved", "path", path)
		}
	}
	return errors.Join(err, c.Close())
}

// source makes a directory for a tree, and returns where to copy it.
func source(t *testing.T, dir string) (src, dst string) {
	t.Helper()
	src = filepath.Join(dir, "src")
	require.NoError(t, os.Mkdir(src, 0o751))
	return src, filepath.Join(dir, "dst")
}

func TestCopyEverything(t *testing.T) {
	onEach(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		snaptest.Build(t, src)
		want := snaptest.List(t, src)
		var files, size int64
		require.NoError(t, Copy(t.Context(), dst, src, &Config{Clone: clone,
			Progress: func(f, b int64) { files, size = f, b }}))
		snaptest.Same(t, want, snaptest.List(t, dst))
		snaptest.Same(t, want, snaptest.List(t, src), "the source is as it was")
		require.Greater(t, files, int64(20))
		require.Greater(t, size, int64(1<<20))
		for _, name := range []string{"sparse", "hole"} {
			require.LessOrEqual(t, blocks(t, filepath.Join(dst, name)), blocks(t, filepath.Join(src, name))+64, name)
		}
		require.NoError(t, Remove(t.Context(), dst))
		require.NoDirExists(t, dst)
	})
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return st.Blocks
}

// TestCopyEverythingHere needs no root, and leaves out what only root can have.
func TestCopyEverythingHere(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	snaptest.Build(t, src)
	require.NoError(t, Copy(t.Context(), dst, src, &Config{}))
	snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
	require.NoError(t, Remove(t.Context(), dst))
}

func TestCopyKeepsAccessTimes(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	snaptest.Build(t, src)
	atime := func(path string) unix.Timespec {
		var st unix.Stat_t
		require.NoError(t, unix.Lstat(path, &st))
		return st.Atim
	}
	names := []string{"docs/plain.txt", "docs", "relative", "fifo", "sparse"}
	var before []unix.Timespec
	for _, name := range names {
		before = append(before, atime(filepath.Join(src, name)))
	}
	require.NoError(t, Copy(t.Context(), dst, src, &Config{}))
	for i, name := range names {
		if name == "relative" { // the kernel notes that a symbolic link was read, and a second pass sees that
			continue
		}
		require.Equal(t, before[i], atime(filepath.Join(src, name)), "source %s", name)
		require.Equal(t, before[i], atime(filepath.Join(dst, name)), "copy of %s", name)
	}
}

func TestCopyStepwise(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	snaptest.Build(t, src)
	from, err := openRoot(unix.AT_FDCWD, src, src)
	require.NoError(t, err)
	defer from.Close()
	to, err := makeRoot(dst)
	require.NoError(t, err)
	defer to.Close()
	require.True(t, from.top.openat2, "this kernel has openat2")
	from.top.openat2, to.top.openat2 = false, false
	c := &Copier{src: src, run: newCopier(from, to, nil, (&Config{}).withDefaults())}
	_, err = c.Finish(t.Context())
	require.NoError(t, err)
	snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))

	require.NoError(t, os.Symlink("docs", filepath.Join(src, "to docs")))
	for _, path := range []string{"to docs", "to docs/sub", "docs/plain.txt", "docs/nothing"} {
		_, err = from.openStepwise(from.fd, path)
		require.True(t, isGone(err), "%s: %v", path, err)
		_, err = openBeneath(from.fd, path)
		require.True(t, isGone(err), "%s: %v", path, err)
	}
}

// TestReadWrite forces the way without copy_file_range.
func TestReadWrite(t *testing.T) {
	dir := snaptest.Dir(t)
	snaptest.Build(t, dir)
	src, err := os.Open(filepath.Join(dir, "docs/big"))
	require.NoError(t, err)
	defer src.Close()
	dst, err := os.Create(filepath.Join(dir, "copy"))
	require.NoError(t, err)
	defer dst.Close()
	buf := make([]byte, 100_000)
	for off := int64(0); ; {
		n, err := copyOnce(int(dst.Fd()), int(src.Fd()), buf, off)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		off += int64(n)
	}
	want, err := os.ReadFile(src.Name())
	require.NoError(t, err)
	got, err := os.ReadFile(dst.Name())
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

func TestCopyAcrossFileSystems(t *testing.T) {
	src, _ := source(t, snaptest.Mount(t, "xfs", 300))
	snaptest.Build(t, src)
	dst := filepath.Join(snaptest.Mount(t, "btrfs", 200), "dst")
	require.ErrorIs(t, Copy(t.Context(), dst, src, &Config{Clone: true}), fsrvp.ErrNotSupported)
	require.NoError(t, Remove(t.Context(), dst))
	require.NoError(t, Copy(t.Context(), dst, src, &Config{}))
	snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
}

func TestCopyManyFiles(t *testing.T) {
	onEach(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		n := 1000
		if clone && !testing.Short() {
			n = 10_000
		}
		snaptest.Many(t, src, n)
		flat := filepath.Join(src, "flat") // and one large directory, which several workers share
		require.NoError(t, os.Mkdir(flat, 0o755))
		for i := range 3000 {
			require.NoError(t, os.WriteFile(filepath.Join(flat, fmt.Sprintf("a rather long name %d", i)), nil, 0o644))
		}
		require.NoError(t, Copy(t.Context(), dst, src, &Config{Clone: clone, Workers: 4}))
		snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
		require.NoError(t, Remove(t.Context(), dst))
	})
}

func TestCopySkips(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	require.NoError(t, os.MkdirAll(filepath.Join(src, "keep/snaps/x"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(src, "snaps/x"), 0o755))
	require.NoError(t, Copy(t.Context(), dst, src, &Config{Skip: []string{filepath.Join(src, "snaps"), "/elsewhere"}}))
	require.NoDirExists(t, filepath.Join(dst, "snaps"))
	require.DirExists(t, filepath.Join(dst, "keep/snaps/x"))
}

func TestCopyRefusesMounts(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 200)
	for name, arrange := range map[string]func(at string){
		"file system":     func(at string) { require.NoError(t, unix.Mount("none", at, "tmpfs", 0, "")) },
		"bind mount":      func(at string) { require.NoError(t, unix.Mount(mount, at, "", unix.MS_BIND, "")) },
		"btrfs subvolume": nil,
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := source(t, filepath.Join(mkdir(t, filepath.Join(mount, name))))
			at := filepath.Join(src, "a/b")
			mkdir(t, filepath.Join(src, "a"))
			if arrange != nil {
				mkdir(t, at)
				arrange(at)
				defer func() { require.NoError(t, unix.Unmount(at, 0)) }()
			} else {
				snaptest.Run(t, "btrfs", "subvolume", "create", at)
			}
			require.ErrorIs(t, Copy(t.Context(), dst, src, &Config{}), fsrvp.ErrNotSupported)

			from, err := openRoot(unix.AT_FDCWD, src, src)
			require.NoError(t, err)
			defer from.Close()
			from.top.openat2 = false
			d, err := from.open("a/b")
			if err == nil {
				_, err = d.self()
				d.Close()
			}
			require.ErrorIs(t, err, fsrvp.ErrNotSupported)
		})
	}
	t.Run("file", func(t *testing.T) {
		src, dst := source(t, mkdir(t, filepath.Join(mount, "f")))
		at := filepath.Join(src, "file")
		require.NoError(t, os.WriteFile(at, nil, 0o644))
		require.NoError(t, unix.Mount("/etc/passwd", at, "", unix.MS_BIND, ""))
		defer func() { require.NoError(t, unix.Unmount(at, 0)) }()
		require.ErrorIs(t, Copy(t.Context(), dst, src, &Config{}), fsrvp.ErrNotSupported)
	})
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	require.NoError(t, os.Mkdir(path, 0o755))
	return path
}

func TestCopyRefusesLooserMount(t *testing.T) {
	if os.Geteuid() != 0 {
		snaptest.Missing(t, "needs root")
	}
	strict := snaptest.Mount(t, "xfs", 300, "nosuid", "nodev")
	src, _ := source(t, strict)
	dst := filepath.Join(snaptest.Mount(t, "xfs", 300), "dst")
	require.ErrorIs(t, Copy(t.Context(), dst, src, &Config{}), fsrvp.ErrNotSupported)
	require.NoError(t, Copy(t.Context(), filepath.Join(strict, "dst"), src, &Config{}))
}

// deepEnv is how deep the tree of TestDeep is.
const deepEnv = "FSRVP_DEEP"

// TestDeep has paths that are longer than what a system call takes, and more directories in one
// another than a process has descriptors.
func TestDeep(t *testing.T) {
	for name, c := range map[string]struct{ length, depth int }{"long": {250, 80}, "many": {3, 1500}} {
		if n, err := strconv.Atoi(os.Getenv(deepEnv)); err == nil && name == "many" {
			c.depth = n
		}
		if testing.Short() {
			c.depth = min(c.depth, 250) // more than Remove keeps open
		}
		t.Run(name, func(t *testing.T) {
			src, dst := source(t, snaptest.Dir(t))
			fd, err := unix.Open(src, unix.O_PATH|unix.O_DIRECTORY, 0)
			require.NoError(t, err)
			name := strings.Repeat("n", c.length)
			for range c.depth {
				require.NoError(t, unix.Mkdirat(fd, name, 0o755))
				next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
				require.NoError(t, err)
				unix.Close(fd)
				fd = next
			}
			require.NoError(t, unix.Symlinkat("found", fd, "bottom"))
			unix.Close(fd)
			begun := time.Now()
			report := twoPasses(t, src, dst, &Config{}, func() {})
			require.Empty(t, report.Moved)
			t.Logf("two passes: %v", time.Since(begun))

			fd, err = unix.Open(dst, unix.O_PATH|unix.O_DIRECTORY, 0)
			require.NoError(t, err)
			for range c.depth {
				next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
				require.NoError(t, err)
				unix.Close(fd)
				fd = next
			}
			buf := make([]byte, 10)
			n, err := unix.Readlinkat(fd, "bottom", buf)
			require.NoError(t, err)
			require.Equal(t, "found", string(buf[:n]))
			unix.Close(fd)
			begun = time.Now()
			require.NoError(t, Remove(t.Context(), dst))
			t.Logf("removal: %v", time.Since(begun))
			require.NoError(t, Remove(t.Context(), src))
			require.NoDirExists(t, src)
		})
	}
}

func TestCopyCancelled(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	snaptest.Many(t, src, 2000)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the client went away")
	err := Copy(ctx, dst, src, &Config{Progress: func(files, _ int64) {
		if files == 700 {
			cancel(cause)
		}
	}})
	require.ErrorIs(t, err, cause)
	require.Less(t, len(snaptest.List(t, dst)), 1500)
}

// TestCopyCancelledInFile ends within one large file.
func TestCopyCancelledInFile(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	require.NoError(t, os.WriteFile(filepath.Join(src, "big"), make([]byte, 64<<20), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	var last int64
	err := Copy(ctx, dst, src, &Config{Progress: func(_, bytes int64) { last = bytes; cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, last, int64(64<<20))
	require.NoFileExists(t, filepath.Join(dst, "big"))
}

func TestCopyErrors(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	require.ErrorIs(t, Copy(t.Context(), dst, filepath.Join(src, "nothing"), &Config{}), os.ErrNotExist)
	require.NoError(t, os.Mkdir(dst, 0o755))
	require.ErrorIs(t, Copy(t.Context(), dst, src, &Config{}), os.ErrExist)
	require.NoError(t, os.Symlink(src, filepath.Join(filepath.Dir(src), "link")))
	require.Error(t, Copy(t.Context(), dst+"2", filepath.Join(filepath.Dir(src), "link"), &Config{}))
}

// TestCopyOfMovingTree copies while files and directories come, go and change their kind.
func TestCopyOfMovingTree(t *testing.T) {
	onEach(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		secret := filepath.Join(dir, "secret")
		mkdir(t, secret)
		require.NoError(t, os.WriteFile(filepath.Join(secret, "passwords"), []byte("secret"), 0o600))
		snaptest.Many(t, src, 500)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				sub := filepath.Join(src, "d00", fmt.Sprintf("e%03d", i%5))
				moved := filepath.Join(src, "moved")
				os.Rename(sub, moved)
				os.Symlink(secret, sub) // where a directory was, a way out
				os.Remove(sub)
				os.Rename(moved, sub)
				file := filepath.Join(sub, fmt.Sprintf("file %05d", i%5*100+i%100))
				os.Remove(file)
				switch i % 4 {
				case 0:
					os.Symlink(filepath.Join(secret, "passwords"), file)
				case 1:
					os.Mkdir(file, 0o755)
				case 2:
					unix.Mkfifo(file, 0o644)
				default:
					os.WriteFile(file, []byte("new"), 0o644)
					os.Link(file, file+" again")
				}
			}
		}()
		for range 4 {
			err := Copy(t.Context(), dst, src, &Config{Clone: clone})
			require.NoError(t, err)
			for path, line := range snaptest.List(t, dst) {
				require.NotContains(t, path, "passwords")
				require.NotContains(t, line, fmt.Sprintf("%x", "secret"))
				require.NotContains(t, line, " 6 bytes ", path)
			}
			require.NoError(t, Remove(t.Context(), dst))
		}
		close(stop)
		<-stopped
	})
}

// TestCopyOfChangingFile has a file written to all the time.
func TestCopyOfChangingFile(t *testing.T) {
	for _, clone := range []bool{false, true} {
		t.Run(fmt.Sprintf("clone=%v", clone), func(t *testing.T) {
			src, dst := source(t, snaptest.Mount(t, "xfs", 300))
			path := filepath.Join(src, "busy")
			require.NoError(t, os.WriteFile(path, make([]byte, 12<<20), 0o644))
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			require.NoError(t, err)
			defer f.Close()
			var log bytes.Buffer
			var writes atomic.Int64
			touch := func() { // as Copy goes
				_, err := f.WriteAt([]byte{1}, writes.Add(1))
				require.NoError(t, err)
				require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(writes.Load(), 0)))
			}
			require.NoError(t, Copy(t.Context(), dst, src, &Config{
				Clone: clone, Progress: func(int64, int64) { touch() }, Logger: slog.New(slog.NewTextHandler(&log,
					nil)),
			}))
			if clone {
				require.Empty(t, log.String(), "a clone is one state of the file")
			} else {
				require.Contains(t, log.String(), "level=WARN")
				require.Contains(t, log.String(), "path=busy")
				require.Greater(t, writes.Load(), int64(9), "four times three chunks")
			}
			fi, err := os.Stat(filepath.Join(dst, "busy"))
			require.NoError(t, err)
			require.Equal(t, int64(12<<20), fi.Size())
		})
	}
}

// TestCopyWaitsForLease has somebody hold a lease, as smbd does for kernel oplocks.
func TestCopyWaitsForLease(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	path := filepath.Join(src, "leased")
	require.NoError(t, os.WriteFile(path, []byte("leased"), 0o644))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		snaptest.Missing(t, "no leases here: %v", err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETSIG, int(unix.SIGURG)); err != nil { // Go ignores it
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, Copy(ctx, dst, src, &Config{}), context.DeadlineExceeded)
	require.NoError(t, Remove(t.Context(), dst))

	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	require.NoError(t, err)
	require.NoError(t, Copy(t.Context(), dst, src, &Config{}))
	require.FileExists(t, filepath.Join(dst, "leased"))
}

func TestNoCOW(t *testing.T) {
	src, dst := source(t, snaptest.Mount(t, "btrfs", 200))
	disk := filepath.Join(src, "disk.img")
	f, err := os.Create(disk)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, noCOWFlag))
	_, err = f.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, Copy(t.Context(), dst, src, &Config{Clone: true}))
	c, err := os.Open(filepath.Join(dst, "disk.img"))
	require.NoError(t, err)
	defer c.Close()
	flags, err := unix.IoctlGetUint32(int(c.Fd()), unix.FS_IOC_GETFLAGS)
	require.NoError(t, err)
	require.NotZero(t, flags&noCOWFlag)
}

// TestInheritedACL has a directory of snapshots that hands an access control list down.
func TestInheritedACL(t *testing.T) {
	dir := snaptest.Dir(t)
	src, dst := source(t, dir)
	snaptest.Build(t, src)
	require.NoError(t, unix.Lsetxattr(dir, "system.posix_acl_default", snaptest.ACL(7, 4321, 7, 7, 7, 7), 0))
	require.NoError(t, Copy(t.Context(), dst, src, &Config{}))
	snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
}

func TestDiskFull(t *testing.T) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			src, _ := source(t, snaptest.Dir(t))
			for i := range 20 {
				require.NoError(t, os.WriteFile(filepath.Join(src, fmt.Sprint(i)), make([]byte, 1<<20), 0o644))
			}
			mount := snaptest.Mount(t, fsType, 300)
			snaptest.Fill(t, mount, 10)
			dst := filepath.Join(mount, "dst")
			require.ErrorIs(t, Copy(t.Context(), dst, src, &Config{}), unix.ENOSPC)
			require.NoError(t, Remove(t.Context(), dst))
			require.NoDirExists(t, dst)
		})
	}
}

func TestPortable(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	snaptest.Build(t, src)
	f, err := os.Open(src)
	require.NoError(t, err)
	defer f.Close()
	var log bytes.Buffer
	cfg := (&Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Workers: 3}).withDefaults()
	require.NoError(t, finish(t.Context(), f, dst, cfg, newPortable))
	require.Contains(t, log.String(), "path=fifo")
	want, got := snaptest.List(t, src), snaptest.List(t, dst)
	for _, special := range []string{"fifo", "socket", "null"} {
		delete(want, special)
	}
	require.Len(t, got, len(want))
	for path, line := range want {
		require.Contains(t, got, path)
		if path == "relative" || path == "dangling" || path == "docs/up" || strings.HasPrefix(path, "links/symlink") {
			continue // no times of symbolic links
		}
		line, _, _ = strings.Cut(line, " map[") // no extended attributes
		have, _, _ := strings.Cut(got[path], " map[")
		require.Equal(t, line, have, path)
	}

	require.ErrorIs(t, finish(t.Context(), f, dst+"2", &Config{Clone: true}, newPortable), errors.ErrUnsupported)
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Progress = func(files, _ int64) { cancel() }
	require.ErrorIs(t, finish(ctx, f, dst+"3", cfg, newPortable), context.Canceled)
}

func TestRemove(t *testing.T) {
	dir := snaptest.Dir(t)
	require.NoError(t, Remove(t.Context(), filepath.Join(dir, "nothing")))
	require.NoError(t, Remove(t.Context(), filepath.Join(dir, "no", "parent")))

	outside := mkdir(t, filepath.Join(dir, "outside"))
	require.NoError(t, os.WriteFile(filepath.Join(outside, "stays"), nil, 0o644))
	inside := mkdir(t, filepath.Join(dir, "inside"))
	require.NoError(t, os.Symlink(outside, filepath.Join(inside, "link")))
	snaptest.Build(t, inside)
	snaptest.Many(t, inside, 3000)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Remove(ctx, inside), context.Canceled)
	require.NoError(t, Remove(t.Context(), inside))
	require.NoDirExists(t, inside)
	require.FileExists(t, filepath.Join(outside, "stays"))

	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "itself")))
	require.NoError(t, Remove(t.Context(), filepath.Join(dir, "itself")))
	require.FileExists(t, filepath.Join(outside, "stays"))
}
