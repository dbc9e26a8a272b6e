// Package treeset takes snapshots by copying directory trees: what the backends reflink and copy have in
// common. A copy is made as .tmp-<kind>-<id>@<mark>, brought to stable storage, and renamed when all of its set are complete.
package treeset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/tree"
)

// A Set is such a backend. Its fields are set before it is used, and not after.
type Set struct {
	Dirs     snapdir.Dirs
	Roots    []string // directories that are volumes, with all below them
	Clone    bool
	Workers  int
	Progress func(id fsrvp.CopyID, files, bytes int64)
	Logger   *slog.Logger // not nil
	// Check tells whether trees of the volume can be copied into dir, whose parent exists, maybe not dir itself.
	Check func(volume, dir string) error
}

// prefix begins the ids of volumes.
func (s *Set) prefix() string { return s.Dirs.Kind + ":" }

// Volume is backend.Snapshots.Volume.
func (s *Set) Volume(_ context.Context, dir string) (backend.Volume, error) {
	if err := snapdir.CheckShared(dir); err != nil {
		return backend.Volume{}, err
	}
	root := dir
	for _, r := range s.Roots {
		if mount.Within(root, r) { // the outermost
			root = r
		}
	}
	if err := checkBelow(root); err != nil {
		return backend.Volume{}, err
	}
	snapshots, err := s.Dirs.For(root)
	if err != nil {
		return backend.Volume{}, err
	}
	if err := snapdir.CheckOutside(snapshots, dir); err != nil {
		return backend.Volume{}, err
	}
	if err := s.Check(root, snapshots); err != nil {
		return backend.Volume{}, err
	}
	return backend.Volume{ID: s.prefix() + root, Path: root}, nil
}

// checkBelow refuses what a walk would not cross into.
func checkBelow(root string) error {
	below, err := mount.Below(root)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%s is mounted below %s: %w", below[0], root, fsrvp.ErrNotSupported)
	}
	f, err := os.Open(root)
	if err != nil {
		return err
	}
	defer f.Close()
	if btrfs, err := btrfsctl.Is(f); err != nil || !btrfs {
		return err
	}
	nested, err := btrfsctl.Nested(f)
	if err != nil {
		return err
	}
	if len(nested) > 0 {
		return fmt.Errorf("%s has a subvolume in it, %s: %w", root, nested[0], fsrvp.ErrNotSupported)
	}
	return nil
}

// A job is one copy to make.
type job struct {
	spec        backend.SnapshotSpec
	dir         string
	temp, final string
	made        string // temp or final, when it exists
	created     time.Time
}

// Create is backend.Snapshots.Create.
func (s *Set) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	jobs := make([]*job, len(specs))
	for i, spec := range specs {
		j, err := s.job(spec)
		if err != nil {
			return nil, err
		}
		jobs[i] = j
	}
	if err := s.run(ctx, jobs); err != nil {
		return nil, errors.Join(err, undo(jobs))
	}
	snapshots := make([]backend.Snapshot, len(jobs))
	for i, j := range jobs {
		snapshots[i] = backend.Snapshot{SnapshotSpec: j.spec, Path: j.final, Created: j.created}
	}
	return snapshots, nil
}

func (s *Set) job(spec backend.SnapshotSpec) (*job, error) {
	if err := s.checkID(spec.Volume); err != nil {
		return nil, err
	}
	dir, err := s.Dirs.For(spec.Volume.Path)
	if err != nil {
		return nil, err
	}
	if err := snapdir.Make(dir); err != nil {
		return nil, err
	}
	if err := s.Dirs.CheckFree(spec.ID); err != nil {
		return nil, err
	}
	return &job{spec: spec, dir: dir, temp: s.Dirs.Temp(dir, spec.ID, spec.Mark), final: s.Dirs.Path(dir, spec.ID, spec.Mark)}, nil
}

func (s *Set) checkID(v backend.Volume) error {
	if !strings.HasPrefix(v.ID, s.prefix()) {
		return fmt.Errorf("volume %q is not one of the backend %s: %w", v.ID, s.Dirs.Kind, fsrvp.ErrInvalidArg)
	}
	return nil
}

func (s *Set) run(ctx context.Context, jobs []*job) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, j := range jobs {
		g.Go(func() error { return s.copy(gctx, j) })
	}
	if err := g.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	for _, j := range jobs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := os.Rename(j.temp, j.final); err != nil {
			return err
		}
		j.made = j.final
	}
	for _, j := range jobs {
		if err := syncDir(j.dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) copy(ctx context.Context, j *job) error {
	for _, path := range []string{j.temp, j.final} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("snapshot %v exists: %w", j.spec.ID, fsrvp.ErrObjectAlreadyExists)
		}
	}
	cfg := &tree.Config{
		Clone: s.Clone, Workers: s.Workers, Skip: append([]string{j.dir}, s.Dirs.Paths...),
		Logger: s.Logger.With("copy", j.spec.ID.String(), "volume", j.spec.Volume.Path),
	}
	if s.Progress != nil {
		cfg.Progress = func(files, bytes int64) { s.Progress(j.spec.ID, files, bytes) }
	}
	j.created = time.Now().UTC()
	j.made = j.temp
	return tree.Copy(ctx, j.temp, j.spec.Volume.Path, cfg)
}

// undo removes what was made, also when the caller's context has ended.
func undo(jobs []*job) error {
	var errs []error
	for _, j := range jobs {
		if j.made != "" {
			errs = append(errs, tree.Remove(context.Background(), j.made))
		}
	}
	return errors.Join(errs...)
}

// Delete is backend.Snapshots.Delete. It renames a snapshot first, so that one that is deleted in part is not taken for whole.
func (s *Set) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	if err := s.checkID(spec.Volume); err != nil {
		return err
	}
	entries, err := s.Dirs.Find(spec.ID, spec.Mark.Owner)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path, dir := e.Path, filepath.Dir(e.Path)
		if !e.Temp {
			temp := s.Dirs.Temp(dir, e.ID, e.Mark)
			if err := tree.Remove(ctx, temp); err != nil {
				return err
			}
			if err := os.Rename(path, temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			path = temp
		}
		if err := tree.Remove(ctx, path); err != nil {
			return err
		}
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// List is backend.SnapshotLister.List. The paths of the volumes are not known: a copy does not tell what it is of.
func (s *Set) List(_ context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	entries, err := s.Dirs.List()
	if err != nil {
		return nil, nil, err
	}
	var specs []backend.SnapshotSpec
	type key struct {
		id    fsrvp.CopyID
		owner backend.Owner
	}
	seen := make(map[key]bool)
	for _, e := range entries {
		if k := (key{e.ID, e.Mark.Owner}); !seen[k] {
			seen[k] = true
			specs = append(specs, backend.SnapshotSpec{ID: e.ID, Mark: e.Mark, Volume: backend.Volume{ID: s.prefix()}})
		}
	}
	own, foreign = snapdir.Split(specs, owner)
	return own, foreign, nil
}

// Seal is backend.Sealer.Seal: it brings what was written to stable storage.
func (s *Set) Seal(ctx context.Context, snapshot backend.Snapshot) error {
	return SyncFS(ctx, snapshot.Path)
}
