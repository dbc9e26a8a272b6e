package tree

import (
	"context"
	"sync"
)

// links remembers the files with more than one name that a pass met, so that the copy has them
// once.
type links struct {
	mu   sync.Mutex
	byID map[fileID]*firstName
}

// A firstName is the name by which such a file was met first. Whoever met it there copies it.
type firstName struct {
	dir   *node
	name  string        // in it
	left  uint64        // names that were not met
	ready chan struct{} // closed when the fields below are set
	made  bool
	did   copied
}

// claim returns nil where the caller is the first to meet the file: it makes it and calls settle.
// Otherwise claim waits until that was done, and returns the first name. It may wait, since
// whatever copies a file waits for nobody.
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

// settle says whether the caller has made the file that it claimed, and how.
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
