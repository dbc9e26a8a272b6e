// Package zfs takes snapshots of OpenZFS datasets with the programs zfs and mount. It is for Linux,
// and needs root, or a user who may mount and to whom "zfs allow" has delegated the operations.
//
// # What a snapshot is
//
// A snapshot shows a dataset at a single moment. Snapshots of several datasets in one pool show the
// same moment, since one command takes them all. A snapshot is read-only by itself. A writable one
// is a clone, which Seal makes read-only.
//
// A snapshot is DATASET@fsrvp-<copy id>, and a clone POOL/fsrvp-<copy id>. Both have the mark of
// the agent in the user property org.go-fsrvp:mark. A hold with the tag go-fsrvp protects a
// snapshot from accidents and clean-up scripts.
//
// # Volumes
//
// The volume of a shared directory is the dataset that is mounted there or above. Nothing else,
// such as a child dataset, may be mounted below the directory. IDs are "zfs:" and the GUID of the
// dataset, which stays the same when it is renamed or its pool imported elsewhere.
//
// # Where snapshots are
//
// A snapshot is mounted at zfs-<copy id>@<mark> in Config.Dir, a path that needs no automount and
// does not depend on the property snapdir. If not everybody may pass through the directories above
// the volume, it is within .gated-zfs-<copy id>@<mark>. After a restart of the machine New mounts
// them again.
package zfs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/treeset"
)

// A Config configures the backend. Nil means the zero values.
type Config struct {
	// Dir is the directory in which snapshots are mounted, absolute and clean. It is made, with
	// mode 0711, in a parent that must exist; it must belong to the user of the process, and nobody
	// else may be able to write to it or to replace it. It must survive a restart of the machine.
	// Empty means /var/lib/fsrvp-zfs.
	Dir string
	// Zfs, Mount and Umount are the programs, with their first arguments. Nil means "zfs", "mount"
	// and "umount" in PATH.
	Zfs, Mount, Umount []string
	// Timeout limits the time that one of them may run. Zero means two minutes.
	Timeout time.Duration
}

// Snapshots is the backend. It implements [backend.Snapshots], Sealer, Preparer, SnapshotLister and
// PathChecker. It is safe for concurrent use.
type Snapshots struct {
	cfg  Config
	dirs snapdir.Dirs
	kind string // of file system that datasets are mounted as; another one only in tests

	hidden   snapdir.Hidden
	deleting sync.Mutex // one at a time: what destroys a snapshot must not be surprised
}

var _ interface {
	backend.Snapshots
	backend.Sealer
	backend.Preparer
	backend.SnapshotLister
	backend.PathChecker
} = (*Snapshots)(nil)

const (
	kind     = "zfs"
	prefix   = kind + ":"
	name     = "fsrvp-" // of a snapshot or a clone, before the id
	property = "org.go-fsrvp:mark"
	tag      = "go-fsrvp"
)

// New returns the backend, and mounts the snapshots again that a restart of the machine has
// unmounted. It fails if the Config is invalid, with [errors.ErrUnsupported] if the system is not
// Linux or has no program zfs, with [fsrvp.ErrNotSupported] if the kernel has no ZFS, and if
// mounting fails.
func New(ctx context.Context, cfg *Config) (*Snapshots, error) {
	s, err := newSnapshots(cfg, kind)
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// start waits for programs that a killed agent has left running, so that nothing unexpected appears
// later, and mounts the snapshots again.
func (s *Snapshots) start(ctx context.Context) error {
	if err := program.Await(ctx, s.cfg.Dir, s.cfg.Timeout); err != nil {
		return wrap("start", err)
	}
	return wrap("mount again", s.remount(ctx))
}

func newSnapshots(cfg *Config, fsType string) (*Snapshots, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	c := Config{
		Dir: cmp.Or(cfg.Dir, "/var/lib/fsrvp-zfs"), Timeout: cmp.Or(cfg.Timeout, 2*time.Minute),
		Zfs: slices.Clone(cfg.Zfs), Mount: slices.Clone(cfg.Mount), Umount: slices.Clone(cfg.Umount),
	}
	for argv, program := range map[*[]string]string{&c.Zfs: "zfs", &c.Mount: "mount", &c.Umount: "umount"} {
		if *argv == nil {
			*argv = []string{program}
		}
	}
	if c.Timeout < 0 {
		return nil, errors.New("zfs: the timeout is negative")
	}
	if err := snapdir.CheckPaths(c.Dir); err != nil {
		return nil, fmt.Errorf("zfs: %w", err)
	}
	if err := supported(c.Zfs[0]); err != nil {
		return nil, err
	}
	return &Snapshots{cfg: c, kind: fsType, dirs: snapdir.Dirs{Kind: kind, Paths: []string{c.Dir}, Anywhere: true}}, nil
}

// run runs a program. An agent that starts after this one was killed waits for it.
func (s *Snapshots) run(ctx context.Context, argv []string, keep func(line []byte) bool) ([]byte, error) {
	hold, err := program.Hold(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if hold != nil {
		defer hold.Close()
	}
	out, err := program.Run(ctx, program.Call{
		Argv: argv, Env: []string{"LC_ALL=C"}, Timeout: s.cfg.Timeout, Keep: keep, Hold: hold, // failures are in English
	})
	return out, status(err)
}

// zfs runs the program zfs, and returns its lines of output, split at tabs.
func (s *Snapshots) zfs(ctx context.Context, args ...string) ([][]string, error) {
	return s.lines(ctx, nil, args...)
}

// lines is zfs for the lines to keep.
func (s *Snapshots) lines(ctx context.Context, keep func(line []byte) bool, args ...string) ([][]string, error) {
	out, err := s.run(ctx, slices.Concat(s.cfg.Zfs, args), keep)
	if err != nil {
		return nil, err
	}
	var lines [][]string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			lines = append(lines, strings.Split(line, "\t"))
		}
	}
	return lines, nil
}

// failures are messages of OpenZFS 2.3 with their meanings. The first match counts.
var failures = []struct {
	text string
	err  error
}{
	{"could not find any snapshots to destroy", fsrvp.ErrObjectNotFound},
	{"dataset does not exist", fsrvp.ErrObjectNotFound},
	{"no such pool", fsrvp.ErrObjectNotFound},
	{"no such tag on this dataset", fsrvp.ErrObjectNotFound},
	{"dataset already exists", fsrvp.ErrObjectAlreadyExists},
	{"tag already exists on this dataset", fsrvp.ErrObjectAlreadyExists},
	{"permission denied", fsrvp.ErrAccessDenied},
	{"out of space", syscall.ENOSPC},
	{"disk quota exceeded", syscall.EDQUOT},
	{"dataset is busy", syscall.EBUSY},
	{"it's being held", syscall.EBUSY},
	{"has dependent clones", syscall.EBUSY},
	{"pool or dataset is busy", syscall.EBUSY},
	{"target is busy", syscall.EBUSY},
	{"read-only", syscall.EROFS},
	{"modules cannot be auto-loaded", fsrvp.ErrNotSupported},
	{"modules are not loaded", fsrvp.ErrNotSupported},
	{"pool I/O is currently suspended", syscall.EIO},
}

// status wraps a program's failure with a status of the protocol, or an error of the system.
func status(err error) error {
	e := new(program.Error)
	if !errors.As(err, &e) {
		return err
	}
	for _, f := range failures {
		if strings.Contains(e.Stderr, f.text) {
			return fmt.Errorf("%w: %w", err, f.err)
		}
	}
	return err
}

// isGone reports whether an error means that the thing to remove did not exist.
func isGone(err error) bool { return errors.Is(err, fsrvp.ErrObjectNotFound) }

// Volume finds the dataset that is mounted at dir or above. It fails with [fsrvp.ErrNotSupported]
// where dir is not on ZFS, only part of a dataset is mounted there, or something else is mounted
// below.
func (s *Snapshots) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	v, err := s.volume(ctx, dir)
	return v, wrap("volume", err)
}

func (s *Snapshots) volume(ctx context.Context, dir string) (backend.Volume, error) {
	if err := snapdir.CheckShared(dir); err != nil {
		return backend.Volume{}, err
	}
	m, err := mount.Of(dir)
	if err != nil {
		return backend.Volume{}, err
	}
	if m.Type != s.kind || strings.Contains(m.Source, "@") {
		return backend.Volume{}, fmt.Errorf("%s is on no dataset of ZFS: %w", dir, fsrvp.ErrNotSupported)
	}
	if m.Root != "/" {
		return backend.Volume{}, fmt.Errorf("%s is part of the dataset %s, mounted at %s: %w", dir, m.Source, m.Point,
			fsrvp.ErrNotSupported)
	}
	below, err := mount.Below(dir)
	if err != nil {
		return backend.Volume{}, err
	}
	if len(below) > 0 {
		return backend.Volume{}, fmt.Errorf("%s is mounted below %s: %w", below[0], dir, fsrvp.ErrNotSupported)
	}
	if err := snapdir.CheckOutside(s.cfg.Dir, dir); err != nil {
		return backend.Volume{}, err
	}
	guid, err := s.get(ctx, "guid", m.Source)
	if err != nil {
		return backend.Volume{}, err
	}
	d, err := safepath.Open(m.Point)
	if err != nil {
		return backend.Volume{}, err
	}
	defer d.Close()
	return backend.Volume{ID: prefix + guid, Path: m.Point}, nil
}

// get returns one property.
func (s *Snapshots) get(ctx context.Context, property, of string) (string, error) {
	lines, err := s.zfs(ctx, "get", "-Hp", "-o", "value", property, of)
	if err != nil {
		return "", err
	}
	if len(lines) != 1 || len(lines[0]) != 1 || lines[0][0] == "" {
		return "", fmt.Errorf("zfs get %s %s: an answer of %d lines", property, of, len(lines))
	}
	return lines[0][0], nil
}

func checkID(v backend.Volume) error {
	if !strings.HasPrefix(v.ID, prefix) {
		return fmt.Errorf("volume %q is not one of the backend zfs: %w", v.ID, fsrvp.ErrInvalidArg)
	}
	return nil
}

// Prepare writes dirty pages back, which a snapshot would have to wait for.
func (s *Snapshots) Prepare(ctx context.Context, volumes []backend.Volume) error {
	for _, v := range volumes {
		if err := treeset.SyncFS(ctx, v.Path); err != nil {
			return wrap("prepare", err)
		}
	}
	return nil
}

// A job is one snapshot to take.
type job struct {
	spec    backend.SnapshotSpec
	dataset string
	above   []safepath.Ancestor
	made    backend.Snapshot
}

func (j *job) snapshot() string { return j.dataset + "@" + name + j.spec.ID.String() }

func (j *job) clone() string { return pool(j.dataset) + "/" + name + j.spec.ID.String() }

func pool(dataset string) string {
	p, _, _ := strings.Cut(dataset, "/")
	return p
}

// Create takes the snapshots, those of a pool at one moment, or leaves none. A snapshot is on
// stable storage when the program that takes it has ended.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	made, err := s.create(ctx, specs)
	return made, wrap("create", err)
}

func (s *Snapshots) create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	jobs := make([]*job, len(specs))
	for i, spec := range specs {
		j, err := s.open(ctx, spec)
		if err != nil {
			return nil, err
		}
		jobs[i] = j
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := snapdir.Make(s.cfg.Dir); err != nil {
		return nil, err
	}
	if err := s.checkFree(ctx, specs); err != nil {
		return nil, err
	}
	err := s.take(ctx, jobs)
	for i := 0; i < len(jobs) && err == nil; i++ {
		if err = s.hidden.Note(jobs[i].spec); err == nil {
			err = s.show(ctx, jobs[i])
		}
	}
	if err != nil {
		errs := []error{err}
		for _, j := range jobs {
			errs = append(errs, s.delete(context.WithoutCancel(ctx), j.spec))
		}
		return nil, errors.Join(errs...)
	}
	snapshots := make([]backend.Snapshot, len(jobs))
	for i, j := range jobs {
		snapshots[i] = j.made
	}
	return snapshots, nil
}

// open finds the dataset of a spec by where its volume is mounted, and checks that it is the one
// that was added.
func (s *Snapshots) open(ctx context.Context, spec backend.SnapshotSpec) (*job, error) {
	if err := checkID(spec.Volume); err != nil {
		return nil, err
	}
	d, err := safepath.Open(spec.Volume.Path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	m, err := mount.Of(spec.Volume.Path)
	if err != nil {
		return nil, err
	}
	if m.Type != s.kind || m.Point != spec.Volume.Path {
		return nil, fmt.Errorf("no dataset is mounted at %s any more", spec.Volume.Path)
	}
	guid, err := s.get(ctx, "guid", m.Source)
	if err != nil {
		return nil, err
	}
	if prefix+guid != spec.Volume.ID {
		return nil, fmt.Errorf("%s is the dataset %s now, with the GUID %s, and not %s", spec.Volume.Path, m.Source,
			guid, spec.Volume.ID)
	}
	return &job{spec: spec, dataset: m.Source, above: d.Above}, nil
}

// checkFree fails where there is a snapshot with one of the ids, whoever it belongs to.
func (s *Snapshots) checkFree(ctx context.Context, specs []backend.SnapshotSpec) error {
	all, err := s.all(ctx)
	if err != nil {
		return err
	}
	for _, spec := range specs {
		for _, f := range all {
			if f.id == spec.ID {
				return fmt.Errorf("snapshot %v exists, as %s: %w", spec.ID, f.name, fsrvp.ErrObjectAlreadyExists)
			}
		}
		if err := s.dirs.CheckFree(spec.ID); err != nil {
			return err
		}
	}
	return nil
}

// take takes the snapshots with one command for each pool and mark, and holds them.
func (s *Snapshots) take(ctx context.Context, jobs []*job) error {
	type group struct {
		pool string
		mark backend.Mark
		nth  int // a command takes one snapshot of a dataset
	}
	nth := make(map[string]int)
	names := make(map[group][]string)
	var order []group
	for _, j := range jobs {
		g := group{pool(j.dataset), j.spec.Mark, nth[j.dataset]}
		nth[j.dataset]++
		if names[g] == nil {
			order = append(order, g)
		}
		names[g] = append(names[g], j.snapshot())
	}
	for _, g := range order {
		args := append([]string{"snapshot", "-o", property + "=" + mark(g.mark)}, names[g]...)
		if _, err := s.zfs(ctx, args...); err != nil {
			return err
		}
		if _, err := s.zfs(ctx, append([]string{"hold", tag}, names[g]...)...); err != nil {
			return err
		}
	}
	return nil
}

// mark is the value of the property, which has to have one.
func mark(m backend.Mark) string { return cmp.Or(m.String(), "none") }

// show makes a snapshot, or its clone, appear at its path.
func (s *Snapshots) show(ctx context.Context, j *job) error {
	inner, err := s.dirs.Gate(s.cfg.Dir, j.spec.ID, j.spec.Mark, j.above)
	if err != nil {
		return err
	}
	path := s.dirs.Path(inner, j.spec.ID, j.spec.Mark)
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	seconds, err := s.get(ctx, "creation", j.snapshot())
	if err != nil {
		return err
	}
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("creation of %s: %w", j.snapshot(), err)
	}
	if j.spec.Writable {
		_, err = s.zfs(ctx, "clone", "-o", "readonly=off", "-o", "canmount=noauto", "-o", "mountpoint=legacy",
			"-o", property+"="+mark(j.spec.Mark), j.snapshot(), j.clone())
		if err == nil {
			err = s.mount(ctx, "rw", j.clone(), path)
		}
	} else {
		err = s.mount(ctx, "ro", j.snapshot(), path)
	}
	j.made = backend.Snapshot{SnapshotSpec: j.spec, Path: path, Created: time.Unix(unix, 0).UTC()}
	return err
}

func (s *Snapshots) mount(ctx context.Context, options, dataset, path string) error {
	_, err := s.run(ctx, slices.Concat(s.cfg.Mount, []string{"-t", "zfs", "-o", options, dataset, path}), nil)
	return err
}

// A found is a snapshot of this backend's.
type found struct {
	id     fsrvp.CopyID
	name   string
	mark   backend.Mark
	clones []string
}

// all lists the snapshots of this backend's in all pools, of which there may be very many others.
func (s *Snapshots) all(ctx context.Context) ([]found, error) {
	lines, err := s.lines(ctx, func(line []byte) bool { return bytes.Contains(line, []byte("@"+name)) },
		"list", "-Hp", "-t", "snapshot", "-o", "name,"+property+",clones")
	if err != nil {
		return nil, err
	}
	var all []found
	for _, l := range lines {
		if len(l) != 3 {
			return nil, fmt.Errorf("zfs list: a line of %d fields", len(l))
		}
		_, short, _ := strings.Cut(l[0], "@")
		text, ok := strings.CutPrefix(short, name)
		id, err := uuid.Parse(text)
		if !ok || err != nil || id.String() != text {
			continue
		}
		f := found{id: fsrvp.CopyID(id), name: l[0]}
		if l[1] != "none" && l[1] != "-" {
			if f.mark, err = backend.ParseMark(l[1]); err != nil {
				continue // somebody else's property
			}
		}
		if l[2] != "" && l[2] != "-" {
			f.clones = strings.Split(l[2], ",")
		}
		all = append(all, f)
	}
	return all, nil
}

// List returns the snapshots of all pools that are imported, without their volumes' paths.
func (s *Snapshots) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	all, err := s.all(ctx)
	if err != nil {
		return nil, nil, wrap("list", err)
	}
	var specs []backend.SnapshotSpec
	for _, f := range all {
		specs = append(specs, backend.SnapshotSpec{
			ID: f.id, Mark: f.mark, Volume: backend.Volume{ID: prefix}, Writable: len(f.clones) > 0,
		})
	}
	own, foreign = snapdir.Split(specs, owner)
	return own, foreign, nil
}

// Delete unmounts and destroys a snapshot. It fails with an error that wraps [syscall.EBUSY] where
// a program has files open in it, or somebody else has made a clone or a hold of it.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	if err := checkID(spec.Volume); err != nil {
		return wrap("delete", err)
	}
	return wrap("delete", s.delete(ctx, spec))
}

func (s *Snapshots) delete(ctx context.Context, spec backend.SnapshotSpec) error {
	s.deleting.Lock()
	defer s.deleting.Unlock()
	all, err := s.all(ctx)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.id == spec.ID && !f.mark.Allows(spec.Mark.Owner) {
			return fmt.Errorf("snapshot %s, agent %s: %w", f.name, f.mark.Owner, backend.ErrForeign)
		}
	}
	s.hidden.Forget(spec.ID)
	if err := s.unmount(ctx, spec); err != nil {
		return err
	}
	for _, f := range all {
		if f.id == spec.ID {
			if err := s.destroy(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmount takes away where a snapshot appears.
func (s *Snapshots) unmount(ctx context.Context, spec backend.SnapshotSpec) error {
	entries, err := s.dirs.Find(spec.ID, spec.Mark.Owner)
	if err != nil {
		return err
	}
	for _, e := range entries {
		mounted, err := isMounted(e.Path)
		if err != nil {
			return err
		}
		if mounted {
			if _, err := s.run(ctx, slices.Concat(s.cfg.Umount, []string{e.Path}), nil); err != nil {
				return err
			}
		}
		if err := os.Remove(e.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := s.dirs.Ungate(e.Dir, e.ID, e.Mark); err != nil {
			return err
		}
	}
	return nil
}

func isMounted(path string) (bool, error) {
	all, err := mount.All()
	return slices.ContainsFunc(all, func(m mount.Mount) bool { return m.Point == path }), err
}

// destroy destroys a snapshot, with the clone that Create has made of it, and its hold.
func (s *Snapshots) destroy(ctx context.Context, f found) error {
	ours := pool(strings.SplitN(f.name, "@", 2)[0]) + "/" + name + f.id.String()
	if slices.Contains(f.clones, ours) {
		if _, err := s.zfs(ctx, "destroy", ours); err != nil && !isGone(err) {
			return err
		}
	}
	if _, err := s.zfs(ctx, "release", tag, f.name); err != nil && !isGone(err) {
		return err
	}
	if _, err := s.zfs(ctx, "destroy", f.name); err != nil && !isGone(err) {
		return err
	}
	return nil
}

// Seal makes a writable snapshot read-only. Files that are open for writing keep it from being so:
// seal the share first.
func (s *Snapshots) Seal(ctx context.Context, snapshot backend.Snapshot) error {
	return wrap("seal", s.seal(ctx, snapshot))
}

func (s *Snapshots) seal(ctx context.Context, snapshot backend.Snapshot) error {
	all, err := s.all(ctx)
	if err != nil {
		return err
	}
	for _, f := range all {
		if f.id != snapshot.ID {
			continue
		}
		for _, clone := range f.clones {
			if clone != pool(strings.SplitN(f.name, "@", 2)[0])+"/"+name+f.id.String() {
				continue
			}
			if err := treeset.SyncFS(ctx, snapshot.Path); err != nil {
				return err
			}
			if _, err := s.zfs(ctx, "set", "readonly=on", clone); err != nil {
				return err
			}
			return s.mount(ctx, "remount,ro", clone, snapshot.Path)
		}
		return nil // a snapshot is read-only
	}
	return fmt.Errorf("snapshot %v: %w", snapshot.ID, fsrvp.ErrObjectNotFound)
}

// CheckPath fails where a directory of a snapshot is reached by a symbolic link, or something was
// mounted below the shared one when the snapshot was taken.
func (s *Snapshots) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.hidden.CheckExposed(snapshot, path))
}

// remount mounts the snapshots whose places are there and empty.
func (s *Snapshots) remount(ctx context.Context) error {
	all, err := s.all(ctx) // also where there is nothing to mount: without the kernel's module there is no backend
	if err != nil {
		return err
	}
	entries, err := s.dirs.List()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if mounted, err := isMounted(e.Path); err != nil {
			return err
		} else if mounted {
			continue
		}
		if _, err := os.Lstat(e.Path); err != nil {
			continue // gates alone, which a crash has left
		}
		for _, f := range all {
			if f.id != e.ID {
				continue
			}
			if len(f.clones) == 0 {
				err = s.mount(ctx, "ro", f.name, e.Path)
			} else if readOnly, e2 := s.get(ctx, "readonly", f.clones[0]); e2 != nil {
				err = e2
			} else {
				err = s.mount(ctx, map[bool]string{true: "ro", false: "rw"}[readOnly == "on"], f.clones[0], e.Path)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(e.Path), err)
			}
		}
	}
	return nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("zfs: %s: %w", what, err)
	}
	return nil
}
