package tree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

func (d *linuxDir) file(ctx context.Context, from *linuxDir, name string, in *info, data *dataCopier) (did copied,
	err error) {
	src, err := openRegular(ctx, from.fd, name)
	if isGone(err) {
		return did, errReplaced
	}
	if err != nil {
		return did, inSource("open", err)
	}
	defer unix.Close(src)
	before, err := from.lookFD(src)
	if err != nil {
		return did, err
	}
	if before.id != in.id || before.kind != regular {
		return did, errReplaced
	}
	dst, err := unix.Openat(d.fd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return did, fmt.Errorf("create: %w", err)
	}
	defer func() {
		unix.Close(dst)
		if err != nil {
			unix.Unlinkat(d.fd, name, 0)
		}
	}()
	if err := data.copy(ctx, dst, src, before.size); err != nil {
		return did, err
	}
	attrs, err := readXattrs(xattrFile{fd: src})
	if err != nil {
		return did, inSource("read", err)
	}
	after, err := from.lookFD(src)
	if err != nil {
		return did, err
	}
	did = copied{info: before, torn: before.stamp() != after.stamp()}
	return did, d.setMetadata(target{fd: dst, dirfd: d.fd, name: name}, &after, attrs)
}

// openRegular opens a file that was a regular file for stat. A named pipe in its place does not
// block it. If another process holds a lease on the file (smbd with kernel oplocks), it waits until
// the kernel has broken the lease, by default at most 45 s.
func openRegular(ctx context.Context, dirfd int, name string) (int, error) {
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_NOATIME
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		fd, err := unix.Openat(dirfd, name, flags, 0)
		switch {
		case errors.Is(err, unix.EPERM) && flags&unix.O_NOATIME != 0: // another user's file
			flags &^= unix.O_NOATIME
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			pause.Reset(10 * time.Millisecond)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return -1, context.Cause(ctx)
			}
		default:
			return fd, err
		}
	}
}

func (d *linuxDir) symlink(from *linuxDir, name string, in *info) error {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(from.fd, name, buf)
	if isGone(err) || errors.Is(err, unix.EINVAL) {
		return errReplaced
	}
	if err != nil {
		return inSource("readlink", err)
	}
	if err := unix.Symlinkat(string(buf[:n]), d.fd, name); err != nil {
		return fmt.Errorf("symlink: %w", err)
	}
	return d.complete(from, name, in)
}

func (d *linuxDir) special(from *linuxDir, name string, in *info) error {
	err := unix.Mknodat(d.fd, name, in.mode&unix.S_IFMT|0o600, int(in.rdev))
	if errors.Is(err, unix.EPERM) { // a device, without the capability to make one
		return fmt.Errorf("mknod: %w: %w", err, errLeftOut)
	}
	if err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	return d.complete(from, name, in)
}

// complete gives a file that cannot be opened its metadata.
func (d *linuxDir) complete(from *linuxDir, name string, in *info) (err error) {
	defer func() {
		if err != nil {
			unix.Unlinkat(d.fd, name, 0)
		}
	}()
	attrs, err := readXattrs(xattrFile{fd: from.fd, name: name})
	if isGone(err) {
		return errReplaced
	}
	if err != nil {
		return inSource("read", err)
	}
	return d.setMetadata(target{fd: -1, dirfd: d.fd, name: name}, in, attrs)
}

func (d *linuxDir) link(old *linuxDir, oldName, name string) error {
	if err := unix.Linkat(old.fd, oldName, d.fd, name, 0); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	return nil
}

// A target is a file of the copy, by its name in a directory, and as an open file, or -1 if it
// cannot be opened.
type target struct {
	fd    int
	dirfd int
	name  string
}

func (t target) xattrs() xattrFile {
	if t.fd < 0 {
		return xattrFile{fd: t.dirfd, name: t.name}
	}
	return xattrFile{fd: t.fd}
}

// setMetadata sets everything of a file besides its contents. The order matters: changing the owner
// clears set-user-ID bits and capabilities, and changing the mode changes an access control list.
func (d *linuxDir) setMetadata(t target, in *info, attrs []xattr) error {
	err := unix.Fchownat(t.dirfd, t.name, int(in.uid), int(in.gid), unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && (d.top.root || !errors.Is(err, unix.EPERM)) { // only root can change the owner
		return fmt.Errorf("chown: %w", err)
	}
	if err := writeXattrs(t.xattrs(), attrs, d.top.root); err != nil {
		return err
	}
	if in.kind != symlink { // it has no mode
		if err := unix.Fchmodat(t.dirfd, t.name, in.mode&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	times := make([]unix.Timespec, 2)
	for i, when := range []time.Time{in.atime, in.mtime} {
		if times[i], err = unix.TimeToTimespec(when); err != nil {
			return fmt.Errorf("set times: %w", err)
		}
	}
	if err := unix.UtimesNanoAt(t.dirfd, t.name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
