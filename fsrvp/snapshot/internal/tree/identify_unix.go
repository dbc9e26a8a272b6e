//go:build unix

package tree

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// identify returns the identity and the owner of a file.
func identify(fi fs.FileInfo) info {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return info{}
	}
	return info{id: fileID{dev: uint64(st.Dev), ino: uint64(st.Ino)}, links: uint64(st.Nlink), uid: st.Uid, gid: st.Gid}
}

// chown sets the owner of a file. Without root it does nothing.
func chown(root *os.Root, name string, in *info) error {
	err := root.Lchown(name, int(in.uid), int(in.gid))
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return nil
	}
	return err
}

// isGone reports whether an error means that a name is gone or now names something else.
func isGone(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) ||
		errors.Is(err, syscall.ESTALE)
}
