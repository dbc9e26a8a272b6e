package btrfs

import (
	"context"
	"os"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
)

// Seal makes a writable snapshot read-only. Everything written to it is then on stable storage. A
// file that is open for writing stays writable until it is closed, so seal the share first.
func (s *Snapshots) Seal(_ context.Context, snapshot backend.Snapshot) error {
	return wrap("seal", seal(snapshot.Path))
}

func seal(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if readOnly, err := btrfsctl.ReadOnly(f); err != nil || readOnly {
		return err
	}
	if err := btrfsctl.Flush(f); err != nil {
		return err
	}
	if err := btrfsctl.SetReadOnly(f); err != nil {
		return err
	}
	return btrfsctl.Sync(f)
}

// CheckPath fails if the path to a directory of a snapshot has a symbolic link, or if something was
// mounted below the shared directory when the snapshot was taken.
func (s *Snapshots) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.hidden.CheckExposed(snapshot, path))
}
