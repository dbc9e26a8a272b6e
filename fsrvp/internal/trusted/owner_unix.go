//go:build unix

package trusted

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func checkOwned(dir string, info fs.FileInfo, allowSticky bool) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: the system does not say who owns it", dir)
	}
	if st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, who could replace what is in it: chown it to the user of this process", dir, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 && !(allowSticky && info.Mode()&fs.ModeSticky != 0) {
		return fmt.Errorf("%s has mode %v, so others could replace what is in it: chmod go-w it", dir, info.Mode())
	}
	return nil
}
