package main

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// remoteSource is shares of file servers.
type remoteSource struct {
	names  []string
	access *credentials.Access
}

func newRemoteSource(o *options, cfg *provider.Config) (*remoteSource, error) {
	access, err := o.cred.Access()
	if err != nil {
		return nil, err
	}
	if access.OpenShare == nil {
		return nil, errors.New("-transport must be smb: the copies are read over SMB")
	}
	cfg.Client = access.Client
	return &remoteSource{names: o.shares, access: access}, nil
}

func (s *remoteSource) shares() []string { return s.names }

func (s *remoteSource) title(c provider.Copy) string { return c.Share }

func (s *remoteSource) describe(c provider.Copy) shareSummary {
	return shareSummary{Share: c.Share, Server: c.Server, Exposed: c.Path, SetID: c.SetID, CopyID: c.CopyID,
		Created: c.Created}
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
	t, err := openShareTree(ctx, s.access.OpenShare, c.Path, strings.ReplaceAll(c.Rest, `\`, "/"))
	if err != nil {
		return nil, err
	}
	if _, err := c.Sub(t.fsys); err != nil { // it is no directory, or behind a link
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (s *remoteSource) explain(err error) error { return err }

func (s *remoteSource) close() error { return s.access.Close() }
