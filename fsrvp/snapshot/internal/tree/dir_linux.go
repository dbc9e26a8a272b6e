package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

func newRunner(dst string, src *os.File, cfg *Config) (runner, error) {
	from, err := openRoot(int(src.Fd()), ".", src.Name())
	if err != nil {
		return nil, err
	}
	to, err := makeRoot(dst)
	if err == nil {
		err = checkFlags(to.fd, from.fd)
	}
	if err != nil {
		from.Close()
		if to != nil {
			to.Close()
		}
		return nil, err
	}
	return newCopier(from, to, skipped(src.Name(), cfg.Skip), cfg), nil
}

// makeRoot makes and opens the root of a copy.
func makeRoot(path string) (*linuxDir, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	d, err := openRoot(unix.AT_FDCWD, path, path)
	if err != nil {
		return nil, err
	}
	if err := clearACLs(d.fd); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// checkFlags refuses to copy device nodes and set-user-ID programs from a file system where they
// have no effect to one where they do, since that would let whoever put them there become root.
func checkFlags(dst, src int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var to, from unix.Statfs_t
	if err := unix.Fstatfs(dst, &to); err != nil {
		return err
	}
	if err := unix.Fstatfs(src, &from); err != nil {
		return err
	}
	const without = unix.ST_NOSUID | unix.ST_NODEV
	if lost := from.Flags &^ to.Flags & without; lost != 0 {
		return fmt.Errorf("it is mounted nosuid or nodev, and the snapshot directory is not: %w", fsrvp.ErrNotSupported)
	}
	return nil
}

// A linuxDir is a directory by its descriptor.
type linuxDir struct {
	fd  int
	top *topDir
	buf *nameBuf // nil before names
}

// A nameBuf is what the kernel writes names to.
type nameBuf [32 << 10]byte

var nameBufs = sync.Pool{New: func() any { return new(nameBuf) }}

// topDir has the common properties of all directories of a tree.
type topDir struct {
	dev     uint64
	openat2 bool // the kernel has it, since 5.6
	root    bool // the process is root
	// untraced means that writing to a memory-mapped file of this file system does not change its
	// times.
	untraced bool
}

// openRoot opens path, relative to a directory, as the root of a tree. Errors use the name called.
func openRoot(dirfd int, path, called string) (*linuxDir, error) {
	fd, err := unix.Openat(dirfd, path, openDirFlags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: called, Err: err}
	}
	d := &linuxDir{fd: fd, top: &topDir{root: os.Geteuid() == 0, openat2: true}}
	st, err := statx(fd, "", unix.AT_EMPTY_PATH)
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "stat", Path: called, Err: err}
	}
	d.top.dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	var kind unix.Statfs_t
	if err := ignoreEINTR(func() error { return unix.Fstatfs(fd, &kind) }); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "statfs", Path: called, Err: err}
	}
	switch uint32(kind.Type) {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.HUGETLBFS_MAGIC: // there is no write-back
		d.top.untraced = true
	}
	self, err := openBeneath(d.fd, ".")
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old kernel, a container's filter
		d.top.openat2 = false
	} else if err == nil {
		unix.Close(self)
	}
	return d, nil
}

func (d *linuxDir) Close() error {
	if d.buf != nil {
		nameBufs.Put(d.buf)
		d.buf = nil
	}
	return unix.Close(d.fd)
}

const (
	openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	maxPath      = 4096 // PATH_MAX, with its NUL
	maxPart      = 3000 // the part of a longer path to open at once
)

// cutPath splits a long path after at most maxPart bytes. No name has more than 255.
func cutPath(path string) (part, rest string) {
	if len(path) <= maxPart {
		return path, ""
	}
	i := strings.LastIndexByte(path[:maxPart], '/')
	if i < 0 {
		return path, ""
	}
	return path[:i], path[i+1:]
}

func (d *linuxDir) open(path string) (*linuxDir, error) {
	fd := d.fd
	for rest := path; rest != ""; {
		var part string
		part, rest = cutPath(rest)
		next, err := d.openPart(fd, part)
		if fd != d.fd {
			unix.Close(fd)
		}
		if errors.Is(err, unix.EXDEV) {
			return nil, errMounted
		}
		if err != nil {
			return nil, err
		}
		fd = next
	}
	return &linuxDir{fd: fd, top: d.top}, nil
}

func (d *linuxDir) openPart(fd int, path string) (int, error) {
	if d.top.openat2 {
		return openBeneath(fd, path)
	}
	return d.openStepwise(fd, path)
}

var errMounted = fmt.Errorf("another file system or subvolume is mounted there: %w", fsrvp.ErrNotSupported)

func openBeneath(dirfd int, path string) (int, error) {
	how := unix.OpenHow{
		Flags:   openDirFlags | unix.O_NOATIME,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dirfd, path, &how)
		switch {
		case errors.Is(err, unix.EPERM) && how.Flags&unix.O_NOATIME != 0: // another user's directory
			how.Flags &^= unix.O_NOATIME
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		default:
			return fd, err
		}
	}
}

// openStepwise is openBeneath for kernels without openat2.
func (d *linuxDir) openStepwise(dirfd int, path string) (int, error) {
	fd := dirfd
	for step := range strings.SplitSeq(path, "/") {
		next, err := unix.Openat(fd, step, openDirFlags, 0)
		if fd != dirfd {
			unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		if _, err := d.lookFD(next); err != nil && step != "." {
			unix.Close(next)
			return -1, err
		}
		fd = next
	}
	return fd, nil
}

func (d *linuxDir) names() ([]string, error) {
	if d.buf == nil {
		d.buf = nameBufs.Get().(*nameBuf)
	}
	for {
		var n int
		err := ignoreEINTR(func() (err error) { n, err = unix.ReadDirent(d.fd, d.buf[:]); return err })
		if err != nil {
			return nil, fmt.Errorf("read directory: %w", err)
		}
		if n == 0 {
			return nil, nil
		}
		if _, _, names := unix.ParseDirent(d.buf[:n], -1, nil); len(names) > 0 { // more than . and ..
			return names, nil
		}
	}
}

func (d *linuxDir) self() (info, error) {
	in, err := d.lookFD(d.fd)
	if errors.Is(err, errMounted) && in.id.dev == d.top.dev {
		err = nil // the root of the walk may be the root of a mount
	}
	if err != nil {
		return in, err
	}
	in.xattrs, err = readXattrs(xattrFile{fd: d.fd})
	return in, err
}

func (d *linuxDir) stat(path string) (info, error) {
	if len(path) >= maxPath {
		parent, err := d.open(filepath.Dir(path))
		if err != nil {
			return info{}, err
		}
		defer parent.Close()
		return parent.stat(filepath.Base(path))
	}
	return d.look(statx(d.fd, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT))
}

func (d *linuxDir) lookFD(fd int) (info, error) { return d.look(statx(fd, "", unix.AT_EMPTY_PATH)) }

// statx also asks the server of a network file system, rather than trust cached metadata.
func statx(fd int, name string, flags int) (st unix.Statx_t, err error) {
	for {
		err = unix.Statx(fd, name, flags|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
		if err != unix.EINTR {
			return st, err
		}
	}
}

// look converts metadata, and refuses mount points.
func (d *linuxDir) look(st unix.Statx_t, err error) (info, error) {
	if err != nil {
		return info{}, err
	}
	in := info{
		id: fileID{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino,
			birth: st.Btime.Sec*1e9 + int64(st.Btime.Nsec)},
		links: uint64(st.Nlink), size: int64(st.Size),
		mode: uint32(st.Mode), uid: st.Uid, gid: st.Gid, rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor),
		atime: timeOf(st.Atime), mtime: timeOf(st.Mtime), ctime: timeOf(st.Ctime),
	}
	switch in.mode & unix.S_IFMT {
	case unix.S_IFREG:
		in.kind, in.untraced = regular, d.top.untraced
	case unix.S_IFDIR:
		in.kind = directory
	case unix.S_IFLNK:
		in.kind = symlink
	}
	mounted := st.Attributes&st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0
	if in.kind == directory || st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		mounted = mounted || in.id.dev != d.top.dev // overlayfs has files of several devices
	}
	if mounted {
		return in, errMounted
	}
	return in, nil
}

func timeOf(t unix.StatxTimestamp) time.Time { return time.Unix(t.Sec, int64(t.Nsec)) }

func (d *linuxDir) mkdir(name string) error { return unix.Mkdirat(d.fd, name, 0o700) }

func (d *linuxDir) unlock(name string) error {
	if d.top.root {
		return nil
	}
	return unix.Fchmodat(d.fd, name, 0o700, 0)
}

func (d *linuxDir) loosen() error { return removeACL(d.fd, "system.posix_acl_default") }

func (d *linuxDir) remove(ctx context.Context, name string) error { return removeAt(ctx, d.fd, name) }

func (d *linuxDir) finish(in *info) error {
	if err := dropXattrs(xattrFile{fd: d.fd}, in.xattrs, d.top.root); err != nil {
		return err
	}
	return d.setMetadata(target{fd: d.fd, dirfd: d.fd, name: "."}, in, in.xattrs)
}

func (d *linuxDir) sync() error {
	if err := unix.Syncfs(d.fd); err != nil {
		return fmt.Errorf("syncfs: %w", err)
	}
	return nil
}
