package spnego_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// echoInterface is served by an echo.
func echoInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("7f9e1a52-64c1-4dbb-9b1f-3f1c5b5d2e01"), Major: 1}
}

// An echo answers with the request's stub, and remembers who called.
type echo struct {
	calls atomic.Int64
	peer  atomic.Pointer[dcerpc.Peer]
}

func (h *echo) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	h.calls.Add(1)
	if p, ok := dcerpc.PeerFromContext(ctx); ok {
		h.peer.Store(&p)
	}
	call.Response = append(call.Response, call.Stub...)
	return nil
}

// An rpcServer serves an echo over in-memory connections.
type rpcServer struct {
	*dcerpc.Server
	echo *echo
	wg   sync.WaitGroup
}

func newRPCServer(t testing.TB, acceptors ...dcerpc.Acceptor) *rpcServer {
	t.Helper()
	s := &rpcServer{
		Server: &dcerpc.Server{
			Acceptors: acceptors,
			MinLevel:  dcerpc.LevelInsecureConnect,
			Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		},
		echo: &echo{},
	}
	s.Handle(echoInterface(), s.echo, nil)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		s.wg.Wait()
	})
	return s
}

// dial connects with the ends of the connection as change makes them; nil leaves them alone.
func (s *rpcServer) dial(change func(client, server net.Conn) (net.Conn, net.Conn)) net.Conn {
	var client, server net.Conn
	client, server = dcerpctest.Pipe()
	if change != nil {
		client, server = change(client, server)
	}
	s.wg.Go(func() { s.ServeConn(server) })
	return client
}

func invoke(cc *dcerpc.ClientConn, stub []byte) ([]byte, error) {
	call := dcerpc.Call{Syntax: cc.Syntax(), Stub: stub}
	err := cc.Call(context.Background(), &call)
	return call.Response, err
}

// TestCalls makes calls with every combination at every level, in both syntaxes, with and without
// header signing.
func TestCalls(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.combinations(t) {
		s := newRPCServer(t, c.acceptor)
		for _, level := range append(levels(), dcerpc.LevelInsecureConnect) {
			for _, syntax := range []ndr.Syntax{ndr.NDR20, ndr.NDR20BE, ndr.NDR64} {
				for _, noSigning := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/level %d/%v/noHeaderSigning %t", c.name, level, syntax, noSigning),
						func(t *testing.T) {
							cc, err := dcerpc.NewClientConn(context.Background(), s.dial(nil), echoInterface(),
								&dcerpc.Config{
									Auth: c.initiator, Level: level, Target: target,
									Syntaxes: []ndr.Syntax{syntax}, NoHeaderSigning: noSigning,
								})
							require.NoError(t, err)
							defer cc.Close()
							require.Equal(t, c.mechanism, cc.Identity().Mechanism)
							for _, size := range []int{0, 16, 17, 5000, 30000} {
								stub := bytes.Repeat([]byte("s"), size)
								got, err := invoke(cc, stub)
								require.NoError(t, err)
								require.Equal(t, stub, append([]byte{}, got...)[:size])
							}
							peer := s.echo.peer.Load()
							require.Equal(t, user, peer.Account)
							require.Equal(t, c.mechanism, peer.Mechanism)
							require.Equal(t, level, peer.Level)
							require.Equal(t, c.initiator.AuthType(), peer.AuthType)
							require.True(t, peer.HasSID(dcerpc.SIDBuiltinBackupOperators))
						})
				}
			}
		}
	}
}

// TestCallsAtOnce is for the race detector: many calls in both directions of one context.
func TestCallsAtOnce(t *testing.T) {
	w := newWorld(t)
	for _, c := range w.combinations(t) {
		t.Run(c.name, func(t *testing.T) {
			s := newRPCServer(t, c.acceptor)
			cc, err := dcerpc.NewClientConn(context.Background(), s.dial(nil), echoInterface(),
				&dcerpc.Config{Auth: c.initiator, Target: target})
			require.NoError(t, err)
			defer cc.Close()
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					for n := range 10 {
						stub := fmt.Appendf(nil, "call %5d, %4d", n, i) // 16 bytes, since a stub may come padded
						if got, err := invoke(cc, stub); err != nil || !bytes.Equal(stub, got) {
							t.Errorf("%q: %v", got, err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// A tamperer is somebody on the way: once armed, it may replace what is written. One Write is one
// PDU. It closes its direction behind the PDUs that it was armed for, so that nobody waits for
// bytes that do not come.
type tamperer struct {
	net.Conn
	mu     sync.Mutex
	change func(pdus [][]byte) [][]byte
	count  int // PDUs to collect before the change
	held   [][]byte
}

// arm has change replace the next count PDUs.
func (c *tamperer) arm(count int, change func(pdus [][]byte) [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change, c.count, c.held = change, count, nil
}

func (c *tamperer) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.change == nil {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, bytes.Clone(p))
	if len(c.held) == c.count {
		for _, b := range c.change(c.held) {
			if _, err := c.Conn.Write(b); err != nil {
				return 0, err
			}
		}
		_ = c.CloseWrite() // the other side may be gone already
	}
	return len(p), nil
}

func (c *tamperer) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// protections are the combinations of mechanism and level that stand for all. Under SPNEGO it is
// the same code that protects, from another sequence number on.
func protections(t testing.TB, w *world) map[string]struct {
	combination
	level dcerpc.AuthLevel
} {
	out := map[string]struct {
		combination
		level dcerpc.AuthLevel
	}{}
	for _, c := range w.combinations(t)[:4] {
		for _, level := range levels() {
			if c.legs == 4 && level != dcerpc.LevelPrivacy {
				continue
			}
			out[fmt.Sprint(c.name, "/level ", level)] = struct {
				combination
				level dcerpc.AuthLevel
			}{c, level}
		}
	}
	return out
}

// requestHeader is the length of a request's header (C706 12.6.4.9).
const requestHeader = 24

// TestFlippedBitsOfARequest flips a bit in every byte of a request: the connection ends, with the
// fault sec_pkg_error where nothing but protected bytes changed, and the handler never sees the
// call.
func TestFlippedBitsOfARequest(t *testing.T) {
	w := newWorld(t)
	for name, p := range protections(t, w) {
		t.Run(name, func(t *testing.T) {
			s := newRPCServer(t, p.acceptor)
			faults, size := 0, 1
			for i := 0; i < size; i++ {
				var way *tamperer
				conn := s.dial(func(client, server net.Conn) (net.Conn, net.Conn) {
					way = &tamperer{Conn: client}
					return way, server
				})
				cc, err := dcerpc.NewClientConn(context.Background(), conn, echoInterface(), &dcerpc.Config{
					Auth: p.initiator, Level: p.level, Target: target, Syntaxes: []ndr.Syntax{ndr.NDR20},
				})
				require.NoError(t, err)
				got, err := invoke(cc, []byte("before12"))
				require.NoError(t, err)
				require.Equal(t, "before12", string(got))
				way.arm(1, func(pdus [][]byte) [][]byte {
					size = len(pdus[0])
					pdus[0][i] ^= 1 << (i % 8)
					return pdus
				})
				_, err = invoke(cc, bytes.Repeat([]byte("stub"), 12))
				require.Error(t, err, "byte %d", i)
				body := requestHeader <= i && i < requestHeader+48
				token := i >= requestHeader+48+8
				if body || token {
					require.ErrorIs(t, err, dcerpc.ErrSecurityPackage, "byte %d", i)
					faults++
				}
				_, err = invoke(cc, []byte("after"))
				require.Error(t, err, "byte %d: the connection lives on", i)
				require.NoError(t, cc.Close())
			}
			require.Greater(t, faults, 48)
			require.NoError(t, s.Close()) // and so all handlers have returned
			require.EqualValues(t, size, s.echo.calls.Load(), "the handler saw a changed call")
		})
	}
}

// TestFlippedBitsOfAResponse does the same to every other byte of the other direction.
func TestFlippedBitsOfAResponse(t *testing.T) {
	w := newWorld(t)
	for name, p := range protections(t, w) {
		t.Run(name, func(t *testing.T) {
			s := newRPCServer(t, p.acceptor)
			for i, size := 0, 1; i < size; i += 2 {
				var way *tamperer
				conn := s.dial(func(client, server net.Conn) (net.Conn, net.Conn) {
					way = &tamperer{Conn: server}
					return client, way
				})
				cc, err := dcerpc.NewClientConn(context.Background(), conn, echoInterface(), &dcerpc.Config{
					Auth: p.initiator, Level: p.level, Target: target, Syntaxes: []ndr.Syntax{ndr.NDR20},
				})
				require.NoError(t, err)
				way.arm(1, func(pdus [][]byte) [][]byte {
					size = len(pdus[0])
					pdus[0][i] ^= 1 << (i % 8)
					return pdus
				})
				_, err = invoke(cc, bytes.Repeat([]byte("stub"), 12))
				require.Error(t, err, "byte %d", i)
				if i >= requestHeader {
					require.ErrorIs(t, err, dcerpc.ErrBadPeer, "byte %d", i)
				}
				require.NoError(t, cc.Close())
			}
		})
	}
}

// TestSequenceOfPDUs replays, drops, exchanges and repeats PDUs.
func TestSequenceOfPDUs(t *testing.T) {
	w := newWorld(t)
	type pdus = [][]byte
	for name, p := range protections(t, w) {
		for what, tc := range map[string]struct {
			change  func(pdus) pdus // of the 4 PDUs of a call of 20,000 bytes
			handled int64           // calls that the handler may see
		}{
			"a request twice":          {func(x pdus) pdus { return append(x, x...) }, 1},
			"a fragment twice":         {func(x pdus) pdus { return pdus{x[0], x[1], x[1], x[2], x[3]} }, 0},
			"a fragment dropped":       {func(x pdus) pdus { return pdus{x[0], x[2], x[3]} }, 0},
			"the first one dropped":    {func(x pdus) pdus { return x[1:] }, 0},
			"two fragments exchanged":  {func(x pdus) pdus { return pdus{x[0], x[2], x[1], x[3]} }, 0},
			"the last one come first":  {func(x pdus) pdus { return pdus{x[3], x[0], x[1], x[2]} }, 0},
			"the end cut off":          {func(x pdus) pdus { return x[:3] }, 0},
			"a fragment cut in halves": {func(x pdus) pdus { return pdus{x[0], x[1][:100]} }, 0},
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				s := newRPCServer(t, p.acceptor)
				var way *tamperer
				conn := s.dial(func(client, server net.Conn) (net.Conn, net.Conn) {
					way = &tamperer{Conn: client}
					return way, server
				})
				cc, err := dcerpc.NewClientConn(context.Background(), conn, echoInterface(), &dcerpc.Config{
					Auth: p.initiator, Level: p.level, Target: target, Syntaxes: []ndr.Syntax{ndr.NDR20},
				})
				require.NoError(t, err)
				defer cc.Close()
				way.arm(4, tc.change)
				_, err = invoke(cc, make([]byte, 20000))
				if tc.handled == 0 {
					require.Error(t, err)
				}
				_, err = invoke(cc, []byte("after"))
				require.Error(t, err, "the connection lives on")
				require.NoError(t, s.Close()) // and so all handlers have returned
				require.LessOrEqual(t, s.echo.calls.Load(), tc.handled)
			})
		}
	}
}

// TestReflectedPDUs sends a server its own responses, and a client its own requests.
func TestReflectedPDUs(t *testing.T) {
	w := newWorld(t)
	for name, p := range protections(t, w) {
		t.Run(name, func(t *testing.T) {
			s := newRPCServer(t, p.acceptor)
			var mu sync.Mutex
			var response []byte
			var way *tamperer
			conn := s.dial(func(client, server net.Conn) (net.Conn, net.Conn) {
				way = &tamperer{Conn: client}
				return way, &spy{Conn: server, seen: func(b []byte) {
					mu.Lock()
					defer mu.Unlock()
					response = bytes.Clone(b)
				}}
			})
			cc, err := dcerpc.NewClientConn(context.Background(), conn, echoInterface(), &dcerpc.Config{
				Auth: p.initiator, Level: p.level, Target: target, Syntaxes: []ndr.Syntax{ndr.NDR20},
			})
			require.NoError(t, err)
			defer cc.Close()
			_, err = invoke(cc, bytes.Repeat([]byte("stub"), 12))
			require.NoError(t, err)
			way.arm(1, func(pdus [][]byte) [][]byte {
				mu.Lock()
				defer mu.Unlock()
				// The server's response, with the header of the request that stands in its place.
				b := bytes.Clone(response)
				copy(b, pdus[0][:8])
				copy(b[12:requestHeader], pdus[0][12:requestHeader])
				return [][]byte{b}
			})
			_, err = invoke(cc, bytes.Repeat([]byte("stub"), 12))
			require.ErrorIs(t, err, dcerpc.ErrSecurityPackage)
			require.NoError(t, s.Close()) // and so all handlers have returned
			require.EqualValues(t, 1, s.echo.calls.Load())
		})
	}
}

// A spy sees what is written.
type spy struct {
	net.Conn
	seen func([]byte)
}

func (c *spy) Write(p []byte) (int, error) {
	c.seen(p)
	return c.Conn.Write(p)
}

func (c *spy) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// TestRefusedLogOns: what the client learns, and that nothing is served.
func TestRefusedLogOns(t *testing.T) {
	w := newWorld(t)
	wrong := w.ntlmInitiatorWith(t, "wrong")
	ntlmAcceptor := w.ntlmAcceptor(t)
	for name, c := range map[string]combination{
		"NTLM":                    {initiator: wrong, acceptor: ntlmAcceptor},
		"SPNEGO with NTLM":        {initiator: negInitiator(t, wrong), acceptor: negAcceptor(t, ntlmAcceptor)},
		"SPNEGO, nothing common":  {initiator: negInitiator(t, wrong), acceptor: negAcceptor(t, w.realm.Acceptor(target))},
		"a mechanism not offered": {initiator: wrong, acceptor: negAcceptor(t, ntlmAcceptor)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRPCServer(t, c.acceptor)
			cc, err := dcerpc.NewClientConn(context.Background(), s.dial(nil), echoInterface(),
				&dcerpc.Config{Auth: c.initiator, Target: target})
			if err == nil {
				// With an odd number of legs the server speaks only when it is called.
				_, err = invoke(cc, []byte("stub"))
				require.NoError(t, cc.Close())
			}
			require.Error(t, err)
			var bind *dcerpc.BindError
			require.True(t, errors.Is(err, dcerpc.ErrAccessDenied) || errors.As(err, &bind), "%v", err)
			require.Zero(t, s.echo.calls.Load())
		})
	}
}
