package fsrvptest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// Memory provides backends in memory, with shares of all kinds that the conformance cases use:
//
//	share, second    on one volume
//	other, hidden$   on another volume
//	plain            on a volume that cannot be copied
//	mounted          on a third volume, with something else mounted below
type Memory struct {
	Snapshots *snapmem.Snapshots
	Shares    *sharemem.Shares

	mu     sync.Mutex
	delays map[string]time.Duration // by the backends' methods
	marks  map[string][]string      // rights, by share
}

// NewMemory makes the volumes and shares.
func NewMemory() *Memory {
	m := &Memory{Snapshots: snapmem.New("/a", "/b", "/c", "/d"), delays: map[string]time.Duration{},
		marks: map[string][]string{}}
	m.Snapshots.SetSupported("/c", false)
	if err := m.Snapshots.Mount("/d/mounted/disk"); err != nil {
		panic(err) // it is below /d
	}
	m.Shares = sharemem.New(m.Snapshots,
		backend.Share{Name: "share", Path: "/a/share"}, backend.Share{Name: "second", Path: "/a/second"},
		backend.Share{Name: "other", Path: "/b/other"}, backend.Share{Name: "hidden$", Path: "/b/hidden"},
		backend.Share{Name: "plain", Path: "/c"}, backend.Share{Name: "mounted", Path: "/d/mounted"})
	m.Snapshots.Fault = func(ctx context.Context, p snapmem.Point) error { return m.delay(ctx, p.Method, p.Done) }
	m.Shares.Fault = func(ctx context.Context, p sharemem.Point) error { return m.delay(ctx, p.Method, p.Done) }
	return m
}

// Delay makes the work of PrepareShadowCopySet, CommitShadowCopySet or ExposeShadowCopySet take at
// least d, from the next call on.
func (m *Memory) Delay(op fsrvp.Opnum, d time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch op {
	case fsrvp.OpPrepareShadowCopySet:
		m.delays["Prepare"] = d
	case fsrvp.OpCommitShadowCopySet:
		m.delays["Create"] = d
	case fsrvp.OpExposeShadowCopySet:
		m.delays["Expose"] = d
	default:
		return errors.ErrUnsupported
	}
	return nil
}

func (m *Memory) delay(ctx context.Context, method string, done bool) error {
	m.mu.Lock()
	d := m.delays[method]
	m.mu.Unlock()
	if d == 0 || !done {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Mark adds to the rights of a share.
func (m *Memory) Mark(_ context.Context, share, mark string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setMarks(share, append(m.marks[strings.ToLower(share)], mark))
	return nil
}

// Unmark takes from the rights of a share.
func (m *Memory) Unmark(_ context.Context, share, mark string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setMarks(share, slices.DeleteFunc(m.marks[strings.ToLower(share)],
		func(other string) bool { return other == mark }))
	return nil
}

func (m *Memory) setMarks(share string, marks []string) {
	m.marks[strings.ToLower(share)] = marks
	m.Shares.SetRights(share, strings.Join(marks, " "))
}

// Marks returns the rights of an exposed share.
func (m *Memory) Marks(_ context.Context, share string) ([]string, error) {
	e, ok := m.Shares.Exposed(share)
	if !ok {
		return nil, fsrvp.ErrObjectNotFound
	}
	return strings.Fields(e.Rights), nil
}

// Held counts the snapshots and exposed shares.
func (m *Memory) Held(ctx context.Context) (snapshots, shares int, err error) {
	return len(m.Snapshots.All()), len(m.Shares.All()), ctx.Err()
}

// describe fills in a target.
func (m *Memory) describe(t *Target) {
	t.Share, t.SameVolume, t.OtherVolume, t.Hidden = `\\fs1\share`, `\\fs1\second`, `\\fs1\other`, `\\fs1\hidden$`
	t.Aliases = []string{`\\` + ServerName + `\share`, `\\127.0.0.1\share`}
	t.Clustered, t.ScaleOut = `\\`+RoleName+`\other`, `\\`+RoleName+`\other`
	t.Unsupported, t.Mounted = `\\fs1\plain`, `\\fs1\mounted`
	t.Owner = "fs1"
	t.Files, t.Rights, t.Held, t.Delay = m.Shares, m, m.Held, m.Delay
}
