//go:build unix && !aix && !solaris

package recordfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks a file until it is closed, or returns ErrInUse.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return err
}

// lockOld returns ErrInUse if a program of an older version, which locks the file itself, has it
// open.
func lockOld(path string) error {
	f, err := openFile(path, os.O_RDWR)
	if err != nil {
		return err
	}
	return errors.Join(tryLock(f), f.Close())
}
