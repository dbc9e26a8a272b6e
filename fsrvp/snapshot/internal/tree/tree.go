// Package tree copies and removes whole directory trees.
//
// A copy has everything that can be set in a file system: directories, regular files, symbolic
// links, hard links among the files of the tree, named pipes, sockets, device nodes, owners, modes,
// times to the nanosecond, holes, access control lists and all other extended attributes; but not
// the flags of chattr. On systems other than Linux it has what the standard library supports:
// contents, modes, times of modification, symbolic links; hard links and owners on Unix.
//
// # A tree that changes
//
// The tree may change during a walk, which is not atomic. A [Copier] therefore makes passes: each
// brings the copy up to date with the changes since the pass before. A pass recognizes an unchanged
// file by its inode, size and times. It does not trust a file that changed so shortly before the
// pass that a later change might not show in its times.
//
// A pass is settled if nothing changed during it: no directory between the moment before its names
// were read and the end of the pass, and no file while it was read. Then there was a moment at
// which the tree had exactly the names that the copy has. [Copier.Finish] makes passes until one is
// settled, or a limit is reached, and returns what changed during the last one. A clone of a
// regular file shows a single moment.
//
// # Staying within the tree
//
// Every name is opened relative to its directory and without following symbolic links, so that
// nobody who can write to the tree can lead the walk out of it. The walk does not cross into mounts
// below, nor into other btrfs subvolumes: it fails with an error that wraps fsrvp.ErrNotSupported.
// Trees may be of any depth.
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
	// Workers is the number of files to work on concurrently. Zero means the number of CPUs that Go
	// uses.
	Workers int
	// Skip names directories below the source, absolute, that are left out.
	Skip []string
	// NoSync leaves writing the copy to the system: it may be lost when the machine crashes.
	NoSync bool
	// SkipUnreadable leaves out files that cannot be read, for lack of rights or because of an
	// input or output error, and reports them. Otherwise such a file fails the pass.
	SkipUnreadable bool
	// Progress is called, one call at a time, with the numbers of files other than directories and
	// of bytes copied so far. A file that several passes copy counts several times. It must not
	// block. Nil means none.
	Progress func(files, bytes int64)
	// Logger gets a Warn record for every file that could not be copied properly. Nil means none.
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
	// Moved are the sorted paths of files and directories that changed during the last pass: such a
	// file may mix several states, and such a directory may lack files that were moved. "." is the
	// whole tree; it replaces the list if there are more than MaxMoved.
	Moved []string
	// Unread are the files that could not be read and are missing from the copy, and directories
	// that are missing in part, sorted by path; at most MaxMoved, and then one for ".".
	Unread []*fs.PathError
}

// MaxMoved is the largest number of names in each list of a [Report].
const MaxMoved = 10_000

// passes is the largest number of passes that Finish makes.
const passes = 4

// A Copier copies one tree. It is not safe for concurrent use.
type Copier struct {
	src    string
	run    runner
	passed int // passes that were made
}

// A runner makes the passes of a Copier, with the directories of one system.
type runner interface {
	io.Closer
	// pass makes one pass. With flush it first brings the source to stable storage, so that the
	// next pass can recognize more files as unchanged.
	pass(ctx context.Context, flush bool) (*moved, error)
	// sync brings the copy to stable storage.
	sync() error
	// complete sets the metadata of the copy's root, and brings everything to stable storage.
	complete() error
}

// New makes dst, an absolute path that must not exist, an empty directory that nobody but the owner
// of the process can enter. It will be a copy of the open directory src, whose name is absolute.
// New does not keep src. After an error, New leaves what it has made.
//
// It fails with an error that wraps fsrvp.ErrNotSupported if the copy's mount is less restrictive
// than that of src.
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
// It fails with an error that wraps fsrvp.ErrNotSupported if the file system cannot clone, or
// something is mounted below the source, and with context.Cause(ctx) when ctx ends.
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
// except its root's entry in its directory, is on stable storage.
//
// It fails as Pass does. Until it returns nil nobody but the owner of the process can enter the
// copy.
func (c *Copier) Finish(ctx context.Context) (*Report, error) {
	for n := 1; ; n++ {
		// Pass has flushed a frozen source; waiting for other writes would prolong the freeze.
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

// wrap adds the source to an error, and prefers the reason why ctx ended.
func (c *Copier) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = cause
	}
	return fmt.Errorf("copy %s: %w", c.src, err)
}

// moved collects what changed during a pass, and what could not be read.
type moved struct {
	mu     sync.Mutex
	paths  map[string]bool
	unread map[string]*fs.PathError
	newest time.Time // the last change, as far as the times show
}

// add records that the file or directory at path changed, perhaps at the given time.
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

// addUnread records a file that could not be read.
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

// clock waits until the last change is a step of the clock ago, so that the next pass can detect
// further changes.
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

// clockStep is the largest distance of two changes that leave a file with the same times: twice the
// tick of the slowest kernel or, if times are in whole seconds, FAT's resolution.
func clockStep(when time.Time) time.Duration {
	if when.Nanosecond() == 0 {
		return 2 * time.Second
	}
	return 20 * time.Millisecond
}

// quiet reports whether a file whose last change was at when has not changed since from, as far as
// times can show that. A time in the future was set before the clock was turned back; a change now
// would show.
func quiet(when, from time.Time) bool {
	step := clockStep(when)
	return when.Before(from.Add(-step)) || when.After(time.Now().Add(2*step))
}
