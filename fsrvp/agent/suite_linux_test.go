package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/directory"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/btrfs"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/copy"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/reflink"
)

// served is the directory backend as a file server would serve it: what is not writable cannot be
// written to through a share, whoever might write to the files below.
type served struct {
	*directory.Shares
	bases map[string]string

	mu       sync.Mutex
	writable map[string]bool // exposed shares, by lower-case name
	bare     bool            // the server does not look: the snapshots themselves are read-only
}

func (s *served) Expose(ctx context.Context, e agent.Exposure) error {
	s.mu.Lock()
	s.writable[strings.ToLower(e.Name)] = e.Writable
	s.mu.Unlock()
	return s.Shares.Expose(ctx, e)
}

func (s *served) SealShare(ctx context.Context, e agent.Exposure) error {
	s.mu.Lock()
	s.writable[strings.ToLower(e.Name)] = false
	s.mu.Unlock()
	return s.Shares.SealShare(ctx, e)
}

func (s *served) path(share string) (path string, writable bool) {
	if dir, ok := s.bases[share]; ok {
		return dir, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Path(share), s.writable[strings.ToLower(share)] || s.bare
}

// ReadFile and WriteFile make it a fsrvptest.Files.
func (s *served) ReadFile(share, name string) ([]byte, error) {
	dir, _ := s.path(share)
	return os.ReadFile(filepath.Join(dir, name))
}

func (s *served) WriteFile(share, name string, data []byte) error {
	dir, writable := s.path(share)
	if !writable {
		return fs.ErrPermission
	}
	return os.WriteFile(filepath.Join(dir, name), data, 0o644)
}

// TestSuiteOnRealBackends runs the conformance suite on an agent with each of the real backends,
// over sealed TCP.
func TestSuiteOnRealBackends(t *testing.T) {
	if !inNamespace(t, "mkfs.btrfs", "mkfs.xfs", "mount") {
		return
	}
	for name, root := range map[string]func(t *testing.T) (root string, backend agent.Snapshots){
		"copy on tmpfs": func(t *testing.T) (string, agent.Snapshots) {
			root, err := os.MkdirTemp(images, "tmpfs-")
			require.NoError(t, err)
			return root, copies(t, root)
		},
		"copy on the file system of temporary files": func(t *testing.T) (string, agent.Snapshots) {
			root := t.TempDir()
			return root, copies(t, root)
		},
		"reflink on xfs": func(t *testing.T) (string, agent.Snapshots) {
			root := mount(t, "xfs", 320)
			return root, clones(t, root)
		},
		"reflink on btrfs": func(t *testing.T) (string, agent.Snapshots) {
			root := mount(t, "btrfs", 256)
			return root, clones(t, root)
		},
		"btrfs": func(t *testing.T) (string, agent.Snapshots) {
			root := mount(t, "btrfs", 256)
			for _, v := range []string{"a", "b", "d"} {
				command(t, "btrfs", "-q", "subvolume", "create", filepath.Join(root, v))
			}
			backend, err := btrfs.New(&btrfs.Config{Dirs: []string{filepath.Join(root, ".fsrvp")}})
			require.NoError(t, err)
			return root, backend
		},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "btrfs" && name != "copy on tmpfs" {
				t.Skip("the full run has all")
			}
			dir, backend := root(t)
			runSuite(t, dir, backend)
		})
	}
}

func copies(t *testing.T, root string) agent.Snapshots {
	backend, err := copy.New(&copy.Config{Dirs: []string{filepath.Join(root, "snapshots")}, Volumes: volumes(root)})
	require.NoError(t, err)
	return backend
}

func clones(t *testing.T, root string) agent.Snapshots {
	backend, err := reflink.New(&reflink.Config{Dirs: []string{filepath.Join(root, "snapshots")},
		Volumes: volumes(root)})
	require.NoError(t, err)
	return backend
}

func volumes(root string) []string {
	return []string{filepath.Join(root, "a"), filepath.Join(root, "b"), filepath.Join(root, "d")}
}

// runSuite runs the suite on shares below root: share and second on volume a, other and hidden$ on
// b, and mounted on d.
func runSuite(t *testing.T, root string, backend agent.Snapshots) {
	s := &served{bases: map[string]string{
		"share": root + "/a/share", "second": root + "/a/second", "other": root + "/b/other", "hidden$": root + "/b/hidden", "mounted": root + "/d/mounted",
	}, writable: map[string]bool{}}
	for _, dir := range s.bases {
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	point := root + "/d/mounted/disk"
	require.NoError(t, os.Mkdir(point, 0o755))
	require.NoError(t, unix.Mount("disk", point, "tmpfs", 0, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(point, 0)) })
	_, s.bare = backend.(*btrfs.Snapshots)
	_, anywhere := backend.(*copy.Snapshots)
	if !anywhere {
		s.bases["plain"] = t.TempDir() // not on a file system of the backend's
	}
	var err error
	s.Shares, err = directory.New(filepath.Join(t.TempDir(), "exposed"), s.bases)
	require.NoError(t, err)

	server, err := fsrvptest.NewServer(&fsrvptest.ServerConfig{TCP: true, Agent: agent.Config{
		Snapshots: backend, Shares: s, StorePath: filepath.Join(t.TempDir(), "store"),
	}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	fsrvptest.Run(t, func(tb testing.TB) fsrvptest.Target {
		target, err := server.Target(tb.Context())
		require.NoError(tb, err)
		target.SameVolume, target.OtherVolume, target.Hidden = `\\fs1\second`, `\\fs1\other`, `\\fs1\hidden$`
		target.Aliases = []string{`\\127.0.0.1\share`}
		target.Mounted = `\\fs1\mounted`
		if !anywhere {
			target.Unsupported = `\\fs1\plain`
		}
		target.Files = s
		target.Held = func(ctx context.Context) (int, int, error) {
			own1, foreign1, err1 := backend.(agent.SnapshotLister).List(ctx, agent.Owner{})
			own2, foreign2, err2 := s.List(ctx, agent.Owner{})
			return len(own1) + len(foreign1), len(own2) + len(foreign2), errors.Join(err1, err2)
		}
		return target
	})
}
