package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// Prepare writes back dirty pages, for which a snapshot would have to wait.
func (s *Snapshots) Prepare(ctx context.Context, volumes []backend.Volume) error {
	for _, v := range volumes {
		if ctx.Err() != nil {
			return wrap("prepare", context.Cause(ctx))
		}
		d, err := safepath.Open(v.Path)
		if err != nil {
			return wrap("prepare", err)
		}
		err = btrfsctl.Flush(d.File)
		d.Close()
		if err != nil {
			return wrap("prepare", err)
		}
	}
	return nil
}

// A job is one snapshot to take. Its files are already open, so that taking all snapshots needs
// only the ioctls.
type job struct {
	spec    backend.SnapshotSpec
	source  *safepath.Dir
	holder  string   // of snapshots
	dir     *os.File // holder, or the innermost gate in it
	name    string
	made    bool
	created backend.Snapshot
}

// Create takes all snapshots concurrently, or leaves none. Their data is on stable storage, too. If
// ctx ends while the kernel is taking a snapshot, that one is finished, and then deleted.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	jobs := make([]*job, 0, len(specs))
	defer func() {
		for _, j := range jobs {
			j.close()
		}
	}()
	for _, spec := range specs {
		j := &job{spec: spec}
		jobs = append(jobs, j)
		if err := s.open(j); err != nil {
			return nil, wrap("create", errors.Join(err, s.undo(jobs)))
		}
	}
	if err := run(ctx, jobs); err != nil {
		return nil, wrap("create", errors.Join(err, s.undo(jobs)))
	}
	for _, j := range jobs {
		if err := s.note(j); err != nil {
			return nil, wrap("create", errors.Join(err, s.undo(jobs)))
		}
	}
	snapshots := make([]backend.Snapshot, len(jobs))
	for i, j := range jobs {
		snapshots[i] = j.created
	}
	return snapshots, nil
}

// open opens the subvolume and the directory for its snapshot, behind gates if needed.
func (s *Snapshots) open(j *job) error {
	volume := j.spec.Volume
	if _, err := fileSystemOf(volume); err != nil {
		return err
	}
	holder, err := s.dirs.For(volume.Path)
	if err != nil {
		return err
	}
	if err := snapdir.Make(holder); err != nil {
		return err
	}
	if err := s.dirs.CheckFree(j.spec.ID); err != nil {
		return err
	}
	if j.source, err = safepath.Open(volume.Path); err != nil {
		return err
	}
	if id, err := volumeID(j.source.File); err != nil {
		return err
	} else if id != volume.ID {
		return fmt.Errorf("%s is volume %s now, not %s", volume.Path, id, volume.ID)
	}
	inner, err := s.dirs.Gate(holder, j.spec.ID, j.spec.Mark, j.source.Above)
	if err != nil {
		return err
	}
	j.holder = holder
	j.name = filepath.Base(s.dirs.Path(inner, j.spec.ID, j.spec.Mark))
	j.dir, err = os.Open(inner)
	return err
}

// gated reports whether the snapshot is behind gates.
func (j *job) gated() bool { return j.dir != nil && j.dir.Name() != j.holder }

func (j *job) close() {
	if j.source != nil {
		j.source.Close()
	}
	if j.dir != nil {
		j.dir.Close()
	}
}

func run(ctx context.Context, jobs []*job) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, j := range jobs {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			return j.take()
		})
	}
	err := g.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (j *job) take() error {
	err := btrfsctl.Snapshot(j.dir, j.source.File, j.name, !j.spec.Writable)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("snapshot %v exists: %w", j.spec.ID, fsrvp.ErrObjectAlreadyExists)
	}
	if err != nil {
		return err
	}
	j.made = true
	path := filepath.Join(j.dir.Name(), j.name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := btrfsctl.Info(f)
	if err != nil {
		return err
	}
	j.created = backend.Snapshot{SnapshotSpec: j.spec, Path: path, Created: info.Created}
	return nil // it is on stable storage
}

// note remembers what a snapshot lacks.
func (s *Snapshots) note(j *job) error {
	nested, err := s.nested(j.source.File)
	if err != nil {
		return err
	}
	var without []string
	for _, path := range nested {
		if path = filepath.Join(j.spec.Volume.Path, path); !mount.Within(path, j.holder) { // they are not shared
			without = append(without, path)
		}
	}
	return s.hidden.Note(j.spec, without...)
}

func (s *Snapshots) undo(jobs []*job) error {
	var errs []error
	for _, j := range jobs {
		s.hidden.Forget(j.spec.ID)
		if j.made {
			errs = append(errs, btrfsctl.Destroy(j.dir, j.name))
		}
		if j.gated() {
			errs = append(errs, s.dirs.Ungate(j.holder, j.spec.ID, j.spec.Mark))
		}
		if j.made || j.gated() {
			errs = append(errs, btrfsctl.Sync(j.dir))
		}
	}
	return errors.Join(errs...)
}
