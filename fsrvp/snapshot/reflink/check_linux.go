package reflink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

func supported() error { return nil }

// check reports whether the tree below volume can be cloned into dir.
func check(volume, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		dir = filepath.Dir(dir)
	}
	return tryClone(volume, dir)
}

// tryClone clones an unnamed file in one directory to one in another. Both are on one file system.
// If the process may only read from, it tries with two files in the other directory.
func tryClone(from, to string) error {
	src, err := unnamed(from)
	if errors.Is(err, fs.ErrPermission) {
		src, err = unnamed(to)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := src.Write(make([]byte, 4096)); err != nil {
		return err
	}
	dst, err := unnamed(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err != nil {
		return fmt.Errorf("files of %s cannot be cloned to %s: %w: %w", from, to, err, fsrvp.ErrNotSupported)
	}
	return nil
}

func unnamed(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EROFS) {
		return nil, fmt.Errorf("%w: %w", err, fsrvp.ErrNotSupported)
	}
	return f, err
}
