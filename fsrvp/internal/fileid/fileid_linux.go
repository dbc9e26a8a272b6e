package fileid

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const mask = unix.STATX_INO | unix.STATX_BTIME

func ofPath(path string) (id string, isRoot bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, mask, &st); err != nil {
		return "", false
	}
	return text(&st), st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func ofFile(f *os.File) string {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, mask, &st); err != nil {
		return ""
	}
	return text(&st)
}

// text is of the inode and the time of birth: an inode alone may be used again, and the devices of
// file systems have other numbers after another boot.
func text(st *unix.Statx_t) string {
	if st.Mask&mask != mask {
		return ""
	}
	return fmt.Sprintf("%d.%d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec)
}
