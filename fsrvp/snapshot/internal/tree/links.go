package tree

import (
	"context"
	"sync"
)

// links remembers the files with more than one name that a pass met, so that the copy has each only
// once.
type links struct {
	mu   sync.Mutex
	byID map[fileID]*firstName
}

// A firstName is the name under which such a file was met first. The task that met it copies the
// file.
type firstName struct {
	dir   *node
	name  string        // in it
	left  uint64        // names not yet met
	ready chan struct{} // closed when the fields below are set
	made  bool
	did   copied
}

// claim returns nil if the caller is the first to meet the file; the caller must then copy the file
// and call settle. Otherwise claim waits for that, and returns the first name. This cannot
// deadlock, since copying a file waits for nobody.
func (l *links) claim(ctx context.Context, in *info, dir *node, name string) (*firstName, error) {
	for {
		l.mu.Lock()
		if l.byID == nil {
			l.byID = make(map[fileID]*firstName)
		}
		first := l.byID[in.id]
		if first == nil {
			l.byID[in.id] = &firstName{dir: dir, name: name, left: in.links - 1, ready: make(chan struct{})}
			l.mu.Unlock()
			return nil, nil
		}
		l.mu.Unlock()
		select {
		case <-first.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		l.mu.Lock()
		made := first.made
		if first.left--; first.left == 0 && l.byID[in.id] == first {
			delete(l.byID, in.id)
		}
		l.mu.Unlock()
		if made {
			return first, nil
		}
	}
}

// settle records whether the caller has copied the claimed file, and how.
func (l *links) settle(in *info, made bool, did copied) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.byID[in.id]
	first.made, first.did = made, did
	if !made {
		delete(l.byID, in.id)
	}
	close(first.ready)
}
