package tree

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

// onMore is onEach with ext4, and tmpfs, that does not clone.
func onMore(t *testing.T, f func(t *testing.T, dir string, clone bool)) {
	onEach(t, f)
	t.Run("ext4", func(t *testing.T) { f(t, snaptest.Mount(t, "ext4", 100), false) })
	t.Run("tmpfs", func(t *testing.T) { f(t, tmpfs(t), false) })
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

// twoPasses copies src to dst, with a change between the passes.
func twoPasses(t *testing.T, src, dst string, cfg *Config, change func()) *Report {
	t.Helper()
	waitClock(t)
	f, err := os.Open(src)
	require.NoError(t, err)
	defer f.Close()
	c, err := New(dst, f, cfg)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Pass(t.Context())
	require.NoError(t, err)
	change()
	waitClock(t)
	report, err := c.Finish(t.Context())
	require.NoError(t, err)
	return report
}

// TestHiddenChanges changes files between two passes in ways that show in few of their metadata, or
// in none.
func TestHiddenChanges(t *testing.T) {
	onMore(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		at := func(name string) string { return filepath.Join(src, name) }
		write := func(name, data string) { require.NoError(t, os.WriteFile(at(name), []byte(data), 0o644)) }
		for _, name := range []string{"again", "times", "mapped", "mapped early", "renamed over"} {
			write(name, "before")
		}
		require.NoError(t, os.Mkdir(at("d"), 0o755))
		write("d/other", "before")
		// One file is mapped, and has been written to by that, before the first pass.
		f, err := os.OpenFile(at("mapped early"), os.O_RDWR, 0)
		require.NoError(t, err)
		defer f.Close()
		early, err := unix.Mmap(int(f.Fd()), 0, 6, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		defer unix.Munmap(early)
		early[0] = 'B'
		stamps := func(name string) (mtime unix.Timespec, ino uint64) {
			var st unix.Stat_t
			require.NoError(t, unix.Lstat(at(name), &st))
			return st.Mtim, st.Ino
		}
		keep := func(name string, change func()) {
			mtime, _ := stamps(name)
			change()
			require.NoError(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{mtime, mtime}, 0))
		}
		report := twoPasses(t, src, dst, &Config{Clone: clone}, func() {
			keep("times", func() { write("times", "after!") })
			keep("again", func() { // often with the same inode
				require.NoError(t, os.Remove(at("again")))
				write("again", "after!")
			})
			keep("renamed over", func() {
				write("new", "after!")
				require.NoError(t, os.Rename(at("new"), at("renamed over")))
			})
			keep("d", func() { write("d/more", "after!") })
			keep("mapped", func() {
				f, err := os.OpenFile(at("mapped"), os.O_RDWR, 0)
				require.NoError(t, err)
				defer f.Close()
				late, err := unix.Mmap(int(f.Fd()), 0, 6, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
				require.NoError(t, err)
				copy(late, "after!")
				require.NoError(t, unix.Munmap(late))
			})
			copy(early, "after!")
		})
		require.Empty(t, report.Moved)
		snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
	})
}

// TestInheritedLater has what a later pass makes in a directory that hands access control lists
// down.
func TestInheritedLater(t *testing.T) {
	if os.Geteuid() != 0 {
		snaptest.Missing(t, "needs root")
	}
	onMore(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		acl := filepath.Join(src, "acl")
		mkdir(t, acl)
		require.NoError(t, unix.Setxattr(acl, "system.posix_acl_default", snaptest.ACL(0o7, 4321, 0o6, 0o5, 0o7, 0o5), 0))
		plain := func(name string) { // made elsewhere, so that it inherits nothing
			require.NoError(t, os.Rename(filepath.Join(src, name), filepath.Join(acl, name)))
		}
		report := twoPasses(t, src, dst, &Config{Clone: clone}, func() {
			require.NoError(t, os.WriteFile(filepath.Join(src, "file"), []byte("x"), 0o640))
			require.NoError(t, unix.Mkfifo(filepath.Join(src, "fifo"), 0o640))
			require.NoError(t, os.MkdirAll(filepath.Join(src, "dir/sub"), 0o750))
			require.NoError(t, os.WriteFile(filepath.Join(src, "dir/sub/file"), []byte("x"), 0o640))
			for _, name := range []string{"file", "fifo", "dir"} {
				plain(name)
			}
			require.NoError(t, os.WriteFile(filepath.Join(acl, "inherits"), nil, 0o640))
		})
		require.Empty(t, report.Moved)
		snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
	})
}

// TestMountedMeanwhile mounts something in the tree between two passes: no copy is without it.
func TestMountedMeanwhile(t *testing.T) {
	onMore(t, func(t *testing.T, dir string, clone bool) {
		for name, point := range map[string]string{"directory": "docs/sub", "file": "docs/plain.txt", "empty": "docs/sub/empty"} {
			t.Run(name, func(t *testing.T) {
				base := mkdir(t, filepath.Join(dir, name))
				src, dst := source(t, base)
				snaptest.Build(t, src)
				f, err := os.Open(src)
				require.NoError(t, err)
				defer f.Close()
				c, err := New(dst, f, &Config{Clone: clone})
				require.NoError(t, err)
				defer c.Close()
				_, err = c.Pass(t.Context())
				require.NoError(t, err)
				at := filepath.Join(src, point)
				from := filepath.Join(src, "docs") // a bind mount of the same file system
				if name == "file" {
					from = filepath.Join(src, "docs/big")
				}
				require.NoError(t, unix.Mount(from, at, "", unix.MS_BIND, ""))
				_, err = c.Finish(t.Context())
				require.NoError(t, unix.Unmount(at, 0))
				require.ErrorIs(t, err, fsrvp.ErrNotSupported)
				require.ErrorContains(t, err, point)
			})
		}
	})
}

// TestOddFiles has flags, names and attributes at their limits.
func TestOddFiles(t *testing.T) {
	onMore(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		at := func(name string) string { return filepath.Join(src, name) }
		write := func(name string) { require.NoError(t, os.WriteFile(at(name), []byte(name), 0o644)) }
		write(strings.Repeat("n", 255))
		write(strings.Repeat("\xff", 255))
		mkdir(t, at(strings.Repeat("\u00e9", 127)))
		write(".fsrvp")
		write(".tmp-copy-x")
		require.NoError(t, os.Symlink(strings.Repeat("s/", 500), at("long link")))
		f, err := os.Create(at("huge hole"))
		require.NoError(t, err)
		require.NoError(t, f.Truncate(1<<42))
		_, err = f.WriteAt([]byte("at the end"), 1<<42-10)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, os.Truncate(at("huge hole"), 1<<20)) // List reads what is in files
		const immutable, appendOnly = 0x10, 0x20
		flags := map[string]int{"immutable": immutable, "append only": appendOnly, "immutable dir": immutable}
		for name := range flags {
			if strings.HasSuffix(name, "dir") {
				mkdir(t, at(name))
				write(name + "/file")
			} else {
				write(name)
			}
		}
		for name, flag := range flags {
			fd, err := unix.Open(at(name), unix.O_RDONLY, 0)
			require.NoError(t, err)
			old, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
			if err == nil {
				err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, old|flag)
			}
			defer func() { // nobody removes it before
				unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, old)
				unix.Close(fd)
			}()
			if !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) {
				require.NoError(t, err)
			}
		}
		write("attributes")
		n := 0
		for ; n < 200; n++ { // until there is no more room
			if err := unix.Setxattr(at("attributes"), "user.a"+strings.Repeat("x", n), []byte("value"), 0); err != nil {
				break
			}
		}
		require.NotZero(t, n)
		report := twoPasses(t, src, dst, &Config{Clone: clone}, func() { write("later") })
		require.Empty(t, report.Moved)
		snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
		require.NoError(t, Remove(t.Context(), dst))
	})
}

// TestManyAttributes has a file with more names of attributes than the kernel lists.
func TestManyAttributes(t *testing.T) {
	for _, fsType := range []string{"xfs", "btrfs"} {
		t.Run(fsType, func(t *testing.T) {
			src, dst := source(t, snaptest.Mount(t, fsType, 300))
			full := filepath.Join(src, "dir/full")
			require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
			require.NoError(t, os.WriteFile(full, []byte("x"), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(src, "other"), []byte("x"), 0o644))
			for i := range 300 {
				name := "user." + strings.Repeat("n", 240) + string(rune('a'+i/26)) + string(rune('a'+i%26))
				if err := unix.Setxattr(full, name, nil, 0); err != nil {
					t.Skip(err) // a file system without room for so many
				}
			}
			_, err := unix.Listxattr(full, make([]byte, 64<<10))
			require.ErrorIs(t, err, unix.E2BIG)
			err = Copy(t.Context(), dst, src, &Config{})
			require.ErrorIs(t, err, unix.E2BIG)
			require.ErrorContains(t, err, "dir/full")
			require.NoError(t, Remove(t.Context(), dst))

			report := twoPasses(t, src, dst, &Config{SkipUnreadable: true}, func() {})
			require.Len(t, report.Unread, 1)
			require.Equal(t, "dir/full", report.Unread[0].Path)
			require.NoFileExists(t, filepath.Join(dst, "dir/full"))
			require.FileExists(t, filepath.Join(dst, "other"))
		})
	}
}

// wideEnv is how many names the directory of TestWideDirectory has. Empty: a few thousand.
const wideEnv = "FSRVP_WIDE"

// TestWideDirectory has very many names in one directory, of which few change.
func TestWideDirectory(t *testing.T) {
	files := 20_000
	if n, err := strconv.Atoi(os.Getenv(wideEnv)); err == nil {
		files = n
	}
	src, dst := source(t, tmpfs(t))
	for i := range files {
		require.NoError(t, unix.Mknod(filepath.Join(src, "n"+strings.Repeat("0", i%7)+time.Duration(i).String()), unix.S_IFREG|0o644, 0))
	}
	report := twoPasses(t, src, dst, &Config{}, func() {
		require.NoError(t, os.WriteFile(filepath.Join(src, "new"), []byte("x"), 0o644))
		require.NoError(t, os.Remove(filepath.Join(src, "n"+time.Duration(0).String())))
	})
	require.Empty(t, report.Moved)
	names := func(dir string) map[string]bool {
		f, err := os.Open(dir)
		require.NoError(t, err)
		defer f.Close()
		list, err := f.Readdirnames(-1)
		require.NoError(t, err)
		all := make(map[string]bool)
		for _, name := range list {
			all[name] = true
		}
		return all
	}
	require.Equal(t, names(src), names(dst))
}

// TestClockTurnedBack has the clock turned back between two passes, and under one.
func TestClockTurnedBack(t *testing.T) {
	src, dst := source(t, snaptest.Dir(t))
	snaptest.Build(t, src)
	waitClock(t)
	f, err := os.Open(src)
	require.NoError(t, err)
	defer f.Close()
	files := int64(0)
	var c *Copier
	back := func() { c.run.(*copier[*linuxDir]).clock.ahead += time.Hour } // as if it had been ahead
	under := false
	c, err = New(dst, f, &Config{Progress: func(n, _ int64) {
		files = n
		if under {
			under = false
			back()
		}
	}})
	require.NoError(t, err)
	defer c.Close()
	settled, err := c.Pass(t.Context())
	require.NoError(t, err)
	require.True(t, settled)
	all := files
	pass := func(want bool) int64 {
		before := files
		settled, err := c.Pass(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, settled)
		return files - before
	}
	require.Zero(t, pass(true))
	back()
	require.Equal(t, all, pass(true), "nothing is known again")
	require.Zero(t, pass(true))
	back()
	under = true
	require.Equal(t, all, pass(false), "and what was copied then is not trusted")
	require.Equal(t, all, pass(true))
	report, err := c.Finish(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Moved)
	snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))

	var clock wallClock
	for range 1000 {
		require.False(t, clock.turnedBack())
	}
}
