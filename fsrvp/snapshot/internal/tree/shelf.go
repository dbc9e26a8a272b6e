package tree

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
)

const (
	// reach is how many names a path may have that a directory is opened by, and that is looked up
	// anew each time. A directory that lies deeper is opened from one on the shelf: else a tree
	// would take a time with the square of its depth.
	reach = 64
	// shelved is how many directories of a tree are kept open at most, but for those in use.
	shelved = 32
)

// A shelf opens directories of a tree, and keeps some of those open that others are deep below.
// Several goroutines may use it at once.
type shelf[D dir[D]] struct {
	root D
	mu   sync.Mutex
	kept []*shelfDir[D] // the one that was used last comes last
}

// A shelfDir is a directory on the shelf.
type shelfDir[D dir[D]] struct {
	node *node
	dir  D
	uses int  // goroutines that open something from it
	gone bool // it is not on the shelf any more: the last use closes it
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

// base returns the directory that a shelfDir stands for; nil stands for the root.
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
	s.kept = append(s.kept, k) // maybe a second time, by another goroutine
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

// close closes what is on the shelf. Nobody uses it any more.
func (s *shelf[D]) close() error {
	var errs []error
	for _, k := range s.kept {
		errs = append(errs, k.dir.Close())
	}
	s.kept = nil
	return errors.Join(errs...)
}
