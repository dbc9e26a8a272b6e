// Package memory keeps shares in memory: it is a backend for agents in tests, demos and tools
// without a file server, with hooks for failures and delays.
package memory

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strings"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Files has the contents of the shares: the volumes of package fsrvp/snapshot/memory, or anything
// else with files by absolute path.
type Files interface {
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
}

// Shares has shares and exposed shares. It implements [backend.Shares], ShareNamer, ShareSealer and
// ShareLister. Its methods are safe for concurrent use; set the exported fields before.
type Shares struct {
	// Fault, if not nil, is called at every Point, without a lock; it may wait, and watch ctx
	// meanwhile. If it returns an error, the method fails with it.
	Fault func(ctx context.Context, p Point) error
	// MaxName limits the names of exposed shares, in bytes. Zero means 255.
	MaxName int

	files   Files
	mu      sync.Mutex
	bases   map[string]base    // by lower-case name
	exposed map[string]Exposed // by lower-case name
}

var (
	_ backend.Shares      = (*Shares)(nil)
	_ backend.ShareNamer  = (*Shares)(nil)
	_ backend.ShareSealer = (*Shares)(nil)
	_ backend.ShareLister = (*Shares)(nil)
)

// A Point is a moment in a method, before or after its effect.
type Point struct {
	Method string // "Lookup", "Expose", "Unexpose", "SealShare", "List"
	Share  string // the bare name; empty for List
	// Done reports that the effect has happened. An error before prevents the effect, and one after
	// does not, but Expose then undoes it.
	Done bool
}

type base struct {
	backend.Share
	rights string
}

// An Exposed is an exposed share.
type Exposed struct {
	backend.Exposure        // Writable is the current state
	Rights           string // the rights of the base share when it was exposed
}

// New returns the given shares. ReadFile and WriteFile use files; if it is nil, they fail.
func New(files Files, shares ...backend.Share) *Shares {
	s := &Shares{files: files, bases: map[string]base{}, exposed: map[string]Exposed{}}
	for _, share := range shares {
		s.bases[strings.ToLower(share.Name)] = base{Share: share}
	}
	return s
}

// SetRights sets the rights of a share, in any form: exposed shares inherit them when they are
// exposed.
func (s *Shares) SetRights(name, rights string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(name)
	if b, ok := s.bases[key]; ok {
		b.rights = rights
		s.bases[key] = b
	}
}

// Remove removes a share; shares that expose copies of it stay.
func (s *Shares) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.bases, strings.ToLower(name))
}

// Exposed returns an exposed share by its name, without regard to case.
func (s *Shares) Exposed(name string) (Exposed, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.exposed[strings.ToLower(name)]
	return e, ok
}

// Clone returns a copy of the current shares, without Fault, over other files, as after a crash.
func (s *Shares) Clone(files Files) *Shares {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Shares{MaxName: s.MaxName, files: files, bases: maps.Clone(s.bases), exposed: maps.Clone(s.exposed)}
}

func (s *Shares) fault(ctx context.Context, p Point) error {
	if s.Fault != nil {
		if err := s.Fault(ctx, p); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Lookup implements [backend.Shares]. Exposed shares are not found.
func (s *Shares) Lookup(ctx context.Context, name string) (backend.Share, error) {
	if err := s.fault(ctx, Point{Method: "Lookup", Share: name}); err != nil {
		return backend.Share{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.bases[strings.ToLower(name)]
	if !ok {
		return backend.Share{}, fmt.Errorf("memory: there is no share %q: %w", name, fsrvp.ErrObjectNotFound)
	}
	return b.Share, nil
}

// Expose implements [backend.Shares]. It fails if the base share is gone.
func (s *Shares) Expose(ctx context.Context, e backend.Exposure) error {
	p := Point{Method: "Expose", Share: e.Name}
	if err := s.fault(ctx, p); err != nil {
		return err
	}
	key := strings.ToLower(e.Name)
	s.mu.Lock()
	b, ok := s.bases[strings.ToLower(e.Base.Name)]
	old, exists := s.exposed[key]
	foreign := exists && !old.Mark.Allows(e.Mark.Owner)
	if ok && !foreign {
		s.exposed[key] = Exposed{Exposure: e, Rights: b.rights}
	}
	s.mu.Unlock()
	if foreign {
		return fmt.Errorf("memory: share %q: %w", old.Name, backend.ErrForeign)
	}
	if !ok {
		return fmt.Errorf("memory: there is no share %q: %w", e.Base.Name, fsrvp.ErrObjectNotFound)
	}
	p.Done = true
	if err := s.fault(ctx, p); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.exposed, key)
		return err
	}
	return nil
}

// Unexpose implements [backend.Shares].
func (s *Shares) Unexpose(ctx context.Context, owner backend.Owner, name string) error {
	p := Point{Method: "Unexpose", Share: name}
	if err := s.fault(ctx, p); err != nil {
		return err
	}
	key := strings.ToLower(name)
	s.mu.Lock()
	old, exists := s.exposed[key]
	foreign := exists && !old.Mark.Allows(owner)
	if !foreign {
		delete(s.exposed, key)
	}
	s.mu.Unlock()
	if foreign {
		return fmt.Errorf("memory: share %q: %w", old.Name, backend.ErrForeign)
	}
	p.Done = true
	return s.fault(ctx, p)
}

// SealShare implements [backend.ShareSealer].
func (s *Shares) SealShare(ctx context.Context, e backend.Exposure) error {
	p := Point{Method: "SealShare", Share: e.Name}
	if err := s.fault(ctx, p); err != nil {
		return err
	}
	key := strings.ToLower(e.Name)
	s.mu.Lock()
	have, ok := s.exposed[key]
	if ok {
		have.Writable = false
		s.exposed[key] = have
	}
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("memory: share %q is not exposed", e.Name)
	}
	p.Done = true
	return s.fault(ctx, p)
}

// CheckName implements [backend.ShareNamer].
func (s *Shares) CheckName(name string) error {
	limit := s.MaxName
	if limit == 0 {
		limit = 255
	}
	if len(name) > limit {
		return fmt.Errorf("memory: share name %q has more than %d bytes: %w", name, limit, fsrvp.ErrNotSupported)
	}
	return nil
}

// List implements [backend.ShareLister].
func (s *Shares) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.ExposedShare, err error) {
	if err := s.fault(ctx, Point{Method: "List"}); err != nil {
		return nil, nil, err
	}
	for _, e := range s.All() {
		if e.Mark.Owner == owner {
			own = append(own, e)
		} else {
			foreign = append(foreign, e)
		}
	}
	return own, foreign, nil
}

// All returns the exposed shares of all owners, without a call of Fault.
func (s *Shares) All() []backend.ExposedShare {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]backend.ExposedShare, 0, len(s.exposed))
	for _, e := range s.exposed {
		list = append(list, backend.ExposedShare{Name: e.Name, Mark: e.Mark})
	}
	return list
}

// ReadFile reads a file of a share, or of an exposed share, by its slash-separated path below it.
func (s *Shares) ReadFile(share, name string) ([]byte, error) {
	dir, _, err := s.open(share)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: share + "/" + name, Err: err}
	}
	return s.files.ReadFile(path.Join(dir, path.Join("/", name)))
}

// WriteFile writes a file of a share, or of an exposed share that is writable; otherwise it fails
// with [fs.ErrPermission].
func (s *Shares) WriteFile(share, name string, data []byte) error {
	dir, writable, err := s.open(share)
	if err == nil && !writable {
		err = fs.ErrPermission
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: share + "/" + name, Err: err}
	}
	return s.files.WriteFile(path.Join(dir, path.Join("/", name)), data)
}

func (s *Shares) open(share string) (dir string, writable bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(share)
	if e, ok := s.exposed[key]; ok && s.files != nil {
		return e.Path, e.Writable, nil
	}
	if b, ok := s.bases[key]; ok && s.files != nil {
		return b.Path, true, nil
	}
	return "", false, fs.ErrNotExist
}
