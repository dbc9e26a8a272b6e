//go:build !linux

package durable

import "os"

// Data brings the data and the size of a file to stable storage.
func Data(f *os.File) error { return f.Sync() }
