// Package trusted checks directories whose contents a program takes for its own.
package trusted

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir fails where dir, an absolute path, is no directory but a symbolic link or something else, or where a user other than root and
// the process's own could change what is in it, or put another one in its place: who owns it and its parent, and who may write to them. A
// parent that everybody may write to will do if it is sticky, as /tmp is. On Windows, access lists are the administrator's to set.
func Dir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory, or is a symbolic link", dir)
	}
	if err := checkOwned(dir, info, false); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if info, err = os.Stat(parent); err != nil {
		return err
	}
	return checkOwned(parent, info, true)
}
