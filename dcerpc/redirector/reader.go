package redirector

import (
	"context"
	"io"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// maxWindow is the largest number of pieces to keep. The system reads ahead by itself, so it is
// enough to read a piece while the caller uses the one before.
const maxWindow = 3

// A Reader reads a part of a file in order, ahead of its caller. It is not safe for concurrent use.
type Reader struct {
	f      *File
	chunk  int
	window int
	at     int64 // offset of the next piece
	end    int64 // -1: the end of the file

	ahead *ahead // nil if nothing is read ahead
	used  []byte // the piece that the caller has
	free  [][]byte
}

// NewReader returns a Reader of length bytes from off on, or to the end of the file if length is
// negative. It asks for chunk bytes at a time, and keeps up to window such pieces; zero means the
// defaults of package smb2. There are never more than three pieces.
func (f *File) NewReader(off, length int64, chunk, window int) *Reader {
	if chunk <= 0 {
		chunk = smb2.DefaultChunk
	}
	if window <= 0 || window > maxWindow {
		window = maxWindow
	}
	r := &Reader{f: f, chunk: min(chunk, maxRead), window: window, at: off, end: -1}
	if length >= 0 && off+length >= off {
		r.end = off + length
	}
	return r
}

// ahead is a goroutine that reads ahead.
type ahead struct {
	cancel context.CancelFunc
	pieces chan piece    // closed after an error
	free   chan []byte   // buffers to fill
	ended  chan struct{} // closed when the goroutine has ended
}

type piece struct {
	b   []byte
	err error
}

// Offset returns the offset of the next piece.
func (r *Reader) Offset() int64 { return r.at }

// size returns the largest length of the piece at off.
func (r *Reader) size(off int64) int {
	if r.end < 0 {
		return r.chunk
	}
	return int(max(0, min(int64(r.chunk), r.end-off)))
}

// Next returns the next piece, which is valid until the next call of Next or Stop. It returns
// [io.EOF] at the end. After an error, the next call tries again at the same offset.
func (r *Reader) Next(ctx context.Context) ([]byte, error) {
	if r.used != nil {
		r.free = append(r.free, r.used)
		r.used = nil
	}
	var p piece
	if r.ahead == nil {
		p = r.read(ctx, r.buffer(), r.at)
	} else {
		r.giveBack()
		select {
		case p = <-r.ahead.pieces:
		case <-ctx.Done():
			return nil, r.f.s.failure(smb2.OpRead, r.f.name, context.Cause(ctx), 0)
		}
	}
	if p.b != nil {
		r.used = p.b[:cap(p.b)]
	}
	if p.err != nil {
		r.Stop()
		return nil, p.err
	}
	r.at += int64(len(p.b))
	if r.ahead == nil && len(p.b) == r.chunk && r.size(r.at) > 0 {
		r.start()
	}
	return p.b, nil
}

// buffer returns an unused buffer.
func (r *Reader) buffer() []byte {
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	return make([]byte, r.chunk)
}

// giveBack returns the caller's piece to the goroutine.
func (r *Reader) giveBack() {
	for len(r.free) > 0 {
		select {
		case r.ahead.free <- r.free[len(r.free)-1]:
			r.free = r.free[:len(r.free)-1]
		default:
			return
		}
	}
}

// read reads one piece.
func (r *Reader) read(ctx context.Context, b []byte, off int64) piece {
	want := b[:r.size(off)]
	if len(want) == 0 {
		return piece{b[:0], io.EOF}
	}
	n, err := r.f.ReadAt(ctx, want, off)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return piece{b[:n], err}
}

// start begins to read ahead.
func (r *Reader) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a := &ahead{cancel: cancel, pieces: make(chan piece, r.window), free: make(chan []byte, r.window),
		ended: make(chan struct{})}
	for range r.window - 1 { // the caller has one
		a.free <- make([]byte, r.chunk)
	}
	r.ahead = a
	go func(off int64) {
		defer close(a.ended)
		for {
			var b []byte
			select {
			case b = <-a.free:
			case <-ctx.Done():
				return
			}
			p := r.read(ctx, b, off)
			off += int64(len(p.b))
			a.pieces <- p // never blocks: the channel has room for all buffers
			if p.err != nil {
				return
			}
		}
	}(r.at)
}

// Stop cancels reads in progress, and returns when they have ended. If Next is called again, the
// Reader continues from its offset.
func (r *Reader) Stop() {
	if r.ahead == nil {
		return
	}
	r.ahead.cancel()
	<-r.ahead.ended
	r.ahead, r.free, r.used = nil, nil, nil
}
