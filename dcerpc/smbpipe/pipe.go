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

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

const (
	// maxMessage is the longest message that is read at once. No PDU is longer.
	maxMessage = 65535
	// closeTime is the time for a server to confirm that a pipe is closed.
	closeTime = 10 * time.Second
	// busyCloseTime is the same if a call was pending. CANCEL ends the call at once, but not on
	// Samba.
	busyCloseTime = time.Second
)

// A pipe is one open handle.
//
// Every PDU is a message. One that will be answered is sent by FSCTL_PIPE_TRANSCEIVE, whose answer
// brings that PDU's answer, or its first fragment; further fragments are read one by one. While
// something is being read for other PDUs, as it happens with several calls at once, a PDU is sent
// by SMB2 WRITE.
//
// Write sends in its own goroutine what the connection takes at once, and Read takes the server's
// answers from it: in the usual call nobody stands between them.
type pipe struct {
	s      *smb2.Session
	path   string
	f      *smb2.File
	x      *smb2.Exchange
	ctx    context.Context // of WRITEs; ends with Close
	cancel context.CancelFunc
	ops    sync.WaitGroup // WRITEs underway; added to under mu while closed is not set

	// writing is held by Write.
	writing  sync.Mutex
	out      splitter
	partial  []byte        // of a PDU whose rest has not come yet
	previous chan struct{} // has a token when the message before is on its way

	always                      bool // Dialer.AlwaysRead
	readDeadline, writeDeadline deadline
	noTransceive                atomic.Bool   // the server knows no FSCTL_PIPE_TRANSCEIVE
	turn                        chan struct{} // a token: the right to Read

	mu       sync.Mutex
	closed   bool
	closing  chan struct{} // closed by Close
	err      error         // why the pipe has ended
	ended    chan struct{} // closed with err
	message  smb2.PipeMessage
	unread   []byte              // of message
	expected map[uint32]struct{} // calls whose answer has not come; while it is not empty, reading is set
	reading  bool                // an operation that brings something is underway, or is about to be
	empty    int                 // messages without a byte, in a row
	forever  bool                // reading goes on whatever comes: something was sent that is no PDU
	in       splitter
}

// maxEmpty is the number of consecutive empty messages that a server may send.
const maxEmpty = 16

var _ net.Conn = (*pipe)(nil)

// newPipe makes a net.Conn from an open pipe.
func newPipe(s *smb2.Session, f *smb2.File, path string) *pipe {
	p := &pipe{
		s: s, f: f, path: path, x: f.NewExchange(),
		previous: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{}),
		turn: make(chan struct{}, 1), expected: make(map[uint32]struct{}), readDeadline: newDeadline(), writeDeadline: newDeadline(),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.previous <- struct{}{}
	p.turn <- struct{}{}
	return p
}

// fail ends the pipe; what was read before it can still be had. It is called with mu.
func (p *pipe) fail(op string, err error) {
	if p.err != nil {
		return
	}
	e := &Error{Op: op, Path: p.path, Err: err}
	if e.Status = smb2.StatusOf(err); e.Status != 0 && p.s.Alive() {
		e.Err = nil
	}
	if p.err = e; isEnd(e.Status) {
		p.err = io.EOF
	}
	close(p.ended)
}

// Write accepts bytes of PDUs and sends complete PDUs.
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
		return p.closedError(smb2.OpWritePipe)
	case <-p.writeDeadline.wait():
		return os.ErrDeadlineExceeded
	}
	p.mu.Lock()
	if !p.s.Alive() {
		p.fail(smb2.OpWritePipe, p.s.Err())
	}
	if err := p.writeError(); err != nil {
		p.mu.Unlock()
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
	transceive := first && !p.noTransceive.Load()
	if !transceive {
		p.ops.Go(func() { p.write(message, first) })
	}
	p.mu.Unlock()
	if transceive {
		p.x.Transceive(message, p.onWay)
	}
	return nil
}

// writeError is why nothing can be written any more. It is called with mu.
func (p *pipe) writeError() error {
	switch {
	case p.closed:
		return p.closedError(smb2.OpWritePipe)
	case errors.Is(p.err, io.EOF):
		return &Error{Op: smb2.OpWritePipe, Path: p.path, Err: fmt.Errorf("the server has closed the pipe: %w",
			io.ErrUnexpectedEOF)}
	}
	return p.err
}

func (p *pipe) closedError(op string) error {
	return &Error{Op: op, Path: p.path, Err: net.ErrClosed}
}

// isEnd reports whether a status means that the other end of a pipe is closed.
func isEnd(s Status) bool {
	switch s {
	case smb2.StatusEndOfFile, smb2.StatusPipeDisconnected, smb2.StatusPipeClosing, smb2.StatusPipeBroken,
		smb2.StatusConnDisconnected, smb2.StatusConnReset:
		return true
	}
	return false
}

// onWay lets the next message go.
func (p *pipe) onWay() { p.previous <- struct{}{} }

// write sends a message, and begins to read what answers it where nobody else does.
func (p *pipe) write(message []byte, read bool) {
	err := p.f.WritePipe(p.ctx, message, nil)
	if err != nil {
		p.mu.Lock()
		p.fail(smb2.OpWritePipe, err)
		p.mu.Unlock()
	}
	p.onWay()
	if read && err == nil {
		p.x.Read()
	}
}

// deliver takes what an operation has brought, and begins the next one where there is more to wait
// for.
func (p *pipe) deliver(m smb2.PipeMessage, err error) {
	p.mu.Lock()
	switch smb2.StatusOf(err) {
	case smb2.StatusNotSupported, smb2.StatusInvalidDeviceRequest:
		if message := p.x.Message(); message != nil && !p.closed {
			p.noTransceive.Store(true)
			p.ops.Go(func() {
				select {
				case <-p.previous:
					p.write(message, true)
				case <-p.closing:
				}
			})
			p.mu.Unlock()
			return
		}
	}
	if err == nil && len(m.Data) == 0 {
		if p.empty++; p.empty > maxEmpty {
			err = errEmpty
		}
	}
	if err != nil {
		p.fail(smb2.OpReadPipe, err)
	}
	if err != nil || p.closed {
		m.Release()
		p.mu.Unlock()
		return
	}
	for b := m.Data; len(b) > 0; {
		n, whole := p.in.next(b)
		b = b[n:]
		if h := p.in.header(); whole && isAnswer(&h) {
			delete(p.expected, h.CallID)
		}
		p.empty = 0
	}
	p.message, p.unread = m, m.Data
	p.reading = len(p.expected) > 0 || p.in.have > 0 || p.in.wrong || p.forever
	more := p.reading
	p.mu.Unlock()
	if more {
		p.x.Read()
	}
}

// errEmpty is a server that sends nothing, again and again.
var errEmpty = fmt.Errorf("%w: messages without a byte", smb2.ErrProtocol)

// Read gives what the server has sent.
func (p *pipe) Read(b []byte) (int, error) {
	if err := p.acquire(); err != nil {
		return 0, err
	}
	defer func() { p.turn <- struct{}{} }()
	for {
		p.mu.Lock()
		n, err := 0, p.err
		if p.closed {
			err = p.closedError(smb2.OpReadPipe)
		} else {
			n = p.takeLocked(b)
		}
		begin := p.always && n == 0 && len(b) > 0 && err == nil && !p.reading
		if begin {
			p.reading = true
		}
		p.mu.Unlock()
		switch {
		case n > 0 || len(b) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case begin:
			p.x.Read()
		}
		passed := p.readDeadline.wait()
		select {
		case <-passed:
			return 0, os.ErrDeadlineExceeded
		default:
		}
		if m, err, ok := p.x.Wait(passed, p.ended); ok {
			p.deliver(m, err)
		}
	}
}

// acquire waits for the turn of one Read.
func (p *pipe) acquire() error {
	select {
	case <-p.turn:
		return nil
	default:
	}
	select {
	case <-p.turn:
		return nil
	case <-p.closing:
		return p.closedError(smb2.OpReadPipe)
	case <-p.readDeadline.wait():
		return os.ErrDeadlineExceeded
	}
}

// takeLocked copies what is unread.
func (p *pipe) takeLocked(b []byte) int {
	n := copy(b, p.unread)
	if p.unread = p.unread[n:]; len(p.unread) == 0 {
		p.message.Release()
	}
	return n
}

// Close cancels pending operations, and asks the server to close the pipe.
func (p *pipe) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return p.closedError("close pipe")
	}
	p.closed = true
	p.fail("close pipe", net.ErrClosed)
	busy := p.reading
	p.message.Release()
	p.unread = nil
	close(p.closing)
	p.mu.Unlock()

	p.cancel()
	p.x.Close()
	p.ops.Wait()
	wait := closeTime
	if busy {
		wait = busyCloseTime
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := p.f.Close(ctx); errors.Is(err, context.DeadlineExceeded) {
		p.s.Retire() // the pipe is freed with the session at the latest
	}
	return nil
}

// LocalAddr returns the address of the TCP connection.
func (p *pipe) LocalAddr() net.Addr { return p.s.LocalAddr() }

// RemoteAddr returns the address of the pipe, whose method NetAddr returns that of the TCP
// connection.
func (p *pipe) RemoteAddr() net.Addr { return pipeAddr{p.path, p.s.RemoteAddr()} }

// SetDeadline sets both deadlines.
func (p *pipe) SetDeadline(t time.Time) error {
	p.readDeadline.set(t)
	p.writeDeadline.set(t)
	return nil
}

// SetReadDeadline also affects a waiting Read.
func (p *pipe) SetReadDeadline(t time.Time) error {
	p.readDeadline.set(t)
	return nil
}

// SetWriteDeadline also affects a waiting Write.
func (p *pipe) SetWriteDeadline(t time.Time) error {
	p.writeDeadline.set(t)
	return nil
}

// A pipeAddr is the UNC path of a pipe.
type pipeAddr struct {
	path string
	conn net.Addr
}

func (pipeAddr) Network() string  { return "ncacn_np" }
func (a pipeAddr) String() string { return a.path }

// NetAddr returns the server's address on the connection below.
func (a pipeAddr) NetAddr() net.Addr { return a.conn }
