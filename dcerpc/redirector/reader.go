package redirector

import (
	"context"
	"io"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

// maxWindow is how many pieces are kept at most. The system reads ahead by itself; a piece is read
// while the one before is used.
const maxWindow = 3

// A Reader reads a part of a file in order, ahead of its user. It is for one goroutine at a time.
type Reader struct {
	f      *File
	chunk  int
	window int
	at     int64 // offset of the next piece
	end    int64 // -1: that of the file

	ahead *ahead // nil: nothing is read ahead
	used  []byte // the piece that the caller has
	free  [][]byte
}

// NewReader reads length bytes from off on; all where length is negative. Chunk is how many bytes
// it asks for at once, and window how many such pieces it keeps; zero means the defaults of package
// smb2, and there are never more than three.
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

// ahead is a goroutine that reads.
type ahead struct {
	cancel context.CancelFunc
	pieces chan piece    // closed after an error
	free   chan []byte   // that may be filled
	ended  chan struct{} // closed when the goroutine has ended
}

type piece struct {
	b   []byte
	err error
}

// Offset returns that of the next piece.
func (r *Reader) Offset() int64 { return r.at }

// size is how long the piece at off may be.
func (r *Reader) size(off int64) int {
	if r.end < 0 {
		return r.chunk
	}
	return int(max(0, min(int64(r.chunk), r.end-off)))
}

// Next returns the next piece, which is valid until the next call of Next or Stop. The end is
// io.EOF. After an error it begins anew at the same offset.
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

// buffer returns one that nobody uses.
func (r *Reader) buffer() []byte {
	if n := len(r.free); n > 0 {
		b := r.free[n-1]
		r.free = r.free[:n-1]
		return b
	}
	return make([]byte, r.chunk)
}

// giveBack lets the goroutine fill what the caller has used.
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
			a.pieces <- p // has room for all buffers
			if p.err != nil {
				return
			}
		}
	}(r.at)
}

// Stop gives up what is underway, and returns when it has ended. The Reader goes on from its
// offset, if Next is called again.
func (r *Reader) Stop() {
	if r.ahead == nil {
		return
	}
	r.ahead.cancel()
	<-r.ahead.ended
	r.ahead, r.free, r.used = nil, nil, nil
}
