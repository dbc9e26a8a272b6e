// Package recordfile keeps a small table of values by key in a file that reveals damage: the table
// of an agent, the journal of a provider.
//
// When [File.Write] returns nil, the change is completely on stable storage; it costs one
// fdatasync. Opening the file finds any byte that was changed, lost, repeated or cut off, and then
// fails, unless the loss can be repaired from elsewhere in the file. After a crash, an unfinished
// change is there completely or not at all. This does not protect against somebody who may write to
// the file.
package recordfile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/durable"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/trusted"
)

// ErrInUse means that another process has the file open.
var ErrInUse = errors.New("it is in use by another process")

// A DamageError means that a file is damaged or missing. Open has then changed nothing.
type DamageError struct {
	Path    string
	Missing bool // it is missing, or empty
	Problem string
	Known   string // what is known in spite of that; may be empty
	Advice  string // what to do
}

// Error returns all of it.
func (e *DamageError) Error() string {
	s := e.Path + " is damaged: " + e.Problem
	if e.Known != "" {
		s += "; " + e.Known
	}
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s
}

// Options say how to open a file.
type Options struct {
	// Kind is what the file holds, "agent table": at most 16 bytes. A file of another kind is
	// refused.
	Kind string
	// Wait is the time to wait for another process that has the file open. Zero means no wait.
	Wait time.Duration
	// ID is the id of a new file. Zero means a random one.
	ID uuid.UUID
	// New makes an empty file, with a new id, even if the file is missing or empty although it
	// existed.
	New bool
	// Convert reads a file of an older format, to take it over; errors say that it is not one. The
	// old file is kept next to the new one, named with ".old" at the end, or ".old-2" if that name
	// is taken. If Convert is nil, Open reads nothing else.
	Convert func(data []byte) (map[string][]byte, error)
	// Advice is the advice in a DamageError.
	Advice string
}

// A File is an open file. It is safe for concurrent use.
type File struct {
	path   string
	o      Options
	id     uuid.UUID
	lock   *os.File // PATH.id
	origin Origin
	from   string // the place that PATH.id names; empty: none

	state  sync.Mutex // guards the following
	closed bool
	busy   bool // a write is in progress, and will close the files
	syncs  uint64

	write   sync.Mutex // held over a write; guards the following
	file    *os.File
	seen    atomic.Uint64 // seq, for readers that do not wait
	header  sum
	seq     uint64
	last    sum
	end     int64
	size    int64 // of the file
	table   table
	live    int   // the size of the table in one record
	compact int64 // the end of the log at which the file is rewritten
	dirty   bool  // a write has failed: the contents of the file are unknown
}

// Open opens a file, or makes one if there is none. Only one process at a time has it open,
// together with the file PATH.id, which says that the file exists, and its id.
func Open(path string, o *Options) (*File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := trusted.Path(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f := &File{path: path, o: *o}
	if f.lock, err = lock(path+".id", o.Wait); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := f.open(); err != nil {
		return nil, errors.Join(err, f.closeFiles())
	}
	return f, nil
}

func (f *File) damage(problem, known string) error {
	return &DamageError{Path: f.path, Problem: problem, Known: known, Advice: f.o.Advice}
}

// open reads the file, or makes it.
func (f *File) open() error {
	id, known, err := f.readID()
	if err != nil {
		return err
	}
	data, err := readFile(f.path, os.O_RDWR)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if missing && (f.o.New || !known) || !missing && len(data) == 0 && f.o.New {
		return f.make(f.newID(), table{})
	}
	if missing || len(data) == 0 {
		e := &DamageError{Path: f.path, Missing: true, Problem: "it is missing", Advice: f.o.Advice}
		if !missing {
			e.Problem = "it is empty"
		}
		if known {
			e.Known = fmt.Sprintf("it was there: %s.id names %s", f.path, id)
		}
		return e
	}
	c, err := parse(data, f.o.Kind)
	if errors.Is(err, errForeign) && f.o.Convert != nil {
		return f.takeOver(id, data)
	}
	if err != nil {
		return f.damage(err.Error(), c.known())
	}
	if known && id != c.id {
		return f.damage(fmt.Sprintf("it is the file of %s, and %s.id names %s", c.id, f.path, id), "")
	}
	if err := f.use(c, int64(len(data))); err != nil {
		return err
	}
	switch {
	case !known:
		f.origin = Unknown
	case f.origin == Original && f.from != f.place().String(): // it was moved, or PATH.id is an older version's
		return f.writeID(c.id)
	}
	return nil
}

// known describes what could be read of a damaged file.
func (c *contents) known() string {
	if c.broken || c.seq+1 == c.base {
		return "nothing of it can be read"
	}
	return fmt.Sprintf("%d records up to change %d can be read", len(c.table), c.seq)
}

// use opens the file that c was read from.
func (f *File) use(c contents, size int64) (err error) {
	f.id, f.header, f.seq, f.last, f.table = c.id, c.file, c.seq, c.last, c.table
	f.end, f.size = int64(c.end), size
	f.seen.Store(f.seq)
	if f.file, err = openFile(f.path, os.O_RDWR); err != nil {
		return err
	}
	if err := tryLock(f.file); err != nil { // by somebody whose PATH.id was removed
		return fmt.Errorf("%s: %w", f.path, err)
	}
	f.measure()
	if !c.clean { // a crash has interrupted a change
		return f.rebuild(f.table)
	}
	return nil
}

// measure decides when to rewrite the file.
func (f *File) measure() {
	f.live = f.table.size()
	f.compact = logAt + max(4*chunk, 4*int64(f.live))
}

// takeOver converts a file of an older version. If no format fits, the file is damaged.
func (f *File) takeOver(id uuid.UUID, data []byte) error {
	old, err := f.o.Convert(data)
	if err != nil {
		return f.damage(err.Error(), "")
	}
	if err := lockOld(f.path); err != nil { // in use by an agent or provider of the older version
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if _, err := linkAside(f.path, ".old"); err != nil {
		return err
	}
	if id == uuid.Nil {
		id = f.newID()
	}
	return f.make(id, old)
}

func (f *File) newID() uuid.UUID {
	if f.o.ID != uuid.Nil {
		return f.o.ID
	}
	return uuid.New()
}

// make writes the first file.
func (f *File) make(id uuid.UUID, t table) error {
	f.id, f.seq = id, 0
	if err := f.rebuild(t); err != nil {
		return err
	}
	return f.writeID(id)
}

// ID returns the id that was made with the file.
func (f *File) ID() uuid.UUID { return f.id }

// Origin returns what the file's place says of it as it was opened, and for one that is [Copied]
// the place where it was.
func (f *File) Origin() (o Origin, from string) {
	if f.origin == Copied {
		from = f.from
	}
	return f.origin, from
}

// Adopt makes a file that is not [Original] the one that belongs here.
func (f *File) Adopt() error { return f.writeID(f.id) }

// Path returns the file's path, absolute.
func (f *File) Path() string { return f.path }

// Load returns the table. The caller owns the map, but must not change the values.
func (f *File) Load() map[string][]byte {
	f.write.Lock()
	defer f.write.Unlock()
	return maps.Clone(f.table)
}

// Sequence returns the number of the newest change.
func (f *File) Sequence() uint64 { return f.seen.Load() }

// Syncs returns how often the file was synced, for benchmarks.
func (f *File) Syncs() uint64 {
	f.state.Lock()
	defer f.state.Unlock()
	return f.syncs
}

// Write makes a change. When it returns nil, the change is on stable storage; otherwise it has no
// effect, but may appear after a crash. After [File.Close] errors match [os.ErrClosed].
func (f *File) Write(c Change) error {
	f.write.Lock()
	defer f.write.Unlock()
	if !f.begin() {
		return fmt.Errorf("%s: %w", f.path, os.ErrClosed)
	}
	defer f.finish()
	if c.Empty() {
		return nil
	}
	payload := c.payload()
	if f.dirty {
		next := maps.Clone(f.table)
		if err := next.do(payload, nil); err != nil {
			return err
		}
		return f.rebuild(next)
	}
	if err := f.append(payload); err != nil {
		f.dirty = true
		f.undo()
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if err := f.table.do(payload, nil); err != nil {
		return err
	}
	if f.end > f.compact {
		if err := f.rebuild(f.table); err != nil && !f.dirty { // the change is stored; rewriting can wait
			f.compact = 2 * f.end
		}
	}
	return nil
}

// append writes a change to the end of the log and to its slot.
func (f *File) append(payload []byte) error {
	if err := checkLinked(f.file); err != nil {
		return err
	}
	rec, s := record(f.last, f.seq+1, payload)
	if f.end+int64(len(rec)) > MaxSize {
		return fmt.Errorf("a file of more than %d bytes", MaxSize)
	}
	b := rec
	if end := f.end + int64(len(rec)); end > f.size {
		b = append(slices.Clip(rec), make([]byte, roundUp(end)-end)...)
	}
	if _, err := f.file.WriteAt(b, f.end); err != nil {
		return err
	}
	if len(rec) > slotRoom {
		if err := f.sync(); err != nil {
			return err
		}
	}
	if _, err := f.file.WriteAt(slot(f.header, rec), slotAt(f.seq+1)); err != nil {
		return err
	}
	if err := f.sync(); err != nil {
		return err
	}
	f.size = max(f.size, f.end+int64(len(b)))
	f.seq, f.last, f.end = f.seq+1, s, f.end+int64(len(rec))
	f.seen.Store(f.seq)
	return nil
}

func roundUp(n int64) int64 { return (n + chunk - 1) / chunk * chunk }

// undo tries to invalidate what a failed write may have left. The file is not written again: the
// next Write makes a new one.
func (f *File) undo() {
	_, _ = f.file.WriteAt(make([]byte, sumSize+4), slotAt(f.seq+1))
	_, _ = f.file.WriteAt(make([]byte, headSize), f.end)
}

func (f *File) sync() error {
	f.state.Lock()
	f.syncs++
	f.state.Unlock()
	return durable.Data(f.file)
}

// rebuild writes a new file with this table and replaces the old one.
func (f *File) rebuild(t table) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", f.path, err)
		}
	}()
	if err := f.stillHere(); err != nil {
		return err
	}
	fresh := f.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	seq := f.seq + 1
	head := header(f.o.Kind, f.id, seq)
	file := sum(head[headerSize-sumSize:])
	rec, last := record(file, seq, (&Change{Put: t}).payload())
	end := int64(logAt + len(rec))
	if end > MaxSize {
		return fmt.Errorf("a table of more than %d bytes", MaxSize)
	}
	size := roundUp(end)
	data := make([]byte, size)
	copy(data, head)
	copy(data[slotAt(seq):], slot(file, rec))
	copy(data[logAt:], rec)
	next, err := writeFile(fresh, data)
	if err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // which cannot rename open files
		next.Close()
		if f.file != nil {
			f.file.Close()
		}
	}
	if err := os.Rename(fresh, f.path); err != nil {
		next.Close()
		if runtime.GOOS == "windows" {
			f.dirty = true
		}
		return err
	}
	if f.file != nil {
		f.file.Close()
	}
	f.file = next
	if runtime.GOOS == "windows" {
		if f.file, err = openFile(f.path, os.O_RDWR); err == nil {
			err = tryLock(f.file)
		}
		if err != nil {
			f.dirty = true
			return err
		}
	}
	f.header, f.seq, f.last, f.end, f.size = file, seq, last, end, size
	f.seen.Store(seq)
	f.dirty = true // until the name is on stable storage
	f.state.Lock()
	f.syncs += 2
	f.state.Unlock()
	if err := durable.Dir(filepath.Dir(f.path)); err != nil {
		return err
	}
	f.dirty, f.table = false, t
	f.measure()
	return nil
}

// stillHere fails where PATH.id is not the file that is locked: the directory was moved or removed
// meanwhile, and what is at the path may be somebody else's.
func (f *File) stillHere() error {
	held, err := f.lock.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(f.path + ".id")
	if err == nil && !os.SameFile(held, now) {
		err = errors.New("another file has taken its place")
	}
	if err != nil {
		return fmt.Errorf("it was moved or removed while it was in use: %w", err)
	}
	return nil
}

func (f *File) begin() bool {
	f.state.Lock()
	defer f.state.Unlock()
	f.busy = !f.closed
	return f.busy
}

func (f *File) finish() {
	f.state.Lock()
	defer f.state.Unlock()
	f.busy = false
	if f.closed {
		_ = f.closeFiles()
	}
}

// Close closes the file. It does not wait: if a Write is in progress, for example on a stalled file
// system, that Write closes the file when it ends, and until then nobody else can open it.
func (f *File) Close() error {
	f.state.Lock()
	defer f.state.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if f.busy {
		return nil
	}
	return f.closeFiles()
}

func (f *File) closeFiles() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, f.lock.Close())
}
