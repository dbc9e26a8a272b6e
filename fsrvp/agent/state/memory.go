package state

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// A Memory is a table in memory that several agents of one process share, for tests and demos of
// clusters. It is lost when the process ends.
type Memory struct {
	id ID

	mu      sync.Mutex
	records map[string][]byte
	log     []Change // all changes written; the sequence is its length
	members map[string]*memoryMember
	life    map[string]Life
	changed chan struct{} // closed and replaced by each Write
}

// NewMemory returns an empty table.
func NewMemory(id ID) *Memory {
	if id == (ID{}) {
		id = ID(uuid.New())
	}
	return &Memory{
		id: id, records: map[string][]byte{}, members: map[string]*memoryMember{}, life: map[string]Life{}, changed: make(chan struct{}),
	}
}

// Open opens the table for a member, which is Present from then on, and Gone after its Close. It
// fails with an error that matches [ErrInUse] if a member of that name has not closed the table and
// is not Gone.
//
// Fault, if not nil, is called without a lock before and after each Refresh and Write of this
// member. It may wait. If it returns an error, the method fails with it, before or after its
// effect.
func (m *Memory) Open(member string, fault func(ctx context.Context, p Point) error) (Shared, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.members[member]; old != nil && m.life[member] != Gone {
		return nil, fmt.Errorf("state: member %q: %w", member, ErrInUse)
	}
	s := &memoryMember{Memory: m, name: member, fault: fault}
	m.members[member], m.life[member] = s, Present
	return s, nil
}

// A Point is a moment in a method of a member of a Memory.
type Point struct {
	Method string // "Refresh", "Write"
	Done   bool   // the effect is there
}

// SetLife sets what Life reports about a member from now on. A member that is Gone no longer has
// the table open: its calls fail.
func (m *Memory) SetLife(member string, l Life) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life[member] = l
	if l == Gone {
		delete(m.members, member)
	}
}

// Records returns the whole table. The caller must not change the values.
func (m *Memory) Records() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.records)
}

type memoryMember struct {
	*Memory
	name  string
	fault func(context.Context, Point) error
	seen  int // changes of the log; guarded by Memory.mu
}

func (s *memoryMember) at(ctx context.Context, method string, done bool) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(ctx, Point{method, done})
}

// usable fails if the member no longer has the table open. Memory.mu must be held.
func (s *memoryMember) usable(ctx context.Context) error {
	if s.members[s.name] != s {
		return fmt.Errorf("state: member %q: %w", s.name, net.ErrClosed)
	}
	return ctx.Err()
}

func (s *memoryMember) ID() ID         { return s.id }
func (s *memoryMember) Member() string { return s.name }

func (s *memoryMember) Sequence() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(s.seen)
}

func (s *memoryMember) Load(ctx context.Context) (map[string][]byte, error) {
	if err := s.at(ctx, "Refresh", false); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	s.seen = len(s.log)
	return maps.Clone(s.records), nil
}

func (s *memoryMember) Refresh(ctx context.Context) (Change, error) {
	if err := s.at(ctx, "Refresh", false); err != nil {
		return Change{}, err
	}
	c, err := s.refresh(ctx)
	if err == nil {
		err = s.at(ctx, "Refresh", true)
	}
	return c, err
}

func (s *memoryMember) refresh(ctx context.Context) (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return Change{}, err
	}
	c := Joined(s.log[s.seen:]...)
	s.seen = len(s.log)
	return c, nil
}

func (s *memoryMember) Write(ctx context.Context, c Change) error {
	if err := s.at(ctx, "Write", false); err != nil {
		return err
	}
	if err := s.write(ctx, c); err != nil {
		return err
	}
	return s.at(ctx, "Write", true)
}

func (s *memoryMember) write(ctx context.Context, c Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	if s.seen != len(s.log) {
		return fmt.Errorf("state: member %q: %w", s.name, ErrConflict)
	}
	c = Joined(c) // a copy
	c.Apply(s.records)
	s.log = append(s.log, c)
	s.seen = len(s.log)
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

func (s *memoryMember) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		behind, changed := s.seen != len(s.log), s.changed
		s.mu.Unlock()
		if behind {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *memoryMember) Life(_ context.Context, member string) (Life, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.life[member]
	if !ok {
		return Gone, nil
	}
	return l, nil
}

func (s *memoryMember) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.members[s.name] == s {
		delete(s.members, s.name)
		s.life[s.name] = Gone
	}
	return nil
}

// Joined returns one change that does what these do one after the other. It shares only the values
// with them.
func Joined(changes ...Change) Change {
	all := Change{Put: map[string][]byte{}}
	drop := map[string]bool{}
	for _, c := range changes {
		for _, k := range c.Drop {
			delete(all.Put, k)
			drop[k] = true
		}
		for k, v := range c.Put {
			all.Put[k] = v
			delete(drop, k)
		}
	}
	all.Drop = slices.Sorted(maps.Keys(drop))
	return all
}
