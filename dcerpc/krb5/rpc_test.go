package krb5_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// An echo is served over in-memory connections. It answers with the request's stub and remembers
// who called.
type echo struct {
	server *dcerpc.Server
	wg     sync.WaitGroup
	calls  atomic.Int64
	peer   atomic.Pointer[dcerpc.Peer]
}

func echoInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("7f9e1a52-64c1-4dbb-9b1f-3f1c5b5d2e01"), Major: 1}
}

func (e *echo) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	e.calls.Add(1)
	if p, ok := dcerpc.PeerFromContext(ctx); ok {
		e.peer.Store(&p)
	}
	call.Response = append(call.Response, call.Stub...)
	return nil
}

func serveEcho(t testing.TB, a dcerpc.Acceptor) *echo {
	t.Helper()
	e := &echo{server: &dcerpc.Server{
		Acceptors: []dcerpc.Acceptor{a},
		MinLevel:  dcerpc.LevelInsecureConnect,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}}
	e.server.Handle(echoInterface(), e, nil)
	t.Cleanup(func() {
		require.NoError(t, e.server.Close())
		e.wg.Wait()
	})
	return e
}

// dial connects a client whose writes, and the server's, go through the two hooks; nil ones change
// nothing.
func (e *echo) dial(t testing.TB, cfg *dcerpc.Config, fromClient,
	fromServer func(n int, b []byte) [][]byte) *dcerpc.ClientConn {
	t.Helper()
	client, server := dcerpctest.Pipe()
	e.wg.Go(func() { e.server.ServeConn(&hookedConn{Conn: server, hook: fromServer}) })
	cc, err := dcerpc.NewClientConn(t.Context(), &hookedConn{Conn: client, hook: fromClient}, echoInterface(), cfg)
	require.NoError(t, err)
	return cc
}

// A hookedConn is somebody on the way: one Write is one PDU, and the hook says what becomes of the
// one with number n. After a nil result nothing is sent any more.
type hookedConn struct {
	*dcerpctest.Conn
	hook func(n int, b []byte) [][]byte
	n    int
}

func (c *hookedConn) Write(b []byte) (int, error) {
	if c.hook == nil {
		return c.Conn.Write(b)
	}
	n := c.n
	c.n++
	pdus := c.hook(n, b)
	for _, p := range pdus {
		if _, err := c.Conn.Write(p); err != nil {
			return 0, err
		}
	}
	if pdus == nil {
		return len(b), c.CloseWrite()
	}
	return len(b), nil
}

var _ net.Conn = (*hookedConn)(nil)

func invoke(cc *dcerpc.ClientConn, stub []byte) ([]byte, error) {
	call := dcerpc.Call{Syntax: cc.Syntax(), Stub: stub}
	err := cc.Call(context.Background(), &call)
	return call.Response, err
}

func TestRPC(t *testing.T) {
	t.Parallel()
	for _, etype := range allEtypes {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelInsecureConnect, dcerpc.LevelPacket, dcerpc.LevelIntegrity,
			dcerpc.LevelPrivacy} {
			for _, noHeaderSigning := range []bool{false, true} {
				for _, syntax := range []ndr.Syntax{ndr.NDR20, ndr.NDR20BE, ndr.NDR64} {
					t.Run(fmt.Sprintf("%v/level %d/%v/noHeaderSigning=%v", etype, level, syntax, noHeaderSigning),
						func(t *testing.T) {
							t.Parallel()
							r := newRealm(etype)
							e := serveEcho(t, r.Acceptor())
							cc := e.dial(t, &dcerpc.Config{Auth: r.Initiator(testUser), Level: level, Target: testService,
								NoHeaderSigning: noHeaderSigning, Syntaxes: []ndr.Syntax{syntax}}, nil, nil)
							defer cc.Close()
							require.Equal(t, testService+"@"+testRealm, cc.Identity().Principal)
							for _, size := range []int{0, 1, 16, 200, 20000} {
								stub := bytes.Repeat([]byte{0x11}, size)
								got, err := invoke(cc, stub)
								require.NoError(t, err)
								require.Equal(t, stub, append([]byte{}, got...)[:size])
							}
							peer := e.peer.Load()
							require.Equal(t, testUser, peer.Account)
							require.Equal(t, testUser+"@"+testRealm, peer.Principal)
							require.Equal(t, dcerpc.AuthKerberos, peer.AuthType)
							require.Equal(t, level, peer.Level)
							require.True(t, peer.HasSID(dcerpc.SIDBuiltinBackupOperators))
						})
				}
			}
		}
	}
}

// The client's PDUs are bind, auth3, and requests; the server's bind_ack and responses.
const (
	firstRequest  = 2
	firstResponse = 1
)

// A bit that is flipped in a request or a response, wherever it may be, ends the connection, and
// neither the handler nor the caller sees what it holds. In what only the signature can tell the
// fault is 0x721.
func TestRPCBitFlips(t *testing.T) {
	t.Parallel()
	stub := []byte("a stub of 32 bytes, which is two")
	for _, etype := range []krb5.Etype{krb5.AES256SHA1, krb5.AES256SHA2, krb5.RC4HMAC} {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
			t.Run(fmt.Sprintf("%v/level %d", etype, level), func(t *testing.T) {
				t.Parallel()
				r := newRealm(etype)
				// The one server gets requests that are changed, the other's responses are.
				server, other := serveEcho(t, r.Acceptor()), serveEcho(t, r.Acceptor())
				// flip makes two calls with one bit changed on the way of the first, and returns
				// their errors, and the PDU as it was.
				flip := func(number, bit int, request bool) (original []byte, err error) {
					hook := func(n int, b []byte) [][]byte {
						if n < number {
							return [][]byte{b}
						}
						// What follows might fill up a length that was changed, so nothing does.
						if n > number {
							return nil
						}
						original = bytes.Clone(b)
						b = bytes.Clone(b)
						b[bit/8] ^= 1 << (bit % 8)
						return [][]byte{b}
					}
					cfg := &dcerpc.Config{Auth: r.Initiator(testUser), Level: level, Target: testService}
					var cc *dcerpc.ClientConn
					if request {
						cc = server.dial(t, cfg, hook, nil)
					} else {
						cc = other.dial(t, cfg, nil, hook)
					}
					errs := make(chan error, 2)
					for range 2 {
						go func() {
							_, err := invoke(cc, stub)
							errs <- err
						}()
					}
					first, second := <-errs, <-errs
					require.Error(t, first)
					require.Error(t, second)
					require.NoError(t, cc.Close())
					return original, errors.Join(first, second)
				}
				const step = 5 // one or two bits of every byte; TestBitFlips has them all
				for bit, length := 0, 1; bit < 8*length; bit += step {
					b, err := flip(firstRequest, bit, true)
					require.Zero(t, server.calls.Load(), "bit %d: the handler has seen it", bit)
					const header = 24
					length = len(b)
					token := length - int(binary.LittleEndian.Uint16(b[10:]))
					trailer := token - 8
					if at := bit / 8; at >= header && at < trailer || at >= token {
						var fault *dcerpc.Fault
						require.ErrorAs(t, err, &fault, "bit %d", bit)
						require.Equal(t, pdu.FaultSecPkgError, fault.Status, "bit %d", bit)
					}
				}
				for bit, length := 0, 1; bit < 8*length; bit += step {
					b, _ := flip(firstResponse, bit, false)
					length = len(b)
				}
			})
		}
	}
}

// Requests that come twice, not at all, or in another order.
func TestRPCSequence(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hook  func(held *[]byte, n int, b []byte) [][]byte
		calls int64
	}{
		"replayed": {func(_ *[]byte, n int, b []byte) [][]byte {
			if n == firstRequest {
				return [][]byte{b, b}
			}
			return [][]byte{b}
		}, 1},
		"dropped": {func(_ *[]byte, n int, b []byte) [][]byte {
			if n == firstRequest+1 {
				return [][]byte{}
			}
			return [][]byte{b}
		}, 1},
		"reordered": {func(held *[]byte, n int, b []byte) [][]byte {
			switch n {
			case firstRequest + 1:
				*held = bytes.Clone(b)
				return [][]byte{}
			case firstRequest + 2:
				return [][]byte{b, *held}
			}
			return [][]byte{b}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRealm(0)
			e := serveEcho(t, r.Acceptor())
			var held []byte
			cc := e.dial(t, &dcerpc.Config{Auth: r.Initiator(testUser), Target: testService},
				func(n int, b []byte) [][]byte { return test.hook(&held, n, b) }, nil)
			defer cc.Close()
			_, first := invoke(cc, make([]byte, 16))
			if name != "replayed" { // whose fault may overtake the response
				require.NoError(t, first)
			}
			errs := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := invoke(cc, make([]byte, 16))
					errs <- err
				}()
			}
			err := errors.Join(<-errs, <-errs)
			require.Error(t, err)
			require.LessOrEqual(t, e.calls.Load(), test.calls)
		})
	}
}

// BenchmarkCall is a call over TCP on the loopback, unauthenticated and sealed with AES256.
func BenchmarkCall(b *testing.B) {
	for _, sealed := range []bool{false, true} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("sealed=%v/%d", sealed, size), func(b *testing.B) {
				r := newRealm(krb5.AES256SHA1)
				e := serveEcho(b, r.Acceptor())
				e.server.MinLevel = dcerpc.LevelInsecureNone
				l, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(b, err)
				e.wg.Go(func() { e.server.Serve(l) })
				conn, err := net.Dial("tcp", l.Addr().String())
				require.NoError(b, err)
				cfg := &dcerpc.Config{Level: dcerpc.LevelInsecureNone}
				if sealed {
					cfg = &dcerpc.Config{Auth: r.Initiator(testUser), Target: testService}
				}
				cc, err := dcerpc.NewClientConn(b.Context(), conn, echoInterface(), cfg)
				require.NoError(b, err)
				defer cc.Close()
				stub := make([]byte, size)
				var response []byte
				b.ReportAllocs()
				for b.Loop() {
					call := dcerpc.Call{Syntax: cc.Syntax(), Stub: stub, Response: response[:0]}
					if err := cc.Call(context.Background(), &call); err != nil {
						b.Fatal(err)
					}
					response = call.Response
				}
			})
		}
	}
}

// TestPeerIsTold has the server say to the client why it refuses a ticket that it could read, and
// nothing of one that it could not.
func TestPeerIsTold(t *testing.T) {
	r := newRealm(0)
	otherKey := krb5.Key{Etype: krb5.AES256SHA1, Value: bytes.Repeat([]byte{7}, 32)}
	for name, test := range map[string]struct {
		options *krb5test.TicketOptions
		start   time.Duration
		skew    time.Duration
		status  uint32 // zero: nothing is said
		text    string
	}{
		"expired": {&krb5test.TicketOptions{}, -11 * time.Hour, 0, 0x80090317, "ticket expired"},
		"early":   {&krb5test.TicketOptions{}, time.Hour, 0, 0x80090324, "ticket not yet valid"},
		"skewed":  {&krb5test.TicketOptions{}, -time.Hour, 1, 0x80090324, "clocks differ too much"},
		"bad PAC": {&krb5test.TicketOptions{SpoilPAC: 8*150 + 3}, 0, 0, 0x8009030C, "bad PAC"},
		"foreign": {&krb5test.TicketOptions{Key: &otherKey}, 0, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(testService), ClockSkew: test.skew})
			require.NoError(t, err)
			e := serveEcho(t, a)
			test.options.StartTime = time.Now().Add(test.start)
			test.options.EndTime = test.options.StartTime.Add(10 * time.Hour)
			client, server := dcerpctest.Pipe()
			e.wg.Go(func() { e.server.ServeConn(server) })
			_, err = dcerpc.NewClientConn(t.Context(), client, echoInterface(), &dcerpc.Config{
				Auth: krb5.NewInitiator(ticketOf{r, test.options}, nil), Target: testService,
			})
			var refused *dcerpc.BindError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, pdu.NakInvalidChecksum, refused.Reason)
			if test.status == 0 {
				require.Empty(t, refused.Extended)
				return
			}
			require.Len(t, refused.Extended, 1)
			require.Equal(t, test.status, refused.Extended[0].Status)
			require.Equal(t, pdu.ComponentSecurity, refused.Extended[0].Component)
			require.ErrorContains(t, err, "bind refused: invalid_checksum; the server says: "+test.text)
		})
	}
}
