package smbpipe

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// A recorder keeps what is read from a connection.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	got bytes.Buffer
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got.Write(b[:n])
	return n, err
}

// FuzzServer has a Dialer talk to a server that says whatever the fuzzer makes of a real one's
// words: there is an error, and nothing that hangs, panics or is left behind.
func FuzzServer(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 64, 0xfe, 'S', 'M', 'B'})
	f.Add(recording(f))
	auth, err := ntlm.NewInitiator(ntlm.Credentials{User: "backup", Password: fakePassword})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &Dialer{Auth: auth, Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := dcerpctest.Pipe()
			go func() {
				_, _ = server.Write(b)
				_ = server.CloseWrite()
				_, _ = io.Copy(io.Discard, server)
				server.Close()
			}()
			return client, nil
		}}
		defer d.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := d.DialRPC(ctx, "server", "Test")
		require.Error(t, err) // the keys of a session are new each time
		require.NotErrorIs(t, err, context.DeadlineExceeded)
	})
}

// recording is what the fake server says to a client that opens a pipe.
func recording(f *testing.F) []byte {
	f.Helper()
	s := newFakeServer(f, noPipes)
	d := s.dialer()
	var r *recorder
	d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		r = &recorder{Conn: c}
		return r, err
	}
	_, err := d.DialRPC(context.Background(), "127.0.0.1", "Test")
	require.NoError(f, err)
	require.NoError(f, d.Close())
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.got.Bytes())
}

// FuzzSplitter splits a stream in two ways: by bytes as they come, and all at once.
func FuzzSplitter(f *testing.F) {
	nak := pdu.NewBindNak(1, 4)
	b, err := nak.AppendBinary(nil)
	require.NoError(f, err)
	f.Add(append(b, b...), 3)
	f.Add([]byte("no PDU"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		split := func(size int) (ends []int, wrong bool) {
			var s splitter
			for at := 0; at < len(b); {
				part := b[at:min(len(b), at+size)]
				for len(part) > 0 {
					n, whole := s.next(part)
					require.Positive(t, n)
					require.LessOrEqual(t, n, len(part))
					if at, part = at+n, part[n:]; whole {
						ends = append(ends, at)
					}
				}
			}
			return ends, s.wrong
		}
		if size < 1 || size > len(b) {
			size = 1
		}
		ends, wrong := split(max(1, len(b)))
		got, gotWrong := split(size)
		require.Equal(t, ends, got)
		require.Equal(t, wrong, gotWrong)
	})
}
