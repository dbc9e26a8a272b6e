// Package memory keeps volumes and snapshots in memory: it is a backend for agents in tests, demos
// and tools without a file system, with hooks for failures and delays.
//
// A volume is a tree of files below a path that need not exist in the machine's own file system. A
// snapshot is a copy of it at /.snapshots/ID.
package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// Snapshots has volumes and their snapshots. It implements [backend.Snapshots], Preparer, Sealer,
// SnapshotLister and CompatibilityReporter. Its methods are safe for concurrent use; set the
// exported fields before.
type Snapshots struct {
	// Fault, if not nil, is called at every Point, without a lock; it may wait, and watch ctx
	// meanwhile. If it returns an error, the method fails with it.
	Fault func(ctx context.Context, p Point) error
	// Flags are what Compatibility reports.
	Flags fsrvp.Compatibility

	mu        sync.Mutex
	volumes   map[string]*tree // by root
	snapshots map[fsrvp.CopyID]*snapshot
}

var (
	_ backend.Snapshots             = (*Snapshots)(nil)
	_ backend.Preparer              = (*Snapshots)(nil)
	_ backend.Sealer                = (*Snapshots)(nil)
	_ backend.SnapshotLister        = (*Snapshots)(nil)
	_ backend.CompatibilityReporter = (*Snapshots)(nil)
)

// A Point is a moment in a method, before or after its effect on one volume or snapshot.
type Point struct {
	Method string // "Volume", "Prepare", "Create", "Delete", "Seal", "List"
	Volume string // root of the volume; empty for List
	ID     fsrvp.CopyID
	// Done reports that the effect has happened. An error before prevents the effect, and one after
	// does not, but Create then undoes it.
	Done bool
}

// tree is the files below a volume's root or in a snapshot.
type tree struct {
	files     map[string][]byte // by slash-separated relative path
	supported bool
	mounts    []string // relative paths of directories where something else is mounted
}

type snapshot struct {
	backend.Snapshot
	files    map[string][]byte // nil if unfinished
	writable bool
}

// New returns volumes with the given roots, absolute and clean paths, without files.
func New(roots ...string) *Snapshots {
	s := &Snapshots{volumes: map[string]*tree{}, snapshots: map[fsrvp.CopyID]*snapshot{}}
	for _, root := range roots {
		s.volumes[root] = &tree{files: map[string][]byte{}, supported: true}
	}
	return s
}

// SetSupported sets whether a volume can be copied.
func (s *Snapshots) SetSupported(root string, supported bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volumes[root].supported = supported
}

// Mount simulates a mount at dir, below a volume's root.
func (s *Snapshots) Mount(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	root, rel, ok := s.volumeOf(dir)
	if !ok || rel == "." {
		return fmt.Errorf("memory: mount %s: %w", dir, fs.ErrNotExist)
	}
	s.volumes[root].mounts = append(s.volumes[root].mounts, rel)
	return nil
}

// Clone returns a copy of the current volumes and snapshots, including unfinished ones, without
// Fault, as after a crash.
func (s *Snapshots) Clone() *Snapshots {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := New()
	c.Flags = s.Flags
	for root, t := range s.volumes {
		c.volumes[root] = &tree{files: cloneFiles(t.files), supported: t.supported, mounts: slices.Clone(t.mounts)}
	}
	for id, sn := range s.snapshots {
		n := *sn
		n.files = cloneFiles(sn.files)
		c.snapshots[id] = &n
	}
	return c
}

func cloneFiles(files map[string][]byte) map[string][]byte {
	files = maps.Clone(files)
	for name, data := range files {
		files[name] = bytes.Clone(data)
	}
	return files
}

func (s *Snapshots) fault(ctx context.Context, p Point) error {
	if s.Fault != nil {
		if err := s.Fault(ctx, p); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// volumeOf finds the volume that holds an absolute path. The lock is held.
func (s *Snapshots) volumeOf(name string) (root, rel string, ok bool) {
	for r := range s.volumes {
		if in, is := within(r, name); is && len(r) > len(root) {
			root, rel, ok = r, in, true
		}
	}
	return root, rel, ok
}

// within returns name's path relative to root, where it is in root.
func within(root, name string) (string, bool) {
	if name == root {
		return ".", true
	}
	if root != "/" {
		root += "/"
	}
	return strings.CutPrefix(name, root)
}

// Volume implements [backend.Snapshots]. A directory need not hold files to exist.
func (s *Snapshots) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	if err := s.fault(ctx, Point{Method: "Volume", Volume: dir}); err != nil {
		return backend.Volume{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	root, rel, ok := s.volumeOf(dir)
	if !ok || !s.volumes[root].supported {
		return backend.Volume{}, fmt.Errorf("memory: no volume that can be copied holds %s: %w", dir,
			fsrvp.ErrNotSupported)
	}
	for _, m := range s.volumes[root].mounts {
		if _, below := within(rel, m); below || rel == "." {
			return backend.Volume{}, fmt.Errorf("memory: something is mounted at %s below %s: %w", m, dir,
				fsrvp.ErrNotSupported)
		}
	}
	return backend.Volume{ID: "memory:" + root, Path: root}, nil
}

// Prepare implements [backend.Preparer]. It only calls Fault.
func (s *Snapshots) Prepare(ctx context.Context, volumes []backend.Volume) error {
	for _, v := range volumes {
		for _, done := range []bool{false, true} {
			if err := s.fault(ctx, Point{Method: "Prepare", Volume: v.Path, Done: done}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Create implements [backend.Snapshots]. Each snapshot exists unfinished before it is complete, and
// Fault is also called in between.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	made := make([]backend.Snapshot, 0, len(specs))
	for _, spec := range specs {
		sn, err := s.createOne(ctx, spec)
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, spec := range specs {
				delete(s.snapshots, spec.ID)
			}
			return nil, err
		}
		made = append(made, sn)
	}
	return made, nil
}

func (s *Snapshots) createOne(ctx context.Context, spec backend.SnapshotSpec) (backend.Snapshot, error) {
	p := Point{Method: "Create", Volume: spec.Volume.Path, ID: spec.ID}
	if err := s.fault(ctx, p); err != nil {
		return backend.Snapshot{}, err
	}
	sn := &snapshot{
		Snapshot: backend.Snapshot{SnapshotSpec: spec, Path: "/.snapshots/" + spec.ID.String(),
			Created: time.Now().UTC()},
		writable: spec.Writable,
	}
	s.mu.Lock()
	v, ok := s.volumes[spec.Volume.Path]
	if _, exists := s.snapshots[spec.ID]; ok && !exists {
		s.snapshots[spec.ID] = sn
	} else {
		ok = false
	}
	s.mu.Unlock()
	if !ok {
		return backend.Snapshot{}, fmt.Errorf("memory: cannot take snapshot %s of %s", spec.ID, spec.Volume.Path)
	}
	if err := s.fault(ctx, p); err != nil {
		return backend.Snapshot{}, err
	}
	s.mu.Lock()
	sn.files = cloneFiles(v.files)
	s.mu.Unlock()
	p.Done = true
	return sn.Snapshot, s.fault(ctx, p)
}

// Delete implements [backend.Snapshots].
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	p := Point{Method: "Delete", Volume: spec.Volume.Path, ID: spec.ID}
	if err := s.fault(ctx, p); err != nil {
		return err
	}
	s.mu.Lock()
	sn, ok := s.snapshots[spec.ID]
	foreign := ok && !sn.Mark.Allows(spec.Mark.Owner)
	if !foreign {
		delete(s.snapshots, spec.ID)
	}
	s.mu.Unlock()
	if foreign {
		return fmt.Errorf("memory: snapshot %s: %w", spec.ID, backend.ErrForeign)
	}
	p.Done = true
	return s.fault(ctx, p)
}

// Seal implements [backend.Sealer].
func (s *Snapshots) Seal(ctx context.Context, sn backend.Snapshot) error {
	p := Point{Method: "Seal", Volume: sn.Volume.Path, ID: sn.ID}
	if err := s.fault(ctx, p); err != nil {
		return err
	}
	s.mu.Lock()
	have, ok := s.snapshots[sn.ID]
	if ok {
		have.writable = false
	}
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("memory: there is no snapshot %s", sn.ID)
	}
	p.Done = true
	return s.fault(ctx, p)
}

// List implements [backend.SnapshotLister].
func (s *Snapshots) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	if err := s.fault(ctx, Point{Method: "List"}); err != nil {
		return nil, nil, err
	}
	for _, spec := range s.All() {
		if spec.Mark.Owner == owner {
			own = append(own, spec)
		} else {
			foreign = append(foreign, spec)
		}
	}
	return own, foreign, nil
}

// All returns the snapshots of all owners, including unfinished ones, without a call of Fault.
func (s *Snapshots) All() []backend.SnapshotSpec {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]backend.SnapshotSpec, 0, len(s.snapshots))
	for _, sn := range s.snapshots {
		list = append(list, sn.SnapshotSpec)
	}
	return list
}

// Compatibility implements [backend.CompatibilityReporter].
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return s.Flags, nil
}

// ReadFile returns the content of a file of a volume or snapshot, by its absolute path. It fails
// with [fs.ErrNotExist].
func (s *Snapshots) ReadFile(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, rel, _, err := s.open(name)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	data, ok := files[rel]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return bytes.Clone(data), nil
}

// WriteFile makes or replaces a file of a volume, or of a snapshot that is writable. It fails with
// [fs.ErrNotExist] outside of both, and with [fs.ErrPermission] in a snapshot that is read-only.
func (s *Snapshots) WriteFile(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, rel, writable, err := s.open(name)
	switch {
	case err == nil && !writable:
		err = fs.ErrPermission
	case err == nil && rel == ".":
		err = errors.New("is a directory")
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	files[rel] = bytes.Clone(data)
	return nil
}

// open finds the files that an absolute path is among. The lock is held.
func (s *Snapshots) open(name string) (files map[string][]byte, rel string, writable bool, err error) {
	name = path.Clean(name)
	for _, sn := range s.snapshots {
		if rel, ok := within(sn.Path, name); ok && sn.files != nil {
			return sn.files, rel, sn.writable, nil
		}
	}
	if root, rel, ok := s.volumeOf(name); ok {
		return s.volumes[root].files, rel, true, nil
	}
	return nil, "", false, fs.ErrNotExist
}
