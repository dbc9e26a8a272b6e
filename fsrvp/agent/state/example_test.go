package state_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// A keyValues is as much of etcd as the example needs: keys with the revision of their last change,
// and transactions on one condition.
type keyValues struct {
	mu       sync.Mutex
	revision int64
	changed  chan struct{}
	values   map[string][]byte
	of       map[string]int64 // revisions, also of keys that were deleted
}

// txn does a change if the revision of a key is the given one: etcd's
// Txn().If(Compare(ModRevision(guard), "=", r)).Then(...).
func (kv *keyValues) txn(guard string, r int64, puts map[string][]byte, deletes []string) (now int64, ok bool) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	if kv.of[guard] != r {
		return kv.revision, false
	}
	kv.revision++
	for _, k := range deletes {
		delete(kv.values, k)
		kv.of[k] = kv.revision
	}
	for k, v := range puts {
		kv.values[k], kv.of[k] = v, kv.revision
	}
	close(kv.changed)
	kv.changed = make(chan struct{})
	return kv.revision, true
}

// since returns the keys below a prefix that changed after a revision, and the revision of the
// head. Of etcd it is what a watch has brought since.
func (kv *keyValues) since(prefix string, r int64) (c state.Change, now int64, changed <-chan struct{}) {
	kv.mu.Lock()
	defer kv.mu.Unlock()
	c.Put = map[string][]byte{}
	for _, k := range slices.Sorted(maps.Keys(kv.of)) {
		name, ok := strings.CutPrefix(k, prefix)
		if !ok || kv.of[k] <= r {
			continue
		}
		if v, there := kv.values[k]; there {
			c.Put[name] = v
		} else {
			c.Drop = append(c.Drop, name)
		}
	}
	return c, kv.of[head], kv.changed
}

// An etcdStore keeps an agent's records below "fsrvp/table/", and at "fsrvp/head" a key that every
// Write changes.
type etcdStore struct {
	kv     *keyValues
	member string

	mu   sync.Mutex
	head int64 // the revision of the last change that this member knows
}

const (
	head  = "fsrvp/head"
	table = "fsrvp/table/"
	nodes = "fsrvp/nodes/" // of each member, on a lease that the member keeps alive
)

func (s *etcdStore) ID() state.ID {
	return state.ID(uuid.NewSHA1(uuid.Nil, []byte("etcd.example.com")))
}
func (s *etcdStore) Member() string   { return s.member }
func (s *etcdStore) Sequence() uint64 { s.mu.Lock(); defer s.mu.Unlock(); return uint64(s.head) }

func (s *etcdStore) Load(context.Context) (map[string][]byte, error) {
	c, now, _ := s.kv.since(table, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head = now
	return c.Put, nil
}

func (s *etcdStore) Refresh(context.Context) (state.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, now, _ := s.kv.since(table, s.head)
	s.head = now
	return c, nil
}

func (s *etcdStore) Write(_ context.Context, c state.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	puts := map[string][]byte{head: []byte(s.member)}
	for k, v := range c.Put {
		puts[table+k] = v
	}
	var deletes []string
	for _, k := range c.Drop {
		deletes = append(deletes, table+k)
	}
	now, ok := s.kv.txn(head, s.head, puts, deletes)
	if !ok {
		return state.ErrConflict
	}
	s.head = now
	return nil
}

func (s *etcdStore) Wait(ctx context.Context) error {
	for {
		c, _, changed := s.kv.since(table, int64(s.Sequence()))
		if !c.Empty() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Life never says Gone: a lease that ended proves that a node is silent, not that its agent runs no
// more.
func (s *etcdStore) Life(_ context.Context, member string) (state.Life, error) {
	if c, _, _ := s.kv.since(nodes+member, 0); len(c.Put) == 0 {
		return state.Lost, nil
	}
	return state.Present, nil
}

func (s *etcdStore) Close() error { return nil }

// The shape of a store on etcd, or on anything else with transactions that have conditions.
func ExampleShared() {
	kv := &keyValues{values: map[string][]byte{}, of: map[string]int64{}, changed: make(chan struct{})}
	var one, two state.Shared = &etcdStore{kv: kv, member: "node1"}, &etcdStore{kv: kv, member: "node2"}
	ctx := context.Background()

	fmt.Println(one.Write(ctx, state.Change{Put: map[string][]byte{"set/7": []byte("Added")}}))

	err := two.Write(ctx, state.Change{Put: map[string][]byte{"set/8": []byte("Started")}})
	fmt.Println(errors.Is(err, state.ErrConflict))
	c, _ := two.Refresh(ctx)
	fmt.Printf("%s\n", c.Put["set/7"])
	fmt.Println(two.Write(ctx, state.Change{Put: map[string][]byte{"set/8": []byte("Started")}}))
	// Output:
	// <nil>
	// true
	// Added
	// <nil>
}
