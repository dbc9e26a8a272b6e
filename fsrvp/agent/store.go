package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// ErrStoreInUse is what New fails with when another Agent has the store open.
var ErrStoreInUse = errors.New("agent: the store is in use by another agent")

// store is the table on stable storage: a file in bbolt's format.
//
//	bucket "fsrvp"  key "version"    "1"
//	                key "creation"   a creation in JSON
//	                key "identity"   an identity in JSON; agents that knew no marks did not write it
//	bucket "sets"   key: set id, 16 bytes in the order of its string form;  value: a Set in JSON
//
// Every write is one transaction, which is on stable storage when write returns nil and has no effect
// when it does not. A version that is not ours is refused, and so is a record that makes no sense: what it
// stands for must not be taken for an orphan.
type store struct {
	db   *bbolt.DB
	base uint64        // identity.Base
	seen atomic.Uint64 // what sequence returns
}

// An identity is who the agent is.
type identity struct {
	ID Owner `json:"id"`
	// Base is added to bbolt's number of transactions, which begins anew with a new file.
	Base uint64 `json:"base,omitempty"`
}

// identity returns who the agent is, zero where the store does not say, and whether the store is fresh: no agent has completed New
// with it.
func (s *store) identity() (id Owner, fresh bool, err error) {
	var who identity
	var seen uint64
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			seen = uint64(tx.ID())
			main := tx.Bucket([]byte(bucketMain))
			known := main.Get([]byte(keyIdentity))
			fresh = known == nil && main.Get([]byte(keyCreation)) == nil
			if known == nil {
				return nil
			}
			if err := json.Unmarshal(known, &who); err != nil {
				return err
			}
			if who.ID.IsZero() {
				return errors.New("it is nobody's")
			}
			return nil
		})
	})
	if err != nil {
		return Owner{}, false, fmt.Errorf("agent: store %s: identity: %w", s.db.Path(), err)
	}
	s.base = who.Base
	s.seen.Store(s.base + seen)
	return who.ID, fresh, nil
}

// setIdentity says who the agent is, and that its sequence goes on after least.
func (s *store) setIdentity(id Owner, least uint64) error {
	who := identity{ID: id, Base: s.base}
	if have := s.sequence(); have < least {
		who.Base += least - have
	}
	b, err := json.Marshal(who)
	if err != nil {
		return err
	}
	s.base = who.Base
	err = s.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketMain)).Put([]byte(keyIdentity), b) })
	if err != nil {
		return fmt.Errorf("agent: store: %w", err)
	}
	return nil
}

// sequence returns how many changes the store has seen. It never gets smaller, and grows with each write. It waits for none.
func (s *store) sequence() uint64 { return s.seen.Load() }

// update does one transaction.
func (s *store) update(f func(tx *bbolt.Tx) error) error {
	return guard(func() error {
		var id int
		err := s.db.Update(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return f(tx)
		})
		if err == nil {
			s.seen.Store(s.base + uint64(id))
		}
		return err
	})
}

const storeVersion = "1"

// The names of the store's buckets and keys.
const (
	bucketMain  = "fsrvp"
	bucketSets  = "sets"
	keyVersion  = "version"
	keyCreation = "creation"
	keyIdentity = "identity"
)

// A change is what one transaction does.
type change struct {
	creation *creation     // nil: unchanged
	put      []*Set        // new and changed sets
	drop     []fsrvp.SetID // sets that are gone
}

func openStore(path string, wait time.Duration) (*store, error) {
	_, err := os.Lstat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err := checkStore(path, wait); err != nil {
		return nil, fmt.Errorf("agent: store %s: %w", path, err)
	}
	s := &store{}
	err = guard(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: wait})
		return err
	})
	switch {
	case errors.Is(err, bbolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrStoreInUse, path)
	case err != nil:
		return nil, fmt.Errorf("agent: store %s: %w", path, err)
	}
	if err := s.init(fresh); err != nil {
		return nil, errors.Join(fmt.Errorf("agent: store %s: %w", path, err), s.close())
	}
	return s, nil
}

// checkStore tells whether the file is whole. It looks again for as long as New may wait for the store: an agent that has it open
// may just be writing, which does not look whole.
func checkStore(path string, wait time.Duration) error {
	const again = 20 * time.Millisecond
	for begun := time.Now(); ; time.Sleep(again) {
		err := checkFile(path)
		if err == nil || time.Since(begun)+again > wait {
			return err
		}
	}
}

// init checks the store's version, or makes a fresh store's buckets.
func (s *store) init(fresh bool) error {
	return guard(func() error {
		if !fresh {
			known := false
			if err := s.db.View(func(tx *bbolt.Tx) error { return checkVersion(tx, &known) }); known || err != nil {
				return err
			}
		}
		if err := s.db.Update(makeBuckets); err != nil {
			return err
		}
		return syncDir(filepath.Dir(s.db.Path()))
	})
}

// checkVersion sets known where the store has our version; a store without buckets is one whose making a crash
// has cut short.
func checkVersion(tx *bbolt.Tx, known *bool) error {
	b := tx.Bucket([]byte(bucketMain))
	if b == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return errors.New("it is not a store of this agent")
		}
		return nil
	}
	if v := b.Get([]byte(keyVersion)); string(v) != storeVersion {
		return fmt.Errorf("it has version %q, ours is %s", v, storeVersion)
	}
	if tx.Bucket([]byte(bucketSets)) == nil {
		return errors.New("it has no table")
	}
	*known = true
	return nil
}

func makeBuckets(tx *bbolt.Tx) error {
	main, err := tx.CreateBucketIfNotExists([]byte(bucketMain))
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucketIfNotExists([]byte(bucketSets)); err != nil {
		return err
	}
	return main.Put([]byte(keyVersion), []byte(storeVersion))
}

// syncDir makes a new file's name durable; bbolt syncs the file alone.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// load reads the whole table.
func (s *store) load() (c creation, sets []*Set, err error) {
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			if b := tx.Bucket([]byte(bucketMain)).Get([]byte(keyCreation)); b != nil {
				if err := json.Unmarshal(b, &c); err != nil {
					return fmt.Errorf("creation: %w", err)
				}
			}
			return tx.Bucket([]byte(bucketSets)).ForEach(func(k, v []byte) error {
				set := new(Set)
				if err := json.Unmarshal(v, set); err != nil {
					return fmt.Errorf("set %x: %w", k, err)
				}
				if string(k) != string(set.ID[:]) {
					return fmt.Errorf("set %x: it has id %s", k, set.ID)
				}
				if err := set.check(); err != nil {
					return fmt.Errorf("set %s: %w", set.ID, err)
				}
				sets = append(sets, set)
				return nil
			})
		})
	})
	if err != nil {
		return creation{}, nil, fmt.Errorf("agent: store %s: %w", s.db.Path(), err)
	}
	return c, sets, nil
}

// check tells whether a set from the store makes sense, and adds what an older agent did not write.
func (s *Set) check() error {
	if !s.Status.valid() {
		return fmt.Errorf("unknown status %q", s.Status)
	}
	if !s.Context.Valid() {
		return fmt.Errorf("invalid context %v", s.Context)
	}
	for i := range s.Copies {
		c := &s.Copies[i]
		if c.ID == (fsrvp.CopyID{}) || c.Volume.ID == "" || !filepath.IsAbs(c.Volume.Path) || len(c.Shares) == 0 {
			return fmt.Errorf("copy %s is not whole", c.ID)
		}
		for j := range c.Shares {
			m := &c.Shares[j]
			if m.Name == "" || m.Share.Name == "" {
				return fmt.Errorf("copy %s has a share without name", c.ID)
			}
			if m.Dir == "" { // as the first agents wrote it
				dir, err := within(m.Share, c.Volume)
				if err != nil {
					return fmt.Errorf("copy %s: %w", c.ID, err)
				}
				m.Dir = dir
			}
			if !filepath.IsLocal(m.Dir) {
				return fmt.Errorf("copy %s has share %q at %q of its volume", c.ID, m.Share.Name, m.Dir)
			}
		}
	}
	return nil
}

// write does a change, all of it or nothing.
func (s *store) write(c change) error {
	return s.update(func(tx *bbolt.Tx) error {
		if c.creation != nil {
			b, err := json.Marshal(c.creation)
			if err != nil {
				return err
			}
			if err := tx.Bucket([]byte(bucketMain)).Put([]byte(keyCreation), b); err != nil {
				return err
			}
		}
		sets := tx.Bucket([]byte(bucketSets))
		for _, set := range c.put {
			b, err := json.Marshal(set)
			if err != nil {
				return err
			}
			if err := sets.Put(set.ID[:], b); err != nil {
				return err
			}
		}
		for _, id := range c.drop {
			if err := sets.Delete(id[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) close() error { return guard(s.db.Close) }

// guard turns what bbolt does with a damaged file, a panic or a fault in the mapped pages, into an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the file is damaged: %v", r)
		}
	}()
	return f()
}
