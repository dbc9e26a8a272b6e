//go:build unix

package snapdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// checkOwned refuses a directory of another user, or one that others may write. Root and, if sticky is
// allowed, a sticky bit are trusted.
func checkOwned(dir string, fi fs.FileInfo, allowSticky bool) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: the system tells no owner", dir)
	}
	if st.Uid != 0 && st.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, who could replace snapshots", dir, st.Uid)
	}
	if fi.Mode().Perm()&0o022 != 0 && !(allowSticky && fi.Mode()&fs.ModeSticky != 0) {
		return fmt.Errorf("%s has mode %v: others could replace snapshots", dir, fi.Mode())
	}
	return nil
}

func notDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
