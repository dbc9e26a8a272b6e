package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
)

// A tree is what a copy shows, for reading. Its methods may be called by several goroutines at
// once.
type tree interface {
	// list returns what is in a directory, sorted by the bytes of the names. Paths have slashes;
	// "." is the top.
	list(ctx context.Context, dir string) ([]*node, error)
	// open opens a file or a directory.
	open(ctx context.Context, n *node) (content, error)
	// fatal reports whether an error is of the tree as a whole, such as a connection that has
	// ended.
	fatal(err error) bool
	io.Closer
}

// A node is a file of a tree, as its directory lists it. Its member has no name.
type node struct {
	member
	path string
	// holes reports that the file may have some.
	holes bool
	// id and links are the file's number and how many names it has, where the tree knows.
	id    fileID
	links uint64
	// irregular says why the archive has no place for the file. Nil: it has.
	irregular *problem
	// err is why no more is known of the file than its name.
	err error
}

type fileID struct{ volume, file uint64 }

// A content is a file that is open.
type content interface {
	io.ReaderAt
	io.Closer
	// describe adds what is known only of a file that is open.
	describe(m *member) error
	// extents returns the parts that have data; all of it where nobody knows.
	extents(size int64) ([]extent, error)
	// streams returns the alternate streams, each a node whose path and name are those of the file
	// with ":NAME" behind.
	streams(n *node) ([]*node, error)
}

// The kinds of problems.
const (
	kindUnreadable = "unreadable"
	kindChanged    = "changed"
	kindVanished   = "vanished"
	kindMissing    = "left out"
	kindSocket     = "socket"   // as tar, the program takes it for nothing worth mentioning at the end
	kindMetadata   = "metadata" // the file is there, but not all that is known of it
)

// A problem is a file that is not in the archive, or not as it was.
type problem struct {
	Share  string `json:"share,omitempty"`
	Path   string `json:"path"`
	Bytes  []byte `json:"path_bytes,omitempty"` // the path, where it is not UTF-8
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

// problemOf says what an error means for a file.
func problemOf(path string, err error) *problem {
	kind := kindUnreadable
	if errors.Is(err, fs.ErrNotExist) {
		kind = kindVanished
	}
	if path := new(fs.PathError); errors.As(err, &path) {
		err = path.Err
	}
	return &problem{Path: path, Kind: kind, Reason: err.Error()}
}
