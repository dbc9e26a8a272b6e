package dcerpctest_test

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := dcerpctest.Pipe()
		start := time.Now()
		require.NoError(t, a.SetReadDeadline(start.Add(time.Second)))
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.NoError(t, a.SetReadDeadline(time.Time{}))
		_, err = b.Write([]byte("x"))
		require.NoError(t, err)
		n, err := a.Read(make([]byte, 9))
		require.NoError(t, err)
		require.Equal(t, 1, n)

		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		n, err = a.Write(make([]byte, 100<<10))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 64<<10, n, "what fits")
		require.NoError(t, a.SetDeadline(time.Unix(1, 0)))
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "in the past")
		_, err = a.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "in the past")
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
}

func TestPipeEnds(t *testing.T) {
	t.Run("half-close", func(t *testing.T) {
		a, b := dcerpctest.Pipe()
		_, err := a.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, a.CloseWrite())
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.EPIPE)
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "x", string(got))
		_, err = b.Write([]byte("y"))
		require.NoError(t, err, "the other direction is open")
		n, err := a.Read(make([]byte, 9))
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NoError(t, a.Close())
		_, err = b.Write([]byte("y"))
		require.ErrorIs(t, err, syscall.EPIPE)
	})
	t.Run("close", func(t *testing.T) {
		a, b := dcerpctest.Pipe()
		require.NoError(t, a.Close())
		require.ErrorIs(t, a.Close(), net.ErrClosed)
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = a.Write([]byte("x"))
		require.ErrorIs(t, err, net.ErrClosed)
		_, err = b.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("close with data unread resets", func(t *testing.T) {
		a, b := dcerpctest.Pipe()
		_, err := a.Write([]byte("lost"))
		require.NoError(t, err)
		_, err = b.Write([]byte("unread"))
		require.NoError(t, err)
		require.NoError(t, a.Close())
		_, err = b.Read(make([]byte, 9))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = b.Write([]byte("x"))
		require.Error(t, err)
	})
	t.Run("reset", func(t *testing.T) {
		a, b := dcerpctest.Pipe()
		a.Reset()
		_, err := a.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = b.Write([]byte("x"))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
}

func TestListener(t *testing.T) {
	l := dcerpctest.Listen()
	accepted := make(chan net.Conn)
	go func() {
		for range 2 {
			conn, _ := l.Accept()
			accepted <- conn
		}
	}()
	one, err := l.DialRPC(t.Context(), "fs1", "49152")
	require.NoError(t, err)
	require.Equal(t, "client-1", one.LocalAddr().String())
	require.Equal(t, "client-1", (<-accepted).RemoteAddr().String())
	two, err := l.DialFrom(t.Context(), "10.0.0.1:1")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.1:1", (<-accepted).RemoteAddr().String())
	require.Equal(t, l.Addr(), two.RemoteAddr())

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.Dial(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	_, err = l.Dial(t.Context())
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
