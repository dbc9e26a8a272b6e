package provider

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// defaultTurnDir is the folder in which every user's programs may make files that others may read.
func defaultTurnDir() (string, error) {
	return windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
}

// tryLock opens the file, which it makes if there is none, and locks it. The error matches
// errLocked if another one has the lock.
func tryLock(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = newLockFile(path); err == nil {
			f, err = os.Open(path)
		}
	}
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
	if err == nil {
		return f, nil
	}
	_ = f.Close()
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return nil, errLocked
	}
	return nil, &os.PathError{Op: "LockFileEx", Path: path, Err: err}
}
