//go:build !unix

package tree

import (
	"errors"
	"io/fs"
	"os"
)

// identify knows nothing here: hard links become files of their own.
func identify(fs.FileInfo) info { return info{} }

func chown(*os.Root, string, *info) error { return nil }

// isGone reports whether an error says that a name is no longer what it was.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
