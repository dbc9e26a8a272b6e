// Package copy takes snapshots by copying directory trees, file by file, on any file system and any
// operating system. It takes the time and the space of the data: it is what is left where no other
// backend fits, and for demos.
//
// # What a snapshot is
//
// On Linux a copy has everything that the file system lets one set: directories, regular files,
// symbolic and hard links, named pipes, sockets, device nodes, owners, modes, times, holes, access
// control lists, and extended attributes of the namespaces user, trusted and security (where Samba
// keeps NT ACLs, streams and DOS attributes). A process that is not root makes the files its own,
// and leaves out device nodes and the attributes that are root's. No copy has the flags of chattr
// and the file system's own times of birth and change. On other systems a copy has what Go's
// standard library offers: contents, modes, times of modification, symbolic links; hard links and
// owners on Unix.
//
// A snapshot of a tree is NOT atomic, and neither is that of a file. Files are copied at different
// moments while the walk goes on; Snapshot.Created is when the last walks began. The bulk is copied
// ahead, by PrepareSnapshots; Create walks over the tree again and copies what changed, until a
// walk finds that nothing changed under it, four times at most. Then the snapshot has every file
// that the tree had at one moment. What keeps changing, directories and files, Snapshot.Moved
// names. Use it where the application on the other side of the share holds its files still, as a
// VSS writer does between freeze and thaw.
//
// A snapshot is no more open than its volume: where users had to pass through a directory above the
// volume that does not let everybody pass, they have to pass through one with the same rights above
// the snapshot. A volume is found step by step, without symbolic links, and must be the directory
// that Volume found.
//
// Nothing but the share keeps a snapshot from being written to: its files have the modes of the
// original, and Seal only brings them to stable storage. Users can pass through the directory of
// snapshots, but cannot list it.
//
// # Volumes
//
// The volume of a shared directory is the directory itself, or the outermost of Config.Volumes that
// it is in. Shares that are to be copied together, as one shadow copy, must be in one of these. IDs
// begin with "copy:".
//
// # Where snapshots are
//
// A snapshot is a directory copy-<copy id>@<mark>, where the mark names the agent, in one of
// Config.Dirs, or in .fsrvp at the root of the mount; one that is being made or deleted has .tmp-
// before that, and one of a volume below a directory that not everybody may pass through is within
// .gated-copy-<copy id>@<mark>. That directory must not lie in a shared one.
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

// A Config says where snapshots are and how they are made. Nil means the zero values.
type Config struct {
	// Dirs are the directories that snapshots are in, absolute and clean; a snapshot is in the
	// first one on the file system of its volume, else in the first one. One that is missing is
	// made, with mode 0711, in a parent that has to exist. They must belong to the user of the
	// process, and nobody else may be able to write to them or to replace them, which is not
	// checked on Windows. Nil, on Linux only: the directory .fsrvp at the root of the mount that
	// holds the volume.
	Dirs []string
	// Volumes are directories that are volumes with all that is below them, absolute, clean,
	// without symbolic links. Nil: every shared directory is a volume.
	Volumes []string
	// Workers is how many files of a volume are copied at once. Zero: runtime.GOMAXPROCS.
	Workers int
	// SkipUnreadable takes the shadow copy without what cannot be read, for want of rights or by an
	// input or output error, and names that in Snapshot.Unread. Otherwise such a file fails the
	// shadow copy.
	SkipUnreadable bool
	// NoSync says that snapshots are not brought to stable storage: they are lost, or in part, when
	// the machine crashes. It is for snapshots that do not outlive the process.
	NoSync bool
	// Progress is called with the number of files and of bytes that were copied for a shadow copy.
	// One call at a time for each copy; it must not block. Nil: nobody is told.
	Progress func(id fsrvp.CopyID, files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied as it should. Nil: none.
	Logger *slog.Logger
}

// Snapshots is the backend. It implements backend.Snapshots, Sealer, SnapshotPreparer,
// SnapshotLister and PathChecker. All methods may be called by several goroutines at once.
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

// New returns the backend. It fails for a Config that is wrong.
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

// Volume finds the volume of a shared directory; see the package. It fails with
// fsrvp.ErrNotSupported where something is mounted below the volume (which it can tell on Linux;
// elsewhere Create does), or its snapshots would lie within dir, for its users to see.
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

// Create copies all the volumes at once, or leaves nothing. Space that runs out is an error that
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

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("copy: %s: %w", what, err)
	}
	return nil
}
