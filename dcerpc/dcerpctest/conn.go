// Package dcerpctest helps to test DCE/RPC peers: it has in-memory connections with deadlines and
// half-close, connections with faults, a scripted peer for raw PDUs, and a security mechanism whose
// tokens show which bytes they protect.
//
// It is not for production: the mechanism protects nothing.
package dcerpctest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// streamLimit is the number of bytes that one direction of a Pipe holds before a Write waits, like
// a socket buffer.
const streamLimit = 64 << 10

// Pipe returns the two ends of an in-memory connection. Unlike [net.Pipe], it behaves like TCP:
// writes are buffered (64 KiB per direction), each direction can be closed separately (CloseWrite),
// and closing an end that has unread data resets the connection, so that the other end loses what
// it has not read yet.
//
// It uses only mutexes and condition variables, so it works in a testing/synctest bubble.
func Pipe() (client, server *Conn) {
	up, down := newStream(), newStream()
	client = &Conn{in: down, out: up, local: "client", remote: "server"}
	server = &Conn{in: up, out: down, local: "server", remote: "client"}
	return client, server
}

// Addr is the address of an end of a Pipe.
type Addr string

// Network returns "pipe".
func (Addr) Network() string { return "pipe" }

// String returns the address itself.
func (a Addr) String() string { return string(a) }

// A Conn is one end of a [Pipe]. It is safe for concurrent use.
type Conn struct {
	in, out       *stream
	local, remote Addr
}

var _ net.Conn = (*Conn)(nil)

// Read reads what the other end has written. It returns [io.EOF] after the other end has closed,
// and [syscall.ECONNRESET] after a reset.
func (c *Conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write writes p, and waits while the other end has 64 KiB unread.
func (c *Conn) Write(p []byte) (int, error) { return c.out.write(p) }

// CloseWrite closes the outgoing direction: the other end reads the rest of the data, then [io.EOF].
func (c *Conn) CloseWrite() error { return c.out.closeWrite() }

// Close closes both directions. If there is unread data, the other end sees a reset, as with TCP.
func (c *Conn) Close() error {
	unread := c.in.closeRead()
	if unread {
		c.out.reset()
	}
	return c.out.closeLocal()
}

// Reset resets the connection for both ends, like a TCP segment with RST.
func (c *Conn) Reset() {
	c.in.reset()
	c.out.reset()
}

// LocalAddr and RemoteAddr return "client" and "server", or the addresses that a [Listener]
// assigned.
func (c *Conn) LocalAddr() net.Addr  { return c.local }
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.readDeadline.set(c.in, t)
	c.out.writeDeadline.set(c.out, t)
	return nil
}

// SetReadDeadline bounds pending and later reads; the zero time removes the bound.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.readDeadline.set(c.in, t)
	return nil
}

// SetWriteDeadline bounds pending and later writes; the zero time removes the bound.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.writeDeadline.set(c.out, t)
	return nil
}

// A stream is one direction of a Pipe.
type stream struct {
	mu            sync.Mutex
	change        sync.Cond // anything below has changed
	buf           []byte
	off           int   // buf[off:] is unread
	writeClosed   bool  // the writer has closed: EOF after buf
	readClosed    bool  // the reader has closed: writes fail
	localClosed   bool  // the writer itself has closed: its writes are net.ErrClosed
	broken        error // reset
	readDeadline  deadline
	writeDeadline deadline
}

func newStream() *stream {
	s := new(stream)
	s.change.L = &s.mu
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readClosed:
			return 0, net.ErrClosed
		case s.broken != nil:
			return 0, s.broken
		case s.readDeadline.passed:
			return 0, os.ErrDeadlineExceeded
		case s.off < len(s.buf):
			n := copy(p, s.buf[s.off:])
			s.off += n
			if s.off == len(s.buf) {
				s.buf, s.off = s.buf[:0], 0
			}
			s.change.Broadcast()
			return n, nil
		case s.writeClosed:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		s.change.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for {
		switch {
		case s.localClosed:
			return written, net.ErrClosed
		case s.broken != nil:
			return written, s.broken
		case s.readClosed, s.writeClosed:
			return written, syscall.EPIPE
		case s.writeDeadline.passed:
			return written, os.ErrDeadlineExceeded
		case len(p) == 0:
			return written, nil
		}
		if room := streamLimit - (len(s.buf) - s.off); room > 0 {
			if s.off > 0 {
				s.buf = append(s.buf[:0], s.buf[s.off:]...)
				s.off = 0
			}
			n := min(room, len(p))
			s.buf = append(s.buf, p[:n]...)
			p = p[n:]
			written += n
			s.change.Broadcast()
			continue
		}
		s.change.Wait()
	}
}

func (s *stream) closeWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.localClosed {
		return net.ErrClosed
	}
	s.writeClosed = true
	s.change.Broadcast()
	return nil
}

func (s *stream) closeLocal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.localClosed {
		return net.ErrClosed
	}
	s.writeClosed, s.localClosed = true, true
	s.writeDeadline.stop()
	s.change.Broadcast()
	return nil
}

// closeRead reports whether data was left unread.
func (s *stream) closeRead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	unread := s.off < len(s.buf) && !s.readClosed
	s.readClosed = true
	s.buf, s.off = nil, 0
	s.readDeadline.stop()
	s.change.Broadcast()
	return unread
}

func (s *stream) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = syscall.ECONNRESET
	}
	s.buf, s.off = nil, 0
	s.change.Broadcast()
}

// A deadline belongs to the stream whose mutex guards it.
type deadline struct {
	timer  *time.Timer
	passed bool
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.passed = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.passed = true
		s.change.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer {
			d.passed = true
			s.change.Broadcast()
		}
	})
	d.timer = timer
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
