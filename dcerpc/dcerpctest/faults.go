package dcerpctest

import (
	"net"
	"sync"
	"syscall"
)

// Faults are the faults of a connection. The zero value means none.
type Faults struct {
	// ShortReads makes a Read return at most this many bytes; zero means no limit.
	ShortReads int
	// StallAfter makes reads hang once this many bytes have been read, until the deadline or Close;
	// zero means never. Data that arrives meanwhile is lost.
	StallAfter int
	// ResetAfter breaks the connection once this many bytes have been read; zero means never.
	ResetAfter int
	// CutAfter closes the connection once this many bytes have been written, if necessary in the
	// middle of a Write; zero means never.
	CutAfter int
	// Duplicate sends every Write twice: a duplicated PDU, since one Write is one PDU.
	Duplicate bool
}

// WithFaults returns c with faults. One goroutine may use the result's Read, and one its Write.
func WithFaults(c net.Conn, f Faults) net.Conn {
	return &faultyConn{Conn: c, faults: f}
}

type faultyConn struct {
	net.Conn
	faults  Faults
	mu      sync.Mutex
	read    int
	written int
}

// CloseWrite half-closes the connection inside, if that is possible.
func (c *faultyConn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}

func (c *faultyConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	done := c.read
	c.mu.Unlock()
	if n := c.faults.ShortReads; n > 0 && len(p) > n {
		p = p[:n]
	}
	if limit := c.faults.ResetAfter; limit > 0 {
		if done >= limit {
			c.reset()
			return 0, syscall.ECONNRESET
		}
		p = p[:min(len(p), limit-done)]
	}
	if limit := c.faults.StallAfter; limit > 0 {
		if done >= limit {
			return c.stall()
		}
		p = p[:min(len(p), limit-done)]
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.read += n
	c.mu.Unlock()
	return n, err
}

// stall discards all input until the connection fails.
func (c *faultyConn) stall() (int, error) {
	var sink [256]byte
	for {
		if _, err := c.Conn.Read(sink[:]); err != nil {
			return 0, err
		}
	}
}

// reset sends a real reset if the connection can.
func (c *faultyConn) reset() {
	switch conn := c.Conn.(type) {
	case *Conn:
		conn.Reset()
	case *net.TCPConn:
		_ = conn.SetLinger(0)
	}
	_ = c.Conn.Close()
}

func (c *faultyConn) Write(p []byte) (int, error) {
	if limit := c.faults.CutAfter; limit > 0 && c.written+len(p) > limit {
		n, err := c.Conn.Write(p[:limit-c.written])
		c.written += n
		_ = c.Conn.Close()
		if err == nil {
			err = syscall.EPIPE
		}
		return n, err
	}
	n, err := c.Conn.Write(p)
	c.written += n
	if err == nil && c.faults.Duplicate {
		_, err = c.Conn.Write(p)
	}
	return n, err
}
