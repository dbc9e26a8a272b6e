package smbpipe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testInterface has the operations of rpcServer.
var testInterface = dcerpc.SyntaxID{UUID: [16]byte{1, 2, 3}, Major: 1}

const (
	opEcho  = iota // answers with its stub
	opWait         // waits for its context's end
	opLong         // takes half an hour
	opCount        // how many opWaits there are
)

// An rpcServer serves the pipes of a fakeServer.
type rpcServer struct {
	srv     dcerpc.Server
	waiting chan struct{} // one for each opWait that has begun
	ended   chan struct{} // one for each that has ended
}

func newRPCServer(t *testing.T) *rpcServer {
	t.Helper()
	r := &rpcServer{waiting: make(chan struct{}, 64), ended: make(chan struct{}, 64)}
	r.srv.Logger = slog.New(slog.DiscardHandler)
	r.srv.Limits.UnauthenticatedBytes = -1 // the tests call without security
	r.srv.Handle(testInterface, r, &dcerpc.InterfaceOptions{Opnums: opCount, MinLevel: dcerpc.LevelInsecureNone})
	t.Cleanup(func() { require.NoError(t, r.srv.Close()) })
	return r
}

func (r *rpcServer) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	switch call.Opnum {
	case opEcho:
		call.Response = append(call.Response, call.Stub...)
	case opWait:
		r.waiting <- struct{}{}
		<-ctx.Done()
		r.ended <- struct{}{}
	case opLong:
		time.Sleep(30 * time.Minute)
	}
	return nil
}

func (r *rpcServer) pipe(_ string, c net.Conn) { r.srv.ServeConn(c) }

// bind opens a pipe and binds to the test's interface.
func bind(t *testing.T, d *Dialer, cfg *dcerpc.Config) (*dcerpc.ClientConn, net.Conn) {
	t.Helper()
	conn, err := d.DialRPC(t.Context(), "127.0.0.1", `\PIPE\Test`)
	require.NoError(t, err)
	if cfg == nil {
		cfg = &dcerpc.Config{}
	}
	cfg.Level, cfg.Syntaxes = dcerpc.LevelInsecureNone, []ndr.Syntax{ndr.NDR20}
	cc, err := dcerpc.NewClientConn(t.Context(), conn, testInterface, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc, conn
}

func echo(ctx context.Context, cc *dcerpc.ClientConn, stub []byte) error {
	call := dcerpc.Call{Opnum: opEcho, Stub: stub}
	if err := cc.Call(ctx, &call); err != nil {
		return err
	}
	if !bytes.Equal(call.Response, stub) {
		return errors.New("another stub came back")
	}
	return nil
}

// TestRoundTrips counts messages: a call is one.
func TestRoundTrips(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	for name, cfg := range map[string]*dcerpc.Config{"multiplexed": {}, "one by one": {NoMultiplexing: true}} {
		t.Run(name, func(t *testing.T) {
			cc, _ := bind(t, s.dialer(), cfg)
			before := s.count(cmdIoctl)
			for range 10 {
				require.NoError(t, echo(t.Context(), cc, []byte("12345678")))
			}
			require.Equal(t, 10, s.count(cmdIoctl)-before)
			require.Zero(t, s.count(cmdWrite))
			require.Zero(t, s.count(cmdRead))
		})
	}
}

// TestHalfHour waits for a call as long as MS-FSRVP 3.2.3 has clients wait for ExposeShadowCopySet,
// in a bubble's time.
func TestHalfHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rpc := newRPCServer(t)
		s := &fakeServer{t: t, pipe: rpc.pipe}
		d := s.newDialer()
		d.Dial = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			s.wg.Go(func() { s.serve(server) })
			return client, nil
		}
		t.Cleanup(s.wg.Wait)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		cc, _ := bind(t, d, nil)
		begun := time.Now()
		require.NoError(t, cc.Call(t.Context(), &dcerpc.Call{Opnum: opLong}))
		require.Equal(t, 30*time.Minute, time.Since(begun))
		require.NoError(t, echo(t.Context(), cc, []byte("12345678")))
	})
}

// TestLong sends and gets stubs of many fragments.
func TestLong(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	cc, _ := bind(t, s.dialer(), nil)
	for _, n := range []int{0, 8, 5000, 100_000, 1_000_000} {
		require.NoError(t, echo(t.Context(), cc, bytes.Repeat([]byte("0123456789abcdef"), (n+15)/16)))
	}
}

// TestConcurrent has many calls on one pipe, and on several pipes of one session.
func TestConcurrent(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	d := s.dialer()
	var wg sync.WaitGroup
	for p := range 4 {
		cc, _ := bind(t, d, &dcerpc.Config{NoMultiplexing: p%2 == 1})
		for c := range 8 {
			wg.Go(func() {
				for i := range 20 {
					if err := echo(t.Context(), cc, bytes.Repeat([]byte{byte(p), byte(c), byte(i)},
						16*(1+i*c*8))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	require.Equal(t, 2, s.count(cmdSessionSetup), "the legs of one log-in")
	require.Equal(t, 1, s.count(cmdTreeConnect))
}

// TestCancel cancels a call: its handler ends, and the pipe goes on.
func TestCancel(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	for name, cfg := range map[string]*dcerpc.Config{"multiplexed": {}, "one by one": {NoMultiplexing: true}} {
		t.Run(name, func(t *testing.T) {
			cc, _ := bind(t, s.dialer(), cfg)
			for range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- cc.Call(ctx, &dcerpc.Call{Opnum: opWait}) }()
				<-rpc.waiting
				cancel()
				require.ErrorIs(t, <-done, context.Canceled)
				<-rpc.ended
				require.NoError(t, echo(t.Context(), cc, []byte("12345678")))
			}
		})
	}
}

// TestClosePending closes a pipe under a call: the call ends, and the server frees the pipe, while
// another pipe of the session goes on.
func TestClosePending(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	d := s.dialer()
	cc, conn := bind(t, d, nil)
	other, _ := bind(t, d, nil)
	done := make(chan error)
	go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait}) }()
	<-rpc.waiting
	require.NoError(t, cc.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
	<-rpc.ended
	require.ErrorIs(t, conn.Close(), net.ErrClosed)
	require.Equal(t, 1, s.count(cmdClose))
	require.NoError(t, echo(t.Context(), other, []byte("12345678")))
	require.ErrorIs(t, cc.Call(t.Context(), &dcerpc.Call{Opnum: opEcho}), net.ErrClosed)
}

// TestServerCloses ends the pipe from the other side, under a call and without one.
func TestServerCloses(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	cc, _ := bind(t, s.dialer(), nil)
	done := make(chan error)
	go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait}) }()
	<-rpc.waiting
	require.NoError(t, rpc.srv.Close())
	require.ErrorIs(t, <-done, io.ErrUnexpectedEOF)
}

// TestConnectionLost ends the TCP connection: what waits ends, and the next dial makes a new
// session.
func TestConnectionLost(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	d := s.dialer()
	cc, _ := bind(t, d, nil)
	idle, err := d.DialRPC(t.Context(), "127.0.0.1", "Test")
	require.NoError(t, err)
	defer idle.Close()
	done := make(chan error)
	go func() { done <- cc.Call(t.Context(), &dcerpc.Call{Opnum: opWait}) }()
	<-rpc.waiting
	s.dropAll()
	require.ErrorIs(t, <-done, io.ErrUnexpectedEOF)
	_, err = idle.Write(appendPDU(t, nil, &pdu.Orphaned{}))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = idle.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	again, _ := bind(t, d, nil)
	require.NoError(t, echo(t.Context(), again, []byte("12345678")))
}

// TestNoTransceive goes on with writes and reads where the server knows nothing else.
func TestNoTransceive(t *testing.T) {
	for _, status := range []Status{smb2.StatusNotSupported, smb2.StatusInvalidDeviceRequest} {
		rpc := newRPCServer(t)
		s := newFakeServer(t, rpc.pipe)
		s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) { return status, cmd == cmdIoctl })
		cc, _ := bind(t, s.dialer(), nil)
		for range 3 {
			require.NoError(t, echo(t.Context(), cc, bytes.Repeat([]byte("x"), 20_000)))
		}
		require.Equal(t, 1, s.count(cmdIoctl))
	}
}

// TestBusy opens a pipe that has no free instance at first.
func TestBusy(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	var left atomic.Int32
	left.Store(2)
	s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) {
		return smb2.StatusPipeNotAvailable, cmd == cmdCreate && left.Add(-1) >= 0
	})
	cc, _ := bind(t, s.dialer(), nil)
	require.NoError(t, echo(t.Context(), cc, []byte("12345678")))
	require.Equal(t, 3, s.count(cmdCreate))

	left.Store(1000)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := s.dialer().DialRPC(ctx, "127.0.0.1", "Test")
	require.Error(t, err)
}

// TestDialCancelled gives up an open that the server does not answer, and closes what comes of it
// later.
func TestDialCancelled(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	hold, came := make(chan struct{}), make(chan struct{})
	s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) {
		if cmd == cmdCreate {
			close(came)
			<-hold
		}
		return 0, false
	})
	d := s.dialer()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := d.DialRPC(ctx, "127.0.0.1", "Test")
		done <- err
	}()
	<-came
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	s.intercept(nil)
	close(hold)
	require.Eventually(t, func() bool { return s.count(cmdClose) == 1 }, time.Minute, time.Millisecond)
}

// TestSessionExpired logs a session in again that has expired, on its connection.
func TestSessionExpired(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	d := s.dialer()
	bind(t, d, nil)
	var expired sync.Once
	s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (status Status, done bool) {
		if cmd == cmdCreate {
			expired.Do(func() { status, done = smb2.StatusNetworkSessionExpired, true })
		}
		return status, done
	})
	cc, _ := bind(t, d, nil)
	require.NoError(t, echo(t.Context(), cc, []byte("12345678")))
	require.Equal(t, 4, s.count(cmdSessionSetup))
	require.Equal(t, 1, s.count(cmdNegotiate))
}

// raw opens a pipe whose other end is a plain connection.
func raw(t *testing.T) (client, server net.Conn, s *fakeServer) {
	t.Helper()
	conns := make(chan net.Conn, 1)
	s = newFakeServer(t, func(_ string, c net.Conn) { conns <- c })
	client, err := s.dialer().DialRPC(t.Context(), "127.0.0.1", "Test")
	require.NoError(t, err)
	server = <-conns
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server, s
}

func appendPDU(t *testing.T, dst []byte, p pdu.PDU) []byte {
	t.Helper()
	b, err := p.AppendBinary(dst)
	require.NoError(t, err)
	return b
}

// TestWriteParts writes PDUs in all sorts of parts: each is one message.
func TestWriteParts(t *testing.T) {
	first := appendPDU(t, nil, &pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag, CallID: 1},
		Stub: make([]byte, 100)})
	last := appendPDU(t, nil, &pdu.Request{Header: pdu.Header{Flags: pdu.LastFrag, CallID: 1}, Stub: make([]byte, 50)})
	cancel := appendPDU(t, nil, &pdu.CoCancel{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}})
	all := bytes.Join([][]byte{first, last, cancel}, nil)
	for _, size := range []int{1, 7, 16, 100, len(all)} {
		client, server, s := raw(t)
		for rest := all; len(rest) > 0; {
			n, err := client.Write(rest[:min(size, len(rest))])
			require.NoError(t, err)
			rest = rest[n:]
		}
		got := make([]byte, len(all))
		_, err := io.ReadFull(server, got)
		require.NoError(t, err)
		require.Equal(t, all, got)
		require.Equal(t, 2, s.count(cmdWrite), "first fragment and co_cancel, size %d", size)
		require.Equal(t, 1, s.count(cmdIoctl), "last fragment")
	}
}

// TestGarbage carries what is no PDU, for tools that send such.
func TestGarbage(t *testing.T) {
	client, server, _ := raw(t)
	_, err := client.Write([]byte("this is no PDU at all"))
	require.NoError(t, err)
	b := make([]byte, 21)
	_, err = io.ReadFull(server, b)
	require.NoError(t, err)
	require.Equal(t, "this is no PDU at all", string(b))
	nak := pdu.NewBindNak(0, 4)
	answer := appendPDU(t, nil, &nak)
	_, err = server.Write(answer)
	require.NoError(t, err)
	got := make([]byte, len(answer))
	_, err = io.ReadFull(client, got)
	require.NoError(t, err)
	require.Equal(t, answer, got)
	require.NoError(t, server.Close())
	_, err = client.Read(b)
	require.Equal(t, io.EOF, err)
}

func TestDeadlines(t *testing.T) {
	client, server, s := raw(t)
	past := time.Unix(1, 0)
	b := make([]byte, 1)

	require.NoError(t, client.SetReadDeadline(past))
	_, err := client.Read(b)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = client.Read(b)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())

	// One that is set while a Read waits.
	require.NoError(t, client.SetReadDeadline(time.Time{}))
	done := make(chan error)
	go func() {
		_, err := client.Read(b)
		done <- err
	}()
	require.NoError(t, client.SetReadDeadline(past))
	require.ErrorIs(t, <-done, os.ErrDeadlineExceeded)

	// What a Write has not counted was not sent.
	ping := appendPDU(t, nil, &pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}})
	require.NoError(t, client.SetWriteDeadline(past))
	n, err := client.Write(ping)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n)
	require.NoError(t, client.SetDeadline(time.Time{}))
	_, err = client.Write(ping)
	require.NoError(t, err)
	got := make([]byte, len(ping))
	_, err = io.ReadFull(server, got)
	require.NoError(t, err)
	require.Equal(t, 1, s.count(cmdIoctl))
}

// TestWriteDeadlineMidway hits the deadline of a Write that waits for the message before.
func TestWriteDeadlineMidway(t *testing.T) {
	client, _, s := raw(t)
	hold := make(chan struct{})
	s.intercept(func(_ *fakeConn, cmd uint16, _ []byte) (Status, bool) {
		if cmd == cmdWrite {
			<-hold
		}
		return 0, false
	})
	fragment := appendPDU(t, nil, &pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag, CallID: 1}})
	n, err := client.Write(fragment)
	require.NoError(t, err)
	require.Equal(t, len(fragment), n)
	require.NoError(t, client.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	n, err = client.Write(fragment)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Zero(t, n)
	close(hold)
	require.NoError(t, client.SetWriteDeadline(time.Time{}))
	n, err = client.Write(fragment)
	require.NoError(t, err)
	require.Equal(t, len(fragment), n)
}

func TestAddrs(t *testing.T) {
	client, _, s := raw(t)
	require.Equal(t, `\\127.0.0.1\pipe\Test`, client.RemoteAddr().String())
	require.Equal(t, "ncacn_np", client.RemoteAddr().Network())
	require.NotEqual(t, s.l.Addr().String(), client.LocalAddr().String())
	require.Equal(t, "tcp", client.LocalAddr().Network())
}

// TestEmptyMessages has a server answer with nothing, again and again: that ends the call.
func TestEmptyMessages(t *testing.T) {
	rpc := newRPCServer(t)
	s := newFakeServer(t, rpc.pipe)
	cc, _ := bind(t, s.dialer(), nil)
	s.intercept(func(c *fakeConn, cmd uint16, _ []byte) (Status, bool) {
		var body []byte
		switch cmd {
		case cmdIoctl:
			body = make([]byte, 49)
			body[0] = 49
		case cmdRead:
			body = make([]byte, 17)
			body[0] = 17
		default:
			return 0, false
		}
		c.answer(c.head, 0, body, false)
		return 0, true
	})
	err := echo(t.Context(), cc, []byte("12345678"))
	require.ErrorIs(t, err, smb2.ErrProtocol)
	require.LessOrEqual(t, s.count(cmdRead), 20)
}

// TestTwoReads has two goroutines read one pipe: each byte comes to one of them.
func TestTwoReads(t *testing.T) {
	client, server, _ := raw(t)
	ping := appendPDU(t, nil, &pdu.Request{Header: pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1}})
	_, err := client.Write(ping)
	require.NoError(t, err)
	const fragments = 200
	want := 0
	var answers [][]byte
	for i := range fragments {
		r := pdu.Response{Stub: bytes.Repeat([]byte{byte(i)}, 300)}
		r.CallID = 1
		if i == fragments-1 {
			r.Flags = pdu.LastFrag
		}
		answers = append(answers, appendPDU(t, nil, &r))
		want += len(answers[i])
	}
	go func() {
		for _, b := range answers {
			_, _ = server.Write(b)
		}
	}()
	var got atomic.Int64
	var wg sync.WaitGroup
	require.NoError(t, client.SetReadDeadline(time.Now().Add(2*time.Minute)))
	for range 2 {
		wg.Go(func() {
			b := make([]byte, 100)
			for got.Load() < int64(want) {
				n, err := client.Read(b)
				if got.Add(int64(n)) >= int64(want) {
					_ = client.SetReadDeadline(time.Unix(1, 0)) // for the other
				} else if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, want, got.Load())
}
