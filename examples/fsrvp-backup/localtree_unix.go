//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openFlags keep the opening of what has replaced a file from blocking, and from leading elsewhere.
const openFlags = unix.O_NONBLOCK | unix.O_NOFOLLOW

// describe asks for the metadata of a name of an open directory. The name may be any bytes.
func (t *localTree) describe(n *node, dir *os.File, name string) error {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	n.size, n.mode, n.uid, n.gid = st.Size, int64(st.Mode&0o7777), int(st.Uid), int(st.Gid)
	n.modified, n.accessed = time.Unix(st.Mtim.Unix()), time.Unix(st.Atim.Unix())
	n.major, n.minor = int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev)))
	n.id, n.links = fileID{uint64(st.Dev), uint64(st.Ino)}, uint64(st.Nlink)
	var mode fs.FileMode
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.holes = st.Blocks*512 < st.Size
	case unix.S_IFDIR:
		mode = fs.ModeDir
	case unix.S_IFLNK:
		mode = fs.ModeSymlink
	case unix.S_IFIFO:
		mode = fs.ModeNamedPipe
	case unix.S_IFCHR:
		mode = fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		mode = fs.ModeDevice
	case unix.S_IFSOCK:
		mode = fs.ModeSocket
	default:
		mode = fs.ModeIrregular
	}
	n.setKind(mode)
	return nil
}

// is reports whether an open file is the one that was listed.
func (n *node) is(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && n.id == fileID{uint64(st.Dev), uint64(st.Ino)}
}
