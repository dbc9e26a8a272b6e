package provider

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	sharememory "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// realm has every file server's key, and one backup operator.
var realm = func() *fsrvptest.Realm {
	r := fsrvptest.NewRealm("EXAMPLE.TEST")
	r.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
	return r
}()

// A fileServer is an agent with memory backends behind a dcerpc.Server.
type fileServer struct {
	name      string
	agent     *agent.Agent
	snapshots *snapmemory.Snapshots
	shares    *sharememory.Shares
	listener  *dcerpctest.Listener
	// fault, where set, is asked before each call of the agent.
	fault atomic.Pointer[func(op fsrvp.Opnum) error]
}

// startFileServer has shares "s0" to "sN" of a server, each on a volume of its own with one file
// "data".
func startFileServer(t testing.TB, name string, shares int, change ...func(*fileServer, *agent.Config)) *fileServer {
	t.Helper()
	fs := &fileServer{name: name, listener: dcerpctest.Listen()}
	var roots []string
	var list []backend.Share
	for i := range shares {
		root := fmt.Sprintf("/%s/v%d", name, i)
		roots = append(roots, root)
		list = append(list, backend.Share{Name: fmt.Sprintf("s%d", i), Path: root})
	}
	fs.snapshots = snapmemory.New(roots...)
	for i, root := range roots {
		require.NoError(t, fs.snapshots.WriteFile(root+"/data", fmt.Appendf(nil, "%s s%d", name, i)))
	}
	fs.shares = sharememory.New(fs.snapshots, list...)
	cfg := &agent.Config{
		Snapshots: fs.snapshots,
		Shares:    fs.shares,
		StorePath: filepath.Join(t.TempDir(), "agent.db"),
		Names:     []string{name, name + ".example.test"},
	}
	for _, f := range change {
		f(fs, cfg)
	}
	var err error
	fs.agent, err = agent.New(t.Context(), cfg)
	require.NoError(t, err)
	realm.AddService("host/" + name)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{realm.Acceptor("host/" + name)}}
	fsrvp.Register(srv, fs.agent, nil)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(fs.listener) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown of %s: %v", name, err)
		}
		<-served
		if err := fs.agent.Close(); err != nil {
			t.Errorf("close of %s: %v", name, err)
		}
	})
	return fs
}

func (fs *fileServer) unc(share int) string { return fmt.Sprintf(`\\%s\s%d`, fs.name, share) }

// requireClean fails where anything is left on the server.
func (fs *fileServer) requireClean(t testing.TB) {
	t.Helper()
	require.Empty(t, fs.agent.Table(), "sets on %s", fs.name)
	require.Empty(t, fs.snapshots.All(), "snapshots on %s", fs.name)
	require.Empty(t, fs.shares.All(), "exposed shares on %s", fs.name)
}

// setFault has every call of an agent fail with what f returns, where that is not nil.
func (fs *fileServer) setFault(f func(op fsrvp.Opnum) error) {
	if f == nil {
		fs.fault.Store(nil)
		return
	}
	fs.fault.Store(&f)
}

// A client is a connection to a fileServer, with faults in front.
type client struct {
	fsrvp.ServiceFunc
	conn *fsrvp.Client
	fs   *fileServer
}

func newClient(conn *fsrvp.Client, fs *fileServer) *client {
	return &client{conn: conn, fs: fs, ServiceFunc: func(ctx context.Context, req fsrvp.Message) (fsrvp.Response,
		error) {
		if f := fs.fault.Load(); f != nil {
			if err := (*f)(req.Opnum()); err != nil {
				return nil, err
			}
		}
		return fsrvp.Serve(ctx, conn, req)
	}}
}

func (c *client) Conn() *dcerpc.ClientConn { return c.conn.Conn() }

func (c *client) Close() error { return c.conn.Close() }

// network is file servers by their names.
type network map[string]*fileServer

func newNetwork(servers ...*fileServer) network {
	n := network{}
	for _, fs := range servers {
		n[fs.name] = fs
	}
	return n
}

func (n network) dial(ctx context.Context, server string) (Agent, error) {
	fs := n[strings.ToLower(server)]
	if fs == nil {
		return nil, fmt.Errorf("no such host: %s", server)
	}
	c, err := fsrvp.Dial(ctx, server, &fsrvp.Config{Transport: fs.listener, Auth: realm.Initiator("backup")})
	if err != nil {
		return nil, err
	}
	return newClient(c, fs), nil
}

// An application is a writer that notes what it went through.
type application struct {
	mu     sync.Mutex
	log    []string
	frozen time.Time
	held   time.Duration // from Freeze to Thaw
}

func (a *application) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log = append(a.log, what)
}

func (a *application) story() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.log, " ")
}

func (a *application) writer() Writer {
	return Writer{
		Name:    "app",
		Prepare: func(context.Context, []string) error { a.note("prepare"); return nil },
		Freeze: func(context.Context) error {
			a.note("freeze")
			a.mu.Lock()
			defer a.mu.Unlock()
			a.frozen = time.Now()
			return nil
		},
		Thaw: func(context.Context) error {
			a.note("thaw")
			a.mu.Lock()
			defer a.mu.Unlock()
			a.held = time.Since(a.frozen)
			return nil
		},
		PostSnapshot: func(context.Context, *Set) error { a.note("snapshot"); return nil },
		Abort:        func(context.Context, error) error { a.note("abort"); return nil },
	}
}

var errInjected = errors.New("injected failure")
