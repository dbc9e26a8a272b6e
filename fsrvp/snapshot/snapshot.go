// Package snapshot takes snapshots on any file system: an [Auto] picks, for every volume, the best
// of the backends below that the file system supports.
//
//	package zfs       datasets of OpenZFS: atomic, at once, truly read-only; needs root
//	package btrfs     subvolumes of btrfs: atomic, at once, truly read-only; needs root
//	package reflink   file by file, sharing the data: XFS, btrfs; not atomic over a tree
//	package copy      file by file, all data: any file system, any operating system; not atomic
//
// Each of them can be used alone, and its documentation describes its snapshots. They implement the
// interfaces Snapshots, Sealer, SnapshotLister and PathChecker of package backend. Package memory
// has a backend for tests.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/btrfs"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/copy"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/reflink"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/zfs"
)

// A Config configures all backends. Nil means the zero values.
type Config struct {
	// Dirs are the directories for snapshots, one for each file system; see the backends. A volume
	// on a file system without one is copied to the first one. Nil means the directory .fsrvp at
	// the root of the mount that holds the volume, which is known only on Linux: elsewhere Dirs is
	// required.
	Dirs []string
	// Volumes are directories that are volumes with everything below them, for the backends reflink
	// and copy. Nil means that every shared directory is a volume.
	Volumes []string
	// IgnoreNested are the names of btrfs subvolumes that may be below a shared directory; see
	// package btrfs.
	IgnoreNested []string
	// ZFSDir is the directory in which snapshots of ZFS datasets are mounted; see package zfs.
	// Empty means that package's default.
	ZFSDir string
	// NoCopy refuses, with [fsrvp.ErrNotSupported], volumes that only package copy supports.
	NoCopy bool
	// Workers is the number of files of a volume that reflink and copy work on concurrently. Zero
	// means runtime.GOMAXPROCS.
	Workers int
	// SkipUnreadable makes reflink and copy leave out files that cannot be read, for lack of rights
	// or because of an input or output error, and list them in Snapshot.Unread. Otherwise such a
	// file fails the shadow copy.
	SkipUnreadable bool
	// NoSync makes reflink and copy not bring snapshots to stable storage: they may be lost,
	// completely or in part, when the machine crashes. It is for snapshots that do not outlive the
	// process.
	NoSync bool
	// Progress is called with the number of files and of bytes that reflink or copy have copied for
	// a shadow copy. It must not block. Nil means none.
	Progress func(id fsrvp.CopyID, files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied properly. Nil means none.
	Logger *slog.Logger
}

// Auto picks the backend for each volume. It implements [backend.Snapshots], DeleteSyncer, Sealer,
// SnapshotPreparer, SnapshotLister, PathChecker and CompatibilityReporter. It is safe for
// concurrent use. The volumes of one set may belong to several backends.
type Auto struct {
	backends []engine // best first
}

// An engine is a backend that this machine supports. The IDs of its volumes begin with its name and
// a colon.
type engine struct {
	name string
	snapshots
}

// snapshots is implemented by all backends. Some also implement backend.Preparer or
// backend.SnapshotPreparer, and backend.CompatibilityReporter.
type snapshots interface {
	backend.Snapshots
	backend.Sealer
	backend.SnapshotLister
}

var _ interface {
	backend.Snapshots
	backend.DeleteSyncer
	backend.Sealer
	backend.SnapshotPreparer
	backend.SnapshotLister
	backend.PathChecker
	backend.CompatibilityReporter
} = (*Auto)(nil)

// New returns an Auto. It fails if the Config is invalid.
//
// It leaves out backends that the operating system does not support, and zfs and btrfs if the
// process is not root.
func New(cfg *Config) (*Auto, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	a := new(Auto)
	add := func(name string, s snapshots, err error) error {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err == nil {
			a.backends = append(a.backends, engine{name, s})
		}
		return err
	}
	if os.Geteuid() == 0 {
		s, err := btrfs.New(&btrfs.Config{Dirs: cfg.Dirs, IgnoreNested: cfg.IgnoreNested})
		if err := add("btrfs", s, err); err != nil {
			return nil, err
		}
	}
	if os.Geteuid() == 0 {
		s, err := zfs.New(context.Background(), &zfs.Config{Dir: cfg.ZFSDir})
		if errors.Is(err, fsrvp.ErrNotSupported) { // there is the program but not the kernel module
			err = errors.ErrUnsupported
		}
		if err := add("zfs", s, err); err != nil {
			return nil, err
		}
	}
	s, err := reflink.New(&reflink.Config{
		Dirs: cfg.Dirs, Volumes: cfg.Volumes, Workers: cfg.Workers, SkipUnreadable: cfg.SkipUnreadable, NoSync: cfg.NoSync, Progress: cfg.Progress, Logger: cfg.Logger,
	})
	if err := add("reflink", s, err); err != nil {
		return nil, err
	}
	if !cfg.NoCopy {
		s, err := copy.New(&copy.Config{
			Dirs: cfg.Dirs, Volumes: cfg.Volumes, Workers: cfg.Workers, SkipUnreadable: cfg.SkipUnreadable, NoSync: cfg.NoSync, Progress: cfg.Progress, Logger: cfg.Logger,
		})
		if err := add("copy", s, err); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Volume asks the backends, best first, and returns the answer of the first one that supports dir.
// If none does, it fails with the error of the best one.
func (a *Auto) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	first := error(fmt.Errorf("snapshot: no backend on this system: %w", fsrvp.ErrNotSupported))
	for i, b := range a.backends {
		v, err := b.Volume(ctx, dir)
		if err == nil || !errors.Is(err, fsrvp.ErrNotSupported) {
			return v, err
		}
		if i == 0 {
			first = err
		}
	}
	return backend.Volume{}, first
}

// of returns the backend of a volume.
func (a *Auto) of(v backend.Volume) (engine, error) {
	name, _, _ := strings.Cut(v.ID, ":")
	for _, b := range a.backends {
		if b.name == name {
			return b, nil
		}
	}
	return engine{}, fmt.Errorf("snapshot: no backend for volume %q: %w", v.ID, fsrvp.ErrInvalidArg)
}

// split sorts things, by number, by the backend of their volume.
func (a *Auto) split(n int, volume func(i int) backend.Volume) (map[engine][]int, error) {
	parts := make(map[engine][]int)
	for i := range n {
		b, err := a.of(volume(i))
		if err != nil {
			return nil, err
		}
		parts[b] = append(parts[b], i)
	}
	return parts, nil
}

// Create takes all snapshots, with all backends concurrently, or leaves none.
func (a *Auto) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	parts, err := a.split(len(specs), func(i int) backend.Volume { return specs[i].Volume })
	if err != nil {
		return nil, err
	}
	snapshots := make([]backend.Snapshot, len(specs))
	g, gctx := errgroup.WithContext(ctx)
	for b, part := range parts {
		g.Go(func() error {
			mine := make([]backend.SnapshotSpec, len(part))
			for i, n := range part {
				mine[i] = specs[n]
			}
			made, err := b.Create(gctx, mine)
			for i, s := range made {
				snapshots[part[i]] = s
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, errors.Join(err, a.undo(context.WithoutCancel(ctx), snapshots))
	}
	return snapshots, nil
}

// undo deletes the snapshots of one backend after another has failed.
func (a *Auto) undo(ctx context.Context, snapshots []backend.Snapshot) error {
	var errs []error
	for _, s := range snapshots {
		if s.Path != "" {
			errs = append(errs, a.Delete(ctx, s.SnapshotSpec))
		}
	}
	return errors.Join(errs...)
}

// Delete removes a snapshot with the backend of its volume.
func (a *Auto) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	b, err := a.of(spec.Volume)
	if err != nil {
		return err
	}
	return b.Delete(ctx, spec)
}

// DeleteUnsynced is Delete, without the wait for stable storage where the backend can leave it to
// SyncDeletions.
func (a *Auto) DeleteUnsynced(ctx context.Context, spec backend.SnapshotSpec) error {
	b, err := a.of(spec.Volume)
	if err != nil {
		return err
	}
	if s, ok := b.snapshots.(backend.DeleteSyncer); ok {
		return s.DeleteUnsynced(ctx, spec)
	}
	return b.Delete(ctx, spec)
}

// SyncDeletions waits for the stable storage of those backends that DeleteUnsynced does not wait
// for.
func (a *Auto) SyncDeletions(ctx context.Context, volumes []backend.Volume) error {
	parts, err := a.split(len(volumes), func(i int) backend.Volume { return volumes[i] })
	errs := []error{err}
	for b, part := range parts {
		if s, ok := b.snapshots.(backend.DeleteSyncer); ok {
			var mine []backend.Volume
			for _, i := range part {
				mine = append(mine, volumes[i])
			}
			errs = append(errs, s.SyncDeletions(ctx, mine))
		}
	}
	return errors.Join(errs...)
}

// Seal makes a snapshot read-only, as far as its backend can.
func (a *Auto) Seal(ctx context.Context, s backend.Snapshot) error {
	b, err := a.of(s.Volume)
	if err != nil {
		return err
	}
	return b.Seal(ctx, s)
}

// PrepareSnapshots lets the backends do work ahead.
func (a *Auto) PrepareSnapshots(ctx context.Context, specs []backend.SnapshotSpec) error {
	parts, err := a.split(len(specs), func(i int) backend.Volume { return specs[i].Volume })
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for b, part := range parts {
		mine := make([]backend.SnapshotSpec, len(part))
		volumes := make([]backend.Volume, len(part))
		for i, n := range part {
			mine[i], volumes[i] = specs[n], specs[n].Volume
		}
		g.Go(func() error {
			switch p := b.snapshots.(type) {
			case backend.SnapshotPreparer:
				return p.PrepareSnapshots(gctx, mine)
			case backend.Preparer:
				return p.Prepare(gctx, volumes)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		errs := []error{err}
		for _, spec := range specs {
			errs = append(errs, a.Delete(context.WithoutCancel(ctx), spec))
		}
		return errors.Join(errs...)
	}
	return nil
}

// CheckPath lets the snapshot's backend check a directory of the snapshot, if it can.
func (a *Auto) CheckPath(ctx context.Context, s backend.Snapshot, path string) error {
	b, err := a.of(s.Volume)
	if err != nil {
		return err
	}
	checker, ok := b.snapshots.(backend.PathChecker)
	if !ok {
		return nil
	}
	return checker.CheckPath(ctx, s, path)
}

// List returns the snapshots of all backends.
func (a *Auto) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	for _, b := range a.backends {
		o, f, err := b.List(ctx, owner)
		if err != nil {
			return nil, nil, err
		}
		own, foreign = append(own, o...), append(foreign, f...)
	}
	return own, foreign, nil
}

// Compatibility returns the flags of the volume's backend.
func (a *Auto) Compatibility(ctx context.Context, v backend.Volume) (fsrvp.Compatibility, error) {
	b, err := a.of(v)
	if err != nil {
		return 0, err
	}
	reporter, ok := b.snapshots.(backend.CompatibilityReporter)
	if !ok {
		return 0, nil
	}
	return reporter.Compatibility(ctx, v)
}
