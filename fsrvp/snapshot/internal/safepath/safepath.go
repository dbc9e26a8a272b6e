// Package safepath opens directories by absolute path, safely: no part of the path is a symbolic
// link, and the directory is the same one as before.
package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Dir is an open directory. Its Name is the path by which it was opened.
type Dir struct {
	*os.File
	// Above are the directories above it, from the root to its parent. Nil if the system has no
	// modes.
	Above []Ancestor
}

// An Ancestor is a directory above another: who may pass through it.
type Ancestor struct {
	Path     string
	UID, GID uint32
	Mode     uint32 // permission bits
	ACL      []byte // its access control list as Linux keeps it in system.posix_acl_access; nil if there is none
}

// Open opens the directory at path, which is absolute and clean, step by step from the root. It
// follows no symbolic link: it fails with fsrvp.ErrNotSupported if there is one, or if path is not
// a directory.
func Open(path string) (*Dir, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("%q is no absolute, clean path: %w", path, fsrvp.ErrInvalidArg)
	}
	return open(path)
}

// OpenPinned is Open for a directory that must have the given Pin. An empty pin matches all.
func OpenPinned(path, pin string) (*Dir, error) {
	d, err := Open(path)
	if err != nil {
		return nil, err
	}
	now, err := d.Pin()
	if err == nil && pin != "" && now != pin {
		err = fmt.Errorf("%s is not the same directory as when the share was added: add it again", path)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Pin returns a text that identifies the directory, whatever takes its path later: its device, its
// inode and, if the file system knows it, its time of birth. It is empty on a system that has none
// of these.
func (d *Dir) Pin() (string, error) { return pin(d.File) }

// CheckBeneath fails if path, which is root or below it, is not a directory, or if a part between
// root and path is a symbolic link. It trusts root itself.
func CheckBeneath(root, path string) error {
	rel, err := filepath.Rel(root, path)
	if err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("%s is not within %s: %w", path, root, fsrvp.ErrInvalidArg)
	}
	return checkBeneath(root, rel)
}

// steps splits a clean path, relative or absolute, into names.
func steps(path string) []string {
	var names []string
	for name := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// stepError says at which step a path could not be opened.
func stepError(path string, err error, noDir bool) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", &os.PathError{Op: "open", Path: path, Err: err}, fsrvp.ErrObjectNotFound)
	case noDir:
		return fmt.Errorf("%s is a symbolic link or no directory: %w", path, fsrvp.ErrNotSupported)
	}
	return &os.PathError{Op: "open", Path: path, Err: err}
}
