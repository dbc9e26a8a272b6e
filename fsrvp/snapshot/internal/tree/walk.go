package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A dir is an open directory of the source or of the copy. Paths and names are relative to it.
type dir[D any] interface {
	io.Closer
	// open opens a directory at or below this one. It follows no symbolic link and crosses no
	// mount.
	open(path string) (D, error)
	// names returns some more names of the directory, none at its end.
	names() ([]string, error)
	// self returns the metadata of the directory, with extended attributes.
	self() (info, error)
	// stat returns the metadata of the file at path, without following a symbolic link at its end.
	stat(path string) (info, error)

	// mkdir makes a directory that only the owner of the process can access, until finish completes
	// it.
	mkdir(name string) error
	// unlock makes a finished directory accessible only to the owner of the process, if that could
	// not write to it.
	unlock(name string) error
	// loosen stops a finished directory from passing attributes on to files made in it.
	loosen() error
	// remove removes the file or the whole tree with the name. It is not an error if there is none.
	remove(ctx context.Context, name string) error
	// file copies a regular file, as it was when did.info was taken. It fails with errReplaced if
	// the name in from is no longer the file described by in. After an error it leaves nothing.
	file(ctx context.Context, from D, name string, in *info, data *dataCopier) (did copied, err error)
	// symlink and special copy such files. They fail with errReplaced, and leave nothing, as file
	// does; special also fails with errLeftOut if the system cannot make such a file.
	symlink(from D, name string, in *info) error
	special(from D, name string, in *info) error
	// link gives a file of the copy another name.
	link(old D, oldName, name string) error
	// finish gives the directory the metadata of its original.
	finish(in *info) error
	// sync brings the directory and everything below it to stable storage.
	sync() error
}

// copied says how a file was copied.
type copied struct {
	info info
	torn bool // the file changed while it was read
}

// attempts is the number of tries in one pass for a name that keeps being replaced.
const attempts = 4

// A copier makes passes over one tree.
//
// Directories are opened by their path from the root each time rather than kept open, so that
// neither a deep tree nor a wide one uses up file descriptors.
type copier[D dir[D]] struct {
	cfg      *Config
	src, dst D
	skip     map[string]bool // by path, with at most skipDepth names
	data     *dataCopier
	seeds    seeds

	skipDepth int

	known   *known    // of the last pass; nil before the first
	flushed time.Time // the time before the source was last brought to stable storage
	root    info      // of the source, as of the last pass
	clock   wallClock
}

func newCopier[D dir[D]](src, dst D, skip map[string]bool, cfg *Config) *copier[D] {
	c := &copier[D]{
		cfg: cfg, src: src, dst: dst, skip: skip, seeds: newSeeds(),
		data: &dataCopier{clone: cfg.Clone, progress: cfg.Progress},
	}
	for path := range skip {
		c.skipDepth = max(c.skipDepth, strings.Count(path, string(filepath.Separator))+1)
	}
	return c
}

// skipped returns the paths to leave out, relative to the source.
func skipped(src string, paths []string) map[string]bool {
	skip := make(map[string]bool)
	for _, path := range paths {
		if rel, err := filepath.Rel(src, path); err == nil && filepath.IsLocal(rel) {
			skip[rel] = true
		}
	}
	return skip
}

func (c *copier[D]) Close() error { return errors.Join(c.src.Close(), c.dst.Close()) }

func (c *copier[D]) sync() error {
	if c.cfg.NoSync {
		return nil
	}
	return c.dst.sync()
}

func (c *copier[D]) complete() error {
	if err := c.dst.finish(&c.root); err != nil {
		return err
	}
	return c.sync()
}

func (c *copier[D]) pass(ctx context.Context, flush bool) (*moved, error) {
	if c.clock.turnedBack() {
		c.distrust()
	}
	w := &walk[D]{
		copier: c, began: time.Now(), tasks: newQueue[task](), from: shelf[D]{root: c.src}, to: shelf[D]{root: c.dst},
	}
	if flush {
		if err := c.src.sync(); err != nil {
			return nil, err
		}
		c.flushed = w.began
	}
	err := w.copy(ctx)
	if err := errors.Join(err, w.from.close(), w.to.close()); err != nil {
		return nil, err
	}
	if c.clock.turnedBack() { // changed files may look unchanged
		c.distrust()
		w.moved.add(".", time.Now())
	}
	return &w.moved, nil
}

// distrust makes the next pass copy all files again.
func (c *copier[D]) distrust() {
	c.known.distrust()
	c.flushed = time.Time{}
}

// A walk is one pass. Its tasks are directories, or parts of one.
type walk[D dir[D]] struct {
	*copier[D]
	began time.Time
	tasks *queue[task]
	from  shelf[D] // of the source
	to    shelf[D] // of the copy
	links links
	moved moved
}

// A node is an unfinished directory of the copy.
type node struct {
	parent *node
	depth  int
	name   string // in its parent; "." of the root
	info   info
	old    *known // what the pass before has copied; nil if the directory is new in the copy
	next   *known
	made   bool
	dirty  atomic.Bool // its metadata must be set
	filled struct {    // set before the first file is made in it
		sync.Once
		err error
	}
	// pending counts the parts and subdirectories that must be done before it is finished.
	pending atomic.Int64
}

// path returns the path from the root, which is ".".
func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return filepath.Join(names...)
}

// A task is a directory to make and read, or names in it to copy.
type task struct {
	node  *node
	names []string // nil for the directory itself
}

// copy runs the walk. The root of the copy is made and open.
func (w *walk[D]) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, w.tasks.stop)()
	root := &node{name: ".", old: w.known, next: new(known), made: true}
	root.pending.Store(1)
	w.tasks.push(task{node: root})

	var workers sync.WaitGroup
	for range w.cfg.Workers {
		workers.Go(func() {
			for {
				t, ok := w.tasks.pop()
				if !ok {
					return
				}
				if err := w.run(ctx, t); err != nil {
					cancel(err)
				}
				w.tasks.done()
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w.known, w.root = root.next, root.info
	return w.verify(ctx, root.next)
}

// verify records the directories that have changed since their names were read.
func (w *walk[D]) verify(ctx context.Context, root *known) error {
	// A base is a directory from which others are looked up.
	type base struct {
		dir  D
		path string
		uses int // visits that are left
	}
	type visit struct {
		from  *base
		names []string // from there
		dir   *known
	}
	done := func(b *base) {
		if b.uses--; b.uses == 0 && b.path != "." {
			b.dir.Close()
		}
	}
	todo := []visit{{&base{dir: w.src, path: ".", uses: 1}, nil, root}}
	defer func() {
		for _, v := range todo {
			done(v.from)
		}
	}()
	for len(todo) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		path := filepath.Join(append([]string{"."}, v.names...)...)
		var now info
		var err error
		if path == "." {
			now, err = v.from.dir.self()
		} else {
			now, err = v.from.dir.stat(path)
		}
		if err != nil || now.stamp() != v.dir.self || !quiet(now.changedAt(), w.began) {
			w.moved.add(filepath.Join(v.from.path, path), now.changedAt())
		}
		from, names := v.from, v.names
		if len(names) >= reach && len(v.dir.dirs) > 0 {
			if d, err := from.dir.open(path); err == nil { // otherwise everything below is found to be missing
				from, names = &base{dir: d, path: filepath.Join(from.path, path)}, nil
			}
		}
		for name, d := range v.dir.dirs {
			from.uses++
			todo = append(todo, visit{from, append(slices.Clip(names), name), d})
		}
		done(v.from)
	}
	return nil
}

func (w *walk[D]) run(ctx context.Context, t task) error {
	var err error
	if t.names == nil {
		err = w.directory(ctx, t.node)
	} else {
		err = w.part(ctx, t.node, t.names)
	}
	if err != nil {
		return err
	}
	return w.release(t.node)
}

// isTaken reports whether an error means that another task has made the name: a directory that
// changes while it is read may list an entry twice, as a file and as a directory.
func isTaken(err error) bool { return errors.Is(err, fs.ErrExist) || isGone(err) }

// A sourceError means that an operation on the source, not on the copy, failed.
type sourceError struct {
	op  string
	err error
}

func (e *sourceError) Error() string { return e.op + ": " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// inSource marks an error of the source.
func inSource(op string, err error) error {
	if err == nil {
		return nil
	}
	return &sourceError{op, err}
}

// unread records an unreadable directory, or an unreadable file in it, below the root, if the walk
// may continue without it. Otherwise it returns the error.
func (w *walk[D]) unread(n *node, op, name string, err error) error {
	path := filepath.Join(n.path(), name)
	lost := errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EIO) || errors.Is(err, errTooMany)
	if !w.cfg.SkipUnreadable || !lost || n.parent == nil && path == "." {
		return within(path, inSource(op, err))
	}
	w.moved.addUnread(&fs.PathError{Op: op, Path: path, Err: err})
	return nil
}

// gone records that a directory vanished during the walk.
func (w *walk[D]) gone(n *node) { w.moved.add(n.path(), time.Time{}) }

// directory makes a directory, or uses the one from the pass before, and copies its contents, or
// leaves a part of them to other workers.
func (w *walk[D]) directory(ctx context.Context, n *node) error {
	src, err := w.from.open(n)
	if isGone(err) && n.parent != nil {
		w.gone(n)
		return nil
	}
	if err != nil {
		return w.unread(n, "open", "", err)
	}
	defer src.Close()
	if n.info, err = src.self(); err != nil {
		return w.unread(n, "stat", "", err)
	}
	n.next.self = n.info.stamp()
	n.next.trusted = quiet(n.info.changedAt(), w.flushed)
	if n.parent != nil {
		if err := w.provide(n); isTaken(err) {
			w.gone(n)
			return nil
		} else if err != nil {
			return within(n.path(), err)
		}
	}
	if !n.old.same(n.next.self) {
		n.dirty.Store(true)
	}
	dst, err := w.to.open(n)
	if isTaken(err) {
		w.gone(n)
		return nil
	}
	if err != nil {
		return within(n.path(), err)
	}
	defer dst.Close()
	var met map[string]bool // nil if the copy cannot have outdated entries
	if n.old != nil && !n.old.same(n.next.self) {
		met = make(map[string]bool)
	}
	for {
		names, err := src.names()
		if isGone(err) && n.parent != nil { // it was removed while it was read
			w.gone(n)
			return nil
		}
		if err != nil { // keep what the pass before has copied of it
			return w.unread(n, "read", "", err)
		}
		if len(names) == 0 {
			break
		}
		if met != nil {
			for _, name := range names {
				met[name] = true
			}
		}
		if w.tasks.starved(w.cfg.Workers) {
			n.pending.Add(1)
			w.tasks.push(task{n, names})
			continue
		}
		if err := w.entries(ctx, n, src, dst, names); err != nil {
			return err
		}
	}
	if met == nil {
		return nil
	}
	if err := w.prune(ctx, n, dst, met); err != nil {
		return within(n.path(), err)
	}
	return nil
}

// provide makes the directory in the copy, if the pass before has not.
func (w *walk[D]) provide(n *node) error {
	parent, err := w.to.open(n.parent)
	if err != nil {
		return err
	}
	defer parent.Close()
	if n.old != nil {
		err = parent.unlock(n.name)
	} else if err = w.fill(n.parent, parent); err == nil {
		err = parent.mkdir(n.name)
	}
	if err != nil {
		return err
	}
	n.made = true
	n.parent.next.addDir(n.name, n.next)
	return nil
}

// prune removes entries of a directory of the copy that the source no longer has.
func (w *walk[D]) prune(ctx context.Context, n *node, dst D, met map[string]bool) error {
	var past []string
	for {
		names, err := dst.names()
		if err != nil {
			return err
		}
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if !met[name] {
				past = append(past, name)
			}
		}
	}
	for _, name := range past {
		n.dirty.Store(true)
		if err := dst.remove(ctx, name); err != nil {
			return within(name, err)
		}
	}
	return nil
}

// part copies some names of a directory that another task has made.
func (w *walk[D]) part(ctx context.Context, n *node, names []string) error {
	src, err := w.from.open(n)
	if isGone(err) {
		w.gone(n)
		return nil
	}
	if err != nil {
		return w.unread(n, "open", "", err)
	}
	defer src.Close()
	if now, err := src.self(); err != nil {
		return w.unread(n, "stat", "", err)
	} else if now.id != n.info.id { // another directory now has its name
		w.gone(n)
		return nil
	}
	dst, err := w.to.open(n)
	if isTaken(err) {
		w.gone(n)
		return nil
	}
	if err != nil {
		return within(n.path(), err)
	}
	defer dst.Close()
	return w.entries(ctx, n, src, dst, names)
}

func (w *walk[D]) entries(ctx context.Context, n *node, src, dst D, names []string) error {
	sums := make([]sum, 0, len(names))
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s, err := w.entry(ctx, n, src, dst, name)
		var lost *sourceError
		if errors.As(err, &lost) {
			err = w.unread(n, lost.op, name, lost.err)
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return within(filepath.Join(n.path(), name), err)
		}
		if s != (sum{}) {
			sums = append(sums, s)
		}
	}
	n.next.add(sums)
	return nil
}

// entry brings the entry with the name up to date. It returns the sum by which the next pass
// recognizes it, or none.
func (w *walk[D]) entry(ctx context.Context, n *node, src, dst D, name string) (sum, error) {
	for try := 1; ; try++ {
		in, err := src.stat(name)
		if isGone(err) {
			w.moved.add(filepath.Join(n.path(), name), time.Time{})
			return sum{}, w.clear(ctx, n, dst, name)
		}
		if err != nil {
			return sum{}, inSource("stat", err)
		}
		if in.kind == directory {
			return sum{}, w.descend(ctx, n, dst, name)
		}
		s := w.seeds.sum(name, in.stamp())
		if n.old.has(s) {
			return s, nil
		}
		if n.old != nil || try > 1 {
			if err := dst.remove(ctx, name); err != nil {
				return sum{}, err
			}
		}
		if err := w.fill(n, dst); err != nil {
			return sum{}, err
		}
		did, err := w.make(ctx, n, src, dst, name, &in)
		switch {
		case err == nil:
			return w.judge(n, name, &did), nil
		case errors.Is(err, errLeftOut):
			w.cfg.Logger.WarnContext(ctx, "file cannot be copied", "path", filepath.Join(n.path(), name), "err", err)
			return s, nil
		case !errors.Is(err, errReplaced) && !isTaken(err):
			return sum{}, err
		case try == attempts:
			w.moved.add(filepath.Join(n.path(), name), time.Now())
			return sum{}, nil
		}
	}
}

// fill prepares a directory of the copy before a file is made in it.
func (w *walk[D]) fill(n *node, dst D) error {
	n.dirty.Store(true)
	if n.old == nil { // it is as mkdir has made it
		return nil
	}
	n.filled.Do(func() { n.filled.err = dst.loosen() })
	return n.filled.err
}

// clear removes an old entry with the name from a directory that the pass before has made.
func (w *walk[D]) clear(ctx context.Context, n *node, dst D, name string) error {
	if n.old == nil {
		return nil
	}
	n.dirty.Store(true)
	return dst.remove(ctx, name)
}

// judge records a file whose copy may mix several states, and returns its sum if the next pass can
// report whether it has changed since.
func (w *walk[D]) judge(n *node, name string, did *copied) sum {
	when := did.info.changedAt()
	// A memory-mapped file may change without a trace until the system writes it back, so a file
	// that changed since the source was brought to stable storage is not recognized.
	known := quiet(when, w.flushed) && !did.info.untraced
	// A clone shows a single moment, but the file under another name may show another one.
	parts := !w.cfg.Clone || did.info.links > 1
	if did.info.kind == regular && parts && (did.torn || !quiet(when, w.began)) {
		w.moved.add(filepath.Join(n.path(), name), when)
		known = false
	}
	if !known {
		return sum{}
	}
	return w.seeds.sum(name, did.info.stamp())
}

// descend leaves a directory to another worker, if one is free.
func (w *walk[D]) descend(ctx context.Context, n *node, dst D, name string) error {
	child := &node{parent: n, depth: n.depth + 1, name: name, old: n.old.dir(name), next: new(known)}
	if child.depth <= w.skipDepth && w.skip[child.path()] {
		return nil
	}
	if child.old == nil {
		if err := w.clear(ctx, n, dst, name); err != nil {
			return err
		}
	}
	child.pending.Store(1)
	n.pending.Add(1)
	w.tasks.push(task{node: child})
	return nil
}

// make copies a file, or gives its copy another name.
func (w *walk[D]) make(ctx context.Context, n *node, src, dst D, name string, in *info) (copied, error) {
	if in.links < 2 || in.id == (fileID{}) {
		return w.copyFile(ctx, src, dst, name, in)
	}
	first, err := w.links.claim(ctx, in, n, name)
	if err != nil {
		return copied{}, err
	}
	if first == nil {
		did, err := w.copyFile(ctx, src, dst, name, in)
		w.links.settle(in, err == nil, did)
		return did, err
	}
	old, err := w.to.open(first.dir)
	if err != nil {
		return copied{}, err
	}
	defer old.Close()
	if err := dst.link(old, first.name, name); err != nil {
		return copied{}, err
	}
	w.data.file()
	return first.did, nil
}

func (w *walk[D]) copyFile(ctx context.Context, src, dst D, name string, in *info) (did copied, err error) {
	did.info = *in
	switch in.kind {
	case regular:
		did, err = dst.file(ctx, src, name, in, w.data)
	case symlink:
		err = dst.symlink(src, name, in)
	default:
		err = dst.special(src, name, in)
	}
	if err == nil {
		w.data.file()
	}
	return did, err
}

// release decrements the pending count of a directory. At zero it finishes the directory, and then
// perhaps its parent. It leaves the root to complete.
func (w *walk[D]) release(n *node) error {
	for ; n != nil && n.pending.Add(-1) == 0; n = n.parent {
		n.next.sort()
		if !n.made || n.parent == nil || !n.dirty.Load() {
			continue
		}
		dst, err := w.to.open(n)
		if isTaken(err) {
			w.gone(n)
			continue
		}
		if err != nil {
			return within(n.path(), err)
		}
		err = dst.finish(&n.info)
		dst.Close()
		if err != nil {
			return within(n.path(), err)
		}
	}
	return nil
}

// within adds the file to an error.
func within(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", path, err)
}
