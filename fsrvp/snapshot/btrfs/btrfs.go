// Package btrfs takes snapshots of btrfs subvolumes, by ioctl: it needs Linux 4.18 and root, but no
// program.
//
// # What a snapshot is
//
// A snapshot shows a subvolume as it was at one moment. It takes no time and no space to make,
// whatever the subvolume holds. Snapshots of several subvolumes are taken at once, but not at one
// moment. One that is not writable is a read-only subvolume, to which not even root can write; Seal
// makes a writable one so.
//
// A snapshot is no more open than its volume: where users had to pass through a directory above the
// volume that does not let everybody pass, they have to pass through one with the same rights above
// the snapshot.
//
// # Volumes
//
// The volume of a shared directory is the subvolume that holds it. Snapshots do not descend into
// other subvolumes: a directory with one below it, or with anything mounted below it, is not
// supported, unless Config.IgnoreNested says so. IDs are "btrfs:" and the UUIDs of the file system
// and of the subvolume.
//
// # Where snapshots are
//
// A snapshot is a subvolume btrfs-<copy id>@<mark>, where the mark names the agent, in a directory
// of its own file system: one of Config.Dirs, or the directory .fsrvp at the root of the mount that
// holds the volume; that of a volume below a directory that not everybody may pass through is
// within .gated-btrfs-<copy id>@<mark>. Users can pass through that directory to a snapshot that is
// shared, as a file server needs, but cannot list it. It must not lie in a shared directory. So a
// file system whose root is shared needs another place: share a directory below the root, or mount
// the file system's top level somewhere else and name a directory there.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// A Config says where snapshots are. Nil means the zero values.
type Config struct {
	// Dirs are the directories that snapshots are in, absolute and clean; a snapshot is in the
	// first one on the file system of its volume. One that is missing is made, with mode 0711, in a
	// parent that has to exist. They must belong to root, and nobody else may be able to write to
	// them or to replace them. A volume on whose file system there is none is not supported. Nil:
	// the directory .fsrvp at the root of the mount that holds the volume.
	Dirs []string
	// IgnoreNested are the names of subvolumes that may be below a shared directory, such as
	// ".snapshots" of snapper. Snapshots have an empty directory in their place. Nil: there may be
	// none.
	IgnoreNested []string
}

// Snapshots is the backend. It implements backend.Snapshots, DeleteSyncer, Sealer, Preparer,
// SnapshotLister, PathChecker and CompatibilityReporter. All methods may be called by several goroutines at once.
type Snapshots struct {
	dirs         snapdir.Dirs
	ignoreNested []string
	hidden       snapdir.Hidden
}

var _ interface {
	backend.Snapshots
	backend.DeleteSyncer
	backend.Sealer
	backend.Preparer
	backend.SnapshotLister
	backend.PathChecker
	backend.CompatibilityReporter
} = (*Snapshots)(nil)

// New returns the backend. It fails for a Config that is wrong, and with errors.ErrUnsupported
// where the system is not Linux on 386 (with a 64-bit kernel), amd64, arm, arm64, loong64, riscv64
// or s390x: other machines number ioctls in another way.
func New(cfg *Config) (*Snapshots, error) {
	if cfg == nil {
		cfg = new(Config)
	}
	if !btrfsctl.Supported {
		return nil, fmt.Errorf("btrfs: snapshots cannot be taken on %s/%s; it needs Linux on a machine with the common numbering of ioctls: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
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

// Compatibility says that a volume is not to be defragmented: that would give up what it shares
// with its snapshots, and fill the disk.
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return fsrvp.DisableDefrag, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("btrfs: %s: %w", what, err)
	}
	return nil
}
