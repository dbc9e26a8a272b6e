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

// Hidden remembers what snapshots that the file system takes, of whole volumes, are without: what
// was mounted in the volume, which a share may show that was added before. It forgets that with the
// process: then a share was exposed, or its set is given up. The zero value is ready for use, by
// several goroutines at once.
type Hidden struct {
	mu   sync.Mutex
	byID map[fsrvp.CopyID][]string
}

// Note is called when a snapshot was just taken. More are other paths that it is without, such as
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

// Forget is called when a snapshot is deleted.
func (h *Hidden) Forget(id fsrvp.CopyID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, id)
}

// CheckExposed checks a directory of a snapshot, at path, before it is exposed: no step of it is a
// symbolic link, and nothing in it is hidden.
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
			return fmt.Errorf("the snapshot is without %s, which was mounted or made below %s since the share was added: %w",
				hidden, shared, fsrvp.ErrNotSupported)
		}
	}
	return nil
}
