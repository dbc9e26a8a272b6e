package recordfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync puts what was written to a file, and its size, on stable storage.
func datasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
