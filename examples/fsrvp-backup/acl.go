package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A POSIX access control list is, in an extended attribute of Linux (linux/posix_acl_xattr.h),
// little-endian:
//
//	+---------+-----+------+----+-----+------+----+----
//	| 2       | tag | perm | id | tag | perm | id | ...
//	| 4 bytes | 2   | 2    | 4  |
//	+---------+-----+------+----+
//
// and in an archive a text such as "user::rw-,user:1000:r--,group::r--,mask::r--,other::---".
const aclVersion = 2

// aclTags are the kinds of entries, in the order that the kernel wants; named ones have an id.
var aclTags = []struct {
	tag   uint16
	word  string
	named bool
}{
	{0x01, "user", false}, {0x02, "user", true}, {0x04, "group", false}, {0x08, "group", true}, {0x10, "mask", false}, {0x20, "other", false},
}

var errACL = errors.New("an access control list is not as Linux has them")

// aclText makes the text of an attribute.
func aclText(b []byte) (string, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return "", errACL
	}
	var parts []string
	for b = b[4:]; len(b) > 0; b = b[8:] {
		tag, perm, id := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), ""
		i := slices.IndexFunc(aclTags, func(t struct {
			tag   uint16
			word  string
			named bool
		}) bool {
			return t.tag == tag
		})
		if i < 0 {
			return "", errACL
		}
		if aclTags[i].named {
			id = strconv.FormatUint(uint64(binary.LittleEndian.Uint32(b[4:])), 10)
		}
		rights := []byte("rwx")
		for j := range rights {
			if perm&(4>>j) == 0 {
				rights[j] = '-'
			}
		}
		parts = append(parts, fmt.Sprintf("%s:%s:%s", aclTags[i].word, id, rights))
	}
	return strings.Join(parts, ","), nil
}

// aclAttribute makes the attribute of a text.
func aclAttribute(text string) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for part := range strings.SplitSeq(text, ",") {
		fields := strings.Split(part, ":")
		if len(fields) != 3 || len(fields[2]) != 3 {
			return nil, errACL
		}
		var perm uint16
		for j, c := range []byte("rwx") {
			switch fields[2][j] {
			case c:
				perm |= 4 >> j
			case '-':
			default:
				return nil, errACL
			}
		}
		found := false
		for _, t := range aclTags {
			if t.word != fields[0] || t.named != (fields[1] != "") {
				continue
			}
			id := uint64(0xFFFFFFFF)
			if t.named {
				var err error
				if id, err = strconv.ParseUint(fields[1], 10, 32); err != nil {
					return nil, errACL
				}
			}
			b = binary.LittleEndian.AppendUint16(b, t.tag)
			b = binary.LittleEndian.AppendUint16(b, perm)
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
			found = true
		}
		if !found {
			return nil, errACL
		}
	}
	return b, nil
}

// splitNames takes a list of names apart, each with a NUL behind it.
func splitNames(b []byte) []string {
	var names []string
	for name := range strings.SplitSeq(string(b), "\x00") {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}
