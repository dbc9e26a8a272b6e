package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// A dir is an open directory of the source or of the copy. Paths and names are relative to it.
type dir[D any] interface {
	io.Closer
	// open opens a directory at or below this one. It follows no symbolic link and crosses no mount.
	open(path string) (D, error)
	// names returns some more names of the directory, none at its end.
	names() ([]string, error)
	// self returns the metadata of the directory, with extended attributes.
	self() (info, error)
	// stat returns the metadata of what has the name.
	stat(name string) (info, error)

	// mkdir makes a directory for the owner of the process alone, for finish to complete.
	mkdir(path string) error
	// file copies a regular file. It fails with errReplaced where the name in from is not the file
	// that in tells of. After an error it leaves nothing. Changed says that what was copied is not one state of the file.
	file(ctx context.Context, from D, name string, in *info, data *dataCopier) (changed bool, err error)
	// symlink and special copy such files. They fail with errReplaced, and leave nothing, as file does; special
	// also with errLeftOut, where the system cannot make such a file.
	symlink(from D, name string, in *info) error
	special(from D, name string, in *info) error
	// link gives a file of the copy one more name.
	link(old D, oldName, name string) error
	// finish gives the directory the metadata of the one that it is a copy of.
	finish(in *info) error
	// sync brings the directory and all below it to stable storage.
	sync() error
}

// attempts is how often a name that is replaced again and again is looked at.
const attempts = 4

// A walk copies one tree. Its tasks are directories, or parts of one.
//
// Directories are opened by their path from the root each time rather than kept open, so that neither a deep tree nor a
// wide one uses up file descriptors.
type walk[D dir[D]] struct {
	cfg      *Config
	src, dst D
	skip     map[string]bool // by path
	tasks    *queue[task]
	links    links
	data     *dataCopier
}

// A node is a directory of the copy that is not finished.
type node struct {
	parent *node
	path   string // from the root, which is "."
	info   info
	made   bool
	// pending counts what keeps it from being finished: parts of itself, directories in it.
	pending atomic.Int64
}

// A task is a directory to make and read, or names in it to copy.
type task struct {
	node  *node
	names []string // nil: the directory itself
}

// copy runs the walk. The root of the copy is made and open.
func (w *walk[D]) copy(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, w.tasks.stop)()
	root := &node{path: ".", made: true}
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
	return w.dst.sync()
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

// directory makes a directory and copies what is in it, or leaves part of that to others.
func (w *walk[D]) directory(ctx context.Context, n *node) error {
	src, err := w.src.open(n.path)
	if isGone(err) && n.parent != nil {
		return nil
	}
	if err != nil {
		return within(n.path, err)
	}
	defer src.Close()
	if n.info, err = src.self(); err != nil {
		return within(n.path, err)
	}
	if n.parent != nil {
		if err := w.dst.mkdir(n.path); err != nil {
			return within(n.path, err)
		}
		n.made = true
	}
	dst, err := w.dst.open(n.path)
	if err != nil {
		return within(n.path, err)
	}
	defer dst.Close()
	for {
		names, err := src.names()
		if isGone(err) && n.parent != nil { // it was removed while it was read
			return nil
		}
		if err != nil {
			return within(n.path, err)
		}
		if len(names) == 0 {
			return nil
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
}

// part copies some names of a directory that another task has made.
func (w *walk[D]) part(ctx context.Context, n *node, names []string) error {
	src, err := w.src.open(n.path)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return within(n.path, err)
	}
	defer src.Close()
	if now, err := src.self(); err != nil {
		return within(n.path, err)
	} else if now.id != n.info.id {
		return nil // another directory has its name now
	}
	dst, err := w.dst.open(n.path)
	if err != nil {
		return within(n.path, err)
	}
	defer dst.Close()
	return w.entries(ctx, n, src, dst, names)
}

func (w *walk[D]) entries(ctx context.Context, n *node, src, dst D, names []string) error {
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.entry(ctx, n, src, dst, name); err != nil {
			return within(filepath.Join(n.path, name), err)
		}
	}
	return nil
}

// entry copies what has the name in the source at this moment.
func (w *walk[D]) entry(ctx context.Context, n *node, src, dst D, name string) error {
	for try := 1; ; try++ {
		in, err := src.stat(name)
		if isGone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if in.kind == directory {
			w.descend(n, name)
			return nil
		}
		err = w.make(ctx, n, src, dst, name, &in)
		if errors.Is(err, errLeftOut) {
			w.cfg.Logger.WarnContext(ctx, "file cannot be copied", "path", filepath.Join(n.path, name), "err", err)
			return nil
		}
		if !errors.Is(err, errReplaced) || try == attempts {
			return err
		}
	}
}

// descend leaves a directory to whoever has time.
func (w *walk[D]) descend(n *node, name string) {
	path := filepath.Join(n.path, name)
	if w.skip[path] {
		return
	}
	child := &node{parent: n, path: path}
	child.pending.Store(1)
	n.pending.Add(1)
	w.tasks.push(task{node: child})
}

// make copies a file, or gives its copy one more name.
func (w *walk[D]) make(ctx context.Context, n *node, src, dst D, name string, in *info) error {
	if in.links > 1 && in.id != (fileID{}) {
		first, err := w.links.claim(ctx, in, n.path, name)
		if err != nil {
			return err
		}
		if first != nil {
			old, err := w.dst.open(first.path)
			if err != nil {
				return err
			}
			defer old.Close()
			if err := dst.link(old, first.name, name); err != nil {
				return err
			}
			w.data.file()
			return nil
		}
		made := false
		defer func() { w.links.settle(in, made) }()
		err = w.copyFile(ctx, n, src, dst, name, in)
		made = err == nil
		return err
	}
	return w.copyFile(ctx, n, src, dst, name, in)
}

func (w *walk[D]) copyFile(ctx context.Context, n *node, src, dst D, name string, in *info) error {
	var err error
	switch in.kind {
	case regular:
		var changed bool
		changed, err = dst.file(ctx, src, name, in, w.data)
		if err == nil && changed {
			w.cfg.Logger.WarnContext(ctx, "file kept changing while it was copied", "path", filepath.Join(n.path, name))
		}
	case symlink:
		err = dst.symlink(src, name, in)
	default:
		err = dst.special(src, name, in)
	}
	if err == nil {
		w.data.file()
	}
	return err
}

// release takes one from what a directory waits for, and finishes it, and then maybe the one that it is in, when that was the last.
func (w *walk[D]) release(n *node) error {
	for ; n != nil && n.pending.Add(-1) == 0; n = n.parent {
		if !n.made {
			continue
		}
		dst, err := w.dst.open(n.path)
		if err != nil {
			return within(n.path, err)
		}
		err = dst.finish(&n.info)
		dst.Close()
		if err != nil {
			return within(n.path, err)
		}
	}
	return nil
}

// within says which file an error is about.
func within(path string, err error) error { return fmt.Errorf("%s: %w", path, err) }
