// Package echoserver serves an interface that echoes, as a target for the conversations of package
// rpctest.
package echoserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// Main returns the interface that accepts calls without security.
func Main() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0200-8899-aabbccddeeff"), Major: 1}
}

// Secure returns the interface that requires integrity.
func Secure() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0201-8899-aabbccddeeff"), Major: 1}
}

// The operations of both interfaces.
const (
	opEcho = iota
	opWait
	opPeer
	opFault
	opPanic
	opNDR
	opError
	opHold
	opRelease
	opWaiting
	opCount
)

// A handler serves the operations.
type handler struct {
	waiting atomic.Int32
	release chan struct{}
	once    sync.Once
}

// ServeRPC answers a call.
func (h *handler) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	switch call.Opnum {
	case opEcho:
		call.Response = append(call.Response, call.Stub...)
	case opWait:
		h.waiting.Add(1)
		defer h.waiting.Add(-1)
		<-ctx.Done()
		return ctx.Err()
	case opPeer:
		p, _ := dcerpc.PeerFromContext(ctx)
		call.Response = fmt.Appendf(call.Response, "%s type %d level %d", p.Account, p.AuthType, p.Level)
	case opFault:
		return dcerpc.ErrContextMismatch
	case opPanic:
		panic("as asked")
	case opNDR:
		d := ndr.NewDecoder(call.Stub, call.Syntax)
		v := d.Uint32()
		if d.Err() != nil {
			return d.Err()
		}
		return answer(call, v)
	case opError:
		return errors.New("as asked")
	case opHold:
		select {
		case <-h.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	case opRelease:
		h.once.Do(func() { close(h.release) })
	case opWaiting:
		return answer(call, uint32(h.waiting.Load()))
	}
	return nil
}

func answer(call *dcerpc.Call, v uint32) error {
	e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
	e.Uint32(v)
	var err error
	call.Response, err = e.Bytes()
	return err
}

// Mechanisms are the mechanisms of the server and of the target.
type Mechanisms struct {
	Acceptors  []dcerpc.Acceptor
	Initiators []rpctest.Mechanism
	Toys       bool // set by Toys
}

// Toys returns mechanisms of three, four and five legs, with the auth types of NTLM, SPNEGO and
// Kerberos.
func Toys() Mechanisms {
	m := Mechanisms{Toys: true}
	for _, toy := range []*dcerpctest.Mechanism{
		{Type: dcerpc.AuthNTLM, Legs: 3, Account: "backup"},
		{Type: dcerpc.AuthSPNEGO, Legs: 4, Account: "backup"},
		{Type: dcerpc.AuthKerberos, Legs: 5, Account: "backup"},
	} {
		m.Acceptors = append(m.Acceptors, toy.Acceptor())
		m.Initiators = append(m.Initiators, rpctest.Mechanism{Initiator: toy.Initiator(), Account: "backup",
			Legs: toy.Legs})
	}
	return m
}

// A Server is a running server.
type Server struct {
	dcerpc.Server
	mechanisms Mechanisms
	settings   map[string]string
	listener   *dcerpctest.Listener
	done       chan error
	session    *dcerpc.Session // nil if connections have no session
	conns      sync.WaitGroup
}

// Start starts a server with the settings of a script. It fails for settings that it does not have.
func Start(settings map[string]string, m Mechanisms) (*Server, error) {
	s := &Server{settings: settings, mechanisms: m, done: make(chan error, 1)}
	s.Logger = slog.New(slog.DiscardHandler)
	s.Acceptors = m.Acceptors
	for k, v := range settings {
		if err := s.set(k, v); err != nil {
			return nil, fmt.Errorf("setting %s=%s: %w", k, v, err)
		}
	}
	h := &handler{release: make(chan struct{})}
	s.Handle(Main(), h, &dcerpc.InterfaceOptions{Opnums: opCount, MinLevel: dcerpc.LevelInsecureNone})
	s.Handle(Secure(), h, &dcerpc.InterfaceOptions{Opnums: opCount})
	s.listener = dcerpctest.Listen()
	go func() { s.done <- s.Serve(s.listener) }()
	return s, nil
}

// set is one setting.
func (s *Server) set(name, v string) error {
	if s.session == nil {
		switch name {
		case "endpoint", "session", "refuse", "max_frag":
			s.session = &dcerpc.Session{Endpoint: "server"}
		}
	}
	switch name {
	case "endpoint":
		s.session.Endpoint = v
		return nil
	case "session":
		s.session.Authenticated, s.session.Identity = true, dcerpc.Identity{Account: v}
		return nil
	case "refuse":
		s.session.Refuse = errors.New("no token")
		return nil
	case "rules":
		return nil
	case "seal_token":
		if !s.mechanisms.Toys {
			return errors.ErrUnsupported
		}
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return err
	}
	switch name {
	case "max_frag":
		s.session.MaxFragment = n
	case "presentation_contexts":
		s.Limits.PresentationContexts = n
	case "security_contexts":
		s.Limits.SecurityContexts = n
	case "fragments":
		s.Limits.Fragments = n
	case "calls":
		s.Limits.Calls = n
	case "calls_per_connection":
		s.Limits.CallsPerConnection = n
	case "unauthenticated_calls_per_connection":
		s.Limits.UnauthenticatedCallsPerConnection = n
	case "unauthenticated_bytes":
		s.Limits.UnauthenticatedBytes = n
	default:
		return errors.ErrUnsupported
	}
	return nil
}

// Close stops the server and waits for its end.
func (s *Server) Close() error {
	err := s.Server.Close()
	<-s.done
	s.conns.Wait()
	return err
}

// Target returns the server as a target.
func (s *Server) Target() *rpctest.Target {
	t := &rpctest.Target{
		Dial: func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, "client-1", s.session) },
		Dialers: map[string]func(context.Context) (net.Conn, error){
			"elsewhere": func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, "elsewhere", s.session) },
			"endpoint": func(ctx context.Context) (net.Conn, error) {
				return s.dial(ctx, "client-1", &dcerpc.Session{Endpoint: "another"})
			},
		},
		Main: Main(), Other: Secure(), Secure: Secure(),
		Operations: rpctest.Operations{
			Call: rpctest.Op(opEcho), Answer: func(stub []byte) []byte { return stub }, Echo: rpctest.Op(opEcho),
			Count: opCount, NDR: rpctest.Op(opNDR), Short: rpctest.Op(opNDR),
			Fault: rpctest.Op(opFault), FaultStatus: pdu.FaultContextMismatch,
			Error: rpctest.Op(opError), Panic: rpctest.Op(opPanic),
			Wait: rpctest.Op(opWait), Hold: rpctest.Op(opHold), Release: rpctest.Op(opRelease),
			Waiting: rpctest.Op(opWaiting),
			Peer:    rpctest.Op(opPeer),
		},
		Mechanisms:       s.mechanisms.Initiators,
		SecondaryAddress: "server",
		Settings:         s.settings,
	}
	if s.session != nil {
		t.MaxFragment, t.SecondaryAddress = s.session.MaxFragment, s.session.Endpoint
	}
	return t
}

func (s *Server) dial(ctx context.Context, from dcerpctest.Addr, session *dcerpc.Session) (net.Conn, error) {
	if session == nil {
		c, err := s.listener.DialFrom(ctx, from)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	client, server := dcerpctest.Pipe()
	s.conns.Go(func() { s.ServeConn(sessionConn{server, from, *session}) })
	return client, nil
}

// A sessionConn is a connection that knows its peer.
type sessionConn struct {
	*dcerpctest.Conn
	from    dcerpctest.Addr
	session dcerpc.Session
}

func (c sessionConn) RemoteAddr() net.Addr { return c.from }
func (c sessionConn) LocalAddr() net.Addr  { return dcerpctest.Addr("server") }

func (c sessionConn) Session() dcerpc.Session { return c.session }

// Run runs a script against a new server. It fails if no server can have the script's settings.
func Run(ctx context.Context, script *rpctest.Script, m Mechanisms, profile rpctest.Profile) (rpctest.Result, error) {
	s, err := Start(script.Settings, m)
	if err != nil {
		return rpctest.Result{}, err
	}
	t := s.Target()
	t.Profile = profile
	res := script.Run(ctx, t)
	return res, s.Close()
}
