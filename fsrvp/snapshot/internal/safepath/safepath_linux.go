package safepath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	passFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	openFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
)

func open(path string) (*Dir, error) {
	fd, err := unix.Open("/", passFlags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/", Err: err}
	}
	d := new(Dir)
	at := "/"
	for _, name := range steps(path) {
		a, err := look(fd, at)
		if err != nil {
			unix.Close(fd)
			return nil, err
		}
		d.Above = append(d.Above, a)
		at = filepath.Join(at, name)
		next, err := step(fd, name, passFlags)
		unix.Close(fd)
		if err != nil {
			return nil, stepError(at, err, isNoDir(err))
		}
		fd = next
	}
	last, err := step(fd, ".", openFlags)
	unix.Close(fd)
	if err != nil {
		return nil, stepError(path, err, isNoDir(err))
	}
	d.File = os.NewFile(uintptr(last), path)
	return d, nil
}

// step opens one name of a path. No name is a symbolic link that is followed: O_NOFOLLOW is of the
// last step, and there is but one.
func step(fd int, name string, flags int) (int, error) {
	for {
		next, err := unix.Openat(fd, name, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return next, err
		}
	}
}

func isNoDir(err error) bool { return errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) }

// look returns who may pass through an open directory.
func look(fd int, path string) (Ancestor, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Ancestor{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	a := Ancestor{Path: path, UID: st.Uid, GID: st.Gid, Mode: st.Mode & 0o7777}
	buf := make([]byte, 1024)
	proc := fmt.Sprintf("/proc/self/fd/%d", fd) // a descriptor of O_PATH has no attributes
	n, err := unix.Getxattr(proc, "system.posix_acl_access", buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10) // the kernel's limit
		n, err = unix.Getxattr(proc, "system.posix_acl_access", buf)
	}
	switch {
	case err == nil:
		a.ACL = buf[:n]
	case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP):
		return a, &os.PathError{Op: "access control list of", Path: path, Err: err}
	}
	return a, nil
}

func pin(f *os.File) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	s := fmt.Sprintf("%d:%d:%d", st.Dev_major, st.Dev_minor, st.Ino)
	if st.Mask&unix.STATX_BTIME != 0 {
		s += fmt.Sprintf(":%d.%09d", st.Btime.Sec, st.Btime.Nsec)
	}
	return s, nil
}

func checkBeneath(root, rel string) error {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: root, Err: err}
	}
	at := root
	for _, name := range steps(rel) {
		at = filepath.Join(at, name)
		next, err := step(fd, name, passFlags)
		unix.Close(fd)
		if err != nil {
			return stepError(at, err, isNoDir(err))
		}
		fd = next
	}
	return unix.Close(fd)
}
