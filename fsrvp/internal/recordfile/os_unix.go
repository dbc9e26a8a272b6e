//go:build unix

package recordfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	noFollow = unix.O_NOFOLLOW | unix.O_CLOEXEC
	noWait   = unix.O_NONBLOCK // for a FIFO, which is refused
)

// explain adds the meaning of ELOOP.
func explain(path string, err error) error {
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is a symbolic link; name the file itself: %w", path, err)
	}
	return err
}

// checkLinked fails for a file that was removed: what is written to it is gone when it is closed.
func checkLinked(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink == 0 {
		return errors.New("it was removed while it was in use")
	}
	return nil
}
