//go:build unix && !linux

package safepath

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

func pin(f *os.File) (string, error) {
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return "", nil
	}
	return fmt.Sprintf("%d:%d", uint64(st.Dev), uint64(st.Ino)), nil
}

// above returns what the modes say; access control lists are not known.
func above(path string) []Ancestor {
	var all []Ancestor
	for at := filepath.Dir(path); ; at = filepath.Dir(at) {
		if fi, err := os.Lstat(at); err == nil {
			if st, ok := fi.Sys().(*syscall.Stat_t); ok {
				all = append([]Ancestor{{Path: at, UID: st.Uid, GID: st.Gid, Mode: uint32(st.Mode) & 0o7777}}, all...)
			}
		}
		if filepath.Dir(at) == at {
			return all
		}
	}
}
