// Package treeset takes snapshots by copying directory trees, for the backends reflink and copy. A
// copy is made as .tmp-<kind>-<id>@<mark>, brought to stable storage, and renamed when all copies
// of the set are complete.
//
// Prepare makes the bulk of a copy, while applications go on, and Create brings it up to date.
package treeset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/durable"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/tree"
)

// A Set is such a backend. Its exported fields must be set before its first use.
type Set struct {
	Dirs    snapdir.Dirs
	Roots   []string // directories that are volumes, with everything below them
	Clone   bool
	Workers int
	// SkipUnreadable is tree.Config.SkipUnreadable.
	SkipUnreadable bool
	// NoSync is tree.Config.NoSync; names of copies are not brought to stable storage either.
	NoSync   bool
	Progress func(id fsrvp.CopyID, files, bytes int64)
	Logger   *slog.Logger // not nil
	// Check fails if trees of the volume cannot be copied into dir, which may not exist yet, but
	// whose parent does.
	Check func(volume, dir string) error

	mu    sync.Mutex
	ahead map[fsrvp.CopyID]*job // what Prepare has begun
}

// prefix begins the ids of volumes.
func (s *Set) prefix() string { return s.Dirs.Kind + ":" }

// Volume implements backend.Snapshots.
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
	d, err := safepath.Open(root)
	if err != nil {
		return backend.Volume{}, err
	}
	defer d.Close()
	pin, err := d.Pin()
	if err != nil {
		return backend.Volume{}, err
	}
	if err := checkBelow(root, d.File); err != nil {
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
	return backend.Volume{ID: s.prefix() + root, Path: root, Pin: pin}, nil
}

// checkBelow refuses a directory with mounts or subvolumes below, into which a walk would not
// cross.
func checkBelow(root string, f *os.File) error {
	below, err := mount.Below(root)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%s is mounted below %s: %w", below[0], root, fsrvp.ErrNotSupported)
	}
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

// A job is one copy to make. Only one goroutine at a time uses it.
type job struct {
	spec    backend.SnapshotSpec
	dir     string // of Dirs
	temp    string
	above   []safepath.Ancestor // when it is complete
	copier  *tree.Copier
	made    string // what exists
	gated   bool   // so do gates
	final   string
	report  *tree.Report
	created time.Time
}

// Prepare makes the bulk of the copies. It brings each one up to date until that takes little time.
func (s *Set) Prepare(ctx context.Context, specs []backend.SnapshotSpec) error {
	jobs, err := s.take(specs)
	if err != nil {
		return err
	}
	if err := each(ctx, jobs, prepare); err != nil {
		return errors.Join(err, s.undo(jobs))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead == nil {
		s.ahead = make(map[fsrvp.CopyID]*job)
	}
	for _, j := range jobs {
		s.ahead[j.spec.ID] = j
	}
	return nil
}

// short is the longest pass that Prepare leaves to Create.
const short = time.Second

// prepare makes passes. Each handles the changes during the one before, so they get shorter, unless
// the changes never end.
func prepare(ctx context.Context, j *job) error {
	for last := time.Duration(math.MaxInt64); ; {
		begun := time.Now()
		settled, err := j.copier.Pass(ctx)
		if err != nil {
			return err
		}
		took := time.Since(begun)
		if settled || took < short || took > last/2 {
			return nil
		}
		last = took
	}
}

// Create implements backend.Snapshots.
func (s *Set) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	jobs, err := s.take(specs)
	if err != nil {
		return nil, err
	}
	if err := s.run(ctx, jobs); err != nil {
		return nil, errors.Join(err, s.undo(jobs))
	}
	snapshots := make([]backend.Snapshot, len(jobs))
	for i, j := range jobs {
		snapshots[i] = backend.Snapshot{SnapshotSpec: j.spec, Path: j.final, Created: j.created, Moved: j.report.Moved,
			Unread: j.report.Unread}
	}
	return snapshots, nil
}

// take returns jobs for all specs, begun or new, which the caller then owns. After an error nothing
// is left of them.
func (s *Set) take(specs []backend.SnapshotSpec) ([]*job, error) {
	var jobs []*job
	for _, spec := range specs {
		j := s.begun(spec.ID)
		if j == nil {
			j = &job{spec: spec}
			if err := s.begin(j); err != nil {
				return nil, errors.Join(err, s.undo(append(jobs, j)))
			}
		}
		j.spec = spec // its mark may be newer
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// begun returns the job that Prepare has begun for a snapshot, or nil.
func (s *Set) begun(id fsrvp.CopyID) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.ahead[id]
	delete(s.ahead, id)
	return j
}

// begin makes an empty copy.
func (s *Set) begin(j *job) error {
	if err := s.checkID(j.spec.Volume); err != nil {
		return err
	}
	root := j.spec.Volume.Path
	dir, err := s.Dirs.For(root)
	if err != nil {
		return err
	}
	if err := snapdir.Make(dir); err != nil {
		return err
	}
	j.dir, j.temp = dir, s.Dirs.Temp(dir, j.spec.ID, j.spec.Mark)
	if err := s.Dirs.CheckFree(j.spec.ID); err != nil {
		return err
	}
	src, err := safepath.OpenPinned(root, j.spec.Volume.Pin)
	if err != nil {
		return err
	}
	defer src.Close()
	cfg := &tree.Config{
		Clone: s.Clone, Workers: s.Workers, SkipUnreadable: s.SkipUnreadable, NoSync: s.NoSync, Skip: append([]string{dir}, s.Dirs.Paths...),
		Logger: s.Logger.With("copy", j.spec.ID.String(), "volume", root),
	}
	if s.Progress != nil {
		cfg.Progress = func(files, bytes int64) { s.Progress(j.spec.ID, files, bytes) }
	}
	j.made = j.temp
	j.copier, err = tree.New(j.temp, src.File, cfg)
	return err
}

func (s *Set) checkID(v backend.Volume) error {
	if !strings.HasPrefix(v.ID, s.prefix()) {
		return fmt.Errorf("volume %q is not one of the backend %s: %w", v.ID, s.Dirs.Kind, fsrvp.ErrInvalidArg)
	}
	return nil
}

// each calls f concurrently for all jobs. If ctx ended, the reason takes precedence over the
// resulting errors.
func each(ctx context.Context, jobs []*job, f func(context.Context, *job) error) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, j := range jobs {
		g.Go(func() error { return f(gctx, j) })
	}
	if err := g.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}

func (s *Set) run(ctx context.Context, jobs []*job) error {
	err := each(ctx, jobs, func(ctx context.Context, j *job) (err error) {
		j.created = time.Now().UTC()
		if j.report, err = j.copier.Finish(ctx); err != nil {
			return err
		}
		err = j.copier.Close()
		j.copier = nil
		return err
	})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.place(j); err != nil {
			return err
		}
	}
	for _, j := range jobs {
		if err := s.syncDir(j.dir); err != nil {
			return err
		}
	}
	return nil
}

// place gives a complete copy its name, behind gates if needed: the directories above the volume
// may have got other rights since it was opened. It fails if another directory has replaced the
// volume.
func (s *Set) place(j *job) error {
	src, err := safepath.OpenPinned(j.spec.Volume.Path, j.spec.Volume.Pin)
	if err != nil {
		return err
	}
	j.above = src.Above
	if err := src.Close(); err != nil {
		return err
	}
	inner, err := s.Dirs.Gate(j.dir, j.spec.ID, j.spec.Mark, j.above)
	if err != nil {
		return err
	}
	j.gated = inner != j.dir
	j.final = s.Dirs.Path(inner, j.spec.ID, j.spec.Mark)
	if err := os.Rename(j.temp, j.final); err != nil {
		return err
	}
	j.made = j.final
	if j.gated {
		return s.syncDir(inner)
	}
	return nil
}

// syncDir brings the names in a directory to stable storage.
func (s *Set) syncDir(dir string) error {
	if s.NoSync {
		return nil
	}
	return durable.Dir(dir)
}

// undo removes what was made, even if the caller's context has ended.
func (s *Set) undo(jobs []*job) error {
	var errs []error
	for _, j := range jobs {
		if j.copier != nil {
			errs = append(errs, j.copier.Close())
		}
		if j.made != "" {
			errs = append(errs, tree.Remove(context.Background(), j.made))
		}
		if j.gated {
			errs = append(errs, s.Dirs.Ungate(j.dir, j.spec.ID, j.spec.Mark))
		}
	}
	return errors.Join(errs...)
}

// Delete implements backend.Snapshots. It first renames a snapshot, so that a partly deleted one
// does not look complete.
func (s *Set) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	if err := s.checkID(spec.Volume); err != nil {
		return err
	}
	entries, err := s.Dirs.Find(spec.ID, spec.Mark.Owner)
	if err != nil {
		return err
	}
	if j := s.begun(spec.ID); j != nil {
		if err := j.copier.Close(); err != nil {
			return err
		}
	}
	for _, e := range entries {
		path, dir := e.Path, e.Dir
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
		if err := s.Dirs.Ungate(dir, e.ID, e.Mark); err != nil {
			return err
		}
		if err := s.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// List implements backend.SnapshotLister. The paths of the volumes are unknown, since a copy does
// not record its origin.
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

// Seal implements backend.Sealer: it brings writes to stable storage.
func (s *Set) Seal(ctx context.Context, snapshot backend.Snapshot) error {
	if s.NoSync {
		return nil
	}
	return SyncFS(ctx, snapshot.Path)
}

// CheckPath implements backend.PathChecker.
func (s *Set) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return safepath.CheckBeneath(snapshot.Path, path)
}
