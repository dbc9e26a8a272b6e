package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Hold opens a directory for Call.Hold: Await waits while a program has it open. The caller must
// close it when Run has returned. It is nil if there is no directory.
func Hold(dir string) (*os.File, error) { return lock(dir, unix.LOCK_SH) }

// lock opens and locks a directory. The lock belongs to the open file, so a program that has
// inherited the file keeps the lock.
func lock(dir string, how int) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	for {
		err := unix.Flock(fd, how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
		}
		return f, nil
	}
}

// Await waits until no program holds the directory, since a killed agent may have left some
// running. It fails if they take longer than the limit, and with context.Cause(ctx).
func Await(ctx context.Context, dir string, limit time.Duration) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	pause := time.NewTicker(10 * time.Millisecond) // nothing wakes up who waits for a lock, and for a ctx
	defer pause.Stop()
	for {
		f, err := lock(dir, unix.LOCK_EX|unix.LOCK_NB)
		if f != nil {
			return f.Close()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		select {
		case <-pause.C:
		case <-end.C:
			return fmt.Errorf("programs of a former agent are still running after %v: fuser -v %s shows them",
				limit, dir)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
