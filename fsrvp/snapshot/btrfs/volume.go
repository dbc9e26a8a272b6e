package btrfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// Volume returns the subvolume that holds dir. It fails with [fsrvp.ErrNotSupported] if dir is not
// on btrfs, if the root of its subvolume cannot be reached (only part of it is mounted), if other
// subvolumes or mounts are below dir, or if snapshots would be within dir, where users of the share
// would see them.
func (s *Snapshots) Volume(_ context.Context, dir string) (backend.Volume, error) {
	v, err := s.volume(dir)
	return v, wrap("volume", err)
}

func (s *Snapshots) volume(dir string) (backend.Volume, error) {
	if err := snapdir.CheckShared(dir); err != nil {
		return backend.Volume{}, err
	}
	d, err := safepath.Open(dir)
	if err != nil {
		return backend.Volume{}, err
	}
	defer d.Close()
	if err := s.checkBelow(dir, d.File); err != nil {
		return backend.Volume{}, err
	}
	root, err := rootOf(d)
	if err != nil {
		return backend.Volume{}, err
	}
	defer root.Close()
	path := root.Name()
	if m, err := mount.Of(dir); err != nil {
		return backend.Volume{}, err
	} else if !mount.Within(path, m.Point) { // a bind mount: a snapshot of root has something else at that path
		return backend.Volume{}, fmt.Errorf("%s is part of a subvolume, mounted at %s: %w", dir, m.Point,
			fsrvp.ErrNotSupported)
	}
	snapshots, err := s.dirs.For(path)
	if err != nil {
		return backend.Volume{}, err
	}
	if err := snapdir.CheckOutside(snapshots, dir); err != nil {
		return backend.Volume{}, err
	}
	// The ID identifies the subvolume, so a pin is not needed.
	id, err := volumeID(root.File)
	return backend.Volume{ID: id, Path: path}, err
}

// checkBelow refuses a directory, open as f, that a snapshot would not show completely.
func (s *Snapshots) checkBelow(dir string, f *os.File) error {
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
	nested, err := s.nested(f)
	if err != nil {
		return err
	}
	if len(nested) > 0 {
		return fmt.Errorf("%s has another subvolume in it, %s: %w", dir, nested[0], fsrvp.ErrNotSupported)
	}
	return nil
}

// nested returns the paths, from an open directory, of subvolumes below it that it may not have.
func (s *Snapshots) nested(f *os.File) ([]string, error) {
	nested, err := btrfsctl.Nested(f)
	return slices.DeleteFunc(nested, func(path string) bool {
		return slices.Contains(s.ignoreNested, filepath.Base(path))
	}), err
}

// rootOf opens the root of the subvolume that holds dir.
func rootOf(dir *safepath.Dir) (*safepath.Dir, error) {
	want, err := btrfsctl.Info(dir.File)
	if err != nil {
		return nil, err
	}
	for path := dir.Name(); ; path = filepath.Dir(path) {
		d, err := safepath.Open(path)
		if err != nil {
			return nil, err
		}
		here, found, err := look(d.File)
		if err == nil && found && here == want.ID {
			return d, nil
		}
		d.Close()
		if err != nil {
			return nil, err
		}
		if here != want.ID || filepath.Dir(path) == path {
			return nil, fmt.Errorf("the root of the subvolume that holds %s is not mounted: %w", dir.Name(),
				fsrvp.ErrNotSupported)
		}
	}
}

// look returns the number of the subvolume that holds f, or zero if f is not on btrfs, and whether
// f is its root.
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
