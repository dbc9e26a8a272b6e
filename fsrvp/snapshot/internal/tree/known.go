package tree

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
)

// A stamp shows whether a file has changed. Equal stamps mean the same file in the same state,
// unless it changed twice within a step of the clock.
type stamp struct {
	id           fileID
	mode         uint32
	size         int64
	mtime, ctime int64 // in nanoseconds
}

func (in *info) stamp() stamp {
	s := stamp{id: in.id, mode: in.mode, size: in.size, mtime: in.mtime.UnixNano()}
	if !in.ctime.IsZero() {
		s.ctime = in.ctime.UnixNano()
	}
	return s
}

// A sum is a hash of a directory entry, its name and stamp, in 16 bytes. A collision is as unlikely
// as a memory fault.
type sum [2]uint64

func (s sum) compare(t sum) int { return cmp.Or(cmp.Compare(s[0], t[0]), cmp.Compare(s[1], t[1])) }

// seeds are random, so that nobody can construct names with the same sum.
type seeds [2]maphash.Seed

func newSeeds() seeds { return seeds{maphash.MakeSeed(), maphash.MakeSeed()} }

func (s *seeds) sum(name string, st stamp) sum {
	type entry struct {
		name  string
		stamp stamp
	}
	e := entry{name, st}
	return sum{maphash.Comparable(s[0], e), maphash.Comparable(s[1], e)}
}

// known records what a pass has copied of one directory, so that the next pass can skip it.
type known struct {
	self    stamp // the directory's, before its names were read
	trusted bool  // a later change of the directory shows in its stamp

	mu   sync.Mutex
	sums []sum // sorted when the directory is finished
	dirs map[string]*known
}

// has reports whether an entry was copied in its current state. The pass that made k must have
// ended. A nil k has nothing.
func (k *known) has(s sum) bool {
	if k == nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(k.sums, s, sum.compare)
	return ok
}

// dir returns the known of a subdirectory, or nil.
func (k *known) dir(name string) *known {
	if k == nil {
		return nil
	}
	return k.dirs[name]
}

// same reports whether the directory still has the same names.
func (k *known) same(s stamp) bool { return k != nil && k.trusted && k.self == s }

func (k *known) add(sums []sum) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sums = append(k.sums, sums...)
}

func (k *known) addDir(name string, d *known) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dirs == nil {
		k.dirs = make(map[string]*known)
	}
	k.dirs[name] = d
}

func (k *known) sort() { slices.SortFunc(k.sums, sum.compare) }

// distrust forgets everything but the names of directories.
func (k *known) distrust() {
	if k == nil {
		return
	}
	for todo := []*known{k}; len(todo) > 0; {
		k, todo = todo[len(todo)-1], todo[:len(todo)-1]
		k.sums, k.trusted = nil, false
		for _, d := range k.dirs {
			todo = append(todo, d)
		}
	}
}
