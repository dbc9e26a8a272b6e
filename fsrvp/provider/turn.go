package provider

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A turn is the exclusive right, among the runs of this host, to make a set on a server.
type turn struct {
	key     string
	users   int // servers of the run that share it
	file    *os.File
	release func() // of the process's registry
}

// turns has the servers on which runs of this process have their turn. It is global because the
// address by which servers identify clients is: runs with different Configs must share it.
var turns = registry{taken: make(map[string]*place)}

// A registry gives each key to one holder at a time.
type registry struct {
	mu    sync.Mutex
	taken map[string]*place
}

// A place is a key with a holder or waiters.
type place struct {
	token chan struct{}
	users int
}

// acquire waits for the key. It calls queued, once, if it does not get the key at once.
func (g *registry) acquire(ctx context.Context, key string, queued func()) (release func(), err error) {
	g.mu.Lock()
	p := g.taken[key]
	if p == nil {
		p = &place{token: make(chan struct{}, 1)}
		g.taken[key] = p
	}
	p.users++
	g.mu.Unlock()
	leave := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if p.users--; p.users == 0 {
			delete(g.taken, key)
		}
	}
	select {
	case p.token <- struct{}{}:
	default:
		queued()
		select {
		case p.token <- struct{}{}:
		case <-ctx.Done():
			leave()
			return nil, context.Cause(ctx)
		}
	}
	return func() { <-p.token; leave() }, nil
}

// takeTurns waits for the run's turn on all its servers, in the order of their keys. All runs use
// this order, so there is no deadlock.
func (r *run) takeTurns(ctx context.Context) error {
	late := fmt.Errorf("another run on this host has been using the server for the limit of %v", r.TurnLimit)
	ctx, cancel := context.WithTimeoutCause(ctx, r.TurnLimit, late)
	defer cancel()
	byKey := make(map[string][]*server)
	for _, s := range r.servers {
		if s.turn == nil {
			key := s.turnKey()
			byKey[key] = append(byKey[key], s)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		servers := byKey[key]
		t, err := r.takeTurn(ctx, PhaseStart, servers[0])
		if err != nil {
			return err
		}
		t.users = len(servers)
		for _, s := range servers {
			s.turn = t
		}
	}
	return nil
}

// takeTurn waits for the turn on one server.
func (r *run) takeTurn(ctx context.Context, phase Phase, s *server) (_ *turn, err error) {
	defer func() {
		if err != nil {
			err = &Error{Phase: phase, Server: s.name, Err: err}
		}
	}()
	began := time.Now()
	queued := sync.OnceFunc(func() {
		r.emit(Event{Phase: phase, Kind: Queued, Server: s.name, Elapsed: time.Since(began)})
	})
	key := s.turnKey()
	release, err := turns.acquire(ctx, key, queued)
	if err != nil {
		return nil, err
	}
	t := &turn{key: key, users: 1, release: release}
	if s.inMemory {
		return t, nil // no other process has this server
	}
	if t.file, err = r.lockFile(ctx, turnFile(key), queued); err != nil {
		release()
		return nil, err
	}
	return t, nil
}

// lockFile waits for the lock of a file in TurnDir. It returns nil if there can be none.
func (r *run) lockFile(ctx context.Context, name string, queued func()) (*os.File, error) {
	dir, err := r.TurnDir, error(nil)
	if dir == "" {
		if dir, err = defaultTurnDir(); err != nil {
			r.Logger.Warn("no turns with other processes", "err", err)
			return nil, nil
		}
	}
	path := filepath.Join(dir, name)
	const longest = 250 * time.Millisecond
	// There is no way to wait for the lock of a file that a context can end.
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, longest) {
		f, err := tryLock(path)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, errLocked):
		case r.TurnDir == "":
			r.Logger.Warn("no turns with other processes", "err", err)
			return nil, nil
		default:
			return nil, fmt.Errorf("the lock file for turns with other processes; see Config.TurnDir: %w", err)
		}
		queued()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// errLocked means that another process, or another open file of this one, has the lock.
var errLocked = errors.New("locked")

// turnFile returns the name of the lock file for a key: a readable part of it, and a hash of all of
// it.
func turnFile(key string) string {
	label := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			return c
		}
		return '_'
	}, key)
	sum := sha256.Sum256([]byte(key))
	return fmt.Sprintf("fsrvp-turn-%.40s-%x", label, sum[:6])
}

// newLockFile makes an empty file that everybody may open. The file has its mode from the start,
// whatever the umask is, so no other user ever finds one that is not accessible.
func newLockFile(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".fsrvp-turn-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(f.Chmod(0o444), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// freeTurn releases the server to other runs of this host.
func (s *server) freeTurn(r *run) {
	t := s.turn
	if t == nil {
		return
	}
	s.turn = nil
	r.turnMu.Lock()
	defer r.turnMu.Unlock()
	if t.users--; t.users > 0 {
		return
	}
	if t.file != nil {
		_ = t.file.Close() // which unlocks it
	}
	t.release()
}

// turnKey returns the key of the machine for all runs of this host. Two machines with one name
// share a key, which only causes needless waits; except for servers on this host's loopback, one
// machine never has two keys, however it was reached.
func (s *server) turnKey() string {
	key := strings.ToLower(s.owner)
	if key == "" {
		key = strings.ToLower(s.name)
	}
	if s.addr.IsValid() && s.addr.Addr().IsLoopback() {
		key += " " + s.addr.String()
	}
	return key
}
