// Package trusted checks files and directories whose contents a program takes for its own: the
// owner, the mode, and no symbolic link. On systems without Unix modes, access lists are the
// administrator's to set.
package trusted

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir fails if dir, an absolute path, is not a directory, or if a user other than root and the
// process's own could change what is in it or put another directory in its place: it checks the
// owner and the mode of dir and of its parent. A parent to which everybody may write is accepted if
// it is sticky, as /tmp is.
func Dir(dir string) error {
	if err := real(dir); err != nil {
		return err
	}
	if err := owned(dir, false); err != nil {
		return err
	}
	return owned(filepath.Dir(dir), true)
}

// Path fails as [Dir] does, and also if another user owns, or may write to, any directory above
// dir.
func Path(dir string) error {
	if err := real(dir); err != nil {
		return err
	}
	at, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	for sticky := false; ; sticky = true {
		if err := owned(at, sticky); err != nil {
			return err
		}
		up := filepath.Dir(at)
		if up == at {
			return nil
		}
		at = up
	}
}

// File fails if f is not a regular file, or if a user other than root and the process's own owns it
// or may read or write it.
func File(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	return private(f.Name(), info)
}

// real fails if dir is not a directory itself.
func real(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link; name the directory itself", dir)
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}

// owned fails if another user owns a directory or may write to it. With sticky, everybody may write
// to a sticky one.
func owned(dir string, sticky bool) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return checkOwned(dir, info, sticky)
}
