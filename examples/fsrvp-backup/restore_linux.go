package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes sets extended attributes and access control lists.
func (x *restorer) attributes(m *scanned, name string, f *os.File) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(m.records)) {
		value := []byte(m.records[key])
		attr, ok := strings.CutPrefix(key, keyXattr)
		switch {
		case key == keyACLAccess || key == keyACLDefault:
			if attr = aclAccess; key == keyACLDefault {
				attr = aclDefault
			}
			var err error
			if value, err = aclAttribute(string(value)); err != nil {
				errs = append(errs, err)
				continue
			}
		case !ok:
			continue
		case !x.isRoot && !strings.HasPrefix(attr, "user."):
			continue // the note says so
		}
		set := func() error { return errors.ErrUnsupported }
		if f != nil {
			set = func() error { return unix.Fsetxattr(int(f.Fd()), attr, value, 0) }
		} else if m.kind == typeSymlink || m.kind == typeFIFO || m.kind == typeChar || m.kind == typeBlock {
			set = func() error {
				return x.inParent(name, func(dir int, base string) error {
					return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), attr, value, 0)
				})
			}
		}
		if err := set(); err != nil {
			errs = append(errs, fmt.Errorf("extended attribute %s: %w", attr, err))
		}
	}
	return errors.Join(errs...)
}

// special makes a named pipe or a device.
func (x *restorer) special(m *scanned, name string) error {
	mode := map[byte]uint32{typeFIFO: unix.S_IFIFO, typeChar: unix.S_IFCHR, typeBlock: unix.S_IFBLK}[m.kind]
	return x.inParent(name, func(dir int, base string) error {
		err := unix.Mknodat(dir, base, mode|0o600, int(unix.Mkdev(uint32(m.major), uint32(m.minor))))
		if err != nil {
			return &os.PathError{Op: "mknod", Path: name, Err: err}
		}
		return nil
	})
}
