//go:build unix

package trusted

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func checkOwned(path string, info fs.FileInfo, sticky bool) error {
	if err := checkOwner(path, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 && !(sticky && info.Mode()&fs.ModeSticky != 0) {
		return fmt.Errorf("%s has mode %v, so that others may write to it and could replace what is in it; run chmod go-w on it",
			path, info.Mode())
	}
	return nil
}

func private(path string, info fs.FileInfo) error {
	if err := checkOwner(path, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o, so that others may use it; run chmod 0600 on it", path, info.Mode().Perm())
	}
	return nil
}

func checkOwner(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: the system does not say which user owns it", path)
	}
	if st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d; chown it to root or to the user of this process", path, st.Uid)
	}
	return nil
}
