package fsrvptest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// The names of an embedded server.
const (
	RealmName  = "FSRVP.TEST"
	ServerName = "fs1.fsrvp.test"  // also known as fs1 and 127.0.0.1
	RoleName   = "role.fsrvp.test" // of a cluster, also the server's
)

// The users of an embedded server's realm.
const (
	Operator = "backup"  // a member of BUILTIN\Backup Operators
	Nobody   = "nobody1" // in no group
)

// ServerConfig configures an embedded server. Nil means the zero value.
type ServerConfig struct {
	// Agent is the agent's Config. The defaults are the Snapshots and Shares of a [Memory], for
	// StorePath a temporary file that Close removes, and the Names of an embedded server.
	Agent agent.Config
	// TCP makes the server listen on 127.0.0.1, at a port that the system chooses. Otherwise
	// connections are in memory.
	TCP bool
	// Logger gets the logs of the RPC server and the agent. Nil means none.
	Logger *slog.Logger
}

// A Server is an agent with its own Kerberos realm, behind DCE/RPC, for tests of clients and for
// demonstrations. It authenticates only users of that realm, and whoever has the Server can be any
// of them.
type Server struct {
	Realm *Realm
	// Memory provides the backends if the Config had none; nil otherwise.
	Memory *Memory

	cfg    ServerConfig
	tmp    string // a directory to remove, or ""
	mu     sync.Mutex
	agent  *agent.Agent
	listen net.Listener
	rpc    *dcerpc.Server
	served chan error
}

// NewServer starts a server.
func NewServer(cfg *ServerConfig) (*Server, error) {
	s := &Server{Realm: NewRealm(RealmName)}
	if cfg != nil {
		s.cfg = *cfg
	}
	if s.cfg.Logger == nil {
		s.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	operator := s.Realm.AddUser(Operator)
	s.Realm.AddUser(Nobody)
	s.Realm.AddService("host/" + ServerName)
	a := &s.cfg.Agent
	// a ticket cannot make its user a BUILTIN\Backup Operator on this server
	a.Allow = append(slices.Clip(a.Allow), string(operator))
	if a.Snapshots == nil && a.Shares == nil {
		s.Memory = NewMemory()
		a.Snapshots, a.Shares = s.Memory.Snapshots, s.Memory.Shares
	}
	if a.Names == nil {
		a.Names = []string{"fs1", ServerName, "127.0.0.1", RoleName}
	}
	if a.Logger == nil {
		a.Logger = s.cfg.Logger
	}
	if a.StorePath == "" {
		dir, err := os.MkdirTemp("", "fsrvptest-")
		if err != nil {
			return nil, err
		}
		s.tmp, a.StorePath = dir, filepath.Join(dir, "store")
	}
	if err := s.start(context.Background()); err != nil {
		return nil, errors.Join(err, s.removeTemp())
	}
	return s, nil
}

// start starts an agent and an RPC server.
func (s *Server) start(ctx context.Context) error {
	a, err := agent.New(ctx, &s.cfg.Agent)
	if err != nil {
		return err
	}
	var l net.Listener = dcerpctest.Listen()
	if s.cfg.TCP {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return errors.Join(err, a.Close())
		}
	}
	acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: s.Realm.Keytab("host/" + ServerName)})
	if err != nil {
		return errors.Join(err, l.Close(), a.Close())
	}
	rpc := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}, Logger: s.cfg.Logger}
	fsrvp.Register(rpc, a, &fsrvp.HandlerConfig{Logger: s.cfg.Logger})
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(l) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent, s.listen, s.rpc, s.served = a, l, rpc, served
	return nil
}

// stop ends the server and the agent.
func (s *Server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.rpc.Close()
	if served := <-s.served; !errors.Is(served, net.ErrClosed) {
		err = errors.Join(err, served)
	}
	return errors.Join(err, s.agent.Close())
}

// Restart ends the server and starts it again with the same store and backends. Connections end,
// and the address of a server on TCP changes.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Close ends the server and its connections.
func (s *Server) Close() error { return errors.Join(s.stop(), s.removeTemp()) }

func (s *Server) removeTemp() error {
	if s.tmp == "" {
		return nil
	}
	return os.RemoveAll(s.tmp)
}

// Agent returns the agent that is running.
func (s *Server) Agent() *agent.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

// Addr returns the address on which the server listens.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listen.Addr()
}

// DialRPC connects to the server, for any name and endpoint. It makes the Server a [dcerpc.Dialer].
func (s *Server) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, "") }

// dial connects from an address: one of 127.0.0.0/8 on TCP, any name in memory; "" means any
// address.
func (s *Server) dial(ctx context.Context, from string) (net.Conn, error) {
	s.mu.Lock()
	l := s.listen
	s.mu.Unlock()
	if mem, ok := l.(*dcerpctest.Listener); ok {
		if from == "" {
			return mem.DialRPC(ctx, "", "")
		}
		return mem.DialFrom(ctx, dcerpctest.Addr(from))
	}
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	return d.DialContext(ctx, "tcp", l.Addr().String())
}

// ClientConfig returns the configuration with which [fsrvp.Dial] calls this server as a user of its
// realm, at packet privacy:
//
//	client, err := fsrvp.Dial(ctx, fsrvptest.ServerName, server.ClientConfig(fsrvptest.Operator))
func (s *Server) ClientConfig(user string) *fsrvp.Config {
	return &fsrvp.Config{Transport: s, Auth: s.Realm.Initiator(user)}
}

// Dial calls the server as a user of its realm, at packet privacy.
func (s *Server) Dial(ctx context.Context, user string) (*fsrvp.Client, error) {
	return fsrvp.Dial(ctx, ServerName, s.ClientConfig(user))
}

// DialFrom is [Server.Dial] from the given address of the client: one of 127.0.0.0/8 on TCP, any
// name in memory. The server distinguishes clients by their address.
func (s *Server) DialFrom(ctx context.Context, user, from string) (*fsrvp.Client, error) {
	cfg := s.ClientConfig(user)
	cfg.Transport = dialerFrom{s, from}
	return fsrvp.Dial(ctx, ServerName, cfg)
}

// dialerFrom is a dcerpc.Dialer with a given client address.
type dialerFrom struct {
	server *Server
	from   string
}

func (d dialerFrom) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) {
	return d.server.dial(ctx, d.from)
}

// Target returns the server as a target of the conformance cases, with everything that it has. The
// cases connect when they make calls.
func (s *Server) Target(context.Context) (Target, error) {
	t := Target{Profile: s.cfg.Agent.Profile, Share: `\\fs1\share`, Restart: s.Restart}
	if s.Memory != nil {
		s.Memory.describe(&t)
	}
	line := func(from, user string, level dcerpc.AuthLevel) fsrvp.Service {
		cfg := fsrvp.Config{Transport: dialerFrom{s, from}, Level: level}
		if user != "" {
			cfg.Auth = s.Realm.Initiator(user)
		}
		return NewLine(func(ctx context.Context) (fsrvp.Service, error) {
			return fsrvp.Dial(ctx, ServerName, &cfg)
		})
	}
	t.Client = line("127.0.0.1", Operator, dcerpc.LevelPrivacy)
	t.SameHost = line("127.0.0.1", Operator, dcerpc.LevelIntegrity)
	t.Other = line("127.0.0.2", Operator, dcerpc.LevelPrivacy)
	t.Unprivileged = line("127.0.0.3", Nobody, dcerpc.LevelPrivacy)
	t.Levels = map[dcerpc.AuthLevel]fsrvp.Service{
		dcerpc.LevelInsecureNone:    line("127.0.0.4", "", dcerpc.LevelInsecureNone),
		dcerpc.LevelInsecureConnect: line("127.0.0.4", Operator, dcerpc.LevelInsecureConnect),
		dcerpc.LevelInsecureCall:    line("127.0.0.4", Operator, dcerpc.LevelInsecureCall),
		dcerpc.LevelPacket:          line("127.0.0.4", Operator, dcerpc.LevelPacket),
	}
	return t, nil
}
