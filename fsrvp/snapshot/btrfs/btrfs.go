// Package btrfs takes snapshots of btrfs subvolumes, by ioctl: it needs Linux 4.18 and root, but no program.
//
// # What a snapshot is
//
// A snapshot shows a subvolume as it was at one moment. It takes no time and no space to make, whatever the subvolume
// holds. Snapshots of several subvolumes are taken at once, but not at one moment. One that is not writable is a read-only subvolume, to which
// not even root can write; Seal makes a writable one so.
//
// # Volumes
//
// The volume of a shared directory is the subvolume that holds it. Snapshots do not descend into other subvolumes: a directory
// with one below it, or with anything mounted below it, is not supported, unless Config.IgnoreNested says so. IDs
// are "btrfs:" and the UUIDs of the file system and of the subvolume.
//
// # Where snapshots are
//
// A snapshot is a subvolume btrfs-<copy id>@<mark>, where the mark names the agent, in a directory of its own file system: one of Config.Dirs, or the directory .fsrvp at the root
// of the mount that holds the volume. Users can pass through that directory to a snapshot that is shared, as a file
// server needs, but cannot list it. It must not lie in a shared directory. So a file system whose root is shared
// needs another place: share a directory below the root, or mount the file system's top level somewhere else and
// name a directory there.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// A Config says where snapshots are. Nil means the zero values.
type Config struct {
	// Dirs are the directories that snapshots are in, absolute and clean; a snapshot is in the first one on the file system of
	// its volume. One that is missing is made, with mode 0711, in a parent that has to exist. They must belong to
	// root, and nobody else may be able to write to them or to replace them. A volume on whose file system there is none is
	// not supported. Nil: the directory .fsrvp at the root of the mount that holds the volume.
	Dirs []string
	// IgnoreNested are the names of subvolumes that may be below a shared directory, such as ".snapshots" of snapper. Snapshots
	// have an empty directory in their place. Nil: there may be none.
	IgnoreNested []string
}

// Snapshots is the backend. It implements backend.Snapshots, Sealer, Preparer, SnapshotLister and CompatibilityReporter. All
// methods may be called by several goroutines at once.
type Snapshots struct {
	dirs         snapdir.Dirs
	ignoreNested []string
}

var _ interface {
	backend.Snapshots
	backend.Sealer
	backend.Preparer
	backend.SnapshotLister
	backend.CompatibilityReporter
} = (*Snapshots)(nil)

// New returns the backend. It fails for a Config that is wrong, and with errors.ErrUnsupported where the system is not
// Linux on amd64, arm64, loong64, riscv64 or s390x.
func New(cfg *Config) (*Snapshots, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if !btrfsctl.Supported {
		return nil, fmt.Errorf("btrfs: snapshots can be taken on Linux only: %w", errors.ErrUnsupported)
	}
	if err := snapdir.CheckPaths(cfg.Dirs...); err != nil {
		return nil, fmt.Errorf("btrfs: %w", err)
	}
	return &Snapshots{
		dirs:         snapdir.Dirs{Kind: kind, Paths: slices.Clone(cfg.Dirs)},
		ignoreNested: slices.Clone(cfg.IgnoreNested),
	}, nil
}

const (
	kind   = "btrfs"
	prefix = kind + ":"
)

// Volume finds the subvolume that holds dir. It fails with fsrvp.ErrNotSupported where dir is not on btrfs, the root of its
// subvolume cannot be reached (only part of it is mounted), other subvolumes or mounts are below dir, or snapshots would
// lie within dir, for the users of the share to see.
func (s *Snapshots) Volume(_ context.Context, dir string) (backend.Volume, error) {
	v, err := s.volume(dir)
	return v, wrap("volume", err)
}

func (s *Snapshots) volume(dir string) (backend.Volume, error) {
	if err := snapdir.CheckShared(dir); err != nil {
		return backend.Volume{}, err
	}
	if err := s.checkBelow(dir); err != nil {
		return backend.Volume{}, err
	}
	root, err := rootOf(dir)
	if err != nil {
		return backend.Volume{}, err
	}
	if m, err := mount.Of(dir); err != nil {
		return backend.Volume{}, err
	} else if !mount.Within(root, m.Point) { // a bind mount: in a snapshot of root there is something else at its place
		return backend.Volume{}, fmt.Errorf("%s is part of a subvolume, mounted at %s: %w", dir, m.Point, fsrvp.ErrNotSupported)
	}
	snapshots, err := s.dirs.For(root)
	if err != nil {
		return backend.Volume{}, err
	}
	if err := snapdir.CheckOutside(snapshots, dir); err != nil {
		return backend.Volume{}, err
	}
	f, err := os.Open(root)
	if err != nil {
		return backend.Volume{}, err
	}
	defer f.Close()
	id, err := volumeID(f)
	return backend.Volume{ID: id, Path: root}, err
}

// checkBelow refuses a directory that a snapshot would not show whole.
func (s *Snapshots) checkBelow(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if is, err := btrfsctl.Is(f); err != nil {
		return err
	} else if !is {
		return fmt.Errorf("%s is not on btrfs: %w", dir, fsrvp.ErrNotSupported)
	}
	below, err := mount.Below(dir)
	if err != nil {
		return err
	}
	if len(below) > 0 {
		return fmt.Errorf("%s is mounted below %s: %w", below[0], dir, fsrvp.ErrNotSupported)
	}
	nested, err := btrfsctl.Nested(f)
	if err != nil {
		return err
	}
	for _, path := range nested {
		if !slices.Contains(s.ignoreNested, filepath.Base(path)) {
			return fmt.Errorf("%s has another subvolume in it, %s: %w", dir, path, fsrvp.ErrNotSupported)
		}
	}
	return nil
}

// rootOf returns the root of the subvolume that holds dir.
func rootOf(dir string) (string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer f.Close()
	want, err := btrfsctl.Info(f)
	if err != nil {
		return "", err
	}
	for path := dir; ; path = filepath.Dir(path) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		here, found, err := look(f)
		f.Close()
		if err != nil {
			return "", err
		}
		if here != want.ID {
			return "", fmt.Errorf("the root of the subvolume that holds %s is not mounted: %w", dir, fsrvp.ErrNotSupported)
		}
		if found {
			return path, nil
		}
		if filepath.Dir(path) == path {
			return "", fmt.Errorf("the root of the subvolume that holds %s is not mounted: %w", dir, fsrvp.ErrNotSupported)
		}
	}
}

// look returns the number of the subvolume that holds f, zero elsewhere than on btrfs, and whether f is its root.
func look(f *os.File) (id uint64, root bool, err error) {
	if is, err := btrfsctl.Is(f); err != nil || !is {
		return 0, false, err
	}
	info, err := btrfsctl.Info(f)
	if err != nil {
		return 0, false, err
	}
	root, err = btrfsctl.IsRoot(f)
	return info.ID, root, err
}

// volumeID names the subvolume whose root is f.
func volumeID(f *os.File) (string, error) {
	fsID, err := btrfsctl.FileSystem(f)
	if err != nil {
		return "", err
	}
	info, err := btrfsctl.Info(f)
	if err != nil {
		return "", err
	}
	name := uuid.UUID(info.UUID).String()
	if info.UUID == (btrfsctl.UUID{}) { // the top of an old file system; its number stays the same
		name = strconv.FormatUint(info.ID, 10)
	}
	return prefix + uuid.UUID(fsID).String() + "/" + name, nil
}

// fileSystemOf returns the file system that a volume's ID names.
func fileSystemOf(v backend.Volume) (btrfsctl.UUID, error) {
	rest, ok := strings.CutPrefix(v.ID, prefix)
	fsID, _, _ := strings.Cut(rest, "/")
	u, err := uuid.Parse(fsID)
	if !ok || err != nil {
		return btrfsctl.UUID{}, fmt.Errorf("volume %q is not one of the backend btrfs: %w", v.ID, fsrvp.ErrInvalidArg)
	}
	return btrfsctl.UUID(u), nil
}

// Prepare writes dirty pages back, which a snapshot would have to wait for.
func (s *Snapshots) Prepare(ctx context.Context, volumes []backend.Volume) error {
	for _, v := range volumes {
		if ctx.Err() != nil {
			return wrap("prepare", context.Cause(ctx))
		}
		f, err := os.Open(v.Path)
		if err != nil {
			return wrap("prepare", err)
		}
		err = btrfsctl.Flush(f)
		f.Close()
		if err != nil {
			return wrap("prepare", err)
		}
	}
	return nil
}

// A job is one snapshot to take. Its files are open so that taking them all is nothing but the ioctls.
type job struct {
	spec        backend.SnapshotSpec
	source, dir *os.File
	name        string
	made        bool
	created     backend.Snapshot
}

// Create takes all the snapshots at once, or leaves none. Their data, too, is on stable storage. A snapshot that the kernel
// is taking when ctx ends is finished, and then deleted.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	jobs := make([]*job, 0, len(specs))
	defer func() {
		for _, j := range jobs {
			j.source.Close()
			j.dir.Close()
		}
	}()
	for _, spec := range specs {
		j, err := s.open(spec)
		if err != nil {
			return nil, wrap("create", err)
		}
		jobs = append(jobs, j)
	}
	if err := run(ctx, jobs); err != nil {
		return nil, wrap("create", errors.Join(err, undo(jobs)))
	}
	snapshots := make([]backend.Snapshot, len(jobs))
	for i, j := range jobs {
		snapshots[i] = j.created
	}
	return snapshots, nil
}

// open opens the subvolume and the directory for its snapshot.
func (s *Snapshots) open(spec backend.SnapshotSpec) (*job, error) {
	if _, err := fileSystemOf(spec.Volume); err != nil {
		return nil, err
	}
	path, err := s.dirs.For(spec.Volume.Path)
	if err != nil {
		return nil, err
	}
	if err := snapdir.Make(path); err != nil {
		return nil, err
	}
	if err := s.dirs.CheckFree(spec.ID); err != nil {
		return nil, err
	}
	source, err := os.Open(spec.Volume.Path)
	if err != nil {
		return nil, err
	}
	id, err := volumeID(source)
	if err == nil && id != spec.Volume.ID {
		err = fmt.Errorf("%s is volume %s now, not %s", spec.Volume.Path, id, spec.Volume.ID)
	}
	if err != nil {
		source.Close()
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		source.Close()
		return nil, err
	}
	return &job{spec: spec, source: source, dir: dir, name: filepath.Base(s.dirs.Path(path, spec.ID, spec.Mark))}, nil
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
	err := btrfsctl.Snapshot(j.dir, j.source, j.name, !j.spec.Writable)
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
	return btrfsctl.Sync(j.dir)
}

func undo(jobs []*job) error {
	var errs []error
	for _, j := range jobs {
		if j.made {
			errs = append(errs, btrfsctl.Destroy(j.dir, j.name), btrfsctl.Sync(j.dir))
		}
	}
	return errors.Join(errs...)
}

// Delete deletes a snapshot. Files that are open in it stay readable until they are closed. It fails where the
// volume's file system is not mounted, since the snapshot may then still exist.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	return wrap("delete", s.delete(ctx, spec))
}

func (s *Snapshots) delete(ctx context.Context, spec backend.SnapshotSpec) error {
	fsID, err := fileSystemOf(spec.Volume)
	if err != nil {
		return err
	}
	entries, err := s.dirs.Find(spec.ID, spec.Mark.Owner)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		deleted, err := destroy(e.Path, fsID)
		if err != nil {
			return err
		}
		found = found || deleted
	}
	if found {
		return nil
	}
	return s.checkMounted(fsID)
}

// destroy deletes the subvolume at path if it is on that file system.
func destroy(path string, fsID btrfsctl.UUID) (bool, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	if is, err := btrfsctl.Is(dir); err != nil || !is {
		return false, err
	}
	if id, err := btrfsctl.FileSystem(dir); err != nil || id != fsID {
		return false, err
	}
	if err := btrfsctl.Destroy(dir, filepath.Base(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, btrfsctl.Sync(dir)
}

// checkMounted fails where the file system is not mounted.
func (s *Snapshots) checkMounted(fsID btrfsctl.UUID) error {
	mounts, err := mount.All()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Type != kind {
			continue
		}
		f, err := os.Open(m.Point)
		if err != nil {
			continue // hidden below another mount
		}
		id, err := btrfsctl.FileSystem(f)
		f.Close()
		if err == nil && id == fsID {
			return nil
		}
	}
	return fmt.Errorf("the file system %v is not mounted", uuid.UUID(fsID))
}

// Seal makes a writable snapshot read-only. What was written to it is on stable storage then. A file that is open for
// writing stays so until it is closed: seal the share first.
func (s *Snapshots) Seal(_ context.Context, snapshot backend.Snapshot) error {
	return wrap("seal", seal(snapshot.Path))
}

func seal(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if readOnly, err := btrfsctl.ReadOnly(f); err != nil || readOnly {
		return err
	}
	if err := btrfsctl.Flush(f); err != nil {
		return err
	}
	if err := btrfsctl.SetReadOnly(f); err != nil {
		return err
	}
	return btrfsctl.Sync(f)
}

// List returns the snapshots in Config.Dirs or, where it is nil, in the directories .fsrvp of mounts, without the paths of their
// volumes.
func (s *Snapshots) List(_ context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	entries, err := s.dirs.List()
	if err != nil {
		return nil, nil, wrap("list", err)
	}
	var specs []backend.SnapshotSpec
	for _, e := range entries {
		spec, ok, err := describe(e)
		if err != nil {
			return nil, nil, wrap("list", err)
		}
		if ok {
			specs = append(specs, spec)
		}
	}
	own, foreign = snapdir.Split(specs, owner)
	return own, foreign, nil
}

// describe tells of a snapshot, unless it is none, or was deleted meanwhile.
func describe(e snapdir.Entry) (spec backend.SnapshotSpec, ok bool, err error) {
	f, err := os.Open(e.Path)
	if err == nil {
		defer f.Close()
		spec, ok, err = describeOpen(f)
		spec.ID, spec.Mark = e.ID, e.Mark
	}
	if errors.Is(err, fs.ErrNotExist) { // the ioctls say so too, of an open subvolume
		return spec, false, nil
	}
	return spec, ok, err
}

func describeOpen(f *os.File) (spec backend.SnapshotSpec, ok bool, err error) {
	if _, root, err := look(f); err != nil || !root {
		return spec, false, err
	}
	fsID, err := btrfsctl.FileSystem(f)
	if err != nil {
		return spec, false, err
	}
	info, err := btrfsctl.Info(f)
	if err != nil {
		return spec, false, err
	}
	readOnly, err := btrfsctl.ReadOnly(f)
	if err != nil {
		return spec, false, err
	}
	spec.Volume.ID = prefix + uuid.UUID(fsID).String() + "/" + uuid.UUID(info.Parent).String()
	spec.Writable = !readOnly
	return spec, true, nil
}

// Compatibility says that a volume is not to be defragmented: that would give up what it shares with its snapshots, and fill
// the disk.
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return fsrvp.DisableDefrag, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("btrfs: %s: %w", what, err)
	}
	return nil
}
