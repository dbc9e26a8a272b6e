package smbpipe

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
)

// maxFrame is the longest frame that a server may send: an answer of 1 MiB, which is the most that go-smb2 asks for, with
// its headers.
const maxFrame = 1<<20 + 4096

// Sizes and first bytes of the two headers that a frame can begin with (MS-SMB2 2.2.1, 2.2.41).
const (
	headerSize    = 64
	transformSize = 52
	plainID       = 0xfe // 'S' 'M' 'B'
	transformID   = 0xfd // 'S' 'M' 'B'

	commandSessionSetup = 1 // NEGOTIATE, the one before it, is 0
)

var (
	errNotEncrypted = errors.New("the server does not encrypt (SMB 3 with AES-128 is needed), and Dialer.Encrypt demands it")
	errGuest        = errors.New("the server has made a guest of the user: it does not know the account")
	errBadFrame     = errors.New("the server broke SMB2")
)

// A guard is the TCP connection of one session, between the network and go-smb2. It lets nothing through that go-smb2 would
// index past the end of, and tells when a message was sent.
type guard struct {
	net.Conn
	r    *bufio.Reader
	left int // of the frame that is read

	head []byte // the length of the frame that is being written

	mu          sync.Mutex
	sent        func() // called at the next frame; may be nil
	sealed      bool   // an encrypted frame was sent, so that the server may answer with them
	mustSeal    bool   // nothing else may be sent any more
	loginStatus Status // of the last answer before the session was there

	failing sync.Once
	failed  chan struct{} // closed when the connection is of no use any more
	err     error         // why; valid then
}

func newGuard(c net.Conn) *guard {
	return &guard{Conn: c, r: bufio.NewReaderSize(c, 64<<10), failed: make(chan struct{})}
}

// fail ends the connection. The first reason counts.
func (g *guard) fail(err error) {
	g.failing.Do(func() {
		g.err = err
		close(g.failed)
		_ = g.Conn.Close() // err says more
	})
}

// Read reads frames, each with its length before it:
//
//	| 0 | length, 3 bytes big-endian | 64 bytes of header ...    |
//	                                 | or 52 bytes and ciphertext |
func (g *guard) Read(b []byte) (int, error) {
	if g.left == 0 {
		if err := g.begin(); err != nil {
			g.fail(err)
			return 0, err
		}
	}
	n, err := g.r.Read(b[:min(len(b), g.left)])
	g.left -= n
	if err != nil {
		g.fail(err)
	}
	return n, err
}

// begin looks at the start of a frame.
func (g *guard) begin() error {
	b, err := g.r.Peek(4)
	if err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < transformSize || n > maxFrame {
		return fmt.Errorf("%w: a frame of %d bytes", errBadFrame, n)
	}
	if b, err = g.r.Peek(4 + min(n, headerSize+4)); err != nil {
		return err
	}
	if err := g.check(b[4:], n); err != nil {
		return err
	}
	g.left = 4 + n
	return nil
}

// check looks at the start of a frame of n bytes: its header, and four bytes more where there are any.
func (g *guard) check(h []byte, n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case string(h[1:4]) != "SMB":
		return fmt.Errorf("%w: a frame of another protocol", errBadFrame)
	case h[0] == transformID && g.sealed && n >= transformSize+headerSize:
		return nil
	case h[0] != plainID || n < headerSize:
		return fmt.Errorf("%w: a frame that was not due", errBadFrame)
	case binary.LittleEndian.Uint32(h[20:]) != 0: // NextCommand: answers of a compound that nobody has sent
		return fmt.Errorf("%w: a compound answer", errBadFrame)
	}
	command, status := binary.LittleEndian.Uint16(h[12:]), Status(binary.LittleEndian.Uint32(h[8:]))
	if command > commandSessionSetup {
		return nil
	}
	g.loginStatus = status
	// With either of these flags nothing is signed from then on, as whoever sits in between may wish.
	const guestOrNull = 0x1 | 0x2
	if command == commandSessionSetup && len(h) >= headerSize+4 && binary.LittleEndian.Uint16(h[headerSize+2:])&guestOrNull != 0 &&
		(status == 0 || status == statusMoreProcessing) {
		return errGuest
	}
	return nil
}

// Write sends frames. Go-smb2 writes the length of one by itself; that goes out together with the rest.
func (g *guard) Write(b []byte) (int, error) {
	if len(b) == 4 && g.head == nil {
		g.head = append(make([]byte, 0, 4), b...)
		return len(b), nil
	}
	defer g.noteSent()
	g.mu.Lock()
	seal := len(b) > 0 && b[0] == transformID
	g.sealed = g.sealed || seal
	refuse := g.mustSeal && !seal
	g.mu.Unlock()
	if refuse {
		g.fail(errNotEncrypted)
		return 0, errNotEncrypted
	}
	frame := net.Buffers{g.head, b}
	g.head = nil
	n, err := frame.WriteTo(g.Conn)
	if err != nil {
		g.fail(err)
	}
	return max(0, int(n)-4), err
}

// onSent has f called once: when the next frame has been written, or could not be, or by the function that it returns.
func (g *guard) onSent(f func()) (now func()) {
	once := sync.OnceFunc(f)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent = once
	return once
}

func (g *guard) noteSent() {
	g.mu.Lock()
	f := g.sent
	g.sent = nil
	g.mu.Unlock()
	if f != nil {
		f()
	}
}

// demandEncryption lets nothing else out from now on.
func (g *guard) demandEncryption() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mustSeal = true
}

// lastLoginStatus is the status of the log-in's last answer.
func (g *guard) lastLoginStatus() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loginStatus
}
