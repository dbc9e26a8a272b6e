package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/bits"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Reading is ahead of writing, and in the archive's order: a walk lists directories, and gives
// every file to workers, which read it as a whole where it is small. Of a large file they read
// pieces. What is read waits in a queue until its turn comes.
const (
	smallFile  = 256 << 10
	pieceSize  = 1 << 20
	readBudget = 64 << 20 // bytes that wait
	queueLimit = 2048     // members and pieces that wait
	memberCost = 2 << 10  // of the budget, for what is not contents
	listsAhead = 4        // directories of each level that are listed before it is their turn
)

// A step is the next thing that goes into the archive.
type step struct {
	kind  stepKind
	n     *node
	file  content // of a large file
	off   int64   // of a piece
	ready chan struct{}
	cost  int64

	// What a worker has made; ready to read when the channel is closed.
	data     []byte
	sum      []byte
	err      error
	problems []*problem
	streams  []*step
}

type stepKind uint8

const (
	stepMember stepKind = iota // with its contents, if it has any
	stepBegin                  // the header of a large file
	stepPiece
	stepEnd
)

// ahead reads a tree.
type ahead struct {
	tree   tree
	steps  chan *step // in the archive's order
	jobs   chan *step
	budget *semaphore.Weighted
	lists  *semaphore.Weighted
	links  map[fileID]string // the first name of every file that has several
	prefix func(string) string
}

// workers is how many files are read at once. Files of a share mostly wait for the server.
func workers(t tree) int {
	if _, ok := t.(*shareTree); ok {
		return 24
	}
	return max(4, 2*runtime.GOMAXPROCS(0))
}

// readAhead calls take with each step of a tree, when it is ready. Names are those that prefix
// makes of paths. Problems of directories come by report.
func readAhead(ctx context.Context, t tree, prefix func(string) string, report func(*problem) error,
	take func(*step) error) error {
	a := &ahead{
		tree: t, steps: make(chan *step,
			queueLimit), jobs: make(chan *step), links: map[fileID]string{}, prefix: prefix,
		budget: semaphore.NewWeighted(readBudget), lists: semaphore.NewWeighted(8),
	}
	g, ctx := errgroup.WithContext(ctx)
	listed := make(chan *problem, 64)
	g.Go(func() error {
		defer close(a.steps)
		defer close(a.jobs)
		return a.walk(ctx, ".", a.list(ctx, "."), listed)
	})
	for range workers(t) {
		g.Go(func() error {
			for s := range a.jobs {
				s.run(ctx, t)
				close(s.ready)
			}
			return nil
		})
	}
	var taken error
	g.Go(func() error {
		taken = a.take(ctx, listed, report, take)
		return taken
	})
	err := g.Wait()
	for s := range a.steps { // files that nobody will close
		if s.kind == stepEnd {
			err = errors.Join(err, s.file.Close())
		}
	}
	if taken != nil {
		return taken
	}
	return err
}

// take hands the steps over.
func (a *ahead) take(ctx context.Context, listed <-chan *problem, report func(*problem) error,
	take func(*step) error) error {
	for {
		select {
		case p := <-listed:
			if err := report(p); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case p := <-listed:
			if err := report(p); err != nil {
				return err
			}
		case s, ok := <-a.steps:
			if !ok {
				for {
					select {
					case p := <-listed:
						if err := report(p); err != nil {
							return err
						}
					default:
						return context.Cause(ctx)
					}
				}
			}
			select {
			case <-s.ready:
			case <-ctx.Done():
				if s.kind == stepEnd {
					s.file.Close()
				}
				return context.Cause(ctx)
			}
			err := s.err
			if err == nil || !a.tree.fatal(err) {
				err = take(s)
			}
			for _, sub := range s.streams {
				if err != nil {
					break
				}
				if sub.n.size > smallFile {
					err = a.takeLarge(ctx, sub.n, take)
				} else if err = take(sub); err == nil {
					recycle(sub.data)
				}
			}
			if s.kind == stepEnd {
				s.file.Close()
			}
			recycle(s.data)
			a.budget.Release(s.cost)
			if err != nil {
				return err
			}
		}
	}
}

// takeLarge reads a large stream of a small file where it is needed, and hands it over.
func (a *ahead) takeLarge(ctx context.Context, n *node, take func(*step) error) error {
	begin := &step{kind: stepBegin, n: n}
	if begin.file, begin.err = a.tree.open(ctx, n); begin.err != nil {
		return take(begin)
	}
	defer begin.file.Close()
	err := take(begin)
	for off := int64(0); off < n.size && err == nil; off += pieceSize {
		s := &step{kind: stepPiece, n: n, file: begin.file, off: off, cost: min(pieceSize, n.size-off)}
		s.run(ctx, a.tree)
		err = take(s)
		recycle(s.data)
	}
	if err == nil {
		err = take(&step{kind: stepEnd, n: n})
	}
	return err
}

// A listing is what a directory has, once it is known.
type listing struct {
	done  chan struct{}
	nodes []*node
	err   error
}

// list lists a directory in the background.
func (a *ahead) list(ctx context.Context, dir string) *listing {
	l := &listing{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		if l.err = a.lists.Acquire(ctx, 1); l.err == nil {
			l.nodes, l.err = a.tree.list(ctx, dir)
			a.lists.Release(1)
		}
	}()
	return l
}

// walk gives away what is in a directory, and in those below it.
func (a *ahead) walk(ctx context.Context, dir string, l *listing, listed chan<- *problem) error {
	<-l.done // ends with ctx
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if l.err != nil {
		if dir == "." || a.tree.fatal(l.err) {
			return l.err
		}
		select {
		case listed <- problemOf(dir, l.err):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var below []*node
	for _, n := range l.nodes {
		if n.kind == typeDir && n.err == nil && n.irregular == nil {
			below = append(below, n)
		}
	}
	next := make([]*listing, len(below))
	defer func() {
		for _, l := range next {
			if l != nil {
				<-l.done // no goroutine is left behind
			}
		}
	}()
	started, at := 0, 0
	for i, n := range l.nodes {
		l.nodes[i] = nil
		if err := a.give(ctx, n); err != nil {
			return err
		}
		if n.kind != typeDir || n.err != nil || n.irregular != nil {
			continue
		}
		for ; started < len(below) && started < at+listsAhead; started++ {
			next[started] = a.list(ctx, below[started].path)
		}
		if err := a.walk(ctx, n.path, next[at], listed); err != nil {
			return err
		}
		next[at] = nil
		at++
	}
	return nil
}

// give puts a file into the queue, and gives it to the workers.
func (a *ahead) give(ctx context.Context, n *node) error {
	n.name = a.prefix(n.path)
	if n.kind == typeFile && n.links > 1 && n.id != (fileID{}) {
		if first, ok := a.links[n.id]; ok {
			n.kind, n.link, n.size = typeLink, first, 0
		} else {
			a.links[n.id] = n.name
		}
	}
	if n.kind == typeFile && n.size > smallFile && n.err == nil {
		return a.giveLarge(ctx, n)
	}
	return a.put(ctx, &step{kind: stepMember, n: n, cost: memberCost + n.size})
}

func (a *ahead) put(ctx context.Context, s *step) error {
	s.ready = make(chan struct{})
	if err := a.budget.Acquire(ctx, s.cost); err != nil {
		return context.Cause(ctx)
	}
	select {
	case a.steps <- s:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.kind == stepBegin || s.kind == stepEnd {
		close(s.ready)
		return nil
	}
	select {
	case a.jobs <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// giveLarge opens a large file, and gives its pieces to the workers.
func (a *ahead) giveLarge(ctx context.Context, n *node) error {
	begin := &step{kind: stepBegin, n: n, cost: memberCost}
	if begin.file, begin.err = a.tree.open(ctx, n); begin.err == nil {
		begin.describe(begin.file)
		begin.findHoles(begin.file)
		if begin.err != nil {
			begin.file.Close()
		}
	}
	if begin.err != nil {
		return a.put(ctx, begin)
	}
	given := false // an end in the queue closes the file
	defer func() {
		if !given {
			begin.file.Close()
		}
	}()
	streams, err := begin.file.streams(n)
	if err != nil {
		begin.problems = append(begin.problems, &problem{Path: n.path, Kind: kindMetadata,
			Reason: "streams: " + err.Error()})
	}
	parts := n.extents
	if parts == nil {
		parts = wholeFile(n.size)
	}
	if err := a.put(ctx, begin); err != nil {
		return err
	}
	for _, e := range parts {
		for off := e.offset; off < e.offset+e.length; off += pieceSize {
			length := min(pieceSize, e.offset+e.length-off)
			if err := a.put(ctx, &step{kind: stepPiece, n: n, file: begin.file, off: off, cost: length}); err != nil {
				return err
			}
		}
	}
	given = true
	end := &step{kind: stepEnd, n: n, file: begin.file}
	if err := a.put(ctx, end); err != nil {
		given = false
		return err
	}
	for _, s := range streams {
		if err := a.give(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// run is a worker's part.
func (s *step) run(ctx context.Context, t tree) {
	if s.kind == stepPiece {
		s.data = buffer(int(s.cost))
		_, s.err = readAll(s.file, s.data, s.off)
		return
	}
	s.readMember(ctx, t)
}

// readMember reads all of a small file, or the metadata of anything else.
func (s *step) readMember(ctx context.Context, t tree) {
	n := s.n
	switch {
	case n.err != nil:
		s.err = n.err
		return
	case n.irregular != nil || n.kind == typeLink:
		return
	}
	f, err := t.open(ctx, n)
	if err != nil {
		s.err = err
		return
	}
	defer f.Close()
	s.describe(f)
	if n.kind == typeFile {
		s.findHoles(f)
		s.readSmall(f)
	}
	if s.err != nil || n.kind == typeSymlink {
		return
	}
	streams, err := f.streams(n)
	if err != nil {
		s.problems = append(s.problems, &problem{Path: n.path, Kind: kindMetadata, Reason: "streams: " + err.Error()})
	}
	for _, sub := range streams {
		sub.name = n.name + sub.path[len(n.path):]
		out := &step{kind: stepMember, n: sub}
		if sub.size <= smallFile {
			out.readMember(ctx, t)
		}
		s.streams = append(s.streams, out)
	}
}

// describe gets the metadata. A file without some of it is better than none.
func (s *step) describe(f content) {
	if err := f.describe(&s.n.member); err != nil {
		if s.n.kind == typeSymlink && s.n.link == "" {
			s.err = err
			return
		}
		s.problems = append(s.problems, &problem{Path: s.n.path, Kind: kindMetadata, Reason: err.Error()})
	}
}

func (s *step) findHoles(f content) {
	if !s.n.holes || s.err != nil {
		return
	}
	found, err := f.extents(s.n.size)
	if err != nil {
		s.err = err
		return
	}
	s.n.extents = sparseExtents(found, s.n.size)
}

// readSmall reads a file into memory.
func (s *step) readSmall(f content) {
	if s.err != nil {
		return
	}
	n := s.n
	parts := n.extents
	if parts == nil {
		parts = wholeFile(n.size)
	}
	s.data = buffer(int(n.stored()))
	at := 0
	for _, e := range parts {
		got, err := readAll(f, s.data[at:at+int(e.length)], e.offset)
		if errors.Is(err, errShort) && n.extents == nil {
			s.problems = append(s.problems, &problem{Path: n.path, Kind: kindChanged, Reason: err.Error()})
			s.data, n.size = s.data[:got], int64(got)
		} else if err != nil {
			s.err = err
			return
		}
		at += int(e.length)
	}
	sum := sha256.Sum256(s.data)
	s.sum = sum[:]
}

var errShort = errors.New("it became shorter while it was read")

// readAll fills b. It leaves zeros where it fails.
func readAll(f io.ReaderAt, b []byte, off int64) (int, error) {
	n, err := f.ReadAt(b, off)
	if n == len(b) {
		return n, nil
	}
	clear(b[n:])
	if errors.Is(err, io.EOF) {
		err = errShort
	}
	return n, err
}

// buffers are of powers of two.
var buffers [21]sync.Pool

// buffer returns n bytes with any contents.
func buffer(n int) []byte {
	if n == 0 {
		return nil
	}
	class := max(bits.Len(uint(n-1)), 9)
	if class >= len(buffers) {
		return make([]byte, n)
	}
	if b, ok := buffers[class].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<class)
}

// recycle takes what buffer has returned.
func recycle(b []byte) {
	if class := bits.Len(uint(cap(b))) - 1; cap(b) > 0 && cap(b) == 1<<class && class < len(buffers) {
		buffers[class].Put(&b)
	}
}
