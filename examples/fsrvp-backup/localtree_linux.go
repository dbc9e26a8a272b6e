package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	keyXattr      = "SCHILY.xattr."
	keyACLAccess  = "SCHILY.acl.access"
	keyACLDefault = "SCHILY.acl.default"
	aclAccess     = "system.posix_acl_access"
	aclDefault    = "system.posix_acl_default"
)

// describe adds extended attributes and access control lists.
func (f *localFile) describe(m *member) error {
	list := func(b []byte) (int, error) { return unix.Llistxattr(f.path, b) }
	get := func(name string, b []byte) (int, error) { return unix.Lgetxattr(f.path, name, b) }
	if f.f != nil {
		list = func(b []byte) (int, error) { return unix.Flistxattr(int(f.f.Fd()), b) }
		get = func(name string, b []byte) (int, error) { return unix.Fgetxattr(int(f.f.Fd()), name, b) }
	}
	names, err := grow(list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	for _, name := range splitNames(names) {
		value, err := grow(func(b []byte) (int, error) { return get(name, b) })
		if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
			continue // it has gone, or is shown without having a value
		}
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
		switch name {
		case aclAccess, aclDefault:
			text, err := aclText(value)
			if err != nil {
				return err
			}
			key := keyACLAccess
			if name == aclDefault {
				key = keyACLDefault
			}
			m.add(key, text)
		default:
			m.add(keyXattr+name, string(value))
		}
	}
	return nil
}

// grow calls a function that fills a buffer, with one that is large enough.
func grow(fill func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := fill(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = fill(b)
		if errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

// extents asks the file system where the data is.
func (f *localFile) extents(size int64) ([]extent, error) {
	if f.f == nil {
		return nil, nil
	}
	fd := int(f.f.Fd())
	var all []extent
	for off := int64(0); off < size; {
		start, err := unix.Seek(fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole to the end
		}
		if err != nil {
			return wholeFile(size), nil // a file system that knows of no holes
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return wholeFile(size), nil
		}
		all = append(all, extent{start, min(end, size) - start})
		off = end
	}
	return all, nil
}
