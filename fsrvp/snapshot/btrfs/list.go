package btrfs

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// List returns the snapshots in Config.Dirs or, if that is nil, in the directories .fsrvp of
// mounts, without the paths of their volumes.
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
			spec.ID, spec.Mark = e.ID, e.Mark
			specs = append(specs, spec)
		}
	}
	own, foreign = snapdir.Split(specs, owner)
	return own, foreign, nil
}

// describe returns the spec of an entry if it is a snapshot and was not deleted meanwhile.
func describe(e snapdir.Entry) (spec backend.SnapshotSpec, ok bool, err error) {
	f, err := os.Open(e.Path)
	if err == nil {
		defer f.Close()
		spec, ok, err = describeOpen(f)
	}
	if errors.Is(err, fs.ErrNotExist) && e.Gated { // only gates, left by a crash
		return describeGates(e)
	}
	if errors.Is(err, fs.ErrNotExist) { // the ioctls say so too, of an open subvolume
		return spec, false, nil
	}
	return spec, ok, err
}

// describeGates returns the spec of a snapshot behind gates that was about to be made, or is being
// deleted.
func describeGates(e snapdir.Entry) (spec backend.SnapshotSpec, ok bool, err error) {
	dir, err := os.Open(e.Dir)
	if err != nil {
		return spec, false, err
	}
	defer dir.Close()
	if is, err := btrfsctl.Is(dir); err != nil || !is {
		return spec, false, err
	}
	fsID, err := btrfsctl.FileSystem(dir)
	if err != nil {
		return spec, false, err
	}
	return backend.SnapshotSpec{Volume: backend.Volume{ID: prefix + uuid.UUID(fsID).String() + "/"}}, true, nil
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
