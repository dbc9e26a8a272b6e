package smb2

import (
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	// DefaultChunk is how many bytes a reader asks for at once.
	DefaultChunk = 1 << 20
	// DefaultWindow is how many such pieces are requested at once.
	DefaultWindow = 8
)

// A readOp is one READ that is waiting for its answer.
type readOp struct {
	r   *request
	off int64
	n   int
	gen int
	// the answer, where it was checked with that of the operation before; then r is not valid any
	// more
	got bool
	a   answer
	err error
}

// A Reader reads a part of a file in order, with several requests at once. It is not safe for
// concurrent use. The pieces that Next returns are the server's answers themselves, not copies.
type Reader struct {
	f      *File
	chunk  int
	window int
	next   int64 // offset of the next request
	limit  int64 // nothing is asked for from there on
	size   int64 // of the file, as far as is known: nothing is asked for ahead from there on
	at     int64 // offset of the next piece
	queue  []readOp
	cur    answer
	eof    bool
}

// NewReader returns a Reader of length bytes from off on; a negative length means to the end. If
// chunk or window is zero, [DefaultChunk] or [DefaultWindow] is used. Chunk is limited to what the
// server reads at once.
func (f *File) NewReader(off, length int64, chunk, window int) *Reader {
	r := new(Reader)
	r.init(f, off, length, chunk, window)
	return r
}

func (r *Reader) init(f *File, off, length int64, chunk, window int) {
	if chunk <= 0 {
		chunk = DefaultChunk
	}
	if window <= 0 {
		window = DefaultWindow
	}
	limit := int64(1<<63 - 1)
	if length >= 0 && length <= limit-off {
		limit = off + length
	}
	*r = Reader{
		f: f, chunk: min(chunk, f.t.s.maxRead), window: window, next: off, at: off, limit: limit,
		size: int64(f.info.EndOfFile &^ (1 << 63)), queue: r.queue[:0],
	}
}

// Next returns the next piece, at least one byte, which is valid until the next call of a method.
// At the end the error is [io.EOF].
func (r *Reader) Next(ctx context.Context) ([]byte, error) {
	b, err := r.piece(ctx)
	if err != nil {
		r.Stop()
		if err == io.EOF {
			r.eof = true
		} else {
			err = r.f.failure(OpRead, err)
		}
		return nil, err
	}
	r.at += int64(len(b))
	return b, nil
}

func (r *Reader) piece(ctx context.Context) ([]byte, error) {
	r.cur.release()
	if r.eof || r.at >= r.limit {
		return nil, io.EOF
	}
	if r.f.isClosed() {
		return nil, r.f.use(OpRead)
	}
	if err := r.fill(ctx); err != nil {
		return nil, err
	}
	op := r.queue[0]
	r.queue = r.queue[:copy(r.queue, r.queue[1:])]
	a, err := r.answer(ctx, &op)
	if err != nil {
		return nil, err
	}
	if a.Status == StatusNetworkSessionExpired {
		a.release()
		if err := r.f.t.s.renew(ctx, op.gen); err != nil {
			return nil, err
		}
		if a, err = r.f.readOnce(ctx, op.off, op.n); err != nil {
			return nil, err
		}
	}
	b, err := r.f.data(&a, op.n)
	if err != nil {
		a.release()
		return nil, err
	}
	r.cur = a
	if len(b) < op.n {
		// The end; or a server that has given less than it was asked for, where the requests behind
		// leave a gap.
		end := op.off + int64(len(b))
		if end >= r.size {
			r.eof = true
		}
		r.abandon()
		r.next = end
	}
	return b, nil
}

// pairSize is how long messages are, in bytes, that are worth being checked two at a time.
const pairSize = 32 << 10

// answer waits for that to the operation that was the first of the queue. Where signatures take
// less time to check in pairs, the answer to the next operation is checked with it, if it is there.
func (r *Reader) answer(ctx context.Context, op *readOp) (answer, error) {
	s := r.f.t.s
	if op.got {
		return op.a, op.err
	}
	a, err := s.c.receive(ctx, op.r)
	if err != nil {
		return a, err
	}
	if len(r.queue) == 0 || op.r.protect != signed || len(a.msg) < pairSize || !s.signer.Pairs() {
		return s.c.accept(op.r, a)
	}
	next := &r.queue[0]
	select {
	case next.a = <-next.r.done:
		next.got = true
	default:
		return s.c.accept(op.r, a)
	}
	if a.opened || next.a.opened || len(next.a.msg) < pairSize {
		a, err = s.c.accept(op.r, a)
		next.a, next.err = s.c.accept(next.r, next.a)
		return a, err
	}
	s.c.recycle(op.r)
	s.c.recycle(next.r)
	ok, nextOK := s.signer.VerifyPair(a.msg, next.a.msg)
	a, err = s.c.judge(ok, a)
	next.a, next.err = s.c.judge(nextOK, next.a)
	return a, err
}

// abandon gives up the requests that are underway.
func (r *Reader) abandon() {
	for i := range r.queue {
		op := &r.queue[i]
		if !op.got {
			op.a, _ = r.f.t.s.c.abandon(op.r)
		}
		op.a.release()
	}
	clear(r.queue)
	r.queue = r.queue[:0]
}

// fill has a window of requests underway, at least one.
func (r *Reader) fill(ctx context.Context) error {
	for len(r.queue) < r.window && r.next < r.limit {
		first := len(r.queue) == 0
		if !first && r.next >= r.size {
			return nil
		}
		n := int(min(int64(r.chunk), r.limit-r.next))
		op, ok, err := r.f.startRead(ctx, r.next, n, first)
		if err != nil || !ok {
			return err
		}
		r.queue = append(r.queue, op)
		r.next += int64(op.n)
	}
	return nil
}

// Offset returns the offset of the next piece.
func (r *Reader) Offset() int64 { return r.at }

// Stop gives up all requests. If Next is called again, the Reader continues from its offset.
func (r *Reader) Stop() {
	r.cur.release()
	r.abandon()
	r.next = r.at
}

// startRead sends a READ of n bytes, or of less where credits are short. Unless must is set, it
// does not wait for credits; ok is false where there are none.
func (f *File) startRead(ctx context.Context, off int64, n int, must bool) (op readOp, ok bool, err error) {
	s := f.t.s
	if must {
		if op.gen, err = s.ready(ctx); err != nil {
			return op, false, err
		}
	} else {
		s.mu.Lock()
		op.gen = s.gen
		renewing := s.renewal != nil
		s.mu.Unlock()
		if renewing {
			return op, false, nil
		}
	}
	want := (n + creditSize - 1) / creditSize
	var res reservation
	if must {
		res, err = s.c.reserve(ctx, 1, want)
	} else {
		res, _, err = s.c.tryReserve(want, want)
		if errors.Is(err, errFewCredits) {
			err = nil
		}
	}
	if err != nil || res.n == 0 {
		return op, false, err
	}
	n = min(n, res.n*creditSize)
	var fr frame
	fr.begin(s.c, 256)
	fr.add(CommandRead, res.n)
	req := ReadRequest{ID: f.id, Offset: uint64(off), Length: uint32(n)}
	fr.b, _ = req.AppendBinary(fr.b) // has no errors
	op.off, op.n, op.r = off, n, fr.rs[0]
	op.r.expect = n
	if err := s.transmit(&fr, f.t.id, res, f.t.protect); err != nil {
		return op, false, err
	}
	return op, true, nil
}

// readOnce reads at most n bytes, by one request or, where the server grants less credits, several.
func (f *File) readOnce(ctx context.Context, off int64, n int) (answer, error) {
	for try := 0; ; try++ {
		op, _, err := f.startRead(ctx, off, n, true)
		if err != nil {
			return answer{}, err
		}
		a, err := f.t.s.c.wait(ctx, op.r)
		if err != nil || a.Status != StatusNetworkSessionExpired || try == maxRenewals {
			return a, err
		}
		a.release()
		if err := f.t.s.renew(ctx, op.gen); err != nil {
			return answer{}, err
		}
	}
}

// data returns what a READ of n bytes has read, io.EOF at the end.
func (f *File) data(a *answer, n int) ([]byte, error) {
	if a.Status == StatusEndOfFile {
		return nil, io.EOF
	}
	if err := expect(a); err != nil {
		return nil, err
	}
	r, err := ParseReadResponse(a.msg)
	if err != nil || r.Missing != 0 || len(r.Data) > n {
		return nil, f.t.s.malformed(fmt.Errorf("an answer of %d bytes to a READ of %d, %d are missing (%w)",
			len(r.Data), n, r.Missing, err))
	}
	if len(r.Data) == 0 {
		return nil, io.EOF
	}
	return r.Data, nil
}

// ReadAt reads into b from off on, with several requests at once if b is long. Like an
// [io.ReaderAt], it returns less than len(b) only with an error, which is [io.EOF] at the end.
func (f *File) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	if err := f.use(OpRead); err != nil {
		return 0, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	if len(b) <= min(DefaultChunk, f.t.s.maxRead) {
		if n, err, ok := f.readShort(ctx, b, off); ok {
			return n, err
		}
	}
	var r Reader
	r.init(f, off, int64(len(b)), 0, 0)
	defer r.Stop()
	for n := 0; ; {
		p, err := r.Next(ctx)
		if err != nil {
			return n, err
		}
		if n += copy(b[n:], p); n == len(b) {
			return n, nil
		}
	}
}

// readShort reads by one request; ok is false where it did not do.
func (f *File) readShort(ctx context.Context, b []byte, off int64) (n int, err error, ok bool) {
	a, err := f.readOnce(ctx, off, len(b))
	if err != nil {
		return 0, f.failure(OpRead, err), true
	}
	defer a.release()
	p, err := f.data(&a, len(b))
	if err != nil {
		return 0, f.failure(OpRead, err), true
	}
	if n = copy(b, p); n == len(b) {
		return n, nil, true
	}
	return 0, nil, false // the end, or credits were short: the Reader finds out
}

// ReadFile reads a whole file. A file of at most 64 KiB takes a single round trip, with CREATE,
// READ and CLOSE in one compound. A file of more than limit bytes is an error; a negative limit
// means no limit.
func (t *Tree) ReadFile(ctx context.Context, name string, o *OpenOptions, limit int64) ([]byte, error) {
	if o == nil {
		o = new(OpenOptions)
	}
	b, size, err := t.readSmall(ctx, name, o)
	if err == nil && int64(len(b)) >= size {
		if limit >= 0 && int64(len(b)) > limit {
			return nil, t.failure(OpRead, name, fmt.Errorf("the file has more than %d bytes", limit))
		}
		return b, nil
	}
	if err != nil && !errors.Is(err, errFewCredits) {
		return nil, t.failure(OpOpen, name, err)
	}
	f, err := t.Open(ctx, name, o)
	if err != nil {
		return nil, err
	}
	defer f.CloseLater()
	size = int64(f.info.EndOfFile &^ (1 << 63))
	if limit >= 0 && size > limit {
		return nil, f.failure(OpRead, fmt.Errorf("the file has more than %d bytes", limit))
	}
	r := f.NewReader(0, -1, 0, 0)
	defer r.Stop()
	b = make([]byte, 0, min(size, maxTransfer)) // the server may lie
	for {
		p, err := r.Next(ctx)
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		if b = append(b, p...); limit >= 0 && int64(len(b)) > limit {
			return nil, f.failure(OpRead, fmt.Errorf("the file has more than %d bytes", limit))
		}
	}
}

// readSmall reads the first 64 KiB of a file by one compound, and returns its size.
func (t *Tree) readSmall(ctx context.Context, name string, o *OpenOptions) (b []byte, size int64, err error) {
	for try := 0; ; try++ {
		if t.isClosed() {
			return nil, 0, fmt.Errorf("%w", errTreeClosed)
		}
		gen, err := t.s.ready(ctx)
		if err != nil {
			return nil, 0, err
		}
		b, size, err = t.readCompound(ctx, name, o)
		if !errors.Is(err, StatusNetworkSessionExpired) || try == maxRenewals {
			return b, size, err
		}
		if err := t.s.renew(ctx, gen); err != nil {
			return nil, 0, err
		}
	}
}

var errTreeClosed = errors.New("the share is closed")

func (t *Tree) readCompound(ctx context.Context, name string, o *OpenOptions) (b []byte, size int64, err error) {
	create := o.request(name)
	read := ReadRequest{ID: RelatedFileID, Length: creditSize}
	closing := CloseRequest{ID: RelatedFileID}
	var f frame
	f.begin(t.s.c, 512)
	f.add(CommandCreate, 1)
	body, err := create.AppendBinary(f.b)
	if err != nil {
		f.drop()
		return nil, 0, err
	}
	f.b = body
	f.add(CommandRead, 1)
	f.b, _ = read.AppendBinary(f.b)
	f.add(CommandClose, 1)
	f.b, _ = closing.AppendBinary(f.b)
	res, err := t.s.c.reserve(ctx, 3, 3)
	if err != nil {
		f.drop()
		return nil, 0, err
	}
	rs := f.rs
	rs[2].abandoned = true // nobody waits for the CLOSE
	if err := t.s.transmit(&f, t.id, res, t.protect); err != nil {
		return nil, 0, err
	}
	opened, err := t.s.c.wait(ctx, rs[0])
	if err != nil {
		t.s.c.abandonAll(rs[1:2])
		return nil, 0, err
	}
	defer opened.release()
	a, err := t.s.c.wait(ctx, rs[1])
	if err != nil {
		return nil, 0, err
	}
	defer a.release()
	if err := expect(&opened); err != nil {
		return nil, 0, err
	}
	info, err := ParseCreateResponse(opened.msg)
	if err != nil {
		return nil, 0, t.s.malformed(err)
	}
	file := File{t: t, name: name}
	p, err := file.data(&a, creditSize)
	if err != nil && err != io.EOF {
		return nil, 0, err
	}
	return append([]byte(nil), p...), int64(info.Info.EndOfFile &^ (1 << 63)), nil
}
