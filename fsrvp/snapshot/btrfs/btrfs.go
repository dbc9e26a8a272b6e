// Package btrfs takes snapshots of btrfs subvolumes with ioctls. It needs Linux 4.18 and root, but
// no programs.
//
// # What a snapshot is
//
// A snapshot shows a subvolume at a single moment. Making one takes almost no time and space,
// whatever the subvolume contains. Snapshots of several subvolumes are taken concurrently, but not
// at the same moment. A snapshot that is not writable is a read-only subvolume, to which not even
// root can write; Seal makes a writable one read-only.
//
// A snapshot is not more accessible than its volume: for each directory above the volume through
// which not everybody may pass, there is a directory with the same rights above the snapshot.
//
// # Volumes
//
// The volume of a shared directory is the subvolume that holds it. Snapshots do not include nested
// subvolumes: a directory with one below it, or with anything mounted below it, is not supported,
// unless IgnoreNested in [Config] allows it. IDs are "btrfs:" and the UUIDs of the file system and
// of the subvolume.
//
// # Where snapshots are
//
// A snapshot is a subvolume btrfs-<copy id>@<mark>, where the mark names the agent, in a directory
// of its own file system: one of Config.Dirs, or the directory .fsrvp at the root of the mount that
// holds the volume; if not everybody may pass through the directories above the volume, it is
// within .gated-btrfs-<copy id>@<mark>. Users can pass through that directory to a shared snapshot,
// as a file server needs, but cannot list it. It must not be in a shared directory. So if the root
// of a file system is shared, there are two ways: share a directory below the root, or mount the
// file system's top level somewhere else and name a directory there.
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

// A Config configures the backend. Nil means the zero values.
type Config struct {
	// Dirs are the directories for snapshots, absolute and clean; a snapshot is in the first one on
	// the file system of its volume. A missing one is made, with mode 0711, in a parent that must
	// exist. They must belong to root, and nobody else may be able to write to them or to replace
	// them. A volume on a file system without one is not supported. Nil means the directory .fsrvp
	// at the root of the mount that holds the volume.
	Dirs []string
	// IgnoreNested are the names of subvolumes that may be below a shared directory, such as
	// ".snapshots" of snapper. Snapshots have empty directories in their place. Nil means that none
	// are allowed.
	IgnoreNested []string
}

// Snapshots is the backend. It implements [backend.Snapshots], DeleteSyncer, Sealer, Preparer,
// SnapshotLister, PathChecker and CompatibilityReporter. It is safe for concurrent use.
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

// New returns the backend. It fails if the Config is invalid, and with [errors.ErrUnsupported] if
// the system is not Linux on 386 (with a 64-bit kernel), amd64, arm, arm64, loong64, riscv64 or
// s390x: other machines number ioctls differently.
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

// Compatibility says that a volume must not be defragmented, which would end the sharing with its
// snapshots, and fill the disk.
func (s *Snapshots) Compatibility(context.Context, backend.Volume) (fsrvp.Compatibility, error) {
	return fsrvp.DisableDefrag, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("btrfs: %s: %w", what, err)
	}
	return nil
}
