package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Data brings the data and the size of a file to stable storage.
func Data(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}
