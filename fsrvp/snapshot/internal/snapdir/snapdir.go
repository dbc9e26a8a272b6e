// Package snapdir finds, makes and checks the directories of snapshots, and the names in them.
//
// A snapshot is a directory entry <kind>-<copy id>@<mark>; while it is being made or deleted, it
// may be .tmp-<kind>-<copy id>@<mark>. Older agents, without marks, left out the @ and the mark.
// The id is enough to find a snapshot, so nothing else records what exists.
//
// Not everybody may be able to pass through the directories above a volume. To make the snapshot no
// more accessible, it is put in .gated-<kind>-<copy id>@<mark>, behind one directory for each of
// those; all but the outermost are named gate.
package snapdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
)

// Default is the directory at the root of a mount that is used if none is configured.
const Default = ".fsrvp"

// Mode is the mode of a directory that Make makes: users can pass through it to a snapshot whose
// name they know, but cannot list it.
const Mode = 0o711

const (
	tmpPrefix   = ".tmp-"
	gatedPrefix = ".gated-"
	gate        = "gate"
)

// Dirs are the directories of one backend.
type Dirs struct {
	Kind  string   // begins the names: "btrfs"
	Paths []string // as configured, absolute and clean
	// Anywhere allows snapshots on another file system than their volume.
	Anywhere bool
}

// CheckPaths fails if configured paths cannot be used. It does not look at the file system.
func CheckPaths(paths ...string) error {
	for _, p := range paths {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			return fmt.Errorf("directory %q is not an absolute, clean path", p)
		}
	}
	return nil
}

// CheckDefault fails if no path is configured, and the system does not know the root of a mount.
func CheckDefault(paths []string) error {
	if _, err := mount.Of(string(filepath.Separator)); len(paths) == 0 && errors.Is(err, errors.ErrUnsupported) {
		return errors.New("this system needs a configured snapshot directory")
	}
	return nil
}

// For returns the directory for snapshots of a volume, which may not exist yet: the first of Paths
// on the volume's file system, else (Anywhere) the first of Paths; without any Paths, Default at
// the root of the mount that holds the volume. It fails with fsrvp.ErrNotSupported if there is
// none.
func (d *Dirs) For(volume string) (string, error) {
	for _, p := range d.Paths {
		same, err := SameFS(volume, nearest(p))
		if err != nil {
			return "", err
		}
		if same {
			return p, nil
		}
	}
	if len(d.Paths) > 0 {
		if d.Anywhere {
			return d.Paths[0], nil
		}
		return "", fmt.Errorf("no snapshot directory is configured on the file system of %s: %w", volume,
			fsrvp.ErrNotSupported)
	}
	m, err := mount.Of(volume)
	if err != nil {
		return "", err
	}
	if m.Remote() {
		return "", fmt.Errorf("%s is on a file system of type %s: configure a snapshot directory: %w", volume, m.Type,
			fsrvp.ErrNotSupported)
	}
	return filepath.Join(m.Point, Default), nil
}

// nearest returns path if it exists, else its parent, in which it would be made.
func nearest(path string) string {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return filepath.Dir(path)
	}
	return path
}

// CheckShared refuses paths that are not directories, and paths with symbolic links.
func CheckShared(dir string) error {
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return fmt.Errorf("%q is no absolute, clean path: %w", dir, fsrvp.ErrInvalidArg)
	}
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, fsrvp.ErrObjectNotFound)
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is no directory: %w", dir, fsrvp.ErrNotSupported)
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	// Windows spells a path in several ways.
	if resolved != dir && !(runtime.GOOS == "windows" && strings.EqualFold(resolved, dir)) {
		return fmt.Errorf("%s has symbolic links in it, and is %s: %w", dir, resolved, fsrvp.ErrNotSupported)
	}
	return nil
}

// CheckOutside refuses a shared directory that contains the snapshot directory, which users of the
// share would see.
func CheckOutside(snapshots, shared string) error {
	if mount.Within(snapshots, shared) {
		return fmt.Errorf("snapshots of %s would lie within it, in %s: configure another snapshot directory, or share a directory below: %w",
			shared, snapshots, fsrvp.ErrNotSupported)
	}
	return nil
}

// Make makes dir if it is missing, in a parent that must exist, and checks it.
func Make(dir string) error {
	if err := os.Mkdir(dir, Mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	} else if err == nil {
		if err := os.Chmod(dir, Mode); err != nil { // the umask
			return err
		}
	}
	return trusted.Dir(dir)
}

// Path returns the path in dir of the snapshot with the id and the mark.
func (d *Dirs) Path(dir string, id fsrvp.CopyID, mark backend.Mark) string {
	return filepath.Join(dir, d.name(id, mark))
}

// Temp returns the path of the snapshot while it is being made or deleted.
func (d *Dirs) Temp(dir string, id fsrvp.CopyID, mark backend.Mark) string {
	return filepath.Join(dir, tmpPrefix+d.name(id, mark))
}

func (d *Dirs) name(id fsrvp.CopyID, mark backend.Mark) string {
	name := d.Kind + "-" + id.String()
	if mark != (backend.Mark{}) {
		name += "@" + mark.String()
	}
	return name
}

// gated returns the outermost gate of the snapshot.
func (d *Dirs) gated(dir string, id fsrvp.CopyID, mark backend.Mark) string {
	return filepath.Join(dir, gatedPrefix+d.name(id, mark))
}

// Gate makes in dir the gates for a snapshot of a volume below the directories in above, and
// returns the innermost one, for the snapshot; dir itself if none is needed. It fails with
// fsrvp.ErrObjectAlreadyExists if they exist.
func (d *Dirs) Gate(dir string, id fsrvp.CopyID, mark backend.Mark, above []safepath.Ancestor) (string, error) {
	inner := dir
	top := d.gated(dir, id, mark)
	if _, err := os.Lstat(top); err == nil {
		return "", fmt.Errorf("snapshot %v exists: %w", id, fsrvp.ErrObjectAlreadyExists)
	}
	for _, a := range above {
		if !restricts(a) || mount.Within(dir, a.Path) { // a directory that is also above the snapshots needs no gate
			continue
		}
		next := filepath.Join(inner, gate)
		if inner == dir {
			next = top
		}
		if err := makeGate(next, a); err != nil {
			return "", errors.Join(fmt.Errorf("gate of %s: %w", a.Path, err), d.Ungate(dir, id, mark))
		}
		inner = next
	}
	return inner, nil
}

// restricts reports whether there may be somebody who cannot pass through a directory.
func restricts(a safepath.Ancestor) bool { return a.Mode&0o111 != 0o111 || a.ACL != nil }

// Ungate removes the gates of a snapshot that is no longer behind them.
func (d *Dirs) Ungate(dir string, id fsrvp.CopyID, mark backend.Mark) error {
	top := d.gated(dir, id, mark)
	for path := innermost(top); ; path = filepath.Dir(path) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if path == top {
			return nil
		}
	}
}

// innermost returns the last of the gates that begin with top.
func innermost(top string) string {
	for {
		next := filepath.Join(top, gate)
		if fi, err := os.Lstat(next); err != nil || !fi.IsDir() {
			return top
		}
		top = next
	}
}

// An Entry is a snapshot in a directory.
type Entry struct {
	ID   fsrvp.CopyID
	Mark backend.Mark
	Dir  string // of Dirs
	Path string // of the snapshot, which may not exist yet behind its gates
	Temp bool
	// Gated means that Path is behind gates.
	Gated bool
}

// List returns the entries in the configured directories or, if there are none, in the default ones
// of all local mounts, whatever their marks. A missing directory counts as empty.
func (d *Dirs) List() ([]Entry, error) {
	dirs, err := d.all()
	if err != nil {
		return nil, err
	}
	var entries []Entry
	var seen []fs.FileInfo
	for i, dir := range dirs {
		configured := i < len(d.Paths)
		fi, err := os.Lstat(dir)
		// What is mounted may be a single file.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.IsDir() ||
			!configured && errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if contains(seen, fi) { // a file system that is mounted twice
			continue
		}
		seen = append(seen, fi)
		names, err := os.ReadDir(dir)
		if !configured && errors.Is(err, fs.ErrPermission) { // of an agent of another user
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if e, ok := d.parse(name.Name()); ok {
				e.Dir, e.Path = dir, filepath.Join(dir, name.Name())
				if e.Gated {
					e.Path = d.Path(innermost(e.Path), e.ID, e.Mark)
				}
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

// Find returns the entries, finished or not, of one snapshot that the owner may delete: its own,
// and those without a mark. It does not need the volume, which may be gone. If only others have one
// with that id, it fails with backend.ErrForeign.
func (d *Dirs) Find(id fsrvp.CopyID, owner backend.Owner) ([]Entry, error) {
	all, err := d.List()
	if err != nil {
		return nil, err
	}
	var entries []Entry
	var foreign *Entry
	for i, e := range all {
		switch {
		case e.ID != id:
		case e.Mark.Allows(owner):
			entries = append(entries, e)
		default:
			foreign = &all[i]
		}
	}
	if len(entries) == 0 && foreign != nil {
		return nil, fmt.Errorf("snapshot %s, agent %s: %w", foreign.Path, foreign.Mark.Owner, backend.ErrForeign)
	}
	return entries, nil
}

// CheckFree fails with fsrvp.ErrObjectAlreadyExists if there is a snapshot with the id, whoever
// owns it.
func (d *Dirs) CheckFree(id fsrvp.CopyID) error {
	all, err := d.List()
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.ID == id {
			return fmt.Errorf("snapshot %v exists, as %s: %w", id, e.Path, fsrvp.ErrObjectAlreadyExists)
		}
	}
	return nil
}

// Split sorts snapshots into those of the owner and all others.
func Split(all []backend.SnapshotSpec, owner backend.Owner) (own, foreign []backend.SnapshotSpec) {
	for _, s := range all {
		if s.Mark.Owner == owner {
			own = append(own, s)
		} else {
			foreign = append(foreign, s)
		}
	}
	return own, foreign
}

// all returns every directory that may hold snapshots.
func (d *Dirs) all() ([]string, error) {
	if len(d.Paths) > 0 {
		return d.Paths, nil
	}
	mounts, err := mount.All()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, m := range mounts {
		if !m.Remote() {
			dirs = append(dirs, filepath.Join(m.Point, Default))
		}
	}
	return dirs, nil
}

// parse parses a name.
func (d *Dirs) parse(name string) (e Entry, ok bool) {
	if name, e.Temp = strings.CutPrefix(name, tmpPrefix); !e.Temp {
		name, e.Gated = strings.CutPrefix(name, gatedPrefix)
	}
	name, ok = strings.CutPrefix(name, d.Kind+"-")
	if !ok {
		return Entry{}, false
	}
	id, mark, marked := strings.Cut(name, "@")
	u, err := uuid.Parse(id)
	if err != nil || u.String() != id || marked && mark == "" {
		return Entry{}, false
	}
	e.ID = fsrvp.CopyID(u)
	e.Mark, err = backend.ParseMark(mark)
	return e, err == nil
}

func contains(seen []fs.FileInfo, fi fs.FileInfo) bool {
	for _, s := range seen {
		if os.SameFile(s, fi) {
			return true
		}
	}
	return false
}
