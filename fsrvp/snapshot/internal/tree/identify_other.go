//go:build !unix

package tree

import (
	"errors"
	"io/fs"
	"os"
)

// identify returns nothing on this system: hard links become separate files.
func identify(fs.FileInfo) info { return info{} }

func chown(*os.Root, string, *info) error { return nil }

// isGone reports whether an error means that a name is gone or now names something else.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
