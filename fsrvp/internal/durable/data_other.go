//go:build !linux

package durable

import "os"

// Data puts what was written to a file, and its size, on stable storage.
func Data(f *os.File) error { return f.Sync() }
