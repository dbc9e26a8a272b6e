//go:build !linux

package snapdir

import (
	"errors"
	"io/fs"
	"os"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
)

// makeGate makes a directory that belongs to the user of the process, and that those can pass
// through, and do no more, who can pass through the other by its mode. Where that cannot be said
// without naming its owner, nobody can.
func makeGate(path string, a safepath.Ancestor) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if int(a.UID) != os.Geteuid() && a.Mode&0o100 == 0 {
		return nil
	}
	if err := os.Chown(path, -1, int(a.GID)); errors.Is(err, fs.ErrPermission) {
		return nil
	} else if err != nil {
		return err
	}
	return os.Chmod(path, 0o700|os.FileMode(a.Mode&0o011))
}
