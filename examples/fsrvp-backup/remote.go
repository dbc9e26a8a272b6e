package main

import (
	"context"
	"errors"
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

func (s *remoteSource) title(c provider.Copy) string { return c.Share }

func (s *remoteSource) describe(c provider.Copy) shareSummary {
	return shareSummary{Share: c.Share, Server: c.Server, Exposed: c.Path, SetID: c.SetID, CopyID: c.CopyID, Created: c.Created}
}

// prefix is host/share, and the path below the share where the user gave one.
func (s *remoteSource) prefix(c provider.Copy) string {
	n, err := fsrvp.ParseShareName(c.Share)
	if err != nil {
		return ""
	}
	return path.Join(n.Host, n.Share, strings.ReplaceAll(n.Rest, `\`, "/"))
}

func (s *remoteSource) open(ctx context.Context, c provider.Copy) (tree, error) {
	t, err := openShareTree(ctx, s.dialer, c.Path, strings.ReplaceAll(c.Rest, `\`, "/"))
	if err != nil {
		return nil, err
	}
	if _, err := c.Sub(t.fsys); err != nil { // it is no directory, or behind a link
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (s *remoteSource) explain(err error) error { return err }

func (s *remoteSource) close() error { return s.dialer.Close() }
