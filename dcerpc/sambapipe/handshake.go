package sambapipe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// maxRequest is the longest accepted hand-over, enough for a token of 30,000 groups. Samba itself
// allows 16 MiB.
const maxRequest = 1 << 20

// errProbe means that a connection was closed before any data came.
var errProbe = errors.New("sambapipe: closed without a hand-over")

// unexpected replaces io.EOF by io.ErrUnexpectedEOF if bytes are missing.
func unexpected(err error, missing int) error {
	if errors.Is(err, io.EOF) && missing > 0 {
		return io.ErrUnexpectedEOF
	}
	return err
}

// handshake reads the hand-over and answers it. Whatever the hand-over says, it answers smbd that
// the pipe is open, since a failure would make smbd start samba-dcerpcd; the session's Refuse says
// what could not be accepted. An error means that the connection is unusable.
func handshake(c net.Conn, endpoint string) (*conn, error) {
	r := bufio.NewReaderSize(c, 4096+2*headSize)
	b, err := readRequest(r)
	if b == nil {
		return nil, err // not even a level to answer with
	}
	out := &conn{Conn: c, r: r, client: textAddr("unknown")}
	var req *request
	if err == nil {
		req, err = parseRequest(b)
	}
	if err == nil {
		out.session, out.client, out.channel = req.sessionOf(), req.addrOfClient(), req.channel()
	} else {
		out.session = dcerpc.Session{MaxFragment: maxFragment, Refuse: err}
	}
	out.session.Endpoint = endpoint
	if _, err := c.Write(reply(binary.LittleEndian.Uint32(b[8:]))); err != nil {
		return nil, fmt.Errorf("sambapipe: answering a hand-over: %w", err)
	}
	return out, nil
}

// readRequest reads one length-prefixed request. With an error it returns the request's head, if
// there was one.
func readRequest(r *bufio.Reader) ([]byte, error) {
	head, err := r.Peek(4)
	if errors.Is(err, io.EOF) && len(head) == 0 {
		return nil, errProbe
	}
	if err != nil {
		return nil, fmt.Errorf("sambapipe: reading a hand-over: %w", unexpected(err, len(head)))
	}
	n := int64(binary.BigEndian.Uint32(head)) + 4
	if n < headSize {
		return nil, fmt.Errorf("sambapipe: hand-over of %d bytes is too short for a level", n)
	}
	if head, err = r.Peek(headSize); err != nil {
		return nil, fmt.Errorf("sambapipe: reading a hand-over: %w", unexpected(err, 1))
	}
	if string(head[4:8]) != magic {
		return bytes.Clone(head), errors.New("sambapipe: not a hand-over: no NPAM") // so its length has no meaning either
	}
	if n > maxRequest {
		start := bytes.Clone(head)
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			return nil, fmt.Errorf("sambapipe: reading a hand-over: %w", unexpected(err, 1))
		}
		return start, fmt.Errorf("sambapipe: hand-over of %d bytes is longer than %d", n, maxRequest)
	}
	var b bytes.Buffer // grows with the bytes that arrive, not with the announced length
	if _, err := io.CopyN(&b, r, n); err != nil {
		return nil, fmt.Errorf("sambapipe: reading a hand-over: %w", unexpected(err, 1))
	}
	return b.Bytes(), nil
}
