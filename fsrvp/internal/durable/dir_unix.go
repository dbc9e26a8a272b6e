//go:build unix

package durable

import (
	"errors"
	"syscall"
)

const canSyncDir = true

// ignoreUnsupported returns nil for the error of a file system that cannot sync a directory.
func ignoreUnsupported(err error) error {
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}
