package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A localTree is a directory of this machine.
type localTree struct {
	root *os.Root
	dir  string // the same

	mu     sync.Mutex
	users  map[int]string
	groups map[int]string
}

func openLocalTree(dir string) (*localTree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &localTree{root: root, dir: dir, users: map[int]string{}, groups: map[int]string{}}, nil
}

func (t *localTree) Close() error { return t.root.Close() }

func (t *localTree) fatal(error) bool { return false }

func (t *localTree) list(_ context.Context, dir string) ([]*node, error) {
	d, err := t.root.Open(filepath.FromSlash(dir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	nodes := make([]*node, len(names))
	for i, name := range names {
		n := &node{path: path.Join(dir, name)}
		if err := t.describe(n, d, name); err != nil {
			n.err = err
		} else if n.kind == typeSymlink {
			n.link, n.err = t.root.Readlink(filepath.FromSlash(n.path))
		}
		n.user, n.group = t.names(n.uid, n.gid)
		nodes[i] = n
	}
	return nodes, nil
}

// names returns the names of an owner and a group; "" where they have none.
func (t *localTree) names(uid, gid int) (string, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, ok := t.users[uid]
	if !ok {
		if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
			name = u.Username
		}
		t.users[uid] = name
	}
	group, ok := t.groups[gid]
	if !ok {
		if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
			group = g.Name
		}
		t.groups[gid] = group
	}
	return name, group
}

func (n *node) setKind(mode fs.FileMode) {
	switch mode {
	case 0:
		n.kind = typeFile
	case fs.ModeDir:
		n.kind = typeDir
	case fs.ModeSymlink:
		n.kind = typeSymlink
	case fs.ModeNamedPipe:
		n.kind = typeFIFO
	case fs.ModeDevice:
		n.kind = typeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		n.kind = typeChar
	case fs.ModeSocket:
		n.irregular = &problem{Path: n.path, Kind: kindSocket, Reason: "tar has no place for a socket"}
	default:
		n.irregular = &problem{Path: n.path, Kind: kindMissing, Reason: fmt.Sprintf("tar has no place for %v", mode)}
	}
	if n.kind != typeFile {
		n.size = 0
	}
}

var errReplaced = errors.New("it was replaced by another file")

// open opens regular files and directories; of others the content has attributes alone.
func (t *localTree) open(_ context.Context, n *node) (content, error) {
	if n.kind != typeFile && n.kind != typeDir {
		f := &localFile{path: filepath.Join(t.dir, filepath.FromSlash(n.path))}
		if len(f.path) < maxPath {
			return f, nil
		}
		dir, err := t.root.Open(filepath.Dir(filepath.FromSlash(n.path)))
		if err != nil {
			return nil, err
		}
		f.dir, f.path = dir, pathIn(dir, path.Base(n.path))
		return f, nil
	}
	f, err := t.root.OpenFile(filepath.FromSlash(n.path), os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	if !n.is(f) {
		f.Close()
		return nil, errReplaced
	}
	return &localFile{f: f}, nil
}

// A localFile is a file of this machine.
type localFile struct {
	f    *os.File // nil: it cannot be opened without effect
	path string   // where f is nil
	dir  *os.File // that path is relative to; nil: none
}

// maxPath is the length below which the system accepts a path as a whole.
const maxPath = 4096

// pathIn returns a short path of a file of an open directory.
func pathIn(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

func (f *localFile) ReadAt(b []byte, off int64) (int, error) {
	if f.f == nil {
		return 0, io.EOF
	}
	return f.f.ReadAt(b, off)
}

func (f *localFile) Close() error {
	if f.dir != nil {
		return f.dir.Close()
	}
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

func (f *localFile) streams(*node) ([]*node, error) { return nil, nil }

// wholeFile is the only extent of a file of which nothing else is known.
func wholeFile(size int64) []extent { return []extent{{0, size}} }

// below reports whether path is dir or in it. Both are clean and absolute, without symbolic links.
func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
