package replay

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
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
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// realm has the key of every file server here, and one backup operator.
var realm = func() *fsrvptest.Realm {
	r := fsrvptest.NewRealm("EXAMPLE.TEST")
	r.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
	r.AddService("host/fs1")
	return r
}()

// A fileServer is an agent with memory backends behind a dcerpc.Server: shares "data" and "logs" on
// one volume, "vms$" on another. Everything that it answers is recorded.
type fileServer struct {
	agent     *agent.Agent
	snapshots *snapmemory.Snapshots
	shares    *sharememory.Shares
	listener  *dcerpctest.Listener
	recorder  *transcript.Recorder
	buffer    bytes.Buffer
}

func newFileServer(t testing.TB, change ...func(*agent.Config)) *fileServer {
	t.Helper()
	fs := &fileServer{listener: dcerpctest.Listen(), snapshots: snapmemory.New("/v0", "/v1")}
	for _, dir := range []string{"/v0/data", "/v0/logs", "/v1/vms"} {
		require.NoError(t, fs.snapshots.WriteFile(dir+"/file", []byte(dir)))
	}
	fs.shares = sharememory.New(fs.snapshots,
		backend.Share{Name: "data", Path: "/v0/data"},
		backend.Share{Name: "logs", Path: "/v0/logs"},
		backend.Share{Name: "vms$", Path: "/v1/vms"},
	)
	cfg := &agent.Config{
		Snapshots: fs.snapshots,
		Shares:    fs.shares,
		StorePath: filepath.Join(t.TempDir(), "agent.db"),
		Names:     []string{"fs1", "fs1.example.test"},
	}
	for _, f := range change {
		f(cfg)
	}
	var err error
	fs.agent, err = agent.New(t.Context(), cfg)
	require.NoError(t, err)
	fs.recorder = transcript.NewRecorder(fs.agent, &fs.buffer,
		&transcript.RecorderConfig{Connection: transcript.Connection{Server: "fs1"}})
	serve(t, fs.listener, fs.recorder)
	t.Cleanup(func() { require.NoError(t, fs.agent.Close()) })
	return fs
}

// serve serves s on l until the test ends.
func serve(t testing.TB, l *dcerpctest.Listener, s fsrvp.Service) {
	srv := &dcerpc.Server{
		Acceptors: []dcerpc.Acceptor{realm.Acceptor("host/fs1")},
		Logger:    slog.New(slog.DiscardHandler),
	}
	fsrvp.Register(srv, s, &fsrvp.HandlerConfig{Logger: slog.New(slog.DiscardHandler)})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-done, net.ErrClosed)
	})
}

func strict(cfg *agent.Config) { cfg.Profile = agent.Strict }

// A from dials a listener from one address.
type from struct {
	*dcerpctest.Listener
	address string
}

func (f from) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) {
	return f.DialFrom(ctx, dcerpctest.Addr(f.address))
}

// dialFrom connects to a listener.
func dialFrom(ctx context.Context, l *dcerpctest.Listener, address string) (*fsrvp.Client, error) {
	return fsrvp.Dial(ctx, "fs1", &fsrvp.Config{Transport: from{l, address}, Auth: realm.Initiator("backup")})
}

// client is a connection of the backup operator that ends with the test.
func (fs *fileServer) client(t testing.TB, address string) *fsrvp.Client {
	t.Helper()
	c, err := dialFrom(t.Context(), fs.listener, address)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// dial is a Config.Dial with the addresses of the recording.
func (fs *fileServer) dial(ctx context.Context, c transcript.Connection) (fsrvp.Service, error) {
	return dialFrom(ctx, fs.listener, c.Client)
}

// recording returns what was recorded so far.
func (fs *fileServer) recording(t testing.TB) []*transcript.Exchange {
	t.Helper()
	require.NoError(t, fs.recorder.Err())
	all, err := transcript.ReadAll(bytes.NewReader(fs.buffer.Bytes()))
	require.NoError(t, err)
	return all
}

// requireClean fails where anything is left on the server.
func (fs *fileServer) requireClean(t testing.TB) {
	t.Helper()
	require.Empty(t, fs.agent.Table())
	require.Empty(t, fs.snapshots.All())
	require.Empty(t, fs.shares.All())
}

// A life is what a client did.
type life struct {
	name  string
	calls func(t testing.TB, fs *fileServer)
}

// copied takes shadow copies of shares up to their exposure, and returns the set and the copies.
func copied(t testing.TB, s fsrvp.Service, value fsrvp.ContextValue, shares ...string) (fsrvp.SetID, []fsrvp.CopyID) {
	t.Helper()
	ctx := t.Context()
	for _, share := range shares {
		_, err := s.IsPathSupported(ctx, share)
		require.NoError(t, err)
	}
	_, err := s.GetSupportedVersion(ctx)
	require.NoError(t, err)
	require.NoError(t, s.SetContext(ctx, value))
	set, err := s.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	var copies []fsrvp.CopyID
	for _, share := range shares {
		id, err := s.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
		require.NoError(t, err)
		copies = append(copies, id)
	}
	require.NoError(t, s.PrepareShadowCopySet(ctx, set, 30*time.Minute))
	require.NoError(t, s.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.ExposeShadowCopySet(ctx, set, 30*time.Minute))
	for i, share := range shares {
		m, err := s.GetShareMapping(ctx, copies[i], set, share, 1)
		require.NoError(t, err)
		exposed, err := s.IsPathSupported(ctx, `\\fs1\`+m.Exposed)
		if err == nil {
			require.False(t, exposed.Supported)
		}
	}
	return set, copies
}

// backup is a whole life cycle.
func backup(t testing.TB, s fsrvp.Service, value fsrvp.ContextValue, shares ...string) {
	t.Helper()
	set, copies := copied(t, s, value, shares...)
	_, err := s.IsPathShadowCopied(t.Context(), shares[0])
	require.NoError(t, err)
	require.NoError(t, s.RecoveryCompleteShadowCopySet(t.Context(), set))
	for i, share := range shares {
		require.NoError(t, s.DeleteShareMapping(t.Context(), set, copies[i], share))
	}
}

var lives = []life{
	{"read-only", func(t testing.TB, fs *fileServer) {
		backup(t, fs.client(t, "a"), fsrvp.ContextFileShareBackup, `\\fs1\data`)
	}},
	{"read-write", func(t testing.TB, fs *fileServer) {
		backup(t, fs.client(t, "a"), fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery, `\\FS1\vms$\`, `\\fs1\logs`)
	}},
	{"two shares of a volume", func(t testing.TB, fs *fileServer) {
		backup(t, fs.client(t, "a"), fsrvp.ContextAppRollback, `\\fs1\data`, `\\fs1.example.test\logs`, `\\fs1\vms$\`)
	}},
	{"abort", func(t testing.TB, fs *fileServer) {
		c := fs.client(t, "a")
		require.NoError(t, c.SetContext(t.Context(), fsrvp.ContextBackup))
		set, err := c.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
		require.NoError(t, err)
		_, err = c.AddToShadowCopySet(t.Context(), fsrvp.NewCopyID(), set, `\\fs1\data`)
		require.NoError(t, err)
		require.NoError(t, c.AbortShadowCopySet(t.Context(), set))
		set, _ = copied(t, c, fsrvp.ContextBackup, `\\fs1\data`, `\\fs1\vms$`)
		require.NoError(t, c.AbortShadowCopySet(t.Context(), set))
	}},
	{"errors", errorCalls},
	{"two clients", func(t testing.TB, fs *fileServer) {
		a, b := fs.client(t, "a"), fs.client(t, "b")
		set, copies := copied(t, a, fsrvp.ContextNASRollback, `\\fs1\data`)
		require.ErrorIs(t, b.SetContext(t.Context(), fsrvp.ContextBackup), fsrvp.ErrShadowCopySetInProgress)
		require.NoError(t, a.RecoveryCompleteShadowCopySet(t.Context(), set))
		backup(t, b, fsrvp.ContextBackup, `\\fs1\vms$`, `\\fs1\data`)
		require.NoError(t, a.DeleteShareMapping(t.Context(), set, copies[0], `\\fs1\data`))
	}},
	{"two clients at once", func(t testing.TB, fs *fileServer) {
		var wg sync.WaitGroup
		for _, address := range []string{"a", "b", "c"} {
			c := fs.client(t, address)
			wg.Go(func() {
				for range 10 {
					if _, err := c.IsPathSupported(t.Context(), `\\fs1\data`); err != nil {
						t.Error(err)
					}
					if _, err := c.GetSupportedVersion(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}},
}

// errorCalls are calls that fail, and some around them.
func errorCalls(t testing.TB, fs *fileServer) {
	ctx, c := t.Context(), fs.client(t, "a")
	unknownSet, unknownCopy := fsrvp.SetID{1}, fsrvp.CopyID{2}
	fails := func(err error, want fsrvp.Status) {
		t.Helper()
		require.ErrorIs(t, err, want)
	}
	_, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	fails(err, fsrvp.ErrBadState)
	fails(c.SetContext(ctx, 0x400002), fsrvp.ErrUnsupportedContext)
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextBackup))
	_, err = c.StartShadowCopySet(ctx, fsrvp.SetID{})
	fails(err, fsrvp.ErrInvalidArg)
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	_, err = c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	fails(err, fsrvp.ErrShadowCopySetInProgress)
	fails(c.PrepareShadowCopySet(ctx, set, time.Second), fsrvp.ErrBadState)
	_, err = c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), unknownSet, `\\fs1\data`)
	fails(err, fsrvp.ErrInvalidArg)
	_, err = c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\elsewhere\data`)
	fails(err, fsrvp.ErrInvalidArg)
	_, err = c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `data`)
	fails(err, fsrvp.ErrInvalidArg)
	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\data`)
	require.NoError(t, err)
	_, err = c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\DATA\`)
	fails(err, fsrvp.ErrObjectAlreadyExists)
	_, err = c.GetShareMapping(ctx, id, set, `\\fs1\data`, 1)
	fails(err, fsrvp.ErrNotExposed)
	fails(c.CommitShadowCopySet(ctx, unknownSet, time.Second), fsrvp.ErrInvalidArg)
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Second))
	fails(c.RecoveryCompleteShadowCopySet(ctx, set), fsrvp.ErrBadState)
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Second))
	_, err = c.GetShareMapping(ctx, id, set, `\\fs1\data`, 2)
	fails(err, fsrvp.ErrInvalidArg)
	_, err = c.GetShareMapping(ctx, unknownCopy, set, `\\fs1\data`, 1)
	fails(err, fsrvp.ErrInvalidArg)
	m, err := c.GetShareMapping(ctx, id, set, `\\fs1\data`, 1)
	require.NoError(t, err)
	require.Equal(t, fsrvp.ExposedName("data", id), m.Exposed)
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	fails(c.AbortShadowCopySet(ctx, set), fsrvp.ErrBadState)
	fails(c.DeleteShareMapping(ctx, set, unknownCopy, `\\fs1\data`), fsrvp.ErrInvalidArg)
	require.NoError(t, c.DeleteShareMapping(ctx, set, id, `\\fs1\data`))
	fails(c.DeleteShareMapping(ctx, set, id, `\\fs1\data`), fsrvp.ErrObjectNotFound)
	_, err = c.IsPathSupported(ctx, `\\fs1\nothing`)
	require.Error(t, err)
}
