package tree

import (
	"errors"
	"time"
)

var (
	// errReplaced means that a name has been replaced since it was looked at.
	errReplaced = errors.New("replaced while it was copied")
	// errLeftOut means that the system cannot make such a file.
	errLeftOut = errors.New("left out")
	// errTooMany means that the system cannot list all attributes of a file.
	errTooMany = errors.New("it has more than the system lists")
)

// A kind is the type of a file, as far as the walk distinguishes types.
type kind uint8

const (
	special kind = iota // named pipe, socket, device
	regular
	directory
	symlink
)

// A fileID identifies a file. It includes the time of birth, since inode numbers are reused. The
// zero fileID means that the file cannot be identified.
type fileID struct {
	dev, ino uint64
	birth    int64
}

// info is the metadata of a file. Only the system's dir uses the fields after size.
type info struct {
	kind  kind
	id    fileID
	links uint64
	size  int64
	// untraced means that the file may change without a trace in its metadata.
	untraced bool

	mode         uint32
	uid, gid     uint32
	rdev         uint64
	atime, mtime time.Time
	ctime        time.Time
	xattrs       []xattr // of directories only
}

// changedAt returns the time of the last change, as far as the file system knows it.
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
