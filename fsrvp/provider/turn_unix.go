//go:build unix && !solaris && !aix

package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// defaultTurnDir returns the one directory in which every user of a Unix host can make files.
func defaultTurnDir() (string, error) { return "/tmp", nil }

// tryLock opens the file, which it makes if there is none, and locks it. The error matches
// errLocked if another one has the lock. It opens the file for reading, since the mode and the
// sticky directory of another user's file allow no more.
func tryLock(path string) (*os.File, error) {
	const tries = 4 // in case the file is removed at the wrong moment
	for range tries {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if err = newLockFile(path); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		err = lockOpen(f, path)
		if err == nil {
			return f, nil
		}
		_ = f.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s is removed again and again", path)
}

// lockOpen locks f. The error matches fs.ErrNotExist if path is another file by now.
func lockOpen(f *os.File, path string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if !opened.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errLocked
	}
	if err != nil {
		return &os.PathError{Op: "flock", Path: path, Err: err}
	}
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(opened, now) {
		return fs.ErrNotExist
	}
	return nil
}
