package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot"
)

// A localSource is one directory, behind a whole file server of MS-FSRVP inside the program: an agent that really takes a
// snapshot, a server that listens on loopback, and Kerberos with a realm that lives as long as the program.
type localSource struct {
	share   string // the share's UNC path
	exposed *directory.Shares
	temp    string // holds the snapshot, the exposed share and the agent's store
	server  *fsrvptest.Server
}

func newLocalSource(dir string, cfg *provider.Config) (_ *localSource, err error) {
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
	s := &localSource{share: `\\localhost\` + shareName(dir)}
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
	s.server, err = fsrvptest.NewServer(&fsrvptest.ServerConfig{TCP: true, Agent: agent.Config{
		Snapshots: snapshots,
		Shares:    s.exposed,
		StorePath: filepath.Join(s.temp, "agent.db"),
		Names:     []string{"localhost"},
	}})
	if err != nil {
		return nil, err
	}
	cfg.Dial = func(ctx context.Context, _ string) (provider.Agent, error) {
		return s.server.Dial(ctx, fsrvptest.Operator)
	}
	return s, nil
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
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	return errors.Join(err, os.RemoveAll(s.temp))
}
