// Package copy takes snapshots by copying directory trees, file by file, on any file system and any
// operating system. It needs time and space for all data: use it if no other backend fits, and for
// demos.
//
// # What a snapshot is
//
// On Linux a copy has everything that can be set in a file system: directories, regular files,
// symbolic and hard links, named pipes, sockets, device nodes, owners, modes, times, holes, access
// control lists, and extended attributes of the namespaces user, trusted and security (where Samba
// keeps NT ACLs, streams and DOS attributes). If the process is not root, it owns the copied files,
// and leaves out device nodes and root's attributes. Copies do not have the flags of chattr, nor
// the file system's own times of birth and change. On other systems a copy has what Go's standard
// library supports: contents, modes, times of modification, symbolic links; hard links and owners
// on Unix.
//
// A snapshot of a tree is NOT atomic, and neither is that of a file. Files are copied at different
// moments while the walk goes on; Snapshot.Created is when the last walks began. The bulk is copied
// ahead, by PrepareSnapshots; Create walks over the tree again and copies what changed, until a
// walk finds that nothing changed under it, four times at most. Then the snapshot has exactly the
// files that the tree had at one moment. Snapshot.Moved lists directories and files that kept
// changing. Use this package if the application on the other side of the share does not write
// during the copy, as a VSS writer ensures between freeze and thaw.
//
// A snapshot is not more accessible than its volume: for each directory above the volume through
// which not everybody may pass, there is a directory with the same rights above the snapshot. A
// volume is opened step by step, without symbolic links, and must be the directory that
// [Snapshots.Volume] found.
//
// Only the share prevents writes to a snapshot: its files have the modes of the original, and Seal
// only brings them to stable storage. Users can pass through the directory of snapshots, but cannot
// list it.
//
// # Volumes
//
// The volume of a shared directory is the directory itself, or the outermost of Config.Volumes that
// contains it. Shares to be copied together, as one shadow copy, must be in one of these. IDs begin
// with "copy:".
//
// # Where snapshots are
//
// A snapshot is a directory copy-<copy id>@<mark>, where the mark names the agent, in one of
// Config.Dirs, or in .fsrvp at the root of the mount; while it is being made or deleted, its name
// begins with .tmp-, and if not everybody may pass through the directories above the volume, it is
// within .gated-copy-<copy id>@<mark>. The directory must not be in a shared one.
package copy

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
	// the file system of its volume, else in the first one. A missing one is made, with mode 0711,
	// in a parent that must exist. They must belong to the user of the process, and nobody else may
	// be able to write to them or to replace them, which is not checked on Windows. Nil, on Linux
	// only, means the directory .fsrvp at the root of the mount that holds the volume.
	Dirs []string
	// Volumes are directories that are volumes with everything below them, absolute, clean, without
	// symbolic links. Nil means that every shared directory is a volume.
	Volumes []string
	// Workers is the number of files of a volume that are copied concurrently. Zero means
	// runtime.GOMAXPROCS.
	Workers int
	// SkipUnreadable leaves out files that cannot be read, for lack of rights or because of an
	// input or output error, and lists them in Snapshot.Unread. Otherwise such a file fails the
	// shadow copy.
	SkipUnreadable bool
	// NoSync leaves out bringing snapshots to stable storage: they may be lost, completely or in
	// part, when the machine crashes. It is for snapshots that do not outlive the process.
	NoSync bool
	// Progress is called with the number of files and of bytes that were copied for a shadow copy.
	// It is called for one file of a copy at a time, and must not block. Nil means none.
	Progress func(id fsrvp.CopyID, files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied properly. Nil means none.
	Logger *slog.Logger
}

// Snapshots is the backend. It implements [backend.Snapshots], Sealer, SnapshotPreparer,
// SnapshotLister and PathChecker. It is safe for concurrent use.
type Snapshots struct {
	set treeset.Set
}

var _ interface {
	backend.Snapshots
	backend.Sealer
	backend.SnapshotLister
	backend.SnapshotPreparer
	backend.PathChecker
} = (*Snapshots)(nil)

// New returns the backend. It fails if the Config is invalid.
func New(cfg *Config) (*Snapshots, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if err := errors.Join(snapdir.CheckPaths(cfg.Dirs...), snapdir.CheckPaths(cfg.Volumes...),
		snapdir.CheckDefault(cfg.Dirs)); err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Snapshots{set: treeset.Set{
		Dirs: snapdir.Dirs{Kind: "copy", Paths: append([]string(nil), cfg.Dirs...), Anywhere: true},
		Roots: append([]string(nil),
			cfg.Volumes...), Workers: cfg.Workers, SkipUnreadable: cfg.SkipUnreadable, NoSync: cfg.NoSync,
		Progress: cfg.Progress, Logger: logger, Check: func(volume, dir string) error { return nil },
	}}, nil
}

// Volume returns the volume of a shared directory; see the package documentation. It fails with
// [fsrvp.ErrNotSupported] if something is mounted below the volume (on Linux; elsewhere Create
// fails), or if its snapshots would be within dir, where its users would see them.
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

// Create copies all volumes concurrently, or leaves nothing. If space runs out, the error wraps
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

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("copy: %s: %w", what, err)
	}
	return nil
}
