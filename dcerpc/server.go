package dcerpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
)

// ErrServerClosed is the error of [Server.Serve] after Shutdown or Close. It matches
// [net.ErrClosed].
var ErrServerClosed = fmt.Errorf("dcerpc: server closed: %w", net.ErrClosed)

// A Server serves interfaces on any number of listeners, and behaves as Windows 2022 does where the
// standards leave a choice. Besides the registered interfaces it serves the management interface
// (mgmt) on every endpoint. The zero value is ready to use; the fields must not be changed once it
// serves.
type Server struct {
	// Acceptors are the security mechanisms, one for each [AuthType].
	Acceptors []Acceptor
	// MinLevel is the lowest level that calls need, for interfaces that set none. Zero means
	// [LevelIntegrity].
	MinLevel AuthLevel
	// Principal is the name of the service's account that mgmt tells clients, "FS1$@EXAMPLE.COM".
	// It may be empty.
	Principal string
	// Limits bound the resources that peers can use. The zero value means the defaults.
	Limits Limits
	// Logger gets warnings of failed handlers, information about refused peers, and
	// protocol errors at debug level. Nil means [slog.Default].
	Logger *slog.Logger
	// Trace sees every PDU. Nil means none.
	Trace Trace
	// Refused, if not nil, is called for each refusal, for example to count it in a metric. It must
	// be safe for concurrent use and must not block.
	Refused func(Refusal)

	mu         sync.Mutex
	begun      bool
	closing    bool
	limits     *Limits // filled by the first connection
	interfaces map[SyntaxID]*serverInterface
	listeners  map[net.Listener]struct{}
	conns      map[*serverConn]struct{}
	admitted   int // connections but those that have been evicted
	blocks     map[string]*block
	shares     map[string]*share // by account
	strangers  int
	pooled     int64          // bytes that strangers hold beyond what each is granted
	serving    sync.WaitGroup // connections, with their calls

	groups   associations
	refusals logs.Refusals
	calls    sync.Pool // of *serverCall
	stats    statistics
}

// statistics are the counters that mgmt reports (C706, rpc_mgmt_inq_stats) and those that Limits
// bound.
type statistics struct {
	callsIn, callsOut, pduIn, pduOut atomic.Uint32
	inFlight, strange                atomic.Int64 // calls, of known peers and of strangers
	held                             atomic.Int64 // bytes of large stubs of known peers
}

// A serverInterface is one registered interface.
type serverInterface struct {
	id       SyntaxID
	handler  Handler
	opnums   int // 0: the handler knows
	minLevel AuthLevel
}

// InterfaceOptions are properties of one interface of a Server.
type InterfaceOptions struct {
	// Opnums is the number of operations. The server answers calls of opnums from Opnums on with
	// the fault nca_s_op_rng_error; zero leaves that to the handler.
	Opnums int
	// MinLevel is the lowest level that calls of this interface need. Zero means the Server's.
	MinLevel AuthLevel
}

// Handle registers the handler of an interface; nil opts mean the zero value. It has no effect on
// connections that are already bound. It panics if the interface is already registered, or is mgmt,
// which the server itself provides.
func (s *Server) Handle(iface SyntaxID, h Handler, opts *InterfaceOptions) {
	if opts == nil {
		opts = &InterfaceOptions{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked()
	if s.interfaces[iface] != nil {
		panic(fmt.Sprintf("dcerpc: interface %v is registered twice", iface))
	}
	s.interfaces[iface] = &serverInterface{id: iface, handler: h, opnums: opts.Opnums, minLevel: opts.MinLevel}
}

// beginLocked initializes the server on first use.
func (s *Server) beginLocked() {
	if s.begun {
		return
	}
	s.begun = true
	s.interfaces = map[SyntaxID]*serverInterface{
		mgmtInterface(): {
			id:       mgmtInterface(),
			handler:  &mgmt{server: s},
			opnums:   mgmtOpnums,
			minLevel: LevelInsecureNone,
		},
	}
	s.listeners = make(map[net.Listener]struct{})
	s.conns = make(map[*serverConn]struct{})
	s.blocks = make(map[string]*block)
	s.shares = make(map[string]*share)
	s.calls.New = func() any { return new(serverCall) }
}

// lookup returns a registered interface, or nil.
func (s *Server) lookup(id SyntaxID) *serverInterface {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interfaces[id]
}

// registered returns the interfaces except mgmt.
func (s *Server) registered() []SyntaxID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []SyntaxID
	for id := range s.interfaces {
		if id != mgmtInterface() {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Server) acceptor(t AuthType) Acceptor {
	for _, a := range s.Acceptors {
		if a.AuthType() == t {
			return a
		}
	}
	return nil
}

func (s *Server) logger() *slog.Logger {
	if s.Logger == nil {
		return slog.Default()
	}
	return s.Logger
}

// minLevel returns the lowest level for calls of i.
func (s *Server) minLevel(i *serverInterface) AuthLevel {
	switch {
	case i.minLevel != LevelDefault:
		return i.minLevel
	case s.MinLevel != LevelDefault:
		return s.MinLevel
	}
	return LevelIntegrity
}

// Serve accepts connections until the listener fails or the server is closed, and serves each in a
// new goroutine. It returns [ErrServerClosed] after Shutdown or Close, which close the listener;
// otherwise it leaves the listener open. It retries an accept that failed for lack of resources.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.beginLocked()
	if s.closing {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, l)
	}()
	const shortest, longest = 5 * time.Millisecond, time.Second
	wait := shortest
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = shortest
			if c := s.admit(conn); c != nil {
				go c.serve()
			}
		case s.isClosing():
			return ErrServerClosed
		case isTemporary(err):
			s.logger().Warn("dcerpc: accept failed", "err", err, "wait", wait)
			time.Sleep(wait)
			wait = min(2*wait, longest)
		default:
			return fmt.Errorf("dcerpc: accept: %w", err)
		}
	}
}

// isTemporary reports whether an accept may succeed later: descriptors or memory ran short, or the
// peer had already gone.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// ServeConn serves one connection, which it closes, and returns when it has ended.
func (s *Server) ServeConn(conn net.Conn) {
	if c := s.admit(conn); c != nil {
		c.serve()
	}
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Shutdown closes the listeners and closes each connection when its calls in flight have ended, at
// once if it has none; it answers further requests with nca_s_server_too_busy. If the context ends
// first, Shutdown closes the remaining connections, without waiting for their handlers, and returns
// the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.refusals.Close()
		return nil
	case <-ctx.Done():
		for _, c := range s.stop() {
			c.abort(reason("server closed"))
		}
		s.refusals.Close()
		return ctx.Err()
	}
}

// Close closes listeners and connections and cancels the contexts of the calls in flight. It
// returns when all handlers have returned.
func (s *Server) Close() error {
	for _, c := range s.stop() {
		c.abort(reason("server closed"))
	}
	s.serving.Wait()
	s.refusals.Close()
	return nil
}

// stop ends the listeners and returns the connections.
func (s *Server) stop() []*serverConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked()
	s.closing = true
	for l := range s.listeners {
		_ = l.Close() // Serve returns ErrServerClosed
	}
	conns := make([]*serverConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}
