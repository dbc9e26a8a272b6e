package tree

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
)

const (
	// reach is the largest number of names in a path by which a directory is opened, and which is
	// looked up again each time. A deeper directory is opened from one on the shelf, since
	// otherwise the time would grow with the square of the depth.
	reach = 64
	// shelved is the largest number of directories of a tree that are kept open besides those in
	// use.
	shelved = 32
)

// A shelf opens directories of a tree, and keeps some of them open as starting points for deeper
// ones. It is safe for concurrent use.
type shelf[D dir[D]] struct {
	root D
	mu   sync.Mutex
	kept []*shelfDir[D] // the most recently used one comes last
}

// A shelfDir is a directory on the shelf.
type shelfDir[D dir[D]] struct {
	node *node
	dir  D
	uses int  // goroutines that are opening something from it
	gone bool // it is no longer on the shelf: the last use closes it
}

// open opens the directory of a node. The caller closes it.
func (s *shelf[D]) open(n *node) (D, error) {
	from, names := s.find(n)
	for len(names) > reach {
		half := len(names) - reach/2
		above := n
		for range reach / 2 {
			above = above.parent
		}
		next, err := s.keep(above, from, names[:half])
		s.release(from)
		if err != nil {
			var none D
			return none, err
		}
		from, names = next, names[half:]
	}
	defer s.release(from)
	return s.base(from).open(filepath.Join(append([]string{"."}, names...)...))
}

// base returns the directory of a shelfDir; nil means the root.
func (s *shelf[D]) base(k *shelfDir[D]) D {
	if k == nil {
		return s.root
	}
	return k.dir
}

// find returns the nearest directory above the node that is on the shelf, or the node's own, for
// use, and the names from there.
func (s *shelf[D]) find(n *node) (from *shelfDir[D], names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; n.parent != nil; n = n.parent {
		i := slices.IndexFunc(s.kept, func(k *shelfDir[D]) bool { return k.node == n })
		if i >= 0 {
			from = s.kept[i]
			from.uses++
			s.kept = append(slices.Delete(s.kept, i, i+1), from)
			break
		}
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return from, names
}

// keep opens the directory of a node, for use, and puts it on the shelf.
func (s *shelf[D]) keep(n *node, from *shelfDir[D], names []string) (*shelfDir[D], error) {
	d, err := s.base(from).open(filepath.Join(names...))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &shelfDir[D]{node: n, dir: d, uses: 1}
	s.kept = append(s.kept, k) // perhaps twice, if another goroutine did the same
	if len(s.kept) > shelved {
		old := s.kept[0]
		s.kept = slices.Delete(s.kept, 0, 1)
		old.gone = true
		if old.uses == 0 {
			old.dir.Close()
		}
	}
	return k, nil
}

func (s *shelf[D]) release(k *shelfDir[D]) {
	if k == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.uses--; k.uses == 0 && k.gone {
		k.dir.Close()
	}
}

// close closes the directories on the shelf, which must be unused.
func (s *shelf[D]) close() error {
	var errs []error
	for _, k := range s.kept {
		errs = append(errs, k.dir.Close())
	}
	s.kept = nil
	return errors.Join(errs...)
}
