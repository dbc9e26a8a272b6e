package memory_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func spec(t *testing.T, s *memory.Snapshots, dir string, writable bool) backend.SnapshotSpec {
	v, err := s.Volume(t.Context(), dir)
	require.NoError(t, err)
	return backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v, Writable: writable}
}

func TestSnapshotsShowOneMoment(t *testing.T) {
	s := memory.New("/a", "/a/deep", "/b")
	require.NoError(t, s.WriteFile("/a/x/file", []byte("before")))
	list, err := s.Create(t.Context(), []backend.SnapshotSpec{spec(t, s, "/a/x", false), spec(t, s, "/a/deep/y", true)})
	require.NoError(t, err)
	require.NoError(t, s.WriteFile("/a/x/file", []byte("after")))
	got, err := s.ReadFile(list[0].Path + "/x/file")
	require.NoError(t, err)
	require.Equal(t, "before", string(got))
	require.ErrorIs(t, s.WriteFile(list[0].Path+"/x/file", nil), fs.ErrPermission)

	require.Equal(t, "/a/deep", list[1].Volume.Path, "the innermost volume")
	require.NoError(t, s.WriteFile(list[1].Path+"/y/file", []byte("recovered")))
	require.NoError(t, s.Seal(t.Context(), list[1]))
	require.NoError(t, s.Seal(t.Context(), list[1]))
	require.ErrorIs(t, s.WriteFile(list[1].Path+"/y/file", nil), fs.ErrPermission)
	_, err = s.ReadFile("/a/deep/y/file")
	require.ErrorIs(t, err, fs.ErrNotExist)

	for range 2 {
		require.NoError(t, s.Delete(t.Context(), list[0].SnapshotSpec))
	}
	_, err = s.ReadFile(list[0].Path + "/x/file")
	require.ErrorIs(t, err, fs.ErrNotExist)
	left, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Equal(t, []backend.SnapshotSpec{list[1].SnapshotSpec}, left)
}

func TestVolumes(t *testing.T) {
	s := memory.New("/a", "/b")
	s.SetSupported("/b", false)
	require.NoError(t, s.Mount("/a/x/disk"))
	require.Error(t, s.Mount("/elsewhere"))
	for dir, ok := range map[string]bool{"/a/y": true, "/a/x": false, "/a": false, "/a/x/disk": false, "/ab": false,
		"/b/z": false, "/c": false} {
		_, err := s.Volume(t.Context(), dir)
		if ok {
			require.NoError(t, err, dir)
		} else {
			require.ErrorIs(t, err, fsrvp.ErrNotSupported, dir)
		}
	}
}

// TestAllOrNone: whenever Create fails, nothing is left of it.
func TestAllOrNone(t *testing.T) {
	errBroken := errors.New("broken")
	for point := 1; point <= 6; point++ {
		s := memory.New("/a", "/b")
		specs := []backend.SnapshotSpec{spec(t, s, "/a", false), spec(t, s, "/b", false)}
		n := 0
		s.Fault = func(_ context.Context, p memory.Point) error {
			if n++; n == point {
				return errBroken
			}
			return nil
		}
		_, err := s.Create(t.Context(), specs)
		require.ErrorIs(t, err, errBroken)
		s.Fault = nil
		left, _, err := s.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, left, "point %d", point)
	}
	s := memory.New("/a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Create(ctx, []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: backend.Volume{Path: "/a"}}})
	require.ErrorIs(t, err, context.Canceled)
}

// TestClone: a clone is what a crash would leave, half-made snapshots too, and shares nothing with
// the original.
func TestClone(t *testing.T) {
	s := memory.New("/a")
	require.NoError(t, s.WriteFile("/a/file", []byte("one")))
	var clones []*memory.Snapshots
	s.Fault = func(context.Context, memory.Point) error {
		clones = append(clones, s.Clone())
		return nil
	}
	sp := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: backend.Volume{ID: "memory:/a", Path: "/a"}}
	list, err := s.Create(t.Context(), []backend.SnapshotSpec{sp})
	require.NoError(t, err)
	s.Fault = nil
	require.NoError(t, s.WriteFile("/a/file", []byte("two")))
	require.Len(t, clones, 3)
	for i, c := range clones {
		got, _, err := c.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Len(t, got, min(i, 1))
		_, err = c.ReadFile(list[0].Path + "/file")
		require.Equal(t, i < 2, errors.Is(err, fs.ErrNotExist), "clone %d", i)
		data, err := c.ReadFile("/a/file")
		require.NoError(t, err)
		require.Equal(t, "one", string(data))
	}
}
