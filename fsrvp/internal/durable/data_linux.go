package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Data puts what was written to a file, and its size, on stable storage.
func Data(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
