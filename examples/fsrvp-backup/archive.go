package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"syscall"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// archive writes the copies of a set into one tar stream.
func archive(ctx context.Context, w io.Writer, src source, set *provider.Set, rep *report) error {
	if err := rep.strictError(); err != nil {
		return err
	}
	a := newArchiver(w)
	for _, c := range set.Copies {
		if err := a.copy(ctx, src, c, rep); err != nil {
			return fmt.Errorf("reading the copy of %s: %w", src.title(c), err)
		}
	}
	return a.close()
}

// An archiver writes members. It hides that large files are of several steps.
type archiver struct {
	w        *recordWriter
	index    hash.Hash
	members  int64
	previous previousSum
	buf      []byte

	large    hash.Hash // of the large file that is being written; nil: none
	bad      *problem
	hashing  chan []byte
	hashed   chan struct{}
	inLarge  int64
	unlisted map[string]bool // first names of files of several that are not in the archive
}

func newArchiver(w io.Writer) *archiver {
	return &archiver{w: &recordWriter{w: w, buf: make([]byte, 0, 100*recordSize)}, index: sha256.New(),
		unlisted: map[string]bool{}}
}

func (a *archiver) copy(ctx context.Context, src source, c provider.Copy, rep *report) (err error) {
	t, err := src.open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	prefix := src.prefix(c)
	rep.begin(c, src)
	defer rep.end()
	a.hashing, a.hashed = make(chan []byte), make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := range a.hashing {
			a.large.Write(b)
			a.hashed <- struct{}{}
		}
	}()
	defer func() { close(a.hashing); <-done }()
	name := func(p string) string { return path.Join(prefix, p) }
	return readAhead(ctx, t, name, rep.problem, func(s *step) error { return a.step(s, rep) })
}

// step writes one step.
func (a *archiver) step(s *step, rep *report) error {
	for _, p := range s.problems {
		if err := rep.problem(p); err != nil {
			return err
		}
	}
	n := s.n
	switch s.kind {
	case stepMember:
		return a.member(s, rep)
	case stepBegin:
		if s.err != nil {
			return a.failed(n, s.err, rep)
		}
		a.large, a.bad, a.inLarge = sha256.New(), nil, 0
		return a.header(n, nil)
	case stepPiece:
		if s.err != nil && a.bad == nil {
			a.bad = problemOf(n.path, s.err)
			a.bad.Reason = fmt.Sprintf("from byte %d on it has zeros: %s", s.off, a.bad.Reason)
			if errors.Is(s.err, errShort) {
				a.bad.Kind = kindChanged
			}
		}
		a.hashing <- s.data
		err := a.w.write(s.data)
		<-a.hashed
		a.inLarge += int64(len(s.data))
		rep.bytes(int64(len(s.data)))
		return err
	default:
		a.previous = previousSum{a.large.Sum(nil), a.bad != nil}
		if err := a.pad(n.stored()); err != nil {
			return err
		}
		rep.file(n)
		if a.bad != nil {
			return rep.problem(a.bad)
		}
		return nil
	}
}

// member writes a member that comes as a whole.
func (a *archiver) member(s *step, rep *report) error {
	n := s.n
	switch {
	case s.err != nil:
		return a.failed(n, s.err, rep)
	case n.irregular != nil:
		return rep.problem(n.irregular)
	case n.kind == typeLink && a.unlisted[n.link]:
		return a.failed(n, fmt.Errorf("so is %s, which is the same file", n.link), rep)
	}
	if err := a.header(n, s.sum); err != nil {
		return err
	}
	if n.kind != typeFile {
		if n.kind != typeDir {
			rep.file(n)
		}
		return nil
	}
	if err := a.w.write(s.data); err != nil {
		return err
	}
	rep.bytes(int64(len(s.data)))
	rep.file(n)
	return a.pad(n.stored())
}

// failed is a file that is not in the archive.
func (a *archiver) failed(n *node, err error, rep *report) error {
	if n.links > 1 && n.kind == typeFile {
		a.unlisted[n.name] = true
	}
	return rep.problem(problemOf(n.path, err))
}

// header writes all that is ahead of the contents. Sum is that of the contents, where it is known.
func (a *archiver) header(n *node, sum []byte) error {
	m := n.member
	var comment []string
	if a.members == 0 || sum != nil || a.previous.sum != nil {
		comment = append(comment, formatComment)
	}
	if sum != nil {
		comment = append(comment, "sha256 "+hex.EncodeToString(sum))
	}
	if a.previous.sum != nil {
		comment = append(comment, a.previous.String())
	}
	if comment != nil {
		m.records = append(m.records[:len(m.records):len(m.records)], paxRecord{keyComment, joinComment(comment)})
	}
	b, err := appendHeader(a.buf[:0], &m)
	if err != nil {
		return fmt.Errorf("%s: %w", n.path, err)
	}
	a.buf = b
	a.previous = previousSum{}
	a.members++
	a.index.Write(b)
	return a.w.write(b)
}

func joinComment(parts []string) string {
	var b bytes.Buffer
	for i, p := range parts {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p)
	}
	return b.String()
}

var zeroBlock [blockSize]byte

// pad fills the last block of contents up.
func (a *archiver) pad(size int64) error {
	b := zeroBlock[:padding(size)]
	a.index.Write(b)
	return a.w.write(b)
}

// close writes the end.
func (a *archiver) close() error {
	if err := a.w.write(make([]byte, 2*blockSize)); err != nil {
		return err
	}
	if err := a.w.flush(false); err != nil {
		return err
	}
	text := fmt.Sprintf("%s\nmembers %d\nsha256 %x\n", trailerTitle, a.members, a.index.Sum(nil))
	if a.previous.sum != nil {
		text += a.previous.String() + "\n"
	}
	err := a.w.write(pad([]byte(text)))
	if err == nil {
		err = a.w.flush(true)
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil // a reader that has seen the blocks of zeros need not read on
	}
	return err
}

// A recordWriter writes whole records, as tapes want them.
type recordWriter struct {
	w   io.Writer
	buf []byte
}

func (r *recordWriter) write(b []byte) error {
	if len(b) >= 8*recordSize { // whole records of it need not be copied
		rest := (recordSize - len(r.buf)%recordSize) % recordSize
		r.buf, b = append(r.buf, b[:rest]...), b[rest:]
		if err := r.flush(false); err != nil {
			return err
		}
		n := len(b) / recordSize * recordSize
		if _, err := r.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	for len(b) > 0 {
		n := copy(r.buf[len(r.buf):cap(r.buf)], b)
		r.buf, b = r.buf[:len(r.buf)+n], b[n:]
		if len(r.buf) == cap(r.buf) {
			if err := r.flush(false); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the whole records that there are; at the end it fills the last one up.
func (r *recordWriter) flush(end bool) error {
	if rest := len(r.buf) % recordSize; end && rest > 0 {
		r.buf = append(r.buf, make([]byte, recordSize-rest)...)
	}
	n := len(r.buf) / recordSize * recordSize
	if n == 0 {
		return nil
	}
	if _, err := r.w.Write(r.buf[:n]); err != nil {
		return err
	}
	r.buf = r.buf[:copy(r.buf[:cap(r.buf)], r.buf[n:])]
	return nil
}
