package dcerpctest_test

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

func TestFaults(t *testing.T) {
	faulty := func(f dcerpctest.Faults) (net.Conn, *dcerpctest.Conn) {
		a, b := dcerpctest.Pipe()
		t.Cleanup(func() {
			a.Close()
			b.Close()
		})
		return dcerpctest.WithFaults(a, f), b
	}
	t.Run("short reads", func(t *testing.T) {
		a, b := faulty(dcerpctest.Faults{ShortReads: 3})
		b.Write([]byte("abcde"))
		n, err := a.Read(make([]byte, 9))
		require.NoError(t, err)
		require.Equal(t, 3, n)
	})
	t.Run("reset", func(t *testing.T) {
		a, b := faulty(dcerpctest.Faults{ResetAfter: 4})
		b.Write([]byte("abcde"))
		got := make([]byte, 9)
		n, err := a.Read(got)
		require.NoError(t, err)
		require.Equal(t, "abcd", string(got[:n]))
		_, err = a.Read(got)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		_, err = b.Read(got)
		require.ErrorIs(t, err, syscall.ECONNRESET)
	})
	t.Run("stall", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b := dcerpctest.Pipe()
			f := dcerpctest.WithFaults(a, dcerpctest.Faults{StallAfter: 2})
			b.Write([]byte("abcde"))
			got := make([]byte, 9)
			n, err := f.Read(got)
			require.NoError(t, err)
			require.Equal(t, "ab", string(got[:n]))
			require.NoError(t, f.SetReadDeadline(time.Now().Add(time.Minute)))
			_, err = f.Read(got)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			f.Close()
			b.Close()
		})
	})
	t.Run("cut", func(t *testing.T) {
		a, b := faulty(dcerpctest.Faults{CutAfter: 7})
		n, err := a.Write([]byte("abcde"))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		n, err = a.Write([]byte("fghij"))
		require.ErrorIs(t, err, syscall.EPIPE)
		require.Equal(t, 2, n)
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "abcdefg", string(got))
	})
	t.Run("duplicate", func(t *testing.T) {
		a, b := faulty(dcerpctest.Faults{Duplicate: true})
		n, err := a.Write([]byte("ab"))
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.NoError(t, a.(interface{ CloseWrite() error }).CloseWrite())
		got, err := io.ReadAll(b)
		require.NoError(t, err)
		require.Equal(t, "abab", string(got))
	})
}

// TestScript plays a conversation with both of its sides, and one that fails.
func TestScript(t *testing.T) {
	h := pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 7}
	raw := []byte{5, 0, 18, 3, 16, 0, 0, 0, 16, 0, 0, 0, 7, 0, 0, 0}
	a, b := dcerpctest.Pipe()
	done := make(chan error)
	go func() {
		done <- dcerpctest.NewPeer(a).Play(dcerpctest.Script{
			dcerpctest.Send(&pdu.Orphaned{Header: h}),
			dcerpctest.Expect(func(p *pdu.CoCancel) error {
				require.EqualValues(t, 7, p.CallID)
				return nil
			}),
			dcerpctest.ExpectNothing(time.Millisecond),
			dcerpctest.Hangup(),
		})
	}()
	p := dcerpctest.NewPeer(b)
	require.NoError(t, p.Play(dcerpctest.Script{
		dcerpctest.Expect[*pdu.Orphaned](nil), dcerpctest.SendBytes(raw), dcerpctest.ExpectEnd(),
	}))
	require.NoError(t, <-done)
	require.NoError(t, p.Close())

	a, b = dcerpctest.Pipe()
	p, q := dcerpctest.NewPeer(a), dcerpctest.NewPeer(b)
	require.NoError(t, q.Send(&pdu.Orphaned{Header: h}, &pdu.Orphaned{Header: h}, &pdu.Orphaned{Header: h}))
	err := p.Play(dcerpctest.Script{dcerpctest.Expect[*pdu.Orphaned](nil), dcerpctest.Expect[*pdu.CoCancel](nil)})
	require.ErrorContains(t, err, "step 2")
	require.ErrorContains(t, p.ReceiveNothing(time.Millisecond), "an unexpected PDU")
	require.ErrorContains(t, p.ReceiveEnd(), "orphaned in place of the end of the connection")
	b.Reset()
	require.ErrorIs(t, p.ReceiveEnd(), syscall.ECONNRESET)
	a.Close()
	b.Close()
}
