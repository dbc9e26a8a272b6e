package tree

import (
	"context"
	"sync"
)

// links remembers the files with more than one name that were met, so that the copy has them once.
type links struct {
	mu   sync.Mutex
	byID map[fileID]*firstName
}

// A firstName is the name by which such a file was met first. Whoever met it there copies it.
type firstName struct {
	path  string        // of its directory
	name  string        // in it
	left  uint64        // names that were not met
	ready chan struct{} // closed when made is set
	made  bool
}

// claim returns nil where the caller is the first to meet the file: he makes it and calls settle. Otherwise it
// waits until that was done, and returns the first name. It may wait, since who
// copies a file waits for nobody.
func (l *links) claim(ctx context.Context, in *info, path, name string) (*firstName, error) {
	for {
		l.mu.Lock()
		if l.byID == nil {
			l.byID = make(map[fileID]*firstName)
		}
		first := l.byID[in.id]
		if first == nil {
			l.byID[in.id] = &firstName{path: path, name: name, left: in.links - 1, ready: make(chan struct{})}
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

// settle says whether the caller has made the file that he claimed.
func (l *links) settle(in *info, made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.byID[in.id]
	first.made = made
	if !made {
		delete(l.byID, in.id)
	}
	close(first.ready)
}
