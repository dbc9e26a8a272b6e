package btrfs

import (
	"context"
	"os"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/btrfsctl"
)

// Seal makes a writable snapshot read-only. What was written to it is on stable storage then. A
// file that is open for writing stays so until it is closed: seal the share first.
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

// CheckPath fails where a directory of a snapshot is reached by a symbolic link, or something was
// mounted below the shared one when the snapshot was taken.
func (s *Snapshots) CheckPath(_ context.Context, snapshot backend.Snapshot, path string) error {
	return wrap("check", s.hidden.CheckExposed(snapshot, path))
}
