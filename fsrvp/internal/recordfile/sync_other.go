//go:build !linux

package recordfile

import "os"

// datasync puts what was written to a file, and its size, on stable storage.
func datasync(f *os.File) error { return f.Sync() }
