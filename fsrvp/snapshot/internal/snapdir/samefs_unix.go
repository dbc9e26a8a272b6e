//go:build unix

package snapdir

import (
	"os"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
)

// SameFS reports whether two paths are on one file system. The subvolumes of a btrfs are one,
// though each has a device number of its own.
func SameFS(a, b string) (bool, error) {
	var devices [2]uint64
	var uuids [2]btrfsctl.UUID
	btrfs := 0
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if err != nil {
			return false, err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return false, err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			devices[i] = uint64(st.Dev)
		}
		is, err := btrfsctl.Is(f)
		if err != nil {
			return false, err
		}
		if is {
			btrfs++
			if uuids[i], err = btrfsctl.FileSystem(f); err != nil {
				return false, err
			}
		}
	}
	if btrfs == 2 {
		return uuids[0] == uuids[1], nil
	}
	return devices[0] == devices[1], nil
}
