package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot"
)

// localHost is what the program calls itself in share names and service principals.
const localHost = "localhost"

// A localSource is one directory, behind a whole file server of MS-FSRVP inside the program: an agent that really takes a
// snapshot, a server that listens on loopback, and Kerberos with a realm that lives as long as the program.
type localSource struct {
	share    string // the share's UNC path
	exposed  *directory.Shares
	temp     string // holds the snapshot, the exposed share and the agent's store
	agent    *agent.Agent
	server   *dcerpc.Server
	served   chan error
	listener net.Listener
}

func newLocalSource(ctx context.Context, dir string, cfg *provider.Config) (_ *localSource, err error) {
	dir, err = filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("-local: %w", err)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, errors.Join(fmt.Errorf("-local: %s is not a directory", dir), err)
	}
	s := &localSource{share: `\\` + localHost + `\` + shareName(dir), served: make(chan error, 1)}
	if s.temp, err = tempBeside(dir); err != nil {
		return nil, fmt.Errorf("-local: no place for the snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	snapshots, err := snapshot.New(&snapshot.Config{Dirs: []string{filepath.Join(s.temp, "snapshots")}})
	if err != nil {
		return nil, err
	}
	s.exposed, err = directory.New(filepath.Join(s.temp, "exposed"), map[string]string{shareName(dir): dir})
	if err != nil {
		return nil, err
	}
	s.agent, err = agent.New(ctx, &agent.Config{
		Snapshots: snapshots,
		Shares:    s.exposed,
		StorePath: filepath.Join(s.temp, "agent.db"),
		Names:     []string{localHost},
	})
	if err != nil {
		return nil, err
	}

	const spn = "host/" + localHost
	realm := krb5test.NewRealm("BACKUP.EXAMPLE", 0)
	realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
	realm.AddService(spn)
	s.server = &dcerpc.Server{Acceptors: []dcerpc.Acceptor{realm.Acceptor(spn)}}
	fsrvp.Register(s.server, s.agent, nil)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go func() { s.served <- s.server.Serve(s.listener) }()

	_, port, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	cfg.Client = &fsrvp.Config{
		Transport: loopback{port},
		Auth:      realm.Initiator("backup"),
	}
	return s, nil
}

// loopback dials this program, whatever localhost resolves to.
type loopback struct{ port string }

func (l loopback) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) {
	d := dcerpc.TCPDialer{Port: l.port}
	return d.DialRPC(ctx, "127.0.0.1", fsrvp.Endpoint)
}

// shareName makes a share's name of a directory's.
func shareName(dir string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`"/\[]:|<>+=;,*?%@{}$`, r) || r < ' ' || r == 0xFFFD {
			return '_'
		}
		return r
	}, filepath.Base(dir))
	if name = strings.Trim(name, ". "); name == "" {
		return "local"
	}
	if r := []rune(name); len(r) > 40 {
		return string(r[:40])
	}
	return name
}

// tempBeside makes a directory on the file system of dir, where its files can be cloned, or else where temporary
// files go.
func tempBeside(dir string) (string, error) {
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".fsrvp-backup-*")
	if err != nil || strings.HasPrefix(temp, dir+string(filepath.Separator)) {
		temp, err = os.MkdirTemp("", "fsrvp-backup-*")
	}
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(temp)
}

func (s *localSource) shares() []string { return []string{s.share} }

// prefix is nothing: the archive has the directory's contents at its top.
func (s *localSource) prefix(string) string { return "" }

func (s *localSource) open(_ context.Context, c provider.Copy) (fs.FS, io.Closer, error) {
	root, err := os.OpenRoot(s.exposed.Path(c.Path[strings.LastIndex(c.Path, `\`)+1:]))
	if err != nil {
		return nil, nil, err
	}
	return root.FS(), root, nil
}

func (s *localSource) close() error {
	var errs []error
	if s.listener != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		errs = append(errs, s.server.Shutdown(ctx))
		<-s.served
	}
	if s.agent != nil {
		errs = append(errs, s.agent.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.temp))...)
}
