//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// inParent calls do with the open directory of a name, and the name in it.
func (x *restorer) inParent(name string, do func(dir int, base string) error) error {
	d, err := x.root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(do(int(d.Fd()), filepath.Base(name)), d.Close())
}

// times sets the times of a file, or of a symbolic link itself.
func (x *restorer) times(m *scanned, name string) error {
	accessed := m.accessed
	if accessed.IsZero() {
		accessed = m.modified
	}
	return x.inParent(name, func(dir int, base string) error {
		ts := make([]unix.Timespec, 2)
		for i, t := range []time.Time{accessed, m.modified} {
			var err error
			if ts[i], err = unix.TimeToTimespec(t); err != nil {
				return fmt.Errorf("the time %v: %w", t, err)
			}
		}
		if err := unix.UtimesNanoAt(dir, base, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "set times", Path: name, Err: err}
		}
		return nil
	})
}
