package snapdir

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
)

// The tags of an access control list, as linux/posix_acl.h has them.
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

// An aclEntry is one of an access control list: struct posix_acl_xattr_entry, 8 bytes.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

func parseACL(b []byte) ([]aclEntry, error) {
	if len(b) < 4 || len(b)%8 != 4 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, fmt.Errorf("an access control list of %d bytes is of no known form", len(b))
	}
	var entries []aclEntry
	for b = b[4:]; len(b) > 0; b = b[8:] {
		entries = append(entries, aclEntry{
			binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:]),
		})
	}
	return entries, nil
}

func appendACL(b []byte, entries []aclEntry) []byte {
	b = binary.LittleEndian.AppendUint32(b, aclVersion)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// passers returns who may pass through a directory, as an access control list for one that belongs
// to owner, who may do all: named is whether it has users or groups by name, and denies whether one
// of them may not pass.
func passers(a safepath.Ancestor, owner uint32) (list []aclEntry, named, denies bool, err error) {
	group, mask := uint16(a.Mode>>3&1), uint16(1)
	var users, groups []aclEntry
	if a.UID != owner { // named, since the gate is not that user's to open
		users = append(users, aclEntry{aclUser, uint16(a.Mode >> 6 & 1), a.UID})
	}
	var entries []aclEntry
	if a.ACL != nil {
		if entries, err = parseACL(a.ACL); err != nil {
			return nil, false, false, err
		}
	}
	for _, e := range entries {
		if e.tag == aclMask {
			mask = e.perm & 1
		}
	}
	for _, e := range entries {
		e.perm &= mask
		switch {
		case e.tag == aclUser && e.id != a.UID && e.id != owner:
			users = append(users, e)
		case e.tag == aclGroupObj:
			group = e.perm
		case e.tag == aclGroup:
			groups = append(groups, e)
		}
	}
	byID := func(a, b aclEntry) int { return cmp.Compare(a.id, b.id) }
	slices.SortFunc(users, byID)
	slices.SortFunc(groups, byID)
	for _, e := range slices.Concat(users, groups) {
		named, denies = true, denies || e.perm == 0
	}
	const none = 0xFFFFFFFF
	list = append(list, aclEntry{aclUserObj, 7, none})
	list = append(list, users...)
	list = append(list, aclEntry{aclGroupObj, group, none})
	list = append(list, groups...)
	list = append(list, aclEntry{aclMask, 1, none}, aclEntry{aclOther, uint16(a.Mode & 1), none})
	return list, named, denies, nil
}

// makeGate makes a directory that belongs to the user of the process, and that those can pass
// through, and do no more, who can pass through the other. Where the file system or the rights of
// the process do not allow to say who, nobody can.
func makeGate(path string, a safepath.Ancestor) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	for _, name := range []string{accessACL, defaultACL} { // inherited
		if err := unix.Removexattr(path, name); err != nil && !errors.Is(err, unix.ENODATA) &&
			!errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	owner := uint32(os.Geteuid())
	list, named, denies, err := passers(a, owner)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, int(a.GID)); errors.Is(err, unix.EPERM) {
		return nil
	} else if err != nil {
		return err
	}
	if named {
		err := unix.Setxattr(path, accessACL, appendACL(nil, list), 0)
		if err == nil || !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		if denies {
			return nil
		}
	}
	var mode os.FileMode = 0o700
	for _, e := range list {
		switch e.tag {
		case aclGroupObj:
			mode |= os.FileMode(e.perm) << 3
		case aclOther:
			mode |= os.FileMode(e.perm)
		}
	}
	return os.Chmod(path, mode)
}
