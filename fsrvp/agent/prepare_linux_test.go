package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/copy"
)

// A tree is an agent that copies one directory, shared as vms.
type tree struct {
	share, snapshots, exposed string
	cfg                       *agent.Config
	moved                     []agent.Event
}

func newTree(t *testing.T) *tree {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Chmod(base, 0o755))
	r := &tree{share: filepath.Join(base, "vms/share"), snapshots: filepath.Join(base, "snapshots"),
		exposed: filepath.Join(base, "exposed")}
	require.NoError(t, os.MkdirAll(filepath.Join(r.share, "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(r.share, "disk"), make([]byte, 1<<20), 0o644))
	s, err := copy.New(&copy.Config{Dirs: []string{r.snapshots}, Volumes: []string{filepath.Join(base, "vms")}})
	require.NoError(t, err)
	shares, err := directory.New(r.exposed, map[string]string{"vms": r.share})
	require.NoError(t, err)
	r.cfg = &agent.Config{
		Snapshots: s, Shares: shares, StorePath: filepath.Join(base, "store"), Names: []string{"fs1"}, MaxRetries: -1,
		Observe: func(e agent.Event) {
			if e.Kind == agent.EventMoved {
				r.moved = append(r.moved, e)
			}
		},
	}
	return r
}

func (r *tree) start(t *testing.T) *agent.Agent {
	t.Helper()
	a, err := agent.New(t.Context(), r.cfg)
	require.NoError(t, err)
	return a
}

// left returns what is in the directory of snapshots.
func (r *tree) left(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(r.snapshots)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// prepared begins a set, and prepares it.
func prepared(t *testing.T, ctx context.Context, a *agent.Agent) fsrvp.SetID {
	t.Helper()
	require.NoError(t, a.SetContext(ctx, fsrvp.ContextNASRollback))
	set, err := a.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	_, err = a.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, vms)
	require.NoError(t, err)
	require.NoError(t, a.PrepareShadowCopySet(ctx, set, time.Minute))
	return set
}

// TestPrepared has the bulk of a copy made before Commit, and gone when there is none.
func TestPrepared(t *testing.T) {
	r := newTree(t)
	a := r.start(t)
	set := prepared(t, client1, a)
	left := r.left(t)
	require.Len(t, left, 1)
	require.True(t, strings.HasPrefix(left[0], ".tmp-copy-"))
	require.FileExists(t, filepath.Join(r.snapshots, left[0], "share/disk"))
	require.NoError(t, a.AbortShadowCopySet(client1, set))
	require.Empty(t, r.left(t))

	set = prepared(t, client1, a)
	require.Len(t, r.left(t), 1)
	require.NoError(t, a.Close())
	a = r.start(t)
	require.Empty(t, r.left(t), "another run begins anew")
	require.NoError(t, os.WriteFile(filepath.Join(r.share, "since"), nil, 0o644))
	require.NoError(t, a.PrepareShadowCopySet(client1, set, time.Minute))
	require.NoError(t, a.CommitShadowCopySet(client1, set, time.Minute))
	require.NoError(t, a.ExposeShadowCopySet(client1, set, time.Minute))
	links, err := filepath.Glob(filepath.Join(r.exposed, "vms@*"))
	require.NoError(t, err)
	require.Len(t, links, 1)
	require.FileExists(t, filepath.Join(links[0], "since"))
	require.Empty(t, r.moved)
	require.NoError(t, a.AbortShadowCopySet(client1, set))
	require.Empty(t, r.left(t))
	require.NoError(t, a.Close())
}

// TestExposeChecksPath has a symbolic link where the shared directory was when the snapshot was
// taken.
func TestExposeChecksPath(t *testing.T) {
	r := newTree(t)
	a := r.start(t)
	defer a.Close()
	set := prepared(t, client1, a)
	require.NoError(t, os.Rename(r.share, r.share+" was"))
	require.NoError(t, os.Symlink("/etc", r.share))
	require.NoError(t, a.CommitShadowCopySet(client1, set, time.Minute))
	err := a.ExposeShadowCopySet(client1, set, time.Minute)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported)
	require.ErrorContains(t, err, "is a symbolic link")
	links, err := filepath.Glob(filepath.Join(r.exposed, "vms@*"))
	require.NoError(t, err)
	require.Empty(t, links)
}

// TestMovedIsTold has a directory that changes as long as it is copied.
func TestMovedIsTold(t *testing.T) {
	r := newTree(t)
	a := r.start(t)
	defer a.Close()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		from, to := filepath.Join(r.share, "sub"), filepath.Join(r.share, "moved")
		for ctx.Err() == nil {
			if os.Rename(from, to) == nil {
				from, to = to, from
			}
		}
	}()
	// A busy machine may copy all of it between two renames.
	for begun := time.Now(); ; {
		set := prepared(t, client1, a)
		require.NoError(t, a.CommitShadowCopySet(client1, set, time.Minute))
		require.NoError(t, a.AbortShadowCopySet(client1, set))
		if len(r.moved) > 0 {
			require.Equal(t, set, r.moved[0].Set)
			break
		}
		require.Less(t, time.Since(begun), 2*time.Minute)
	}
	cancel()
	<-over
	require.Len(t, r.moved, 1)
	require.Contains(t, r.moved[0].Moved, "share")
}
