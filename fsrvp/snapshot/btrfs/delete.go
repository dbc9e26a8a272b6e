package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snapdir"
)

// Delete deletes a snapshot. Files that are open in it stay readable until they are closed. It
// fails where the volume's file system is not mounted, since the snapshot may then still exist.
func (s *Snapshots) Delete(ctx context.Context, spec backend.SnapshotSpec) error {
	return wrap("delete", s.delete(ctx, spec))
}

func (s *Snapshots) delete(ctx context.Context, spec backend.SnapshotSpec) error {
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
		deleted, err := s.destroy(e, fsID)
		if err != nil {
			return err
		}
		found = found || deleted
	}
	if found {
		return nil
	}
	return s.checkMounted(fsID)
}

// destroy deletes a snapshot and its gates if it is on that file system.
func (s *Snapshots) destroy(e snapdir.Entry, fsID btrfsctl.UUID) (bool, error) {
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
	return true, btrfsctl.Sync(dir)
}

// checkMounted fails where the file system is not mounted.
func (s *Snapshots) checkMounted(fsID btrfsctl.UUID) error {
	mounts, err := mount.All()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Type != kind {
			continue
		}
		f, err := os.Open(m.Point)
		if err != nil {
			continue // hidden below another mount
		}
		id, err := btrfsctl.FileSystem(f)
		f.Close()
		if err == nil && id == fsID {
			return nil
		}
	}
	return fmt.Errorf("the file system %v is not mounted", uuid.UUID(fsID))
}
