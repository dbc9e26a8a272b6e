package tree

import (
	"errors"
	"time"
)

var (
	// errReplaced says that a name is not what it was when it was looked at.
	errReplaced = errors.New("replaced while it was copied")
	// errLeftOut says that the system cannot make such a file.
	errLeftOut = errors.New("left out")
	// errTooMany says that the system does not list all that a file has.
	errTooMany = errors.New("it has more than the system lists")
)

// A kind is what the walk tells files apart by.
type kind uint8

const (
	special kind = iota // named pipe, socket, device
	regular
	directory
	symlink
)

// A fileID tells files apart. Numbers of inodes are used again, so the time of birth belongs to it.
// The zero fileID is that of a file that cannot be told apart.
type fileID struct {
	dev, ino uint64
	birth    int64
}

// info is the metadata of a file. The fields after size are for the system's dir alone.
type info struct {
	kind  kind
	id    fileID
	links uint64
	size  int64
	// untraced files may change without a trace in their metadata.
	untraced bool

	mode         uint32
	uid, gid     uint32
	rdev         uint64
	atime, mtime time.Time
	ctime        time.Time
	xattrs       []xattr // of directories only
}

// changedAt returns when the file changed last, as far as the file system says.
func (in *info) changedAt() time.Time {
	if in.ctime.IsZero() { // not every system has it
		return in.mtime
	}
	return in.ctime
}

// An xattr is an extended attribute.
type xattr struct {
	name  string
	value []byte
}
