// Package reflink takes snapshots by cloning every file of a directory tree (FICLONE): on XFS, on
// btrfs if package btrfs cannot reach the subvolume of a share, and on any other file system that
// can clone. It is for Linux. A clone shares its data with the original until one of them is
// written to, so a snapshot needs only the time and space of its metadata.
//
// # What a snapshot is
//
// A snapshot is a copy of the tree with everything that can be set in a file system: directories,
// regular files, symbolic and hard links, named pipes, sockets, device nodes, owners, modes, times,
// holes, access control lists, and extended attributes of the namespaces user, trusted and security
// (where Samba keeps NT ACLs, streams and DOS attributes). It does not have the flags of chattr
// (except +C), nor the file system's own times of birth and change.
//
// A snapshot of a tree is NOT atomic. Each file is cloned at one moment, but different files at
// different moments, while the walk goes on; Snapshot.Created is when the last walks began. The
// bulk is cloned ahead, by PrepareSnapshots; Create walks over the tree again until a walk finds
// that no directory changed under it, four times at most. Then the snapshot has exactly the files
// that the tree had at one moment. Snapshot.Moved lists directories that kept changing. Use this
// package if the application on the other side of the share does not write meanwhile, as a VSS
// writer ensures between freeze and thaw, or use package btrfs, whose snapshots are atomic.
//
// A snapshot is not more accessible than its volume: for each directory above the volume through
// which not everybody may pass, there is a directory with the same rights above the snapshot. A
// volume is opened step by step, without symbolic links, and must be the directory that
// [Snapshots.Volume] found.
//
// Only the share prevents writes to a snapshot: its files have the modes and owners of the
// original, and Seal only brings them to stable storage. Users can pass through the directory of
// snapshots, but cannot list it.
//
// # Volumes
//
// The volume of a shared directory is the directory itself, or the outermost of Config.Volumes that
// contains it. Shares to be copied together, as one shadow copy, must be in one of these. IDs begin
// with "reflink:".
//
// # Where snapshots are
//
// A snapshot is a directory reflink-<copy id>@<mark> on its volume's file system, in one of
// Config.Dirs or in .fsrvp at the root of the mount. The mark names the agent. While it is being
// made or deleted, its name begins with .tmp-, and if not everybody may pass through the
// directories above the volume, it is within .gated-reflink-<copy id>@<mark>. The directory must
// not be in a shared one, so the root of a file system cannot be shared: share a directory below
// it.
package reflink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/treeset"
)

// A Config configures the backend. Nil means the zero values.
type Config struct {
	// Dirs are the directories for snapshots, absolute and clean; a snapshot is in the first one on
	// the file system of its volume. A missing one is made, with mode 0711, in a parent that must
	// exist. They must belong to the user of the process, and nobody else may be able to write to
	// them or to replace them. A volume on a file system without one is not supported. Nil means
	// the directory .fsrvp at the root of the mount that holds the volume.
	Dirs []string
	// Volumes are directories that are volumes with everything below them, absolute, clean, without
	// symbolic links. Nil means that every shared directory is a volume.
	Volumes []string
	// Workers is the number of files of a volume that are cloned concurrently. Zero means
	// runtime.GOMAXPROCS.
	Workers int
	// SkipUnreadable leaves out files that cannot be read, for lack of rights or because of an
	// input or output error, and lists them in Snapshot.Unread. Otherwise such a file fails the
	// shadow copy.
	SkipUnreadable bool
	// NoSync leaves out bringing snapshots to stable storage: they may be lost, completely or in
	// part, when the machine crashes. It is for snapshots that do not outlive the process.
	NoSync bool
	// Progress is called with the number of files that were cloned for a shadow copy, and the size
	// of their contents. It is called for one file of a copy at a time, and must not block. Nil
	// means none.
	Progress func(id fsrvp.CopyID, files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied properly. Nil means none.
	Logger *slog.Logger
}

// Snapshots is the backend. It implements [backend.Snapshots], Sealer, SnapshotPreparer,
// SnapshotLister, PathChecker and CompatibilityReporter. It is safe for concurrent use.
type Snapshots struct {
	set treeset.Set
}

var _ interface {
	backend.Snapshots
	backend.Sealer
	backend.SnapshotLister
	backend.SnapshotPreparer
	backend.PathChecker
	backend.CompatibilityReporter
} = (*Snapshots)(nil)

// New returns the backend. It fails if the Config is invalid, and with [errors.ErrUnsupported] if
// the system is not Linux.
func New(cfg *Config) (*Snapshots, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if err := errors.Join(supported(), snapdir.CheckPaths(cfg.Dirs...),
		snapdir.CheckPaths(cfg.Volumes...)); err != nil {
		return nil, fmt.Errorf("reflink: %w", err)
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Snapshots{set: treeset.Set{
		Dirs: snapdir.Dirs{Kind: "reflink", Paths: append([]string(nil), cfg.Dirs...)},
		Roots: append([]string(nil),
			cfg.Volumes...), Clone: true, Workers: cfg.Workers, SkipUnreadable: cfg.SkipUnreadable, NoSync: cfg.NoSync,
		Progress: cfg.Progress, Logger: logger, Check: check,
	}}, nil
}

// Volume returns the volume of a shared directory; see the package documentation. It tries a clone
// with unnamed files. It fails with [fsrvp.ErrNotSupported] if the file system cannot clone, if
// something is mounted below the volume, if other btrfs subvolumes are in it, or if its snapshots
// would be within dir, where its users would see them.
func (s *Snapshots) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	v, err := s.set.Volume(ctx, dir)
	return v, wrap("volume", err)
}

// PrepareSnapshots makes the bulk of the copies while applications go on; Create then brings them
// up to date. It keeps about 20 bytes in memory for each copied file.
func (s *Snapshots) PrepareSnapshots(ctx context.Context, specs []backend.SnapshotSpec) error {
	return wrap("prepare", s.set.Prepare(ctx, specs))
}

// CheckPath fails if the path to a directory of a snapshot has a symbolic link.
func (s *Snapshots) CheckPath(ctx context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.set.CheckPath(ctx, snapshot, path))
}

// Create clones all volumes concurrently, or leaves nothing. If space runs out, the error wraps
// [syscall.ENOSPC].
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	snapshots, err := s.set.Create(ctx, specs)
	return snapshots, wrap("create", err)
}

// Delete removes a snapshot, finished or not. If ctx ends, a part of it may be left, which another
// Delete removes.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	return wrap("delete", s.set.Delete(ctx, spec))
}

// Seal brings a writable snapshot to stable storage. Only the share prevents writes to it.
func (s *Snapshots) Seal(ctx context.Context, snapshot backend.Snapshot) error {
	return wrap("seal", s.set.Seal(ctx, snapshot))
}

// List returns the snapshots in Config.Dirs or, if that is nil, in the directories .fsrvp of local
// mounts, without the paths of their volumes.
func (s *Snapshots) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	own, foreign, err = s.set.List(ctx, owner)
	return own, foreign, wrap("list", err)
}

// Compatibility says that a volume must not be defragmented, which would end the sharing, and fill
// the disk.
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return fsrvp.DisableDefrag, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("reflink: %s: %w", what, err)
	}
	return nil
}
