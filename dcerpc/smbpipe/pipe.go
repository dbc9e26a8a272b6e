package smbpipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oiweiwei/go-smb2.fork"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

const (
	// maxMessage is the longest message that is read at once. No PDU is longer.
	maxMessage = 65535
	// maxUnread is how much is read ahead of the caller.
	maxUnread = 4 * maxMessage
	// busyTries and busyWait are how often, and after how long, a pipe whose server has no free instance is opened once more.
	busyTries = 10
	busyWait  = 200 * time.Millisecond
)

// A pipe is one open handle.
//
// Every PDU is a message. One that will be answered is sent by FSCTL_PIPE_TRANSCEIVE, whose answer brings that PDU's answer, or
// its first fragment; further fragments are read one by one. While something is being read for other PDUs, as
// it happens with several calls at once, a PDU is sent by SMB2 WRITE.
type pipe struct {
	s    *session
	path string
	name pipeAddr
	f    *smb2.File
	ctx  *opContext
	ops  sync.WaitGroup // operations underway; added to under mu while closed is not set

	// writing is held by Write.
	writing  sync.Mutex
	out      splitter
	partial  []byte        // of a PDU whose rest has not come yet
	previous chan struct{} // has a token when the message before is on its way

	readDeadline, writeDeadline deadline
	noTransceive                atomic.Bool // the server knows no FSCTL_PIPE_TRANSCEIVE
	buf                         []byte      // of whoever reads

	mu       sync.Mutex
	closed   bool
	closing  chan struct{} // closed by Close
	err      error         // why the pipe has ended
	unread   []byte
	taken    int                 // of unread, by Read
	changed  chan struct{}       // closed, and made anew, when something of these has changed
	expected map[uint32]struct{} // calls whose answer has not come; while it is not empty, there is somebody reading
	reading  bool
	forever  bool // reading goes on whatever comes: something was sent that is no PDU
	in       splitter
}

var _ net.Conn = (*pipe)(nil)

// openPipe opens a pipe, which is counted already. The context bounds that alone.
func (s *session) openPipe(ctx context.Context, name string) (*pipe, error) {
	path := `\\` + s.server + `\pipe\` + name
	p := &pipe{
		s: s, path: path, name: pipeAddr(path), ctx: newOpContext(),
		previous: make(chan struct{}, 1), closing: make(chan struct{}), changed: make(chan struct{}),
		expected: make(map[uint32]struct{}), readDeadline: newDeadline(), writeDeadline: newDeadline(),
	}
	p.previous <- struct{}{}
	opened := make(chan error, 1)
	go func() {
		err := p.open(ctx, name)
		if err != nil {
			s.release(false)
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		if err != nil {
			return nil, err
		}
		return p, nil
	case <-ctx.Done():
		go func() {
			if <-opened == nil {
				p.Close()
			}
		}()
		return nil, &Error{Op: opOpenPipe, Path: path, Err: ctx.Err()}
	}
}

// open opens the handle. What the server was asked for is waited for, or nobody would close it.
func (p *pipe) open(ctx context.Context, name string) error {
	for try := 1; ; try++ {
		err := p.s.fault(opOpenPipe, p.path, p.s.do(func() (err error) {
			p.f, err = p.s.tree.WithContext(p.ctx).OpenFile(name, os.O_RDWR, 0o666)
			return err
		}, nil))
		var e *Error
		if !errors.As(err, &e) || e.Status != statusPipeNotAvailable || try == busyTries {
			return err
		}
		select {
		case <-time.After(busyWait):
		case <-ctx.Done():
			return err
		}
	}
}

// change wakes all who wait for a change. It is called with mu.
func (p *pipe) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// fail ends the pipe; what was read before it can still be had. It is called with mu.
func (p *pipe) fail(op string, err error) {
	if p.err != nil {
		return
	}
	p.err = p.s.fault(op, p.path, err)
	var e *Error
	if errors.As(p.err, &e) && e.Status.isEnd() {
		p.err = io.EOF
	}
	p.change()
}

// Write takes bytes of PDUs and sends those that are complete.
func (p *pipe) Write(b []byte) (int, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	for done := 0; ; {
		before, have := p.out, len(p.partial)
		n, whole := p.out.next(b[done:])
		p.partial = append(p.partial, b[done:done+n]...) // copied, as sending goes on after Write
		if whole || p.out.wrong && n > 0 {
			if err := p.send(p.partial); err != nil {
				p.out, p.partial = before, p.partial[:have]
				return done, err
			}
			p.partial = nil
		}
		if done += n; done == len(b) {
			return done, nil
		}
	}
}

// send begins to send one message, after the one before is on its way. The message is its own.
func (p *pipe) send(message []byte) error {
	select {
	case <-p.writeDeadline.wait():
		return os.ErrDeadlineExceeded
	default:
	}
	select {
	case <-p.previous:
	case <-p.closing:
		return p.closedError(opWritePipe)
	case <-p.writeDeadline.wait():
		return os.ErrDeadlineExceeded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.s.alive() {
		p.fail(opWritePipe, p.s.broken())
	}
	if err := p.writeError(); err != nil {
		p.previous <- struct{}{}
		return err
	}
	h := p.out.header()
	answered := p.out.wrong || wantsAnswer(&h)
	switch {
	case p.out.wrong:
		p.forever = true
	case answered:
		p.expected[h.CallID] = struct{}{}
	case h.Type == pdu.TypeOrphaned:
		delete(p.expected, h.CallID) // there may be no answer any more
	}
	first := answered && !p.reading
	if first {
		p.reading = true
	}
	p.ops.Add(1)
	switch {
	case first && !p.noTransceive.Load():
		go p.transceive(message)
	default:
		go p.write(message, first)
	}
	return nil
}

// writeError is why nothing can be written any more. It is called with mu.
func (p *pipe) writeError() error {
	switch {
	case p.closed:
		return p.closedError(opWritePipe)
	case errors.Is(p.err, io.EOF):
		return &Error{Op: opWritePipe, Path: p.path, Err: fmt.Errorf("the server has closed the pipe: %w", io.ErrUnexpectedEOF)}
	}
	return p.err
}

func (p *pipe) closedError(op string) error {
	return &Error{Op: op, Path: p.path, Err: net.ErrClosed}
}

// transceive sends a message and reads what answers it.
func (p *pipe) transceive(message []byte) {
	defer p.ops.Done()
	if p.buf == nil {
		p.buf = make([]byte, maxMessage)
	}
	var n int
	err := p.s.do(func() (err error) {
		n, err = p.f.Transcieve(message, p.buf)
		return err
	}, func() { p.previous <- struct{}{} })
	var e *smb2.ResponseError
	if errors.As(err, &e) && (Status(e.Code) == statusNotSupported || Status(e.Code) == statusInvalidDevice) {
		p.noTransceive.Store(true)
		if err = p.s.do(func() error { return p.writeAll(message) }, nil); err == nil {
			p.read()
			return
		}
	}
	if p.deliver(p.buf[:n], err) {
		p.read()
	}
}

// write sends a message, and reads what answers it where nobody else does.
func (p *pipe) write(message []byte, read bool) {
	defer p.ops.Done()
	err := p.s.do(func() error { return p.writeAll(message) }, nil)
	if err != nil {
		p.mu.Lock()
		p.fail(opWritePipe, err)
		p.mu.Unlock()
	}
	p.previous <- struct{}{}
	if read && err == nil {
		p.read()
	}
}

func (p *pipe) writeAll(message []byte) error {
	n, err := p.f.WriteAt(message, 0)
	if err == nil && n != len(message) {
		err = io.ErrShortWrite
	}
	return err
}

// read reads messages for as long as there is something to wait for.
func (p *pipe) read() {
	if p.buf == nil {
		p.buf = make([]byte, maxMessage)
	}
	for {
		var n int
		err := p.s.do(func() (err error) {
			n, err = p.f.ReadAt(p.buf, 0)
			return err
		}, nil)
		if !p.deliver(p.buf[:max(n, 0)], err) {
			return
		}
	}
}

// deliver takes what was read, and tells whether there is more to wait for.
func (p *pipe) deliver(b []byte, err error) (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.fail(opReadPipe, err)
		return false
	}
	p.unread = append(p.unread, b...)
	for len(b) > 0 {
		n, whole := p.in.next(b)
		b = b[n:]
		if h := p.in.header(); whole && isAnswer(&h) {
			delete(p.expected, h.CallID)
		}
	}
	p.change()
	for len(p.unread)-p.taken > maxUnread && !p.closed {
		changed := p.changed
		p.mu.Unlock()
		<-changed
		p.mu.Lock()
	}
	p.reading = !p.closed && (len(p.expected) > 0 || p.in.have > 0 || p.in.wrong || p.forever)
	return p.reading
}

// Read gives what the server has sent.
func (p *pipe) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		n, err := 0, p.err
		if p.closed {
			err = p.closedError(opReadPipe)
		} else {
			n = p.take(b)
		}
		changed := p.changed
		p.mu.Unlock()
		switch {
		case n > 0 || len(b) == 0:
			return n, nil
		case err != nil:
			return 0, err
		}
		passed := p.readDeadline.wait()
		select {
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		default:
		}
		select {
		case <-changed:
		case <-passed:
		case <-p.s.g.failed:
			p.mu.Lock()
			p.fail(opReadPipe, p.s.broken())
			p.mu.Unlock()
		}
	}
}

// take copies what is unread. It is called with mu.
func (p *pipe) take(b []byte) int {
	full := len(p.unread)-p.taken > maxUnread
	n := copy(b, p.unread[p.taken:])
	if p.taken += n; p.taken == len(p.unread) {
		p.unread, p.taken = p.unread[:0], 0
	}
	if full {
		p.change()
	}
	return n
}

// Close ends what is pending, and has the server free the pipe.
func (p *pipe) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return p.closedError("close pipe")
	}
	p.closed = true
	busy := p.reading
	close(p.closing)
	p.change()
	p.mu.Unlock()

	stalled := time.AfterFunc(closeTime, p.s.close) // a connection that takes no more bytes
	p.ctx.cancel()
	p.ops.Wait()
	p.ctx.renew()
	sent, freed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(freed)
		_ = p.s.do(p.f.Close, func() { close(sent) }) // freed with the session at the latest
	}()
	<-sent
	stalled.Stop()
	if busy {
		p.s.release(true)
		return nil
	}
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-freed:
		p.s.release(false)
	case <-timer.C:
		p.s.release(true)
	}
	return nil
}

// LocalAddr is that of the TCP connection.
func (p *pipe) LocalAddr() net.Addr { return p.s.g.LocalAddr() }

// RemoteAddr is the pipe's.
func (p *pipe) RemoteAddr() net.Addr { return p.name }

// SetDeadline sets both.
func (p *pipe) SetDeadline(t time.Time) error {
	p.readDeadline.set(t)
	p.writeDeadline.set(t)
	return nil
}

// SetReadDeadline works on a Read that waits, too.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.readDeadline.set(t)
	return nil
}

// SetWriteDeadline works on a Write that waits, too.
func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.writeDeadline.set(t)
	return nil
}

// A pipeAddr is the UNC path of a pipe.
type pipeAddr string

func (pipeAddr) Network() string  { return "ncacn_np" }
func (a pipeAddr) String() string { return string(a) }
