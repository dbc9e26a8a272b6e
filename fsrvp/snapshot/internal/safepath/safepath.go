// Package safepath opens directories by absolute paths that nobody can bend: no step of a path is a
// symbolic link, and the directory at its end is the one that was there before.
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

// A Dir is an open directory. Its Name is the path that it was opened by.
type Dir struct {
	*os.File
	// Above are the directories above it, from the root to its parent. Nil where the system has no
	// modes.
	Above []Ancestor
}

// An Ancestor is a directory above another: who may pass through it.
type Ancestor struct {
	Path     string
	UID, GID uint32
	Mode     uint32 // permission bits
	ACL      []byte // its access control list as Linux keeps it in system.posix_acl_access; nil: none
}

// Open opens the directory at path, which is absolute and clean, step by step from the root. It
// follows no symbolic link: it fails with fsrvp.ErrNotSupported where there is one, or path is no
// directory.
func Open(path string) (*Dir, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("%q is no absolute, clean path: %w", path, fsrvp.ErrInvalidArg)
	}
	return open(path)
}

// OpenPinned is Open for a directory that must be the one whose Pin was taken. An empty pin demands
// nothing.
func OpenPinned(path, pin string) (*Dir, error) {
	d, err := Open(path)
	if err != nil {
		return nil, err
	}
	now, err := d.Pin()
	if err == nil && pin != "" && now != pin {
		err = fmt.Errorf("%s is another directory than when the share was added: add it again", path)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Pin returns what tells the directory apart from any other that may take its path: its device, its
// inode and, where the file system knows it, its time of birth. It is empty on a system that tells
// none of them.
func (d *Dir) Pin() (string, error) { return pin(d.File) }

// CheckBeneath fails where path, which is root or below it, is no directory, or where a step
// between root and path is a symbolic link. Root itself is trusted.
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
