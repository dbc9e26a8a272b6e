package smbpipe

import (
	"errors"

	"golang.org/x/sys/windows"
)

// endOfPipe reports whether an error of the system means that the other end of the pipe is closed.
func endOfPipe(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA) ||
		errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED) || errors.Is(err, windows.ERROR_HANDLE_EOF)
}
