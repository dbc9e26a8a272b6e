package dcerpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// echoServer serves the echo interface at LevelInsecureNone and the other one at LevelIntegrity.
func echoServer(mech *dcerpctest.Mechanism, h *echo) *dcerpc.Server {
	srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
	if mech != nil {
		srv.Acceptors = []dcerpc.Acceptor{mech.Acceptor()}
	}
	srv.Handle(echoInterface(), h, &dcerpc.InterfaceOptions{Opnums: opCount, MinLevel: dcerpc.LevelInsecureNone})
	srv.Handle(otherInterface(), h, &dcerpc.InterfaceOptions{Opnums: opCount})
	return srv
}

func dial(t testing.TB, l *dcerpctest.Listener, cfg *dcerpc.Config) *dcerpc.ClientConn {
	conn, err := l.Dial(t.Context())
	require.NoError(t, err)
	cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestConfigErrors(t *testing.T) {
	mech := &dcerpctest.Mechanism{}
	for _, test := range []struct {
		name string
		cfg  *dcerpc.Config
		want string
	}{
		{"nil", nil, "set Level to LevelInsecureNone"},
		{"no security", &dcerpc.Config{}, "set Level to LevelInsecureNone"},
		{"a level without a mechanism", &dcerpc.Config{Level: dcerpc.LevelPrivacy}, "set Level to LevelInsecureNone"},
		{"a mechanism without a level", &dcerpc.Config{Auth: mech.Initiator(), Level: dcerpc.LevelInsecureNone}, "together with LevelInsecureNone"},
		{"level 7", &dcerpc.Config{Auth: mech.Initiator(), Level: 7}, "no level 7"},
		{"small fragments", &dcerpc.Config{Level: dcerpc.LevelInsecureNone, MaxFragment: 1431}, "MaxFragment is 1431"},
		{"large fragments", &dcerpc.Config{Level: dcerpc.LevelInsecureNone, MaxFragment: 65536}, "MaxFragment is 65536"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, _ := dcerpctest.Pipe()
			_, err := dcerpc.NewClientConn(t.Context(), client, echoInterface(), test.cfg)
			require.ErrorContains(t, err, test.want)
			_, err = client.Write([]byte{0})
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

// TestLevelCall asks for a level that servers refuse, or take for packet protection.
func TestLevelCall(t *testing.T) {
	mech := &dcerpctest.Mechanism{}
	l := serve(t, echoServer(mech, &echo{}))
	conn, err := l.Dial(t.Context())
	require.NoError(t, err)
	_, err = dcerpc.NewClientConn(t.Context(), conn, echoInterface(), &dcerpc.Config{Auth: mech.Initiator(), Level: dcerpc.LevelInsecureCall})
	var refused *dcerpc.BindError
	require.ErrorAs(t, err, &refused)
}

func TestStubInAnotherSyntax(t *testing.T) {
	cc := dial(t, serve(t, echoServer(nil, &echo{})), insecure())
	require.Equal(t, ndr.NDR64, cc.Syntax())
	require.ErrorContains(t, cc.Call(t.Context(), &dcerpc.Call{Syntax: ndr.NDR20}), "ndr20 on a connection that speaks ndr64")
}

// TestLongCall makes a call of 15 s under a context of 60 s: there are no hidden time-outs, and the
// end of the context that was given to NewClientConn does not matter.
func TestLongCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := echoServer(nil, &echo{wait: func(ctx context.Context) error {
			time.Sleep(15 * time.Second)
			return ctx.Err()
		}})
		srv.Limits.UnauthenticatedIdleTime = -1
		l := serve(t, srv)
		conn, err := l.Dial(t.Context())
		require.NoError(t, err)
		bindCtx, cancelBind := context.WithTimeout(t.Context(), time.Second)
		cc, err := dcerpc.NewClientConn(bindCtx, conn, echoInterface(), insecure())
		require.NoError(t, err)
		defer cc.Close()
		cancelBind()

		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		start := time.Now()
		_, err = invoke(ctx, cc, opWait, nil)
		require.NoError(t, err)
		require.Equal(t, 15*time.Second, time.Since(start))
		time.Sleep(30 * time.Minute)
		_, err = invoke(t.Context(), cc, opEcho, nil)
		require.NoError(t, err)
	})
}

// TestBindIsBounded gives up on a server that does not answer the bind.
func TestBindIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := dcerpctest.Pipe()
		defer server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		start := time.Now()
		_, err := dcerpc.NewClientConn(ctx, client, echoInterface(), insecure())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 7*time.Second, time.Since(start))
		_, err = io.Copy(io.Discard, server)
		require.NoError(t, err, "the client has closed the connection")
	})
}

// TestClose ends pending and later calls, with and without multiplexing.
func TestClose(t *testing.T) {
	for _, noMPX := range []bool{false, true} {
		t.Run(fmt.Sprintf("noMPX %v", noMPX), func(t *testing.T) {
			h := &echo{waiting: make(chan struct{}, 16)}
			cc := dial(t, serve(t, echoServer(nil, h)), insecure(func(c *dcerpc.Config) { c.NoMultiplexing = noMPX }))
			done := make(chan error)
			for range 4 {
				go func() {
					_, err := invoke(context.Background(), cc, opWait, nil)
					done <- err
				}()
			}
			<-h.waiting
			require.NoError(t, cc.Close())
			for range 4 {
				require.ErrorIs(t, <-done, net.ErrClosed)
			}
			_, err := invoke(context.Background(), cc, opEcho, nil)
			require.ErrorIs(t, err, net.ErrClosed)
			_, err = cc.Alter(context.Background(), otherInterface(), nil)
			require.ErrorIs(t, err, net.ErrClosed)
			require.NoError(t, cc.Close())
		})
	}
}

// TestServerDies ends pending and later calls.
func TestServerDies(t *testing.T) {
	h := &echo{waiting: make(chan struct{}, 16)}
	srv := echoServer(nil, h)
	cc := dial(t, serve(t, srv), insecure())
	done := make(chan error)
	for range 4 {
		go func() {
			_, err := invoke(context.Background(), cc, opWait, nil)
			done <- err
		}()
	}
	for range 4 {
		<-h.waiting
	}
	require.NoError(t, srv.Close())
	for range 4 {
		err := <-done
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorContains(t, err, "the server has closed the connection")
	}
	_, err := invoke(context.Background(), cc, opEcho, nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// TestCancelWhileWriting cancels calls while the server does not read: the one that is being
// written, one that waits to be written. When the server reads again, the connection still works.
func TestCancelWhileWriting(t *testing.T) {
	for _, level := range []dcerpc.AuthLevel{dcerpc.LevelInsecureNone, dcerpc.LevelPrivacy} {
		t.Run(fmt.Sprint("level ", level), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mech := &dcerpctest.Mechanism{}
				srv := echoServer(mech, &echo{})
				client, server := dcerpctest.Pipe()
				gate := &gatedConn{Conn: server, open: make(chan struct{}, 1)}
				gate.open <- struct{}{}
				served := make(chan struct{})
				go func() {
					defer close(served)
					srv.ServeConn(gate)
				}()
				cfg := insecure()
				if level != dcerpc.LevelInsecureNone {
					cfg = &dcerpc.Config{Auth: mech.Initiator(), Level: level}
				}
				cc, err := dcerpc.NewClientConn(t.Context(), client, echoInterface(), cfg)
				require.NoError(t, err)
				got, err := invoke(t.Context(), cc, opEcho, []byte("first"))
				require.NoError(t, err)
				require.Equal(t, "first", string(got[:5]))

				<-gate.open
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				large := bytes.Repeat([]byte("l"), 300<<10)
				done := make(chan error)
				for range 2 {
					go func() {
						_, err := invoke(ctx, cc, opEcho, large)
						done <- err
					}()
				}
				start := time.Now()
				require.ErrorIs(t, <-done, context.DeadlineExceeded)
				require.ErrorIs(t, <-done, context.DeadlineExceeded)
				require.Equal(t, time.Second, time.Since(start))
				clear(large) // the caller's again

				waited := make(chan error)
				go func() {
					got, err := invoke(t.Context(), cc, opEcho, []byte("after"))
					if err == nil && string(got[:5]) != "after" {
						err = errors.New("wrong answer")
					}
					waited <- err
				}()
				synctest.Wait()
				gate.open <- struct{}{}
				require.NoError(t, <-waited)
				require.NoError(t, cc.Close())
				<-served
			})
		})
	}
}

// gatedConn reads only while open has a value.
type gatedConn struct {
	*dcerpctest.Conn
	open chan struct{}
}

func (c *gatedConn) Read(p []byte) (int, error) {
	v := <-c.open
	c.open <- v
	return c.Conn.Read(p)
}

// TestCloseWhileWriting closes the connection while a request is half written.
func TestCloseWhileWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := dcerpctest.Pipe()
		defer server.Close()
		done := make(chan error)
		go func() {
			done <- dcerpctest.NewPeer(server).Play(accepts())
		}()
		cc, err := dcerpc.NewClientConn(t.Context(), client, echoInterface(), insecure())
		require.NoError(t, err)
		require.NoError(t, <-done)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = invoke(ctx, cc, opEcho, zeros(300<<10))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		go func() {
			_, err := invoke(t.Context(), cc, opEcho, nil)
			done <- err
		}()
		synctest.Wait()
		require.NoError(t, cc.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
}

// TestManyCancellations cancels calls at all sorts of moments; the rest must be answered right.
func TestManyCancellations(t *testing.T) {
	for _, noMPX := range []bool{false, true} {
		t.Run(fmt.Sprintf("noMPX %v", noMPX), func(t *testing.T) {
			mech := &dcerpctest.Mechanism{Account: "backup"}
			cc := dial(t, serve(t, echoServer(mech, &echo{})), &dcerpc.Config{Auth: mech.Initiator(), NoMultiplexing: noMPX})
			var wg sync.WaitGroup
			for caller := range 8 {
				wg.Go(func() {
					for i := range 200 {
						ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
						if i%3 == 0 {
							time.AfterFunc(time.Duration(i*caller%50)*time.Microsecond, cancel)
						}
						want := fmt.Sprint("caller ", caller, " call ", i)
						got, err := invoke(ctx, cc, opEcho, []byte(want))
						switch {
						case err == nil && string(got[:len(want)]) != want:
							t.Errorf("%q, want %q", got, want)
						case err != nil && (i%3 != 0 || !errors.Is(err, context.Canceled)):
							t.Errorf("%s: %v", want, err)
						}
						cancel()
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestAlter uses several interfaces and security contexts on one connection, at once.
func TestAlter(t *testing.T) {
	for _, legs := range []int{2, 3, 4} {
		t.Run(fmt.Sprint(legs, " legs"), func(t *testing.T) {
			mech := &dcerpctest.Mechanism{Legs: legs, Account: "one"}
			two := *mech
			two.Account = "two"
			plain := dial(t, serve(t, echoServer(mech, &echo{})), insecure())

			other, err := plain.Alter(t.Context(), otherInterface(), nil)
			require.NoError(t, err)
			require.Equal(t, otherInterface(), other.Interface())
			sealed, err := plain.Alter(t.Context(), otherInterface(), &dcerpc.Config{Auth: mech.Initiator()})
			require.NoError(t, err)
			require.Equal(t, dcerpc.LevelPrivacy, sealed.Level())
			signed, err := plain.Alter(t.Context(), echoInterface(), &dcerpc.Config{
				Auth: two.Initiator(), Level: dcerpc.LevelIntegrity, Syntaxes: []ndr.Syntax{ndr.NDR20},
			})
			require.NoError(t, err)
			require.Equal(t, ndr.NDR20, signed.Syntax())
			again, err := sealed.Alter(t.Context(), echoInterface(), nil)
			require.NoError(t, err)
			require.Equal(t, dcerpc.LevelPrivacy, again.Level())

			_, err = plain.Alter(t.Context(), unknownInterface(), nil)
			var rejected *dcerpc.RejectedError
			require.ErrorAs(t, err, &rejected)
			_, err = invoke(t.Context(), other, opPeer, nil)
			require.ErrorIs(t, err, dcerpc.ErrAccessDenied, "not signed; but the connection lives, as it has signed contexts")

			var wg sync.WaitGroup
			for cc, want := range map[*dcerpc.ClientConn]string{
				plain:  " type 0 level 1",
				sealed: "one type 10 level 6",
				signed: "two type 10 level 5",
				again:  "one type 10 level 6",
			} {
				wg.Go(func() {
					for range 50 {
						got, err := invoke(t.Context(), cc, opPeer, nil)
						if err != nil || string(got) != want {
							t.Errorf("%q, %v; want %q", got, err, want)
						}
					}
				})
			}
			wg.Wait()
			require.NoError(t, again.Close())
			_, err = invoke(t.Context(), plain, opEcho, nil)
			require.ErrorIs(t, err, net.ErrClosed, "Close ends the whole connection")
		})
	}
}

// TestAlterConnect has two contexts of the connect level, so that requests have to name theirs.
func TestAlterConnect(t *testing.T) {
	mech := &dcerpctest.Mechanism{Account: "one"}
	two := *mech
	two.Account = "two"
	first := dial(t, serve(t, echoServer(mech, &echo{})), &dcerpc.Config{Auth: mech.Initiator(), Level: dcerpc.LevelInsecureConnect})
	second, err := first.Alter(t.Context(), echoInterface(), &dcerpc.Config{Auth: two.Initiator(), Level: dcerpc.LevelInsecureConnect})
	require.NoError(t, err)
	for range 2 {
		for cc, want := range map[*dcerpc.ClientConn]string{first: "one type 10 level 2", second: "two type 10 level 2"} {
			got, err := invoke(t.Context(), cc, opPeer, nil)
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
	}
}

// TestRefusedTokens checks the errors of exchanges that the server refuses at each leg.
func TestRefusedTokens(t *testing.T) {
	for _, test := range []struct {
		legs, refuse int
		check        func(*testing.T, error)
	}{
		{3, 1, func(t *testing.T, err error) {
			var refused *dcerpc.BindError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, pdu.NakInvalidChecksum, refused.Reason)
		}},
		{4, 3, func(t *testing.T, err error) { require.ErrorIs(t, err, dcerpc.ErrAccessDenied) }},
	} {
		t.Run(fmt.Sprintf("leg %d of %d", test.refuse, test.legs), func(t *testing.T) {
			mech := &dcerpctest.Mechanism{Legs: test.legs, Refuse: test.refuse}
			conn, err := serve(t, echoServer(mech, &echo{})).Dial(t.Context())
			require.NoError(t, err)
			_, err = dcerpc.NewClientConn(t.Context(), conn, echoInterface(), &dcerpc.Config{Auth: mech.Initiator()})
			test.check(t, err)
		})
	}
	t.Run("leg 3 of 3, which is not answered", func(t *testing.T) {
		mech := &dcerpctest.Mechanism{Legs: 3, Refuse: 3}
		cc := dial(t, serve(t, echoServer(mech, &echo{})), &dcerpc.Config{Auth: mech.Initiator()})
		_, err := invoke(t.Context(), cc, opEcho, nil)
		require.ErrorIs(t, err, dcerpc.ErrAccessDenied)
	})
}

// TestVerificationTrailer looks at the stubs that the client sends: what the bind negotiated is
// verified until a call has succeeded, the header of each request where nothing signs it (MS-RPCE
// 2.2.2.13).
func TestVerificationTrailer(t *testing.T) {
	for _, noSigning := range []bool{false, true} {
		t.Run(fmt.Sprintf("noSigning %v", noSigning), func(t *testing.T) {
			mech := &dcerpctest.Mechanism{}
			var mu sync.Mutex
			var seen [][]uint16
			trace := func(p dcerpc.TracedPDU) {
				req, err := pdu.ParseRequest(p.PDU)
				if err != nil || p.Sent {
					return
				}
				var ids []uint16
				_, trailer, _ := pdu.CutVerificationTrailer(req.Stub)
				for _, c := range trailer {
					ids = append(ids, c.ID)
				}
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, ids)
			}
			srv := echoServer(mech, &echo{})
			srv.Trace = trace
			cc := dial(t, serve(t, srv), &dcerpc.Config{Auth: mech.Initiator(), NoHeaderSigning: noSigning})
			for _, opnum := range []uint16{opFault, opPeer, opPeer} {
				_, err := invoke(t.Context(), cc, opnum, nil)
				require.Equal(t, opnum == opFault, err != nil)
			}
			next, err := cc.Alter(t.Context(), otherInterface(), nil)
			require.NoError(t, err)
			_, err = invoke(t.Context(), next, opPeer, nil)
			require.NoError(t, err)
			require.NoError(t, cc.Close())

			mu.Lock()
			defer mu.Unlock()
			if noSigning {
				require.Equal(t, [][]uint16{{1, 2, 3}, {1, 2, 3}, {3}, {1, 2, 3}}, seen)
			} else {
				require.Equal(t, [][]uint16{{1, 2}, {1, 2}, nil, {1, 2}}, seen)
			}
		})
	}
}

// TestForgedResponses changes what a server sends to a client that has its calls protected.
func TestForgedResponses(t *testing.T) {
	unsigned := response(2, "forged")
	for _, test := range []struct {
		name  string
		level dcerpc.AuthLevel
		forge func([]byte) []byte
	}{
		{"a bit of the stub", dcerpc.LevelIntegrity, func(b []byte) []byte { b[24] ^= 1; return b }},
		{"a bit of the sealed stub", dcerpc.LevelPrivacy, func(b []byte) []byte { b[24] ^= 1; return b }},
		{"a bit of the header", dcerpc.LevelIntegrity, func(b []byte) []byte { b[23] ^= 1; return b }},
		{"a bit of the token", dcerpc.LevelIntegrity, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"the level", dcerpc.LevelIntegrity, func(b []byte) []byte { b[len(b)-16-7] = 2; return b }},
		{"the context", dcerpc.LevelIntegrity, func(b []byte) []byte { b[len(b)-16-1] = 9; return b }},
		{"no trailer", dcerpc.LevelPrivacy, func([]byte) []byte { b, _ := unsigned.AppendBinary(nil); return b }},
	} {
		t.Run(test.name, func(t *testing.T) {
			mech := &dcerpctest.Mechanism{}
			srv := echoServer(mech, &echo{})
			client, server := dcerpctest.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				srv.ServeConn(&forger{server, test.forge})
			}()
			cc, err := dcerpc.NewClientConn(t.Context(), client, echoInterface(), &dcerpc.Config{Auth: mech.Initiator(), Level: test.level})
			require.NoError(t, err)
			_, err = invoke(t.Context(), cc, opEcho, []byte("x"))
			require.ErrorIs(t, err, dcerpc.ErrBadPeer)
			require.NoError(t, cc.Close())
			<-done
		})
	}
}

// forger changes the responses that are written.
type forger struct {
	*dcerpctest.Conn
	forge func([]byte) []byte
}

func (c *forger) Write(b []byte) (int, error) {
	if b[2] == byte(pdu.TypeResponse) {
		_, err := c.Conn.Write(c.forge(bytes.Clone(b)))
		return len(b), err
	}
	return c.Conn.Write(b)
}

// TestTrace compares what both sides' traces see: the same PDUs, in clear, in opposite directions.
func TestTrace(t *testing.T) {
	type seen struct {
		sent bool
		pdu  string
	}
	collect := func(mu *sync.Mutex, all *[]seen) dcerpc.Trace {
		return func(p dcerpc.TracedPDU) {
			mu.Lock()
			defer mu.Unlock()
			require.False(t, p.Sealed)
			*all = append(*all, seen{p.Sent, string(p.PDU)})
		}
	}
	var mu sync.Mutex
	var client, server []seen
	mech := &dcerpctest.Mechanism{}
	srv := echoServer(mech, &echo{})
	srv.Trace = collect(&mu, &server)
	cc := dial(t, serve(t, srv), &dcerpc.Config{Auth: mech.Initiator(), Trace: collect(&mu, &client)})
	_, err := invoke(t.Context(), cc, opEcho, []byte("in clear"))
	require.NoError(t, err)
	_, err = invoke(t.Context(), cc, opFault, nil)
	require.Error(t, err)
	require.NoError(t, cc.Close())

	mu.Lock()
	defer mu.Unlock()
	require.Len(t, client, 7, "bind, bind_ack, auth3, two requests, a response, a fault")
	require.Len(t, server, 7)
	for i := range client {
		require.Equal(t, client[i].pdu, server[i].pdu)
		require.Equal(t, client[i].sent, !server[i].sent)
	}
	require.Contains(t, client[3].pdu, "in clear")
	require.Contains(t, client[4].pdu, "in clear")
}

// TestFaultyTransport runs calls over connections with faults.
func TestFaultyTransport(t *testing.T) {
	connect := func(t *testing.T, client, server dcerpctest.Faults) (*dcerpc.ClientConn, error) {
		mech := &dcerpctest.Mechanism{}
		srv := echoServer(mech, &echo{})
		c, s := dcerpctest.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv.ServeConn(dcerpctest.WithFaults(s, server))
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cc, err := dcerpc.NewClientConn(ctx, dcerpctest.WithFaults(c, client), echoInterface(), &dcerpc.Config{Auth: mech.Initiator()})
		t.Cleanup(func() {
			if cc != nil {
				cc.Close()
			}
			c.Close()
			s.Close()
			<-done
		})
		return cc, err
	}
	t.Run("one byte at a time", func(t *testing.T) {
		short := dcerpctest.Faults{ShortReads: 1}
		cc, err := connect(t, short, short)
		require.NoError(t, err)
		got, err := invoke(t.Context(), cc, opEcho, zeros(10000))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(got), 10000)
	})
	t.Run("duplicated requests", func(t *testing.T) {
		cc, err := connect(t, dcerpctest.Faults{Duplicate: true}, dcerpctest.Faults{})
		if err == nil { // the first answer came in time
			_, err = invoke(t.Context(), cc, opEcho, nil)
		}
		require.Error(t, err, "the second bind ends the connection")
	})
	t.Run("duplicated answers", func(t *testing.T) {
		cc, err := connect(t, dcerpctest.Faults{}, dcerpctest.Faults{Duplicate: true})
		if err == nil {
			_, err = invoke(t.Context(), cc, opEcho, []byte("x"))
		}
		if err == nil {
			_, err = invoke(t.Context(), cc, opEcho, []byte("x"))
		}
		require.ErrorIs(t, err, dcerpc.ErrBadPeer, "a sequence number comes twice")
	})
	for n := 1; n < 400; n += 7 {
		t.Run(fmt.Sprint("after bytes ", n), func(t *testing.T) {
			for name, faults := range map[string][2]dcerpctest.Faults{
				"the client's reads are reset": {{ResetAfter: n}, {}},
				"the server's reads are reset": {{}, {ResetAfter: n}},
				"the client's writes are cut":  {{CutAfter: n}, {}},
				"the server's writes are cut":  {{}, {CutAfter: n}},
			} {
				cc, err := connect(t, faults[0], faults[1])
				for range 5 {
					if err == nil {
						_, err = invoke(t.Context(), cc, opEcho, []byte("x"))
					}
				}
				require.Error(t, err, name)
				require.NotErrorIs(t, err, context.DeadlineExceeded, name)
			}
		})
	}
	t.Run("a stalled answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, err := connect(t, dcerpctest.Faults{StallAfter: 20}, dcerpctest.Faults{})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
}

// TestBrokenOffExchange ends the connection where half a security exchange would stay behind, and
// only there.
func TestBrokenOffExchange(t *testing.T) {
	mech := &dcerpctest.Mechanism{}
	cc := dial(t, serve(t, echoServer(mech, &echo{})), insecure())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := cc.Alter(ended, otherInterface(), nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = invoke(t.Context(), cc, opEcho, nil)
	require.NoError(t, err)

	_, err = cc.Alter(t.Context(), unknownInterface(), &dcerpc.Config{Auth: mech.Initiator()})
	var rejected *dcerpc.RejectedError
	require.ErrorAs(t, err, &rejected)
	_, err = invoke(t.Context(), cc, opEcho, nil)
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestFaultDuringRequest has the server fault a request and hang up while the client is still
// writing it, in memory and over TCP: the fault is what the call returns.
func TestFaultDuringRequest(t *testing.T) {
	srv := echoServer(nil, &echo{})
	srv.Limits.RequestBytes = 100
	inMemory := serve(t, srv)
	overTCP, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- srv.Serve(overTCP) }()
	for range 20 {
		tcp, err := net.Dial("tcp", overTCP.Addr().String())
		require.NoError(t, err)
		pipe, err := inMemory.Dial(t.Context())
		require.NoError(t, err)
		for _, conn := range []net.Conn{tcp, pipe} {
			cc, err := dcerpc.NewClientConn(t.Context(), conn, echoInterface(), insecure())
			require.NoError(t, err)
			_, err = invoke(t.Context(), cc, opEcho, zeros(3<<20))
			require.ErrorIs(t, err, dcerpc.ErrAccessDenied)
			_, err = invoke(t.Context(), cc, opEcho, nil)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.NoError(t, cc.Close())
		}
	}
	require.NoError(t, srv.Close())
	<-done
}
