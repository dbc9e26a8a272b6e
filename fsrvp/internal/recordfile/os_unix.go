//go:build unix

package recordfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const noFollow = unix.O_NOFOLLOW | unix.O_CLOEXEC

// explain says what ELOOP means here.
func explain(path string, err error) error {
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is a symbolic link; the file itself has to be named: %w", path, err)
	}
	return err
}

// trusted reports whether root or this process's user owns something.
func trusted(info fs.FileInfo) (uint32, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, true
	}
	return st.Uid, st.Uid == 0 || int(st.Uid) == os.Geteuid()
}

// checkFile refuses a file that others may read or write.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	if uid, ok := trusted(info); !ok {
		return fmt.Errorf("%s belongs to user %d; it has to belong to root or to the user of this process", f.Name(), uid)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, others may use it; make it 0600", f.Name(), info.Mode().Perm())
	}
	return nil
}

// checkDir refuses a directory in which others may put files, or which they may replace.
func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link; the directory itself has to be named", dir)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for at := real; ; at = filepath.Dir(at) {
		if info, err = os.Lstat(at); err != nil {
			return err
		}
		sticky := info.Mode()&fs.ModeSticky != 0 && at != real
		if info.Mode().Perm()&0o022 != 0 && !sticky {
			return fmt.Errorf("%s has mode %04o, others may write to it; make it 0755 or 0700", at, info.Mode().Perm())
		}
		if uid, ok := trusted(info); !ok {
			return fmt.Errorf("%s belongs to user %d; it has to belong to root or to the user of this process", at, uid)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// ignoreUnsupported forgives file systems that cannot sync a directory.
func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
