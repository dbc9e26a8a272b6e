// Package directory exposes shadow copies as directories: it makes a symbolic link in one directory
// for each exposed share. It is for programs that embed an agent and read the copies themselves,
// for file servers that serve that directory in their own way, and for demos. It only needs the
// right to write to the directory, and on Windows the right to make symbolic links.
//
// A link does not change access: everybody who can read the snapshot can read the exposed copy, and
// only the snapshot itself prevents writes to a copy. When an exposed share is removed, its name is
// gone, but open files stay open until the snapshot is deleted.
package directory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

// Shares is the backend. It implements [backend.Shares], ShareNamer, ShareSealer and ShareLister.
// It is safe for concurrent use.
type Shares struct {
	dir    string
	shares map[string]backend.Share // by their lower-case names
}

var _ interface {
	backend.Shares
	backend.ShareNamer
	backend.ShareSealer
	backend.ShareLister
} = (*Shares)(nil)

// New returns a backend that exposes copies in dir, which it makes, with mode 0755, if there is
// none. The map shares has the directories that can be copied, by the names of their shares, which
// must differ in more than case. The directory dir must not be a symbolic link, must belong to root
// or the user of the process, and nobody else may be able to write to it or to replace it.
//
// Several agents may use one dir. The mark of an exposed share is the target of another symbolic
// link, ".owner-" and the share's name.
func New(dir string, shares map[string]string) (*Shares, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if err := trusted.Dir(dir); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	s := &Shares{dir: dir, shares: make(map[string]backend.Share, len(shares))}
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		if err := s.add(name, shares[name]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Shares) add(name, path string) error {
	if n, err := fsrvp.ParseShareName(`\\localhost\` + name); err != nil || n.Share != name {
		return fmt.Errorf("directory: %q cannot be the name of a share", name)
	}
	key := strings.ToLower(name)
	if other, ok := s.shares[key]; ok {
		return fmt.Errorf("directory: shares %q and %q have the same name", other.Name, name)
	}
	abs, err := filepath.Abs(path)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return fmt.Errorf("directory: share %q: %w", name, err)
	}
	info, err := os.Stat(abs)
	if err != nil {
		return fmt.Errorf("directory: share %q: %w", name, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("directory: share %q: %s is not a directory", name, abs)
	}
	s.shares[key] = backend.Share{Name: name, Path: abs}
	return nil
}

// Path returns the path of an exposed share, even if there is none of that name.
func (s *Shares) Path(name string) string { return filepath.Join(s.dir, name) }

// Lookup finds a share by its name.
func (s *Shares) Lookup(_ context.Context, name string) (backend.Share, error) {
	share, ok := s.shares[strings.ToLower(name)]
	if !ok {
		return backend.Share{}, fmt.Errorf("directory: no share %q: %w", name, fsrvp.ErrObjectNotFound)
	}
	return share, nil
}

// CheckName fails if an exposed share cannot have that name. It must be a valid file name of at
// most 248 bytes, which leaves room for a prefix, and have the form of an exposed share's name.
func (s *Shares) CheckName(name string) error {
	if !exposed(name) || strings.ContainsAny(name, `/\`+"\x00") || len(name) > 255-len(ownerPrefix) ||
		strings.HasPrefix(name, ownerPrefix) || strings.HasPrefix(name, newPrefix) {
		return fmt.Errorf("directory: %q cannot be the name of an exposed share", name)
	}
	return nil
}

// exposed reports whether a name has the form of exposed shares: name@{id}, or name$@{id}$.
func exposed(name string) bool {
	_, _, ok := fsrvp.ParseExposedName(name)
	return ok
}

// The prefixes of the other links of an exposed share: the one with its mark, and the link itself
// before it is complete.
const (
	ownerPrefix = ".owner-"
	newPrefix   = ".new-"
)

// markOf returns the mark of an exposed share; the zero Mark if it has none.
func (s *Shares) markOf(name string) (backend.Mark, error) {
	text, err := os.Readlink(s.Path(ownerPrefix + name))
	if errors.Is(err, fs.ErrNotExist) {
		return backend.Mark{}, nil
	}
	if err != nil {
		return backend.Mark{}, err
	}
	return backend.ParseMark(text)
}

// check fails if the owner may not replace or remove an exposed share, and returns its mark. The
// link need not exist.
func (s *Shares) check(name string, owner backend.Owner) (backend.Mark, error) {
	info, err := os.Lstat(s.Path(name))
	if err == nil && info.Mode().Type() != fs.ModeSymlink {
		return backend.Mark{}, fmt.Errorf("%s is in the way: it is not a symbolic link", s.Path(name))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return backend.Mark{}, err
	}
	mark, err := s.markOf(name)
	if err == nil && !mark.Allows(owner) {
		err = fmt.Errorf("agent %s: %w", mark.Owner, backend.ErrForeign)
	}
	return mark, err
}

// Expose makes the link, and replaces one of the same name.
func (s *Shares) Expose(_ context.Context, e backend.Exposure) error {
	if err := s.CheckName(e.Name); err != nil {
		return err
	}
	if err := s.expose(e); err != nil {
		return fmt.Errorf("directory: exposing %q: %w", e.Name, err)
	}
	return nil
}

func (s *Shares) expose(e backend.Exposure) error {
	if info, err := os.Stat(e.Path); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", e.Path)
	}
	old, err := s.check(e.Name, e.Mark.Owner)
	if err != nil {
		return err
	}
	_, errOld := os.Lstat(s.Path(e.Name))
	// The mark first: what a crash leaves has an owner.
	switch {
	case old == e.Mark:
	case old == backend.Mark{}:
		err = os.Symlink(e.Mark.String(), s.Path(ownerPrefix+e.Name))
	default:
		err = s.replace(e.Name, ownerPrefix+e.Name, e.Mark.String())
	}
	if err == nil {
		err = s.replace(e.Name, e.Name, e.Path)
	}
	if err == nil {
		err = s.sync()
	}
	if err != nil && errOld != nil { // where one was there before, it stays
		err = errors.Join(err, s.unlink(e.Name))
	}
	return err
}

// replace makes a link under a temporary name and then renames it over an old one, so there is
// always one of them.
func (s *Shares) replace(name, link, target string) error {
	temp := s.Path(newPrefix + name)
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temp); err != nil {
		return err
	}
	return os.Rename(temp, s.Path(link))
}

// unlink removes everything of an exposed share, its mark last.
func (s *Shares) unlink(name string) error {
	for _, path := range []string{name, newPrefix + name, ownerPrefix + name} {
		if err := os.Remove(s.Path(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.sync()
}

// SealShare does nothing: the snapshot itself allows or prevents writes.
func (s *Shares) SealShare(context.Context, backend.Exposure) error { return nil }

// Unexpose removes the link.
func (s *Shares) Unexpose(_ context.Context, owner backend.Owner, name string) error {
	if err := s.CheckName(name); err != nil {
		return nil // no such share can have been made
	}
	_, err := s.check(name, owner)
	if err == nil {
		err = s.unlink(name)
	}
	if err != nil {
		return fmt.Errorf("directory: removing %q: %w", name, err)
	}
	return nil
}

// List returns the exposed shares. One whose link was not completed, or not removed with its mark,
// is Partial. It skips links whose mark cannot be read.
func (s *Shares) List(_ context.Context, owner backend.Owner) (own, foreign []backend.ExposedShare, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("directory: %w", err)
	}
	whole := make(map[string]bool, len(entries)) // by name: whether the link itself exists
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		name, isMark := strings.CutPrefix(e.Name(), ownerPrefix)
		if exposed(name) && !strings.HasPrefix(name, newPrefix) {
			whole[name] = whole[name] || !isMark
		}
	}
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		mark, err := s.markOf(name)
		if err != nil {
			continue
		}
		found := backend.ExposedShare{Name: name, Mark: mark, Partial: !whole[name]}
		if mark.Owner == owner {
			own = append(own, found)
		} else {
			foreign = append(foreign, found)
		}
	}
	return own, foreign, nil
}

// sync brings the links to stable storage. Windows has no way to ask for that.
func (s *Shares) sync() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
