package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// remoteSource is shares of file servers.
type remoteSource struct {
	names  []string
	dialer *smbpipe.Dialer
}

func newRemoteSource(o *options, cfg *provider.Config) (*remoteSource, error) {
	client, dialer, err := o.cred.Config()
	if err != nil {
		return nil, err
	}
	if dialer == nil {
		return nil, errors.New("-transport has to be smb: the copies are read over SMB")
	}
	cfg.Client = client
	return &remoteSource{names: o.shares, dialer: dialer}, nil
}

func (s *remoteSource) shares() []string { return s.names }

// prefix is host/share, and the path below the share where there is one.
func (s *remoteSource) prefix(share string) string {
	n, err := fsrvp.ParseShareName(share)
	if err != nil {
		return ""
	}
	return path.Join(n.Host, n.Share, strings.ReplaceAll(n.Rest, `\`, "/"))
}

func (s *remoteSource) open(ctx context.Context, c provider.Copy) (fs.FS, io.Closer, error) {
	return s.dialer.OpenShare(ctx, c.Path)
}

func (s *remoteSource) close() error { return s.dialer.Close() }
