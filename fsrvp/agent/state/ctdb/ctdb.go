//go:build linux

package ctdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/durable"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

// Config configures [Open]. Dir is required.
type Config struct {
	// Dir is a directory on the cluster's file system, only for the table, at the same path on all
	// nodes. It must exist, belong to root or to the user of this process, and not be writable by
	// others.
	Dir string
	// Member is the name of this node in the table. Empty means "node" and CTDB's number of the
	// node.
	Member string
	// Life reports what the cluster knows about another node, by its name in the table, while that
	// node's agent still holds its lock. Nil means to ask CTDB.
	Life func(ctx context.Context, member string) (state.Life, error)
	// Program is the path of CTDB's program. Empty means "ctdb" in PATH.
	Program string
	// Poll is the interval at which Wait looks for changes of other nodes. Zero means 100 ms.
	Poll time.Duration
}

// A Store is a member of a table in a directory. It implements [state.Shared]. It is safe for
// concurrent use.
type Store struct {
	cfg  Config
	lock *os.File // held while the store is open

	mu     sync.Mutex
	closed bool
	locked os.FileInfo // of lock
	addr   string      // of this node, as CTDB knows it; empty where it was not asked
	log    log

	status struct {
		sync.Mutex
		at    time.Time
		nodes []node
	}
}

var _ state.Shared = (*Store)(nil)

// memberName matches names that can be names of files.
var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Open opens the table in a directory for this node, and makes an empty one if there is none. It
// fails with an error that matches [state.ErrInUse] if another process has it open under this
// node's name, with a [state.DamageError] if any part of it was changed or lost, and if CTDB does
// not answer.
func Open(ctx context.Context, cfg *Config) (*Store, error) {
	s := &Store{cfg: *cfg}
	c := &s.cfg
	if !filepath.IsAbs(c.Dir) {
		return nil, fmt.Errorf("ctdb: Config.Dir %q is no absolute path", c.Dir)
	}
	if c.Program == "" {
		c.Program = "ctdb"
	}
	if c.Poll == 0 {
		c.Poll = 100 * time.Millisecond
	}
	if c.Member == "" {
		pnn, err := c.pnn(ctx)
		if err != nil {
			return nil, err
		}
		c.Member = fmt.Sprint(memberPrefix, pnn)
	}
	if !memberName.MatchString(c.Member) {
		return nil, fmt.Errorf("ctdb: Config.Member %q has other characters than letters, digits, dots, and hyphens",
			c.Member)
	}
	if err := trusted.Path(c.Dir); err != nil {
		return nil, fmt.Errorf("ctdb: the directory of the table: %w", err)
	}
	err := s.takeLock()
	if err == nil && c.Life == nil {
		err = s.checkCluster(ctx)
	}
	if err == nil {
		s.log = log{dir: c.Dir, member: c.Member}
		err = s.log.open(state.ID(backend.NewOwner(c.Dir)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ctdb: %w", err), s.Close())
	}
	s.sweep()
	return s, nil
}

func (c *Config) lockPath(member string) string {
	return filepath.Join(c.Dir, "members", member+".lock")
}

// takeLock locks the file of this member. The lock ends with the process, however that ends.
func (s *Store) takeLock() error {
	path := s.cfg.lockPath(s.cfg.Member)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err == nil {
		err = durable.Dir(s.cfg.Dir)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, os.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	locked, err := s.tryLock(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := s.lock
	s.lock, s.locked = f, locked
	if old != nil {
		return old.Close()
	}
	return nil
}

// tryLock locks a file for as long as it is open.
func (s *Store) tryLock(f *os.File) (os.FileInfo, error) {
	if err := trusted.File(f); err != nil {
		return nil, err
	}
	var err error
	for range lockTries { // another node may have it for a moment, see sweep
		if err = lockCall(f, unix.F_OFD_SETLK, unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); !isHeld(err) {
			break
		}
		time.Sleep(lockPause)
	}
	if isHeld(err) {
		return nil, fmt.Errorf("member %s in %s: %w", s.cfg.Member, s.cfg.Dir, state.ErrInUse)
	}
	if err != nil {
		return nil, err
	}
	return f.Stat()
}

// keepLock makes sure that the lock is that of the file at its path. Where somebody has removed or
// replaced that, others could take this member for gone, and another process could have its name.
func (s *Store) keepLock() error {
	is, err := os.Lstat(s.cfg.lockPath(s.cfg.Member))
	if err == nil && os.SameFile(is, s.locked) {
		return nil
	}
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = s.takeLock()
	}
	if err != nil {
		return fmt.Errorf("the lock of this member was removed or replaced, and is not to be had again: %w", err)
	}
	return s.signLock()
}

// How often a lock is asked for, and how long after the last time.
const (
	lockTries = 10
	lockPause = 50 * time.Millisecond
)

// isHeld reports whether a lock was refused since another has it.
func isHeld(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) }

// lockCall makes an operation on a lock of the open file, or of the process if the file system
// supports only those.
func lockCall(f *os.File, cmd, ofProcess int, lk *unix.Flock_t) error {
	for {
		err := unix.FcntlFlock(f.Fd(), cmd, lk)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL) && cmd != ofProcess:
			cmd = ofProcess
		default:
			return err
		}
	}
}

// ID implements [state.Store].
func (s *Store) ID() state.ID { return state.ID(s.log.id) }

// Member implements [state.Shared].
func (s *Store) Member() string { return s.cfg.Member }

// Sequence implements [state.Store].
func (s *Store) Sequence() uint64 { return s.log.sequence.Load() }

// do calls f with the lock held.
func (s *Store) do(ctx context.Context, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("ctdb: member %s: %w", s.cfg.Member, os.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err := s.keepLock()
	if err == nil {
		err = f()
	}
	if err != nil {
		return fmt.Errorf("ctdb: %w", err)
	}
	return nil
}

// Load implements [state.Store].
func (s *Store) Load(ctx context.Context) (records map[string][]byte, err error) {
	err = s.do(ctx, func() (err error) {
		if _, err = s.log.refresh(); err == nil {
			records = maps.Clone(s.log.records)
		}
		return err
	})
	return records, err
}

// Refresh implements [state.Shared].
func (s *Store) Refresh(ctx context.Context) (c state.Change, err error) {
	err = s.do(ctx, func() (err error) {
		c, err = s.log.refresh()
		return err
	})
	return c, err
}

// Write implements [state.Store]. It costs two syncs: of a small file, and of its directory.
func (s *Store) Write(ctx context.Context, c state.Change) error {
	return s.do(ctx, func() error {
		gen := s.log.gen
		err := s.log.write(c)
		if s.log.gen != gen {
			s.sweep()
		}
		return err
	})
}

// Wait implements [state.Shared].
func (s *Store) Wait(ctx context.Context) error {
	t := time.NewTicker(s.cfg.Poll)
	defer t.Stop()
	for {
		var news bool
		if err := s.do(ctx, func() (err error) {
			news, err = s.log.hasNews()
			return err
		}); err != nil || news {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Life implements [state.Shared].
func (s *Store) Life(ctx context.Context, member string) (state.Life, error) {
	if !memberName.MatchString(member) {
		return state.Present, fmt.Errorf("ctdb: there is no member %q", member)
	}
	if member == s.cfg.Member { // closing its file would release a lock of the process
		return s.ownLife(ctx)
	}
	free, err := s.isFree(member)
	if err != nil {
		return state.Present, fmt.Errorf("ctdb: the lock of member %s: %w", member, err)
	}
	if free {
		return state.Gone, nil
	}
	if s.cfg.Life != nil {
		return s.cfg.Life(ctx, member)
	}
	return s.life(ctx, member)
}

// isFree reports whether nobody holds a member's lock. A missing file proves nothing, since
// removing it does not end the process that holds the lock.
func (s *Store) isFree(member string) (bool, error) {
	f, err := os.OpenFile(s.cfg.lockPath(member), os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lk := &unix.Flock_t{Type: unix.F_WRLCK}
	err = lockCall(f, unix.F_OFD_GETLK, unix.F_GETLK, lk)
	return lk.Type == unix.F_UNLCK && err == nil, err
}

// Close implements [state.Store].
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.lock == nil {
		return nil
	}
	s.closed = true
	return s.lock.Close()
}
