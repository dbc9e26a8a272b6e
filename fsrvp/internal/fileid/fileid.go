// Package fileid recognizes files and directories: it distinguishes one from a copy of it, and a
// file system from the empty directory that it was mounted on.
package fileid

import (
	"os"
	"path/filepath"
)

// Of returns a text for the file or directory at a path, which is its own for as long as it is
// there: it stays when the file is renamed or written to, and a copy, or a file of the same name
// that is made later, has another. Symbolic links are not followed. The text is empty where there
// is no such file, or where the system or the file system does not say enough.
func Of(path string) string {
	id, _ := ofPath(path)
	return id
}

// OfFile is [Of] for an open file.
func OfFile(f *os.File) string { return ofFile(f) }

// Root returns the root of the mount that a path lies on, and its id. Both are empty where the
// system does not say, or the path is not there.
func Root(path string) (root, id string) {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		id, isRoot := ofPath(at)
		if id == "" {
			return "", ""
		}
		if isRoot || at == filepath.Dir(at) {
			return at, id
		}
	}
}
