package main

import (
	"io/fs"
	"log/slog"
	"os"
	"runtime"
)

// warnOfReaders warns of a file of keys or hashes that others than its owner may read or change. No
// name is no file.
func warnOfReaders(log *slog.Logger, flag, name string) {
	if name == "" || runtime.GOOS == "windows" { // where modes say nothing
		return
	}
	info, err := os.Stat(name)
	if err != nil {
		return // whatever reads it says why
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		log.Warn("others than the owner have access to a file of secrets; run chmod go= on it", "flag", flag, "file",
			name, "mode", fs.FileMode(mode))
	}
}
