// Package durable brings files and directories to stable storage.
package durable

import (
	"errors"
	"os"
)

// Dir brings the names in a directory to stable storage. It does nothing if the system or the file
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
