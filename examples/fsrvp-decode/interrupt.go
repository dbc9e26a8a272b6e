package main

import (
	"context"
	"io"
	"os"
)

// untilDone returns a reader of r that returns io.EOF when ctx ends, even while r blocks. A Read of
// r may then go on in the background, into a separate buffer.
func untilDone(ctx context.Context, r io.Reader) io.Reader {
	if f, ok := r.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return &readable{ctx, f}
		}
	}
	return &interruptible{ctx: ctx, r: r, buf: make([]byte, bufferSize)}
}

// bufferSize is the size of a read. It is at least that of capture.Calls, which then needs no
// buffer.
const bufferSize = 256 << 10

// A readable is a file that does not block.
type readable struct {
	ctx context.Context
	f   *os.File
}

func (r *readable) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, io.EOF
	}
	return r.f.Read(b)
}

type interruptible struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	left []byte // of buf
	err  error
}

func (i *interruptible) Read(b []byte) (int, error) {
	if len(i.left) == 0 && i.err == nil {
		if i.ctx.Err() != nil {
			return 0, io.EOF
		}
		done := make(chan int, 1)
		var err error
		go func() {
			var n int
			n, err = i.r.Read(i.buf)
			done <- n
		}()
		select {
		case n := <-done:
			i.left, i.err = i.buf[:n], err
		case <-i.ctx.Done():
			i.err = io.EOF // buf now belongs to the goroutine
		}
	}
	if len(i.left) == 0 {
		return 0, i.err
	}
	n := copy(b, i.left)
	i.left = i.left[n:]
	return n, nil
}
