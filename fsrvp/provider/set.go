package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Set is what a backup works on: one copy for each path that Run was given, all of one moment.
type Set struct {
	Copies []Copy // in the order of the shares that Run was given
}

// A Copy is the shadow copy of one share, for one of the paths that Run was given.
type Copy struct {
	Share   string // as Run was given it
	Path    string // the share that exposes the copy, a UNC path: `\\fs1\vms@{f0f1f2f3-…}`
	Rest    string // the path below it that Share names, `vm\disks`; empty for a whole share. See [Copy.Sub]
	Server  string // the server that holds it
	SetID   fsrvp.SetID
	CopyID  fsrvp.CopyID // shares on one volume may have one copy between them
	Created time.Time    // when the server took it, by the server's clock, UTC
}

// Copy returns the copy for a path, named in any form that fsrvp.ParseShareName takes: that of just
// this path where there is one, else the first of its share.
func (s *Set) Copy(share string) (Copy, bool) {
	want, err := fsrvp.ParseShareName(share)
	if err != nil {
		return Copy{}, false
	}
	var found Copy
	ok := false
	for _, c := range s.Copies {
		have, err := fsrvp.ParseShareName(c.Share)
		switch {
		case err != nil || !have.Equal(want):
		case strings.EqualFold(have.Rest, want.Rest):
			return c, true
		case !ok:
			found, ok = c, true
		}
	}
	return found, ok
}

// ErrLink says that a path leads through a DFS link, or another reparse point, whose target is not
// in the copy.
var ErrLink = errors.New("a DFS link or another reparse point, whose target is not in the copy")

// Sub returns what the copy was asked for: the part of fsys, which is the exposed share, that Rest
// names. It reads each directory on the way, and fails with [ErrLink] where the path leads through
// anything but directories, so that a link's emptiness is never taken for data. Names are compared
// as SMB does, without regard to case.
func (c Copy) Sub(fsys fs.FS) (fs.FS, error) {
	if c.Rest == "" {
		return fsys, nil
	}
	dir := "."
	for _, name := range strings.Split(c.Rest, `\`) {
		entries, err := fs.ReadDir(fsys, dir)
		if err != nil {
			return nil, fmt.Errorf("provider: %s: %w", c.Share, err)
		}
		var found fs.DirEntry
		for _, e := range entries {
			if e.Name() == name || found == nil && strings.EqualFold(e.Name(), name) {
				found = e
			}
		}
		at := strings.TrimPrefix(dir+"/"+name, "./")
		switch {
		case found == nil:
			return nil, fmt.Errorf("provider: %s: %w", c.Share,
				&fs.PathError{Op: "open", Path: at, Err: fs.ErrNotExist})
		case found.Type()&(fs.ModeSymlink|fs.ModeIrregular) != 0:
			return nil, fmt.Errorf("provider: %s: %s is %w; give the path of the target", c.Share, at, ErrLink)
		case !found.IsDir():
			return nil, fmt.Errorf("provider: %s: %s is no directory", c.Share, at)
		}
		dir = strings.TrimPrefix(dir+"/"+found.Name(), "./")
	}
	return fs.Sub(fsys, dir)
}
