package fsrvp

import (
	"context"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// A fakeService writes down what it is asked, and answers with what it is told to.
type fakeService struct {
	versions Versions
	set      SetID
	copy     CopyID
	support  PathSupport
	copied   PathShadowCopied
	mapping  *ShareMapping

	mu    sync.Mutex
	err   error                           // of every method
	serve func(ctx context.Context) error // the same, where not nil
	calls []any                           // the requests, as the messages they would have come in
}

func (s *fakeService) asked(ctx context.Context, m Message) error {
	s.mu.Lock()
	s.calls = append(s.calls, m)
	serve, err := s.serve, s.err
	s.mu.Unlock()
	if serve != nil {
		return serve(ctx)
	}
	return err
}

// answer sets how the methods end from now on.
func (s *fakeService) answer(err error, serve func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.serve = err, serve
}

// last returns the last request and forgets all.
func (s *fakeService) last() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) == 0 {
		return nil
	}
	m := s.calls[len(s.calls)-1]
	s.calls = nil
	return m
}

func ms(d time.Duration) uint32 { return uint32(d / time.Millisecond) }

func (s *fakeService) GetSupportedVersion(ctx context.Context) (Versions, error) {
	return s.versions, s.asked(ctx, &GetSupportedVersionRequest{})
}

func (s *fakeService) SetContext(ctx context.Context, c ContextValue) error {
	return s.asked(ctx, &SetContextRequest{Context: c})
}

func (s *fakeService) StartShadowCopySet(ctx context.Context, client SetID) (SetID, error) {
	return s.set, s.asked(ctx, &StartShadowCopySetRequest{ClientShadowCopySetID: client})
}

func (s *fakeService) AddToShadowCopySet(ctx context.Context, client CopyID, set SetID, share string) (CopyID, error) {
	return s.copy, s.asked(ctx, &AddToShadowCopySetRequest{client, set, ndr.WTF8(share)})
}

func (s *fakeService) CommitShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	return s.asked(ctx, &CommitShadowCopySetRequest{set, ms(wait)})
}

func (s *fakeService) ExposeShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	return s.asked(ctx, &ExposeShadowCopySetRequest{set, ms(wait)})
}

func (s *fakeService) RecoveryCompleteShadowCopySet(ctx context.Context, set SetID) error {
	return s.asked(ctx, &RecoveryCompleteShadowCopySetRequest{set})
}

func (s *fakeService) AbortShadowCopySet(ctx context.Context, set SetID) error {
	return s.asked(ctx, &AbortShadowCopySetRequest{set})
}

func (s *fakeService) IsPathSupported(ctx context.Context, share string) (PathSupport, error) {
	return s.support, s.asked(ctx, &IsPathSupportedRequest{ndr.WTF8(share)})
}

func (s *fakeService) IsPathShadowCopied(ctx context.Context, share string) (PathShadowCopied, error) {
	return s.copied, s.asked(ctx, &IsPathShadowCopiedRequest{ndr.WTF8(share)})
}

func (s *fakeService) GetShareMapping(ctx context.Context, cpy CopyID, set SetID, share string,
	level uint32) (*ShareMapping, error) {
	return s.mapping, s.asked(ctx, &GetShareMappingRequest{cpy, set, ndr.WTF8(share), level})
}

func (s *fakeService) DeleteShareMapping(ctx context.Context, set SetID, cpy CopyID, share string) error {
	return s.asked(ctx, &DeleteShareMappingRequest{set, cpy, ndr.WTF8(share)})
}

func (s *fakeService) PrepareShadowCopySet(ctx context.Context, set SetID, wait time.Duration) error {
	return s.asked(ctx, &PrepareShadowCopySetRequest{set, ms(wait)})
}
