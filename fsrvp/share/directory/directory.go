// Package directory exposes shadow copies as directories: a symbolic link in one directory for each exposed share. It is
// for programs that embed an agent and read the copies themselves, for file servers that serve that
// directory in a way of their own, and for demos. It needs no rights but to write to the directory; on Windows,
// the right to make symbolic links.
//
// A link grants nothing and takes nothing away: whoever can read the snapshot can read the exposed copy, and what keeps a
// copy from being written to is the snapshot itself. When an exposed share is removed, nobody finds it any more, but files
// that are open stay so until the snapshot is deleted.
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
)

// Shares is the backend. It implements backend.Shares, ShareNamer, ShareSealer and ShareLister. All methods may
// be called by several goroutines at once.
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

// New returns a backend that exposes copies in dir, which it makes, with mode 0755, where there is none. Shares are
// the directories that can be copied, by the names of their shares; names differ in more than case.
//
// Nothing else may be kept in dir under a name that looks like an exposed share's: List takes it for one.
func New(dir string, shares map[string]string) (*Shares, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
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

// Path returns where an exposed share is, whether there is one of that name or not.
func (s *Shares) Path(name string) string { return filepath.Join(s.dir, name) }

// Lookup finds a share by its name.
func (s *Shares) Lookup(_ context.Context, name string) (backend.Share, error) {
	share, ok := s.shares[strings.ToLower(name)]
	if !ok {
		return backend.Share{}, fmt.Errorf("directory: no share %q: %w", name, fsrvp.ErrObjectNotFound)
	}
	return share, nil
}

// CheckName tells whether an exposed share can have that name: it has to be a file's, of at most 255 bytes, and to look
// like an exposed share's.
func (s *Shares) CheckName(name string) error {
	if !exposed(name) || strings.ContainsAny(name, `/\`+"\x00") || len(name) > 255 {
		return fmt.Errorf("directory: %q cannot be the name of an exposed share", name)
	}
	return nil
}

// exposed reports whether a name is one that exposed shares have: name@{id}, or name$@{id}$.
func exposed(name string) bool {
	_, _, ok := fsrvp.ParseExposedName(name)
	return ok
}

// Expose makes the link, in place of one of the same name.
func (s *Shares) Expose(_ context.Context, e backend.Exposure) error {
	if err := s.CheckName(e.Name); err != nil {
		return err
	}
	if info, err := os.Stat(e.Path); err != nil {
		return fmt.Errorf("directory: exposing %q: %w", e.Name, err)
	} else if !info.IsDir() {
		return fmt.Errorf("directory: exposing %q: %s is not a directory", e.Name, e.Path)
	}
	link := s.Path(e.Name)
	if info, err := os.Lstat(link); err == nil && info.Mode().Type() != fs.ModeSymlink {
		return fmt.Errorf("directory: exposing %q: %s is in the way", e.Name, link)
	}
	// Beside the others and then over the old one: there is no moment at which neither is there.
	temp := filepath.Join(s.dir, ".new-"+e.Snapshot.ID.String()+"-"+strings.ToLower(e.Base.Name))
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("directory: exposing %q: %w", e.Name, err)
	}
	if err := os.Symlink(e.Path, temp); err != nil {
		return fmt.Errorf("directory: exposing %q: %w", e.Name, err)
	}
	if err := os.Rename(temp, link); err != nil {
		return errors.Join(fmt.Errorf("directory: exposing %q: %w", e.Name, err), os.Remove(temp))
	}
	if err := s.sync(); err != nil {
		return errors.Join(fmt.Errorf("directory: exposing %q: %w", e.Name, err), os.Remove(link))
	}
	return nil
}

// SealShare has nothing to do: it is the snapshot that can or cannot be written to.
func (s *Shares) SealShare(context.Context, backend.Exposure) error { return nil }

// Unexpose removes the link.
func (s *Shares) Unexpose(_ context.Context, name string) error {
	if err := s.CheckName(name); err != nil {
		return nil // no such share can have been made
	}
	link := s.Path(name)
	info, err := os.Lstat(link)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSymlink {
		err = errors.New("it is not a symbolic link of this agent's")
	}
	if err == nil {
		err = os.Remove(link)
	}
	if err == nil {
		err = s.sync()
	}
	if err != nil {
		return fmt.Errorf("directory: removing %q: %w", name, err)
	}
	return nil
}

// List returns the names of the links. Links that a crash has left half-made are removed.
func (s *Shares) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		switch name := e.Name(); {
		case e.Type() != fs.ModeSymlink:
		case strings.HasPrefix(name, ".new-"):
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
				return nil, fmt.Errorf("directory: %w", err)
			}
		case exposed(name):
			names = append(names, name)
		}
	}
	return names, nil
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
