// Package tree copies and removes whole directory trees.
//
// A copy has everything that the file system lets one set: directories, regular files, symbolic
// links, hard links among the files of the tree, named pipes, sockets, device nodes, owners, modes,
// times to the nanosecond, holes, access control lists and all other extended attributes; but not
// the flags of chattr. On systems other than Linux it has what the standard library offers:
// contents, modes, times of modification, symbolic links; hard links and owners on Unix.
//
// # A tree that changes
//
// The tree may change while it is walked; a walk is not atomic. A [Copier] therefore makes passes:
// each brings the copy up to date, by what changed since the pass before. What a pass copies it
// knows again by the inode, the size and the times of a file; nothing is trusted that changed so
// short a time before the pass that a later change need not show in the times.
//
// A pass is settled when nothing changed under it: no directory between the moment before its names
// were read and the end of the pass, and no file while it was read. Then there is a moment at which
// the tree had exactly the names that the copy has. [Copier.Finish] makes passes until one is
// settled, or a limit is reached, and returns what moved under the last one. A regular file that is
// cloned is cloned as it is at one moment.
//
// # Where a walk may lead
//
// Every name is opened relative to its directory and without following symbolic links, so that
// nobody who can write to the tree leads the walk out of it. The walk does not cross into what is
// mounted below, nor into another btrfs subvolume: it fails with an error that wraps
// fsrvp.ErrNotSupported. Trees may be of any depth.
package tree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Config says how to copy a tree.
type Config struct {
	// Clone shares the data of regular files with the original (FICLONE, Linux) rather than copying
	// them.
	Clone bool
	// Workers is how many files are worked on at once. Zero: the number of CPUs that Go uses.
	Workers int
	// Skip names directories below the source, absolute, that are left out.
	Skip []string
	// NoSync leaves the copy to the system to write: it may be lost when the machine crashes.
	NoSync bool
	// SkipUnreadable leaves out what cannot be read, for want of rights or by an input or output
	// error, and reports it. Otherwise such a file fails the pass.
	SkipUnreadable bool
	// Progress is called with what was copied so far: files of any type but directories, and bytes
	// of data. What several passes copy counts as often. One call at a time; it must not block.
	// Nil: nobody is told.
	Progress func(files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied as it should. Nil: none.
	Logger *slog.Logger
}

// withDefaults returns a copy without zero values.
func (c *Config) withDefaults() *Config {
	d := *c
	if d.Workers <= 0 {
		d.Workers = runtime.GOMAXPROCS(0)
	}
	if d.Progress == nil {
		d.Progress = func(int64, int64) {}
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &d
}

// A Report says how a copy may differ from its source.
type Report struct {
	// Moved are the paths of what changed under the last pass, sorted: a file of that name may have
	// parts of several states, and from a directory of that name files that were moved may be
	// missing. "." is the whole tree; it stands for all where there are more than MaxMoved.
	Moved []string
	// Unread is what could not be read and is missing from the copy, or, for a directory, what is
	// missing in part, sorted by path; MaxMoved at most, and then one for ".".
	Unread []*fs.PathError
}

// MaxMoved is how many names each list of a [Report] has at most.
const MaxMoved = 10_000

// passes is how many passes Finish makes at most.
const passes = 4

// A Copier copies one tree. Its methods are not to be called at once.
type Copier struct {
	src    string
	run    runner
	passed int // passes that were made
}

// A runner makes the passes of a Copier, with the directories of one system.
type runner interface {
	io.Closer
	// pass makes one pass. With flush it brings the source to stable storage first, which makes
	// more of what the pass copies known again by the next one.
	pass(ctx context.Context, flush bool) (*moved, error)
	// sync brings the copy to stable storage.
	sync() error
	// complete gives the root of the copy its metadata, and brings all to stable storage.
	complete() error
}

// New makes dst, an absolute path that must not exist, an empty directory that nobody but the owner
// of the process can enter. It will be a copy of the open directory src, whose name is absolute.
// Src is not used after New. After an error what was made is still there.
//
// It fails with an error that wraps fsrvp.ErrNotSupported where the copy would be mounted more
// loosely than src.
func New(dst string, src *os.File, cfg *Config) (*Copier, error) {
	run, err := newRunner(dst, src, cfg.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("copy %s: %w", src.Name(), err)
	}
	return &Copier{src: src.Name(), run: run}, nil
}

// Close closes the directories. It removes nothing.
func (c *Copier) Close() error { return c.run.Close() }

// Pass makes one pass, and brings the copy to stable storage. It reports whether the pass was
// settled.
//
// It fails with an error that wraps fsrvp.ErrNotSupported where the file system cannot clone, or
// something is mounted below the source; with context.Cause(ctx) when ctx ends.
func (c *Copier) Pass(ctx context.Context) (settled bool, err error) {
	m, err := c.pass(ctx, true)
	if err != nil {
		return false, err
	}
	return m.none(), c.wrap(ctx, c.run.sync())
}

func (c *Copier) pass(ctx context.Context, flush bool) (*moved, error) {
	m, err := c.run.pass(ctx, flush)
	c.passed++
	return m, c.wrap(ctx, err)
}

// Finish makes passes until one is settled, four at most, and completes the copy: the whole tree,
// but for its root's entry in its own directory, is on stable storage.
//
// It fails as Pass does. Until it returns nil nobody but the owner of the process can enter the
// copy.
func (c *Copier) Finish(ctx context.Context) (*Report, error) {
	for n := 1; ; n++ {
		// A source that is frozen was flushed in Pass; to wait for what others write would make the
		// freeze long.
		m, err := c.pass(ctx, c.passed == 0 || n > 1)
		if err != nil {
			return nil, err
		}
		if m.none() || n == passes {
			return &Report{Moved: m.list(), Unread: m.unreadList()}, c.wrap(ctx, c.run.complete())
		}
		if err := m.clock(ctx); err != nil {
			return nil, c.wrap(ctx, err)
		}
	}
}

// wrap says what an error is about, and prefers the reason why ctx ended.
func (c *Copier) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause
	}
	return fmt.Errorf("copy %s: %w", c.src, err)
}

// moved collects what changed under a pass, and what could not be read.
type moved struct {
	mu     sync.Mutex
	paths  map[string]bool
	unread map[string]*fs.PathError
	newest time.Time // when something changed last, as far as the times show
}

// add notes that what has the path changed, maybe at the time.
func (m *moved) add(path string, when time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.paths == nil {
		m.paths = make(map[string]bool)
	}
	if len(m.paths) < MaxMoved {
		m.paths[path] = true
	} else {
		m.paths["."] = true
	}
	if when.After(m.newest) {
		m.newest = when
	}
}

func (m *moved) none() bool { return len(m.paths) == 0 }

func (m *moved) list() []string {
	if len(m.paths) > MaxMoved {
		return []string{"."}
	}
	var list []string
	for path := range m.paths {
		list = append(list, path)
	}
	slices.Sort(list)
	return list
}

// addUnread notes what could not be read.
func (m *moved) addUnread(err *fs.PathError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unread == nil {
		m.unread = make(map[string]*fs.PathError)
	}
	if len(m.unread) >= MaxMoved {
		err = &fs.PathError{Op: "read", Path: ".",
			Err: errors.New("too many files that cannot be read to name them all")}
	}
	m.unread[err.Path] = err
}

func (m *moved) unreadList() []*fs.PathError {
	return slices.SortedFunc(maps.Values(m.unread), func(a, b *fs.PathError) int { return cmp.Compare(a.Path, b.Path) })
}

// clock waits until what changed last lies a step of the clock behind, so that the next pass can
// report whether it changes again.
func (m *moved) clock(ctx context.Context) error {
	wait := min(time.Until(m.newest)+clockStep(m.newest), 2*time.Second)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clockStep is how far apart two changes may be that a file has the same times after: twice the
// tick of the slowest kernel, or, where times have whole seconds, what FAT has.
func clockStep(when time.Time) time.Duration {
	if when.Nanosecond() == 0 {
		return 2 * time.Second
	}
	return 20 * time.Millisecond
}

// quiet reports whether what changed at a time last has been left alone since the moment from, as
// far as times can show it. A time from the future was set by a clock that has been turned back; a
// change today would show.
func quiet(when, from time.Time) bool {
	step := clockStep(when)
	return when.Before(from.Add(-step)) || when.After(time.Now().Add(2*step))
}
