//go:build unix

package recordfile

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const noFollow = unix.O_NOFOLLOW | unix.O_CLOEXEC

// explain adds the meaning of ELOOP.
func explain(path string, err error) error {
	if errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s is a symbolic link; name the file itself: %w", path, err)
	}
	return err
}
