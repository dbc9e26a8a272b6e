package replay

import (
	"context"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// GetSupportedVersion implements fsrvp.Service.
func (s *Service) GetSupportedVersion(ctx context.Context) (fsrvp.Versions, error) {
	resp, err := s.answer(ctx, &fsrvp.GetSupportedVersionRequest{})
	r := resp.(*fsrvp.GetSupportedVersionResponse)
	return fsrvp.Versions{Min: r.MinVersion, Max: r.MaxVersion}, err
}

// SetContext implements fsrvp.Service.
func (s *Service) SetContext(ctx context.Context, c fsrvp.ContextValue) error {
	_, err := s.answer(ctx, &fsrvp.SetContextRequest{Context: c})
	return err
}

// StartShadowCopySet implements fsrvp.Service.
func (s *Service) StartShadowCopySet(ctx context.Context, client fsrvp.SetID) (fsrvp.SetID, error) {
	resp, err := s.answer(ctx, &fsrvp.StartShadowCopySetRequest{ClientShadowCopySetID: client})
	return resp.(*fsrvp.StartShadowCopySetResponse).ShadowCopySetID, err
}

// AddToShadowCopySet implements fsrvp.Service.
func (s *Service) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID, share string) (fsrvp.CopyID, error) {
	resp, err := s.answer(ctx, &fsrvp.AddToShadowCopySetRequest{
		ClientShadowCopyID: client, ShadowCopySetID: set, ShareName: ndr.WTF8(share),
	})
	return resp.(*fsrvp.AddToShadowCopySetResponse).ShadowCopyID, err
}

// CommitShadowCopySet implements fsrvp.Service.
func (s *Service) CommitShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	_, err := s.answer(ctx, &fsrvp.CommitShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: milliseconds(wait)})
	return err
}

// ExposeShadowCopySet implements fsrvp.Service.
func (s *Service) ExposeShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	_, err := s.answer(ctx, &fsrvp.ExposeShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: milliseconds(wait)})
	return err
}

// RecoveryCompleteShadowCopySet implements fsrvp.Service.
func (s *Service) RecoveryCompleteShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	_, err := s.answer(ctx, &fsrvp.RecoveryCompleteShadowCopySetRequest{ShadowCopySetID: set})
	return err
}

// AbortShadowCopySet implements fsrvp.Service.
func (s *Service) AbortShadowCopySet(ctx context.Context, set fsrvp.SetID) error {
	_, err := s.answer(ctx, &fsrvp.AbortShadowCopySetRequest{ShadowCopySetID: set})
	return err
}

// IsPathSupported implements fsrvp.Service.
func (s *Service) IsPathSupported(ctx context.Context, share string) (fsrvp.PathSupport, error) {
	resp, err := s.answer(ctx, &fsrvp.IsPathSupportedRequest{ShareName: ndr.WTF8(share)})
	r := resp.(*fsrvp.IsPathSupportedResponse)
	return fsrvp.PathSupport{Supported: r.SupportedByThisProvider != 0, Owner: r.OwnerMachineName.String}, err
}

// IsPathShadowCopied implements fsrvp.Service.
func (s *Service) IsPathShadowCopied(ctx context.Context, share string) (fsrvp.PathShadowCopied, error) {
	resp, err := s.answer(ctx, &fsrvp.IsPathShadowCopiedRequest{ShareName: ndr.WTF8(share)})
	r := resp.(*fsrvp.IsPathShadowCopiedResponse)
	return fsrvp.PathShadowCopied{Present: r.ShadowCopyPresent != 0, Compatibility: r.ShadowCopyCompatibility}, err
}

// GetShareMapping implements fsrvp.Service.
func (s *Service) GetShareMapping(ctx context.Context, cpy fsrvp.CopyID, set fsrvp.SetID, share string, level uint32) (*fsrvp.ShareMapping, error) {
	resp, err := s.answer(ctx, &fsrvp.GetShareMappingRequest{
		ShadowCopyID: cpy, ShadowCopySetID: set, ShareName: ndr.WTF8(share), Level: level,
	})
	m := resp.(*fsrvp.GetShareMappingResponse).ShareMapping1
	if m == nil {
		return nil, err
	}
	return &fsrvp.ShareMapping{
		SetID: m.ShadowCopySetID, CopyID: m.ShadowCopyID,
		Share: m.ShareNameUNC.String, Exposed: m.ShadowCopyShareName.String, Created: m.CreationTimestamp.Time(),
	}, err
}

// DeleteShareMapping implements fsrvp.Service.
func (s *Service) DeleteShareMapping(ctx context.Context, set fsrvp.SetID, cpy fsrvp.CopyID, share string) error {
	_, err := s.answer(ctx, &fsrvp.DeleteShareMappingRequest{ShadowCopySetID: set, ShadowCopyID: cpy, ShareName: ndr.WTF8(share)})
	return err
}

// PrepareShadowCopySet implements fsrvp.Service.
func (s *Service) PrepareShadowCopySet(ctx context.Context, set fsrvp.SetID, wait time.Duration) error {
	_, err := s.answer(ctx, &fsrvp.PrepareShadowCopySetRequest{ShadowCopySetID: set, TimeOutInMilliseconds: milliseconds(wait)})
	return err
}
