package tree

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Remove removes path, an absolute path, and everything below it, at any depth. It follows no
// symbolic links out of the tree, and makes directories writable that the user of the process owns.
// It is not an error if path does not exist. When ctx ends, it stops with context.Cause(ctx), and
// leaves a part of the tree.
func Remove(ctx context.Context, path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	defer unix.Close(parent)
	if err := removeAt(ctx, parent, filepath.Base(path)); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// removeAt removes a name in an open directory, and everything below it.
func removeAt(ctx context.Context, dirfd int, name string) error {
	err := unix.Unlinkat(dirfd, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	var st unix.Stat_t
	if e := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); errors.Is(e, unix.ENOENT) {
		return nil
	} else if e != nil {
		return e
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	r := &remover{ctx: ctx, root: os.Geteuid() == 0, top: -1}
	return r.tree(dirfd, name, 0)
}

// A remover removes one tree. It moves directories deeper than maxDepth to the top of the tree
// first, so that it needs at most that many descriptors.
type remover struct {
	ctx    context.Context
	root   bool
	top    int // the root of the tree, open; -1 before it is opened
	serial int
}

const maxDepth = 100

// tree removes a directory.
func (r *remover) tree(dirfd int, name string, depth int) error {
	fd, err := r.open(dirfd, name)
	if err == nil {
		if depth == 0 {
			r.top = fd
		}
		err = r.contents(fd, depth)
		unix.Close(fd)
	}
	if err == nil {
		err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
	}
	if errors.Is(err, unix.ENOENT) { // another process removes the tree too
		return nil
	}
	return err
}

func (r *remover) open(dirfd int, name string) (int, error) {
	fd, err := unix.Openat(dirfd, name, openDirFlags, 0)
	if errors.Is(err, unix.EACCES) {
		if err := unix.Fchmodat(dirfd, name, 0o700, 0); err != nil {
			return -1, err
		}
		fd, err = unix.Openat(dirfd, name, openDirFlags, 0)
	}
	if err != nil || r.root {
		return fd, err
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// contents removes everything in an open directory. It reads the directory again until it is empty,
// since reading may skip names while others are removed.
func (r *remover) contents(fd, depth int) error {
	buf := make([]byte, 16<<10)
	for {
		if _, err := unix.Seek(fd, 0, 0); err != nil {
			return err
		}
		found := false
		for {
			var n int
			err := ignoreEINTR(func() (err error) { n, err = unix.ReadDirent(fd, buf); return err })
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			for entries := buf[:n]; ; {
				var e entry
				var ok bool
				if e, entries, ok = nextEntry(entries); !ok {
					break
				}
				if e.name == "." || e.name == ".." {
					continue
				}
				found = true
				if r.ctx.Err() != nil {
					return context.Cause(r.ctx)
				}
				if err := r.entry(fd, e, depth+1); err != nil {
					return within(e.name, err)
				}
			}
		}
		if !found {
			return nil
		}
	}
}

func (r *remover) entry(fd int, e entry, depth int) error {
	if e.kind != unix.DT_DIR {
		err := unix.Unlinkat(fd, e.name, 0)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	if depth > maxDepth {
		r.serial++
		away := ".removing-" + strconv.Itoa(r.serial)
		if err := unix.Renameat2(fd, e.name, r.top, away, unix.RENAME_NOREPLACE); err == nil {
			return nil
		}
	}
	return r.tree(fd, e.name, depth)
}

// An entry is a directory entry with its kind (DT_DIR, ...) according to the file system.
type entry struct {
	name string
	kind byte
}

// nextEntry takes a struct linux_dirent64 from the output of getdents64: inode and offset, 8 bytes
// each, its own length, 2, the kind, 1, and the name, which ends with a NUL.
func nextEntry(b []byte) (e entry, rest []byte, ok bool) {
	const head = 19
	if len(b) < head {
		return e, nil, false
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < head || size > len(b) {
		return e, nil, false
	}
	name, _, _ := bytes.Cut(b[head:size], []byte{0})
	return entry{string(name), b[18]}, b[size:], true
}
