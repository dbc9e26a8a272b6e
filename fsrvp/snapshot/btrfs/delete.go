package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// Delete deletes a snapshot. Open files in it stay readable until they are closed. It fails if the
// volume's file system is not mounted, since the snapshot may then still exist.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	return wrap("delete", s.delete(ctx, spec, btrfsctl.Sync))
}

// DeleteUnsynced is Delete that leaves it to the file system when it writes that down, which it
// does within half a minute.
func (s *Snapshots) DeleteUnsynced(ctx context.Context, spec backend.SnapshotSpec) error {
	return wrap("delete", s.delete(ctx, spec, func(*os.File) error { return nil }))
}

// SyncDeletions waits for one commit of each file system that the volumes are on. It fails where
// one is not mounted.
func (s *Snapshots) SyncDeletions(ctx context.Context, volumes []backend.Volume) error {
	var done []btrfsctl.UUID
	for _, v := range volumes {
		fsID, err := fileSystemOf(v)
		if err != nil {
			return wrap("delete", err)
		}
		if slices.Contains(done, fsID) {
			continue
		}
		if ctx.Err() != nil {
			return wrap("delete", context.Cause(ctx))
		}
		if err := onMounted(fsID, btrfsctl.Sync); err != nil {
			return wrap("delete", err)
		}
		done = append(done, fsID)
	}
	return nil
}

// delete deletes a snapshot and calls sync with a directory of its file system.
func (s *Snapshots) delete(ctx context.Context, spec backend.SnapshotSpec, sync func(*os.File) error) error {
	fsID, err := fileSystemOf(spec.Volume)
	if err != nil {
		return err
	}
	entries, err := s.dirs.Find(spec.ID, spec.Mark.Owner)
	if err != nil {
		return err
	}
	s.hidden.Forget(spec.ID)
	found := false
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		deleted, err := s.destroy(e, fsID, sync)
		if err != nil {
			return err
		}
		found = found || deleted
	}
	if found {
		return nil
	}
	return onMounted(fsID, func(*os.File) error { return nil })
}

// destroy deletes a snapshot and its gates if it is on that file system, and then calls sync.
func (s *Snapshots) destroy(e snapdir.Entry, fsID btrfsctl.UUID, sync func(*os.File) error) (bool, error) {
	dir, err := os.Open(e.Dir)
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
	inner, err := os.Open(filepath.Dir(e.Path))
	if err != nil {
		return false, err
	}
	defer inner.Close()
	if err := btrfsctl.Destroy(inner, filepath.Base(e.Path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := s.dirs.Ungate(e.Dir, e.ID, e.Mark); err != nil {
		return false, err
	}
	return true, sync(dir)
}

// onMounted calls f with a directory of a file system. It fails where that is not mounted.
func onMounted(fsID btrfsctl.UUID, f func(*os.File) error) error {
	mounts, err := mount.All()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Type != kind {
			continue
		}
		dir, err := os.Open(m.Point)
		if err != nil {
			continue // hidden below another mount
		}
		id, err := btrfsctl.FileSystem(dir)
		if err != nil || id != fsID {
			dir.Close()
			continue
		}
		err = f(dir)
		dir.Close()
		return err
	}
	return fmt.Errorf("the file system %v is not mounted", uuid.UUID(fsID))
}
