package sambapipe

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// scripted is a net.Conn that reads from one place and writes to another.
type scripted struct {
	net.Conn
	io.Reader
	io.Writer
}

func (s scripted) Read(b []byte) (int, error)  { return s.Reader.Read(b) }
func (s scripted) Write(b []byte) (int, error) { return s.Writer.Write(b) }

func reading(r io.Reader) *conn {
	c := scripted{Reader: r}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 16)}
}

func TestConnRead(t *testing.T) {
	const in = "\x03\x00abc\x00\x00\x01\x00d\x0c\x00efghijklmnop"
	for name, r := range map[string]io.Reader{
		"at once":         bytes.NewReader([]byte(in)),
		"byte by byte":    iotest.OneByteReader(bytes.NewReader([]byte(in))),
		"data with error": iotest.DataErrReader(bytes.NewReader([]byte(in))),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := io.ReadAll(reading(r))
			require.NoError(t, err)
			require.Equal(t, "abcdefghijklmnop", string(got))
		})
	}
	t.Run("parts", func(t *testing.T) {
		c := reading(bytes.NewReader([]byte(in)))
		var parts []string
		b := make([]byte, 2)
		for {
			n, err := c.Read(b)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			parts = append(parts, string(b[:n]))
		}
		require.Equal(t, []string{"ab", "c", "d", "ef", "gh", "ij", "kl", "mn", "op"}, parts)
		n, err := c.Read(nil)
		require.NoError(t, err)
		require.Zero(t, n)
	})
	for name, in := range map[string]string{"in a length": "\x03", "after a length": "\x03\x00",
		"in a message": "\x03\x00ab"} {
		t.Run("ends "+name, func(t *testing.T) {
			_, err := io.ReadAll(reading(bytes.NewReader([]byte(in))))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		})
	}
}

func TestConnWrite(t *testing.T) {
	var out bytes.Buffer
	c := &conn{Conn: scripted{Writer: &out}}
	for _, n := range []int{0, 1, maxMessage, maxMessage + 1} {
		m, err := c.Write(bytes.Repeat([]byte{'x'}, n))
		require.NoError(t, err)
		require.Equal(t, n, m)
	}
	var sizes []int
	for b := out.Bytes(); len(b) > 0; {
		n := int(b[0]) | int(b[1])<<8
		sizes = append(sizes, n)
		b = b[2+n:]
	}
	require.Equal(t, []int{1, maxMessage, maxMessage, 1}, sizes)

	failing := &conn{Conn: scripted{Writer: writeSome(5)}}
	n, err := failing.Write([]byte("abcdef"))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.Equal(t, 3, n) // of the 5 bytes two are the length
}

// writeSome writes that many bytes of everything, and then fails.
type writeSome int

func (n writeSome) Write([]byte) (int, error) { return int(n), io.ErrClosedPipe }
