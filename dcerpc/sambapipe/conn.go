package sambapipe

import (
	"bufio"
	"encoding/binary"
	"net"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// maxMessage is the longest message that the length field can express.
const maxMessage = 0xffff

// A conn is one handle that an SMB client has opened on the pipe. Both directions carry messages:
//
//	| length 1 to 65535, uint16 little-endian | as many bytes |
//
// Read returns a stream of bytes; each Write is one message.
type conn struct {
	net.Conn // the Unix socket
	session  dcerpc.Session
	client   net.Addr
	channel  channel
	closed   func() // called by Close; may be nil

	r    *bufio.Reader
	rest int // of the current message

	wmu sync.Mutex
	out []byte
}

var _ dcerpc.SessionConn = (*conn)(nil)

// Session describes the client that has opened the pipe.
func (c *conn) Session() dcerpc.Session { return c.session }

// RemoteAddr returns the address of the SMB client.
func (c *conn) RemoteAddr() net.Addr { return c.client }

// Read reads from the client's writes, for one goroutine at a time.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for c.rest == 0 {
		head, err := c.r.Peek(2)
		if err != nil {
			return 0, unexpected(err, len(head))
		}
		c.rest = int(binary.LittleEndian.Uint16(head))
		_, _ = c.r.Discard(2) // peeked
	}
	n, err := c.r.Read(b[:min(len(b), c.rest)])
	c.rest -= n
	return n, unexpected(err, c.rest)
}

// Write sends b as one message, or as several if it does not fit into one.
func (c *conn) Write(b []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for done := 0; ; {
		part := b[done:min(len(b), done+maxMessage)]
		if len(part) == 0 {
			return done, nil
		}
		c.out = binary.LittleEndian.AppendUint16(c.out[:0], uint16(len(part)))
		c.out = append(c.out, part...)
		if n, err := c.Conn.Write(c.out); err != nil {
			return done + max(0, n-2), err
		}
		done += len(part)
	}
}

// Close ends the connection and calls that use it.
func (c *conn) Close() error {
	if c.closed != nil {
		c.closed()
	}
	return c.Conn.Close()
}

// end ends the client's side of the connection, as if smbd had closed it. Writes still go to smbd.
func (c *conn) end() {
	if half, ok := c.Conn.(interface{ CloseRead() error }); ok && half.CloseRead() == nil {
		return
	}
	c.Conn.Close()
}

// CloseWrite tells the client that nothing more will come. Reading is still possible.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
