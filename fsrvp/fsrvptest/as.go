package fsrvptest

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// As returns a Service that calls s in the process, as a peer: for an agent without RPC in front of it.
func As(s fsrvp.Service, peer dcerpc.Peer) fsrvp.Service { return &as{s, peer} }

type as struct {
	s    fsrvp.Service
	peer dcerpc.Peer
}

func (a *as) with(ctx context.Context) context.Context { return dcerpc.WithPeer(ctx, a.peer) }

func (a *as) GetSupportedVersion(ctx context.Context) (fsrvp.Versions, error) {
	return a.s.GetSupportedVersion(a.with(ctx))
}

func (a *as) SetContext(ctx context.Context, c fsrvp.ContextValue) error {
	return a.s.SetContext(a.with(ctx), c)
}

func (a *as) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (fsrvp.SetID, error) {
	return a.s.StartShadowCopySet(a.with(ctx), client)
}

func (a *as) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID, share string) (fsrvp.CopyID, error) {
	return a.s.AddToShadowCopySet(a.with(ctx), client, set, share)
}

func (a *as) CommitShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.s.CommitShadowCopySet(a.with(ctx), set, wait)
}

func (a *as) ExposeShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.s.ExposeShadowCopySet(a.with(ctx), set, wait)
}

func (a *as) RecoveryCompleteShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	return a.s.RecoveryCompleteShadowCopySet(a.with(ctx), set)
}

func (a *as) AbortShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	return a.s.AbortShadowCopySet(a.with(ctx), set)
}

func (a *as) IsPathSupported(ctx context.Context, share string) (fsrvp.PathSupport, error) {
	return a.s.IsPathSupported(a.with(ctx), share)
}

func (a *as) IsPathShadowCopied(ctx context.Context, share string) (fsrvp.PathShadowCopied, error) {
	return a.s.IsPathShadowCopied(a.with(ctx), share)
}

func (a *as) GetShareMapping(ctx context.Context, copy fsrvp.CopyID, set fsrvp.SetID, share string, level uint32) (*fsrvp.ShareMapping, error) {
	return a.s.GetShareMapping(a.with(ctx), copy, set, share, level)
}

func (a *as) DeleteShareMapping(ctx context.Context, set fsrvp.SetID, copy fsrvp.CopyID, share string) error {
	return a.s.DeleteShareMapping(a.with(ctx), set, copy, share)
}

func (a *as) PrepareShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	return a.s.PrepareShadowCopySet(a.with(ctx), set, wait)
}
