package transcript

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// epoch is when the recordings made here begin.
var epoch = time.Date(2026, 11, 22, 20, 21, 20, 0, time.UTC)

// exchange is one that begins and ends so long after epoch.
func exchange(begin, end time.Duration, req fsrvp.Message, resp fsrvp.Response) *Exchange {
	return &Exchange{Time: epoch.Add(begin), ResponseTime: epoch.Add(end), Request: req, Response: resp}
}

// A fake is a Service of the methods that it needs.
type fake struct {
	fsrvp.Service
	calls    atomic.Int64
	versions func(ctx context.Context, call int64) (fsrvp.Versions, error)
	commit   func(ctx context.Context, wait time.Duration) error
	support  func(string) (fsrvp.PathSupport, error)
}

func (f *fake) GetSupportedVersion(ctx context.Context) (fsrvp.Versions, error) {
	return f.versions(ctx, f.calls.Add(1))
}

func (f *fake) CommitShadowCopySet(ctx context.Context, _ fsrvp.SetID, wait time.Duration) error {
	f.calls.Add(1)
	return f.commit(ctx, wait)
}

func (f *fake) IsPathSupported(_ context.Context, share string) (fsrvp.PathSupport, error) {
	return f.support(share)
}
