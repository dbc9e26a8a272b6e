package dcerpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// TestShutdown lets calls in flight end, refuses new ones on their connections, and closes the
// others at once.
func TestShutdown(t *testing.T) {
	h := &echo{waiting: make(chan struct{}, 16)}
	end := make(chan struct{})
	h.wait = func(context.Context) error { <-end; return nil }
	srv := echoServer(nil, h)
	l := serve(t, srv)
	busy, idle := dial(t, l, insecure()), dial(t, l, insecure())
	answered := make(chan error)
	go func() {
		_, err := invoke(t.Context(), busy, opWait, nil)
		answered <- err
	}()
	<-h.waiting
	down := make(chan error)
	go func() { down <- srv.Shutdown(t.Context()) }()
	for { // until the connection has been closed
		if _, err := invoke(t.Context(), idle, opEcho, nil); err != nil {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			break
		}
	}
	_, err := invoke(t.Context(), busy, opEcho, nil)
	require.ErrorIs(t, err, dcerpc.ErrServerTooBusy)
	_, err = l.Dial(t.Context())
	require.ErrorIs(t, err, net.ErrClosed)
	close(end)
	require.NoError(t, <-answered)
	require.NoError(t, <-down)
	require.ErrorIs(t, srv.Serve(dcerpctest.Listen()), dcerpc.ErrServerClosed)
	require.ErrorIs(t, dcerpc.ErrServerClosed, net.ErrClosed)
}

// TestShutdownGivesUp ends calls that take longer than Shutdown may.
func TestShutdownGivesUp(t *testing.T) {
	h := &echo{waiting: make(chan struct{}, 16)}
	srv := echoServer(nil, h)
	cc := dial(t, serve(t, srv), insecure())
	answered := make(chan error)
	go func() {
		_, err := invoke(t.Context(), cc, opWait, nil)
		answered <- err
	}()
	<-h.waiting
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, srv.Shutdown(ctx), context.DeadlineExceeded)
	require.ErrorIs(t, <-answered, io.ErrUnexpectedEOF)
}

// TestShutdownUnderLoad shuts down while calls come in: what is answered is answered right, and
// what is not ends with the fault or the end of the connection.
func TestShutdownUnderLoad(t *testing.T) {
	srv := echoServer(nil, &echo{})
	l := serve(t, srv)
	var wg sync.WaitGroup
	answered := make(chan struct{}, 1)
	for i := range 8 {
		cc := dial(t, l, insecure())
		wg.Go(func() {
			want := bytes.Repeat([]byte{byte(i)}, 10000)
			for {
				got, err := invoke(t.Context(), cc, opEcho, want)
				if err != nil {
					if !errors.Is(err, dcerpc.ErrServerTooBusy) && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Error(err)
					}
					return
				}
				if !bytes.Equal(got, want) {
					t.Error("wrong answer")
				}
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		})
	}
	<-answered
	require.NoError(t, srv.Shutdown(t.Context()))
	wg.Wait()
}

// TestServeErrors checks what Serve makes of a listener that fails.
func TestServeErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
		broken := errors.New("broken")
		l := &failingListener{Listener: dcerpctest.Listen(), errs: []error{temporary{}, temporary{}, temporary{}, broken}}
		start := time.Now()
		require.ErrorIs(t, srv.Serve(l), broken)
		require.Equal(t, (5+10+20)*time.Millisecond, time.Since(start), "waits longer each time")
		require.NoError(t, srv.Close())
	})
}

type temporary struct{}

func (temporary) Error() string   { return "too many open files" }
func (temporary) Temporary() bool { return true }

type failingListener struct {
	*dcerpctest.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, err
}

func TestHandleTwice(t *testing.T) {
	srv := echoServer(nil, &echo{})
	require.Panics(t, func() { srv.Handle(echoInterface(), &echo{}, nil) })
	require.Panics(t, func() { srv.Handle(mgmtInterface(), &echo{}, nil) })
}

// refused reports whether the server closes a new connection at once.
func refused(t *testing.T, l *dcerpctest.Listener, from dcerpctest.Addr) bool {
	t.Helper()
	p, err := connectFrom(t, l, from)
	return p == nil || err != nil
}

// connectFrom binds without security.
func connectFrom(t *testing.T, l *dcerpctest.Listener, from dcerpctest.Addr) (*dcerpctest.Peer, error) {
	t.Helper()
	conn, err := l.DialFrom(t.Context(), from)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	p := dcerpctest.NewPeer(conn)
	_ = p.Send(bind()) // fails where the connection is closed already
	_, err = p.Receive()
	return p, err
}

// ended reports whether the server has closed a connection. It waits for that, but not long.
func ended(p *dcerpctest.Peer) bool {
	p.Timeout = 50 * time.Millisecond
	_, err := p.Receive()
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestConnectionLimits(t *testing.T) {
	mech := &dcerpctest.Mechanism{Account: "backup"}
	// known connects and authenticates.
	known := func(t *testing.T, l *dcerpctest.Listener, from dcerpctest.Addr) error {
		conn, err := l.DialFrom(t.Context(), from)
		require.NoError(t, err)
		cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), &dcerpc.Config{Auth: mech.Initiator()})
		if err != nil {
			return err
		}
		t.Cleanup(func() { cc.Close() })
		_, err = invoke(t.Context(), cc, opEcho, nil)
		return err
	}
	stranger := func(t *testing.T, l *dcerpctest.Listener, from dcerpctest.Addr) *dcerpctest.Peer {
		p, err := connectFrom(t, l, from)
		require.NoError(t, err)
		return p
	}
	for _, test := range []struct {
		name    string
		limit   func(*dcerpc.Limits)
		another dcerpctest.Addr // of the one that is too many
	}{
		{"connections", func(l *dcerpc.Limits) { l.Connections = 3 }, "host9:1"},
		{"of an address", func(l *dcerpc.Limits) { l.ConnectionsPerAddress = 3 }, "host:9"},
	} {
		t.Run(test.name+", all authenticated: the new one goes", func(t *testing.T) {
			srv := echoServer(mech, &echo{})
			test.limit(&srv.Limits)
			l := serve(t, srv)
			for range 3 {
				require.NoError(t, known(t, l, "host:1"))
			}
			require.Error(t, known(t, l, test.another))
			require.True(t, refused(t, l, test.another))
		})
		t.Run(test.name+", some not authenticated: the oldest of those goes", func(t *testing.T) {
			srv := echoServer(mech, &echo{})
			test.limit(&srv.Limits)
			l := serve(t, srv)
			require.NoError(t, known(t, l, "host:1"))
			first, second := stranger(t, l, "host:2"), stranger(t, l, "host:3")
			require.NoError(t, known(t, l, test.another))
			require.True(t, ended(first))
			require.NoError(t, known(t, l, test.another))
			require.True(t, ended(second))
			require.Error(t, known(t, l, test.another))
		})
	}
	t.Run("not authenticated, of an address: its oldest goes", func(t *testing.T) {
		srv := echoServer(mech, &echo{})
		srv.Limits.UnauthenticatedPerAddress = 2
		l := serve(t, srv)
		other := stranger(t, l, "other:1")
		var all []*dcerpctest.Peer
		for i := range 5 {
			all = append(all, stranger(t, l, dcerpctest.Addr(fmt.Sprint("host:", i))))
			if i >= 2 {
				require.True(t, ended(all[i-2]))
			}
		}
		require.False(t, ended(all[3]))
		require.False(t, ended(all[4]))
		require.False(t, ended(other))
	})
	t.Run("not authenticated: the oldest of the address with most goes", func(t *testing.T) {
		srv := echoServer(mech, &echo{})
		srv.Limits.UnauthenticatedConnections = 4
		l := serve(t, srv)
		few := stranger(t, l, "few:1")
		first, second, third := stranger(t, l, "most:1"), stranger(t, l, "most:2"), stranger(t, l, "most:3")
		for range 5 { // do not count for longer than their bind takes
			require.NoError(t, known(t, l, "few:2"))
		}
		require.True(t, ended(first))
		last := stranger(t, l, "most:4")
		for _, p := range []*dcerpctest.Peer{few, second, third, last} {
			require.False(t, ended(p))
		}
	})
	t.Run("of an IPv6 network", func(t *testing.T) {
		srv := echoServer(mech, &echo{})
		srv.Limits.UnauthenticatedPerAddress = 1
		l := serve(t, srv)
		first, other := stranger(t, l, "[2001:db8::1]:1"), stranger(t, l, "[2001:db8:0:1::1]:1")
		stranger(t, l, "[2001:db8::ffff:1]:1")
		require.True(t, ended(first))
		require.False(t, ended(other))
	})
	t.Run("none", func(t *testing.T) {
		srv := echoServer(nil, &echo{})
		srv.Limits = dcerpc.Limits{Connections: -1, ConnectionsPerAddress: -1, UnauthenticatedConnections: -1}
		l := serve(t, srv)
		for range 1500 {
			require.False(t, refused(t, l, "host"))
		}
	})
}

// TestTimeLimits checks each time-out of Limits to the second.
func TestTimeLimits(t *testing.T) {
	lives := func(t *testing.T, p *dcerpctest.Peer) time.Duration {
		t.Helper()
		start := time.Now()
		p.Timeout = 100 * time.Hour
		_, err := p.Receive()
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		return time.Since(start)
	}
	bubble := func(name string, limits dcerpc.Limits, f func(*testing.T, *raw)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(setup)
				s.server.Logger = slog.New(slog.DiscardHandler)
				s.mech.Account = "backup"
				s.server.Limits = limits
				f(t, newRaw(t, s))
			})
		})
	}
	bubble("no bind", dcerpc.Limits{}, func(t *testing.T, r *raw) {
		require.Equal(t, 30*time.Second, lives(t, r.Peer))
	})
	bubble("half a bind", dcerpc.Limits{BindTime: time.Minute}, func(t *testing.T, r *raw) {
		require.NoError(t, r.SendBytes([]byte{5, 0, 11, 3}))
		require.Equal(t, time.Minute, lives(t, r.Peer))
	})
	bubble("half an exchange", dcerpc.Limits{}, func(t *testing.T, r *raw) {
		sec, token := r.initiate(1, dcerpc.LevelPrivacy)
		r.bound(withAuth(sec.auth(token)))
		require.Equal(t, 30*time.Second, lives(t, r.Peer))
	})
	bubble("a failed exchange", dcerpc.Limits{}, func(t *testing.T, r *raw) {
		sec, token := r.initiate(1, dcerpc.LevelPrivacy)
		r.bound(withAuth(sec.auth(token)))
		r.send(auth3(sec.auth([]byte("junk"))))
		require.Equal(t, 30*time.Second, lives(t, r.Peer))
	})
	bubble("idle", dcerpc.Limits{}, func(t *testing.T, r *raw) {
		r.securely(dcerpc.LevelPrivacy)
		require.Equal(t, time.Hour, lives(t, r.Peer))
	})
	bubble("idle after calls", dcerpc.Limits{IdleTime: time.Minute}, func(t *testing.T, r *raw) {
		r.bound()
		for range 10 {
			time.Sleep(40 * time.Second)
			r.alive()
		}
		require.Equal(t, time.Minute, lives(t, r.Peer))
	})
	bubble("a call is not idle", dcerpc.Limits{IdleTime: time.Minute}, func(t *testing.T, r *raw) {
		r.setup.echo.wait = func(context.Context) error { time.Sleep(150 * time.Second); return nil }
		r.Timeout = time.Hour
		r.bound()
		r.send(request(2, opWait, nil))
		r.response(2)
		require.Equal(t, time.Minute, lives(t, r.Peer))
	})
	bubble("half a request is idle", dcerpc.Limits{IdleTime: time.Minute}, func(t *testing.T, r *raw) {
		r.bound()
		r.send(fragment(2, pdu.FirstFrag, "ab"))
		require.Equal(t, time.Minute, lives(t, r.Peer))
	})
	bubble("no limits", dcerpc.Limits{BindTime: -1, IdleTime: -1, UnauthenticatedIdleTime: -1, ReceiveTime: -1, WriteTime: -1}, func(t *testing.T, r *raw) {
		time.Sleep(24 * time.Hour)
		r.bound()
		time.Sleep(24 * time.Hour)
		r.alive()
	})
	bubble("a peer that does not read", dcerpc.Limits{WriteTime: 20 * time.Second}, func(t *testing.T, r *raw) {
		r.bound(flags(pdu.ConcMPX))
		start := time.Now()
		stub := zeros(5000)
		id := uint32(0)
		for { // the server stops reading only when its connection is over
			id++
			p := request(id, opEcho, stub)
			b, err := p.AppendBinary(nil)
			require.NoError(t, err)
			require.NoError(t, r.Conn.SetWriteDeadline(start.Add(time.Hour)))
			if _, err := r.Conn.Write(b); err != nil {
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
				break
			}
		}
		require.LessOrEqual(t, time.Since(start), 30*time.Second)
	})
}

// TestPanickingMechanism ends the connection of the peer that met the panic, and says so in the
// log.
func TestPanickingMechanism(t *testing.T) {
	var log bytes.Buffer
	srv := echoServer(nil, &echo{})
	srv.Acceptors = []dcerpc.Acceptor{panicking{}}
	srv.Logger = slog.New(slog.NewTextHandler(&log, nil))
	l := serve(t, srv)
	conn, err := l.Dial(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	p := dcerpctest.NewPeer(conn)
	require.NoError(t, p.Send(bind(withAuth(pdu.Auth{Type: 10, Level: 5, Token: []byte("x")}))))
	require.NoError(t, p.ReceiveEnd())
	_, err = invoke(t.Context(), dial(t, l, insecure()), opEcho, nil)
	require.NoError(t, err)
	require.NoError(t, srv.Close())
	require.Contains(t, log.String(), "as asked")
	require.Contains(t, log.String(), "panicking")
}

type panicking struct{}

func (panicking) AuthType() dcerpc.AuthType { return dcerpc.AuthNTLM }
func (panicking) NewContext(dcerpc.AuthLevel) (dcerpc.Context, error) {
	panic("as asked")
}

// TestPanickingSeal ends the connection whose response met the panic, and no other.
func TestPanickingSeal(t *testing.T) {
	var log bytes.Buffer
	mech := &dcerpctest.Mechanism{}
	srv := echoServer(nil, &echo{})
	srv.Acceptors = []dcerpc.Acceptor{mech.Acceptor()}
	calls := 0
	mech.Observe = func(op string, m dcerpc.Message, _ []byte) {
		if calls++; op == "protect" && m.Header[2] == byte(pdu.TypeResponse) {
			panic("as asked")
		}
	}
	srv.Logger = slog.New(slog.NewTextHandler(&log, nil))
	l := serve(t, srv)
	_, err := invoke(t.Context(), dial(t, l, &dcerpc.Config{Auth: mech.Initiator()}), opEcho, nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = invoke(t.Context(), dial(t, l, insecure()), opEcho, nil)
	require.NoError(t, err)
	require.NoError(t, srv.Close())
	require.Contains(t, log.String(), "as asked")
}

// TestHandlerLog checks that a handler's panic and error are logged, with the stack and the opnum.
func TestHandlerLog(t *testing.T) {
	var log bytes.Buffer
	srv := echoServer(nil, &echo{})
	srv.Logger = slog.New(slog.NewTextHandler(&log, nil))
	cc := dial(t, serve(t, srv), insecure())
	for _, opnum := range []uint16{opPanic, opError} {
		_, err := invoke(t.Context(), cc, opnum, nil)
		require.ErrorIs(t, err, dcerpc.ErrUnspecified)
	}
	require.NoError(t, cc.Close())
	require.NoError(t, srv.Close())
	require.Contains(t, log.String(), "handler panicked")
	require.Contains(t, log.String(), "ServeRPC")
	require.Contains(t, log.String(), `handler failed" peer=client-1 opnum=6 err="as asked"`)
}

// TestForbiddenStatuses checks that a handler cannot have the statuses sent that clients take for
// their own (MS-RPCE 3.3.3.5.1).
func TestForbiddenStatuses(t *testing.T) {
	h := &echo{}
	srv := echoServer(nil, h)
	cc := dial(t, serve(t, srv), insecure())
	for _, status := range []pdu.FaultStatus{
		0, 0x80000001, 0x80000002, 0x80000003, 0xC0000005, 0xC0000006, 0xC000001D, 0xC0000096, 0xC00000AA,
		0xC00000FD, 0xC0000194, 0xC0000235, 0xC0000409, 0xC0000420,
	} {
		h.wait = func(context.Context) error { return fmt.Errorf("wrapped: %w", &dcerpc.Fault{Status: status}) }
		_, err := invoke(t.Context(), cc, opWait, nil)
		require.ErrorIs(t, err, dcerpc.ErrUnspecified, status)
	}
	h.wait = func(context.Context) error {
		return fmt.Errorf("wrapped: %w", &dcerpc.Fault{Status: 0x80070005, DidNotExecute: true})
	}
	_, err := invoke(t.Context(), cc, opWait, nil)
	require.Equal(t, &dcerpc.Fault{Status: 0x80070005, DidNotExecute: true}, err)
}

// TestPeer checks what a handler learns of a caller.
func TestPeer(t *testing.T) {
	var got dcerpc.Peer
	h := &echo{wait: func(ctx context.Context) error {
		got, _ = dcerpc.PeerFromContext(ctx)
		return nil
	}}
	mech := &dcerpctest.Mechanism{Account: "backup"}
	srv := echoServer(mech, h)
	smb := dcerpc.Identity{Account: "smbuser", Mechanism: "smb", SIDs: []dcerpc.SID{dcerpc.SIDBuiltinAdmins}, Privileges: dcerpc.PrivilegeBackup}
	client, server := dcerpctest.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ServeConn(sessionConn{server, dcerpc.Session{Authenticated: true, Identity: smb, Encrypted: true}})
	}()
	plain, err := dcerpc.NewClientConn(t.Context(), client, echoInterface(), insecure())
	require.NoError(t, err)
	_, err = invoke(t.Context(), plain, opWait, nil)
	require.NoError(t, err)
	want := dcerpc.Peer{
		Identity: smb, Addr: server.RemoteAddr(), Level: dcerpc.LevelInsecureNone,
		Session: true, SessionIdentity: smb, SessionEncrypted: true,
	}
	require.Equal(t, want, got)

	require.Equal(t, dcerpc.LevelInsecureNone, plain.Level())
	require.Zero(t, plain.Identity())
	require.Equal(t, client.RemoteAddr(), plain.RemoteAddr())

	secure, err := plain.Alter(t.Context(), echoInterface(), &dcerpc.Config{Auth: mech.Initiator()})
	require.NoError(t, err)
	require.Equal(t, "toy", secure.Identity().Mechanism)
	_, err = invoke(t.Context(), secure, opWait, nil)
	require.NoError(t, err)
	want.Identity = dcerpc.Identity{Account: "backup", Mechanism: "toy"}
	want.AuthType, want.Level = dcerpc.AuthNTLM, dcerpc.LevelPrivacy
	require.Equal(t, want, got)
	require.NoError(t, plain.Close())
	<-done
}

// TestUnauthenticatedCost measures what a peer costs that has bound and said nothing since: memory,
// goroutines. It has sent as large a bind as there can be.
func TestUnauthenticatedCost(t *testing.T) {
	srv := &dcerpc.Server{Limits: dcerpc.Limits{Connections: -1, ConnectionsPerAddress: -1, UnauthenticatedConnections: -1}}
	srv.Handle(echoInterface(), &echo{}, nil)
	l := serve(t, srv)
	open := func(n int) []*dcerpctest.Peer {
		var peers []*dcerpctest.Peer
		for range n {
			conn, err := l.Dial(t.Context())
			require.NoError(t, err)
			p := dcerpctest.NewPeer(conn)
			many := make([]pdu.ContextElement, 255)
			for i := range many {
				many[i] = element(uint16(i), echoInterface(), pdu.NDR20(), pdu.NDR64())
			}
			require.NoError(t, p.Send(bind(offer(many...))))
			_, err = p.Receive()
			require.NoError(t, err)
			require.NoError(t, p.Send(fragment(2, pdu.FirstFrag, string(zeros(5800))))) // not allowed, so not kept
			peers = append(peers, p)
		}
		return peers
	}
	measure := func() (int64, int) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse), runtime.NumGoroutine()
	}
	bare := func(n int) (peers []*dcerpctest.Peer) { // what the client's ends and the connections cost
		for range n {
			c, s := dcerpctest.Pipe()
			go func() { _, _ = io.Copy(io.Discard, s) }()
			_, _ = c.Write(zeros(20000))
			_, _ = s.Write(zeros(6200))
			p := dcerpctest.NewPeer(c)
			_, _ = p.ReceiveBytes()
			peers = append(peers, p)
		}
		return peers
	}
	const n = 200
	warm := open(10)
	before, goroutines := measure()
	idle := bare(n)
	between, _ := measure()
	peers := open(n)
	after, now := measure()
	each := ((after - between) - (between - before)) / n
	t.Logf("%d bytes for each connection", each)
	require.Less(t, each, int64(24<<10))
	require.LessOrEqual(t, now-goroutines-n, n+5, "one goroutine for each")
	for _, p := range append(append(warm, idle...), peers...) {
		p.Close()
	}
}

// TestConcurrentConnections has 1,000 of them at once, over loopback TCP.
func TestConcurrentConnections(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	mech := &dcerpctest.Mechanism{Account: "backup"}
	srv := echoServer(mech, &echo{})
	srv.Limits = dcerpc.Limits{ConnectionsPerAddress: -1, UnauthenticatedConnections: -1}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	dialer := &dcerpc.TCPDialer{}
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	before := descriptors(t)

	var bound, ended sync.WaitGroup
	bound.Add(n)
	for i := range n {
		ended.Go(func() {
			conn, err := dialer.DialRPC(t.Context(), "127.0.0.1", port)
			if err == nil {
				cfg := insecure()
				if i%2 == 0 {
					cfg = &dcerpc.Config{Auth: mech.Initiator()}
				}
				var cc *dcerpc.ClientConn
				if cc, err = dcerpc.NewClientConn(t.Context(), conn, echoInterface(), cfg); err == nil {
					defer cc.Close()
				}
				bound.Done()
				bound.Wait() // for all of them
				want := fmt.Sprint("connection ", i)
				var got []byte
				if err == nil {
					got, err = invoke(t.Context(), cc, opEcho, []byte(want))
				}
				if err == nil && string(got[:len(want)]) != want {
					err = fmt.Errorf("%q", got)
				}
			} else {
				bound.Done()
			}
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	ended.Wait()
	require.NoError(t, srv.Shutdown(t.Context()))
	require.ErrorIs(t, <-done, dcerpc.ErrServerClosed)
	require.LessOrEqual(t, descriptors(t), before)
}

// descriptors counts the process's open files.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Log("no /proc: descriptors are not counted")
		return 0
	}
	return len(entries)
}

// TestRounds connects, calls and closes 100,000 times, in memory and partly over loopback TCP;
// fewer times under the race detector. TestMain looks for goroutines that are left.
func TestRounds(t *testing.T) {
	rounds := 100_000
	switch {
	case testing.Short():
		rounds = 2_000
	case raceDetector:
		rounds = 10_000
	}
	inMemory := dcerpctest.Listen()
	overTCP, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := echoServer(nil, &echo{})
	srv.Limits = dcerpc.Limits{ConnectionsPerAddress: -1, UnauthenticatedConnections: -1, Connections: -1}
	done := make(chan error, 2)
	go func() { done <- srv.Serve(inMemory) }()
	go func() { done <- srv.Serve(overTCP) }()
	before := descriptors(t)
	var wg sync.WaitGroup
	const workers = 8
	for w := range workers {
		wg.Go(func() {
			for i := range rounds / workers {
				var conn net.Conn
				var err error
				if i%50 == w { // each TCP connection leaves a port in TIME_WAIT
					conn, err = net.Dial("tcp", overTCP.Addr().String())
				} else {
					conn, err = inMemory.Dial(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
				cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), insecure())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err = invoke(t.Context(), cc, opEcho, []byte("x")); err != nil {
					t.Error(err)
				}
				cc.Close()
			}
		})
	}
	wg.Wait()
	require.NoError(t, srv.Shutdown(t.Context()))
	<-done
	<-done
	require.LessOrEqual(t, descriptors(t), before)
}
