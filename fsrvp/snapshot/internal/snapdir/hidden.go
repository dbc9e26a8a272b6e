package snapdir

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/safepath"
)

// Hidden remembers what the file system's snapshots of whole volumes lack: things that were mounted
// in the volume, which a share that was added before may show. It need not survive the process,
// since by then a share was exposed, or its set was given up. The zero value is ready to use. It is
// safe for concurrent use.
type Hidden struct {
	mu   sync.Mutex
	byID map[fsrvp.CopyID][]string
}

// Note is called after a snapshot was taken. The paths in more are others that it lacks, such as
// subvolumes.
func (h *Hidden) Note(spec backend.SnapshotSpec, more ...string) error {
	below, err := mount.Below(spec.Volume.Path)
	if err != nil {
		return err
	}
	if below = append(below, more...); len(below) == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byID == nil {
		h.byID = make(map[fsrvp.CopyID][]string)
	}
	h.byID[spec.ID] = below
	return nil
}

// Forget is called after a snapshot was deleted.
func (h *Hidden) Forget(id fsrvp.CopyID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, id)
}

// CheckExposed checks a directory of a snapshot, at path, before it is exposed: no part of path is
// a symbolic link, and nothing below it is missing.
func (h *Hidden) CheckExposed(s backend.Snapshot, path string) error {
	if err := safepath.CheckBeneath(s.Path, path); err != nil {
		return err
	}
	rel, err := filepath.Rel(s.Path, path)
	if err != nil {
		return err
	}
	shared := filepath.Join(s.Volume.Path, rel)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, hidden := range h.byID[s.ID] {
		if mount.Within(hidden, shared) && hidden != shared {
			return fmt.Errorf("the snapshot lacks %s, which was mounted or made below %s after the share was added: %w",
				hidden, shared, fsrvp.ErrNotSupported)
		}
	}
	return nil
}
