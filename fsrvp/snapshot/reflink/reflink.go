// Package reflink takes snapshots by cloning every file of a directory tree (FICLONE): on XFS, on
// btrfs where a share is not in a subvolume that the package btrfs can reach, and on whatever else
// clones. It is for Linux. A clone shares the data with the original until one of both is written
// to, so a snapshot takes the time and the space of its metadata.
//
// # What a snapshot is
//
// A copy of the tree with everything that the file system lets one set: directories, regular files,
// symbolic and hard links, named pipes, sockets, device nodes, owners, modes, times, holes, access
// control lists, and extended attributes of the namespaces user, trusted and security (where Samba
// keeps NT ACLs, streams and DOS attributes). It does not have the flags of chattr (but for +C) and
// the file system's own times of birth and change.
//
// A snapshot of a tree is NOT atomic. Each file is cloned at one moment, but different files at
// different moments, while the walk goes on; Snapshot.Created is when the last walks began. The
// bulk is cloned ahead, by PrepareSnapshots; Create walks over the tree again until a walk finds
// that no directory changed under it, four times at most. Then the snapshot has every file that the
// tree had at one moment. Where directories keep changing, Snapshot.Moved names them. Use it where
// the application on the other side of the share holds its files still, as a VSS writer does
// between freeze and thaw, or the package btrfs, whose snapshots are atomic.
//
// A snapshot is no more open than its volume: where users had to pass through a directory above the
// volume that does not let everybody pass, they have to pass through one with the same rights above
// the snapshot. A volume is found step by step, without symbolic links, and must be the directory
// that Volume found.
//
// Nothing but the share keeps a snapshot from being written to: its files have the modes and owners
// of the original, and Seal only brings them to stable storage. Users can pass through the
// directory of snapshots, but cannot list it.
//
// # Volumes
//
// The volume of a shared directory is the directory itself, or the outermost of Config.Volumes that
// it is in. Shares that are to be copied together, as one shadow copy, must be in one of these. IDs
// begin with "reflink:".
//
// # Where snapshots are
//
// A snapshot is a directory reflink-<copy id>@<mark> on its volume's file system, in one of
// Config.Dirs or in .fsrvp at the root of the mount. The mark names the agent. One that is being
// made or deleted has .tmp- before that, and one of a volume below a directory that not everybody
// may pass through is within .gated-reflink-<copy id>@<mark>. That directory must not lie in a
// shared one, so the root of a file system cannot be shared: share a directory below it.
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

// A Config says where snapshots are and how they are made. Nil means the zero values.
type Config struct {
	// Dirs are the directories that snapshots are in, absolute and clean; a snapshot is in the
	// first one on the file system of its volume. One that is missing is made, with mode 0711, in a
	// parent that has to exist. They must belong to the user of the process, and nobody else may be
	// able to write to them or to replace them. A volume on whose file system there is none is not
	// supported. Nil: the directory .fsrvp at the root of the mount that holds the volume.
	Dirs []string
	// Volumes are directories that are volumes with all that is below them, absolute, clean,
	// without symbolic links. Nil: every shared directory is a volume.
	Volumes []string
	// Workers is how many files of a volume are cloned at once. Zero: runtime.GOMAXPROCS.
	Workers int
	// SkipUnreadable takes the shadow copy without what cannot be read, for want of rights or by an
	// input or output error, and names that in Snapshot.Unread. Otherwise such a file fails the
	// shadow copy.
	SkipUnreadable bool
	// NoSync says that snapshots are not brought to stable storage: they are lost, or in part, when
	// the machine crashes. It is for snapshots that do not outlive the process.
	NoSync bool
	// Progress is called with the number of files that were cloned for a shadow copy, and the size
	// of their contents. One call at a time for each copy; it must not block. Nil: nobody is told.
	Progress func(id fsrvp.CopyID, files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied as it should. Nil: none.
	Logger *slog.Logger
}

// Snapshots is the backend. It implements backend.Snapshots, Sealer, SnapshotPreparer,
// SnapshotLister, PathChecker and CompatibilityReporter. All methods may be called by several
// goroutines at once.
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

// New returns the backend. It fails for a Config that is wrong, and with errors.ErrUnsupported
// where the system is not Linux.
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

// Volume finds the volume of a shared directory; see the package. It tries a clone, with unnamed
// files. It fails with fsrvp.ErrNotSupported where the file system has none, something is mounted
// below the volume, there are other btrfs subvolumes in it, or its snapshots would lie within dir,
// for its users to see.
func (s *Snapshots) Volume(ctx context.Context, dir string) (backend.Volume, error) {
	v, err := s.set.Volume(ctx, dir)
	return v, wrap("volume", err)
}

// PrepareSnapshots makes the bulk of the copies while applications go on; Create then brings them
// up to date. It keeps a description of what it has copied in memory, some 20 bytes for each file.
func (s *Snapshots) PrepareSnapshots(ctx context.Context, specs []backend.SnapshotSpec) error {
	return wrap("prepare", s.set.Prepare(ctx, specs))
}

// CheckPath fails where a directory of a snapshot is reached by a symbolic link.
func (s *Snapshots) CheckPath(ctx context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.set.CheckPath(ctx, snapshot, path))
}

// Create clones all the volumes at once, or leaves nothing. Space that runs out is an error that
// wraps syscall.ENOSPC.
func (s *Snapshots) Create(ctx context.Context, specs []backend.SnapshotSpec) ([]backend.Snapshot, error) {
	snapshots, err := s.set.Create(ctx, specs)
	return snapshots, wrap("create", err)
}

// Delete removes a snapshot, finished or not. When ctx ends, part of it is left, which another
// Delete removes.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	return wrap("delete", s.set.Delete(ctx, spec))
}

// Seal brings a writable snapshot to stable storage. It is the share that keeps it from being
// written to.
func (s *Snapshots) Seal(ctx context.Context, snapshot backend.Snapshot) error {
	return wrap("seal", s.set.Seal(ctx, snapshot))
}

// List returns the snapshots in Config.Dirs or, where it is nil, in the directories .fsrvp of local
// mounts, without the paths of their volumes.
func (s *Snapshots) List(ctx context.Context, owner backend.Owner) (own, foreign []backend.SnapshotSpec, err error) {
	own, foreign, err = s.set.List(ctx, owner)
	return own, foreign, wrap("list", err)
}

// Compatibility says that a volume is not to be defragmented: that would give up the sharing, and
// fill the disk.
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return fsrvp.DisableDefrag, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("reflink: %s: %w", what, err)
	}
	return nil
}
