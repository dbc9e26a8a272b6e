package tree

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An xattrFile is a file whose extended attributes are read or set: an open one, or one that cannot
// be opened, such as a symbolic link, by its name in an open directory.
type xattrFile struct {
	fd   int
	name string // empty: fd is the file itself
}

// path returns a path through the open directory, so that nobody can replace that.
func (f xattrFile) path() string { return "/proc/self/fd/" + strconv.Itoa(f.fd) + "/" + f.name }

func (f xattrFile) list(buf []byte) (int, error) {
	if f.name == "" {
		return unix.Flistxattr(f.fd, buf)
	}
	return unix.Llistxattr(f.path(), buf)
}

func (f xattrFile) get(name string, buf []byte) (int, error) {
	if f.name == "" {
		return unix.Fgetxattr(f.fd, name, buf)
	}
	return unix.Lgetxattr(f.path(), name, buf)
}

func (f xattrFile) set(a xattr) error {
	if f.name == "" {
		return unix.Fsetxattr(f.fd, a.name, a.value, 0)
	}
	return unix.Lsetxattr(f.path(), a.name, a.value, 0)
}

// kept reports whether an attribute belongs in a copy: all of the namespaces user, trusted and
// security, and access control lists. Others show internals of a file system, like two names of
// trusted with which XFS shows access control lists again. An EVM signature is left out, since it
// contains the inode number.
func kept(name string) bool {
	switch {
	case name == "trusted.SGI_ACL_FILE", name == "trusted.SGI_ACL_DEFAULT":
		return false
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return true
	case strings.HasPrefix(name, "security."):
		return name != "security.evm"
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// The kernel's limits of a list of names and of a value.
const maxXattr = 64 << 10

// readXattrs returns the attributes that belong in a copy.
func readXattrs(f xattrFile) ([]xattr, error) {
	list, err := grow(func(buf []byte) (int, error) { return f.list(buf) })
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case errors.Is(err, unix.E2BIG):
		return nil, fmt.Errorf("extended attributes: %w: %w: remove some", errTooMany, err)
	case err != nil:
		return nil, fmt.Errorf("extended attributes: %w", err)
	}
	var attrs []xattr
	for raw := range bytes.SplitSeq(list, []byte{0}) {
		name := string(raw)
		if !kept(name) {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return f.get(name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since
		}
		if err != nil {
			return nil, fmt.Errorf("extended attribute %s: %w", name, err)
		}
		attrs = append(attrs, xattr{name, value})
	}
	return attrs, nil
}

// grow calls f with growing buffers until the result fits.
func grow(f func([]byte) (int, error)) ([]byte, error) {
	var small [256]byte
	n, err := f(small[:])
	if err == nil {
		return bytes.Clone(small[:n]), nil
	}
	if !errors.Is(err, unix.ERANGE) {
		return nil, err
	}
	buf := make([]byte, maxXattr)
	if n, err = f(buf); err != nil {
		return nil, err
	}
	return bytes.Clone(buf[:n]), nil
}

// writeXattrs sets the attributes. Without root, it leaves out those of the system's namespaces. It
// also leaves out a security label that the target does not support.
func writeXattrs(f xattrFile, attrs []xattr, root bool) error {
	for _, a := range attrs {
		err := f.set(a)
		switch {
		case err == nil:
		case errors.Is(err, unix.EPERM) && !root && (strings.HasPrefix(a.name, "trusted.") ||
			strings.HasPrefix(a.name, "security.")):
		case errors.Is(err, unix.EOPNOTSUPP) && a.name == "security.selinux":
		default:
			return fmt.Errorf("extended attribute %s of %d bytes: %w", a.name, len(a.value), err)
		}
	}
	return nil
}

// dropXattrs removes attributes from an earlier copy that are not in attrs.
func dropXattrs(f xattrFile, attrs []xattr, root bool) error {
	list, err := grow(func(buf []byte) (int, error) { return f.list(buf) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	for raw := range bytes.SplitSeq(list, []byte{0}) {
		name := string(raw)
		if !kept(name) || slices.ContainsFunc(attrs, func(a xattr) bool { return a.name == name }) {
			continue
		}
		err := unix.Fremovexattr(f.fd, name)
		if err != nil && !errors.Is(err, unix.ENODATA) && (root || !errors.Is(err, unix.EPERM)) {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// clearACLs removes the access control lists that a new directory has inherited.
func clearACLs(fd int) error {
	return errors.Join(removeACL(fd, "system.posix_acl_access"), removeACL(fd, "system.posix_acl_default"))
}

func removeACL(fd int, name string) error {
	err := unix.Fremovexattr(fd, name)
	if err == nil || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return fmt.Errorf("inherited access control list: %w", err)
}
