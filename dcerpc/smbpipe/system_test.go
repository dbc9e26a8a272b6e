package smbpipe

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A messageFile is a pipe of the system in message mode.
type messageFile struct {
	written [][]byte
	read    [][]byte
	err     error // of what comes next
	closed  bool
}

func (f *messageFile) Write(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	f.written = append(f.written, append([]byte(nil), b...))
	return len(b), nil
}

func (f *messageFile) Read(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if len(f.read) == 0 {
		return 0, io.EOF
	}
	n := copy(b, f.read[0])
	if f.read = f.read[1:]; n == len(b) {
		return n, errors.New("ERROR_MORE_DATA")
	}
	return n, nil
}

func (f *messageFile) Close() error {
	if f.closed {
		return os.ErrClosed
	}
	f.closed = true
	return nil
}

func (f *messageFile) SetReadDeadline(time.Time) error  { return nil }
func (f *messageFile) SetWriteDeadline(time.Time) error { return nil }

func request(t *testing.T, n int) []byte {
	b, err := (&pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
		Stub: make([]byte, n-24)}).AppendBinary(nil)
	require.NoError(t, err)
	return b
}

func TestSystemPipeWrites(t *testing.T) {
	a, b, c := request(t, 24), request(t, 1000), request(t, 65535)
	all := append(append(append([]byte(nil), a...), b...), c...)
	for _, piece := range []int{1, 7, 24, 999, 5000, len(all)} {
		f := &messageFile{}
		p := newSystemPipe(f, `\\fs1\pipe\x`)
		for rest := all; len(rest) > 0; {
			n, err := p.Write(rest[:min(piece, len(rest))])
			require.NoError(t, err)
			rest = rest[n:]
		}
		require.Equal(t, [][]byte{a, b, c}, f.written, "pieces of %d", piece)
	}
	// A Write that fails has sent nothing of what it does not count, and can be tried again.
	f := &messageFile{}
	p := newSystemPipe(f, `\\fs1\pipe\x`)
	n, err := p.Write(append(append([]byte(nil), a...), b[:10]...))
	require.NoError(t, err)
	require.Equal(t, len(a)+10, n)
	f.err = os.ErrDeadlineExceeded
	n, err = p.Write(b[10:])
	require.Equal(t, os.ErrDeadlineExceeded, err)
	require.Zero(t, n)
	f.err = nil
	_, err = p.Write(b[10:])
	require.NoError(t, err)
	require.Equal(t, [][]byte{a, b}, f.written)
	// What is no PDU goes as it comes.
	_, err = p.Write([]byte("no PDU at all, but more than a header"))
	require.NoError(t, err)
	require.Len(t, f.written, 3)
	f.err = errors.New("some error")
	_, err = p.Write([]byte("x"))
	require.EqualError(t, err, `smb: write pipe \\fs1\pipe\x: some error`)
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Close(), net.ErrClosed)
}

func TestSystemPipeReads(t *testing.T) {
	f := &messageFile{read: [][]byte{request(t, 100), request(t, 65535)}}
	p := newSystemPipe(f, `\\fs1\pipe\x`)
	n, err := p.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	got, err := io.ReadAll(p)
	require.NoError(t, err)
	require.Len(t, got, 100+65535)
	f.read = [][]byte{make([]byte, 70000)}
	_, err = p.Read(make([]byte, 10))
	require.Error(t, err, "a message that is too long")
	f.err = os.ErrDeadlineExceeded
	_, err = p.Read(make([]byte, 10))
	require.Equal(t, os.ErrDeadlineExceeded, err)
	f.err = os.ErrClosed
	_, err = p.Read(make([]byte, 10))
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestUnsupported(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this is Windows")
	}
	_, err := new(SystemDialer).DialRPC(t.Context(), "fs1", `\PIPE\FssagentRpc`)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = new(SystemDialer).DialRPC(t.Context(), "fs1", `\PIPE\`)
	require.ErrorContains(t, err, "not the name of a pipe")
	_, _, err = new(SystemDialer).OpenShare(t.Context(), `\\fs1\data`)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
