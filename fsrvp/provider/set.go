package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// A Set is the argument of a backup: one copy for each path passed to [Run], all of the same
// moment.
type Set struct {
	Copies []Copy // in the order of the shares passed to Run
}

// A Copy is the shadow copy of one share, for one of the paths passed to [Run].
type Copy struct {
	Share   string // as passed to Run
	Path    string // the share that exposes the copy, a UNC path: `\\fs1\vms@{f0f1f2f3-…}`
	Rest    string // the path below it that Share names, `vm\disks`; empty for a whole share. See [Copy.Sub]
	Server  string // the server that holds it
	SetID   fsrvp.SetID
	CopyID  fsrvp.CopyID // shares on one volume may have a copy in common
	Created time.Time    // when the server took it, by the server's clock, UTC
}

// Copy returns the copy for a path, in any form that [fsrvp.ParseShareName] accepts: the one of
// exactly this path if there is one, else the first of its share.
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

// ErrLink means that a path leads through a DFS link, or another reparse point, whose target is not
// in the copy.
var ErrLink = errors.New("a DFS link or another reparse point, whose target is not in the copy")

// Sub returns the part of fsys, the exposed share, that Rest names. It reads each directory on the
// way, and fails with [ErrLink] if the path leads through anything but directories, so that an
// empty link is never taken for data. Names are compared as SMB does, without regard to case.
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
			return nil, fmt.Errorf("provider: %s: %s is not a directory", c.Share, at)
		}
		dir = strings.TrimPrefix(dir+"/"+found.Name(), "./")
	}
	return fs.Sub(fsys, dir)
}
