// Package durable puts files and directories on stable storage.
package durable

import (
	"errors"
	"os"
)

// Dir puts the names in a directory on stable storage. It does nothing where the system or the file
// system cannot do that.
func Dir(path string) error {
	if !canSyncDir {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(ignoreUnsupported(d.Sync()), d.Close())
}
