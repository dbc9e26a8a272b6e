package replay

import (
	"context"
	"errors"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// GetSupportedVersion implements fsrvp.Service.
func (r *Recorder) GetSupportedVersion(ctx context.Context) (fsrvp.Versions, error) {
	begun := time.Now()
	v, err := r.service.GetSupportedVersion(ctx)
	r.record(ctx, begun, &fsrvp.GetSupportedVersionRequest{}, versionsResponse(v, r.status(ctx, err)), err)
	return v, err
}

// SetContext implements fsrvp.Service.
func (r *Recorder) SetContext(ctx context.Context, c fsrvp.ContextValue) error {
	begun := time.Now()
	err := r.service.SetContext(ctx, c)
	r.record(ctx, begun, &fsrvp.SetContextRequest{Context: c}, &fsrvp.SetContextResponse{Return: r.status(ctx, err)}, err)
	return err
}

// StartShadowCopySet implements fsrvp.Service.
func (r *Recorder) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (fsrvp.SetID, error) {
	begun := time.Now()
	id, err := r.service.StartShadowCopySet(ctx, client)
	r.record(ctx, begun, &fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: client},
		&fsrvp.StartShadowCopySetResponse{ShadowCopySetID: id, Return: r.status(ctx, err)}, err)
	return id, err
}

// AddToShadowCopySet implements fsrvp.Service.
func (r *Recorder) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID, share string) (fsrvp.CopyID, error) {
	begun := time.Now()
	id, err := r.service.AddToShadowCopySet(ctx, client, set, share)
	r.record(ctx, begun,
		&fsrvp.AddToShadowCopySetRequest{ClientShadowCopyID: client, ShadowCopySetID: set, ShareName: ndr.WTF8(share)},
		&fsrvp.AddToShadowCopySetResponse{ShadowCopyID: id, Return: r.status(ctx, err)}, err)
	return id, err
}

// CommitShadowCopySet implements fsrvp.Service.
func (r *Recorder) CommitShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	begun := time.Now()
	err := r.service.CommitShadowCopySet(ctx, set, wait)
	r.record(ctx, begun,
		&fsrvp.CommitShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: milliseconds(wait)},
		&fsrvp.CommitShadowCopySetResponse{Return: r.status(ctx, err)}, err)
	return err
}

// ExposeShadowCopySet implements fsrvp.Service.
func (r *Recorder) ExposeShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	begun := time.Now()
	err := r.service.ExposeShadowCopySet(ctx, set, wait)
	r.record(ctx, begun,
		&fsrvp.ExposeShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: milliseconds(wait)},
		&fsrvp.ExposeShadowCopySetResponse{Return: r.status(ctx, err)}, err)
	return err
}

// RecoveryCompleteShadowCopySet implements fsrvp.Service.
func (r *Recorder) RecoveryCompleteShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	begun := time.Now()
	err := r.service.RecoveryCompleteShadowCopySet(ctx, set)
	r.record(ctx, begun, &fsrvp.RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set},
		&fsrvp.RecoveryCompleteShadowCopySetResponse{Return: r.status(ctx, err)}, err)
	return err
}

// AbortShadowCopySet implements fsrvp.Service.
func (r *Recorder) AbortShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	begun := time.Now()
	err := r.service.AbortShadowCopySet(ctx, set)
	r.record(ctx, begun, &fsrvp.AbortShadowCopySetRequest{ShadowCopySetID: set},
		&fsrvp.AbortShadowCopySetResponse{Return: r.status(ctx, err)}, err)
	return err
}

// IsPathSupported implements fsrvp.Service.
func (r *Recorder) IsPathSupported(ctx context.Context, share string) (fsrvp.PathSupport, error) {
	begun := time.Now()
	p, err := r.service.IsPathSupported(ctx, share)
	r.record(ctx, begun, &fsrvp.IsPathSupportedRequest{ShareName: ndr.WTF8(share)}, pathSupportResponse(p, r.status(ctx, err)), err)
	return p, err
}

// IsPathShadowCopied implements fsrvp.Service.
func (r *Recorder) IsPathShadowCopied(ctx context.Context, share string) (fsrvp.PathShadowCopied, error) {
	begun := time.Now()
	p, err := r.service.IsPathShadowCopied(ctx, share)
	r.record(ctx, begun, &fsrvp.IsPathShadowCopiedRequest{ShareName: ndr.WTF8(share)}, pathShadowCopiedResponse(p, r.status(ctx, err)), err)
	return p, err
}

// GetShareMapping implements fsrvp.Service.
func (r *Recorder) GetShareMapping(ctx context.Context, cpy fsrvp.CopyID, set fsrvp.SetID, share string, level uint32) (*fsrvp.ShareMapping, error) {
	begun := time.Now()
	m, err := r.service.GetShareMapping(ctx, cpy, set, share, level)
	req := &fsrvp.GetShareMappingRequest{ShadowCopyID: cpy, ShadowCopySetID: set, ShareName: ndr.WTF8(share), Level: level}
	resp, rangeErr := shareMappingResponse(m, level, r.status(ctx, err))
	if rangeErr != nil && err == nil { // what the wire cannot say, NewHandler does not answer
		resp.Return = r.status(ctx, rangeErr)
	}
	r.record(ctx, begun, req, resp, errors.Join(err, rangeErr))
	return m, err
}

// DeleteShareMapping implements fsrvp.Service.
func (r *Recorder) DeleteShareMapping(ctx context.Context, set fsrvp.SetID, cpy fsrvp.CopyID, share string) error {
	begun := time.Now()
	err := r.service.DeleteShareMapping(ctx, set, cpy, share)
	r.record(ctx, begun,
		&fsrvp.DeleteShareMappingRequest{ShadowCopySetID: set, ShadowCopyID: cpy, ShareName: ndr.WTF8(share)},
		&fsrvp.DeleteShareMappingResponse{Return: r.status(ctx, err)}, err)
	return err
}

// PrepareShadowCopySet implements fsrvp.Service.
func (r *Recorder) PrepareShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	begun := time.Now()
	err := r.service.PrepareShadowCopySet(ctx, set, wait)
	r.record(ctx, begun,
		&fsrvp.PrepareShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: milliseconds(wait)},
		&fsrvp.PrepareShadowCopySetResponse{Return: r.status(ctx, err)}, err)
	return err
}
