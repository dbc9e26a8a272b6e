package memory_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmem "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func newShares(t *testing.T) (*memory.Shares, backend.Exposure) {
	files := snapmem.New("/a")
	require.NoError(t, files.WriteFile("/a/vms/file", []byte("one")))
	list, err := files.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(),
		Volume: backend.Volume{Path: "/a"}, Writable: true}})
	require.NoError(t, err)
	vms := backend.Share{Name: "vms", Path: "/a/vms"}
	return memory.New(files, vms), backend.Exposure{Name: "vms@{1}", Base: vms, Snapshot: list[0],
		Path: list[0].Path + "/vms", Writable: true}
}

func TestExpose(t *testing.T) {
	s, e := newShares(t)
	share, err := s.Lookup(t.Context(), "VMS")
	require.NoError(t, err)
	require.Equal(t, e.Base, share)
	_, err = s.Lookup(t.Context(), "other")
	require.ErrorIs(t, err, fsrvp.ErrObjectNotFound)

	s.SetRights("vms", "admins")
	for range 2 {
		require.NoError(t, s.Expose(t.Context(), e))
	}
	s.SetRights("vms", "everyone")
	have, ok := s.Exposed("VMS@{1}")
	require.True(t, ok)
	require.Equal(t, "admins", have.Rights)
	_, err = s.Lookup(t.Context(), "vms@{1}")
	require.ErrorIs(t, err, fsrvp.ErrObjectNotFound, "what is exposed is no share to copy")

	require.NoError(t, s.WriteFile("vms@{1}", "file", []byte("two")))
	require.NoError(t, s.SealShare(t.Context(), e))
	require.ErrorIs(t, s.WriteFile("vms@{1}", "file", nil), fs.ErrPermission)
	data, err := s.ReadFile("vms@{1}", "../vms/file")
	require.ErrorIs(t, err, fs.ErrNotExist, "%q: no way out of a share", data)
	data, err = s.ReadFile("vms", "file")
	require.NoError(t, err)
	require.Equal(t, "one", string(data))

	list, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: "vms@{1}"}}, list)
	for range 2 {
		require.NoError(t, s.Unexpose(t.Context(), backend.Owner{}, "VMS@{1}"))
	}
	_, err = s.ReadFile("vms@{1}", "file")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Error(t, s.SealShare(t.Context(), e))
	s.Remove("vms")
	require.ErrorIs(t, s.Expose(t.Context(), e), fsrvp.ErrObjectNotFound)
}

// TestFaults: when Expose fails nothing is left of it, whatever else fails.
func TestFaults(t *testing.T) {
	errBroken := errors.New("broken")
	for _, done := range []bool{false, true} {
		s, e := newShares(t)
		s.Fault = func(_ context.Context, p memory.Point) error {
			if p.Method == "Expose" && p.Done == done {
				return errBroken
			}
			return nil
		}
		require.ErrorIs(t, s.Expose(t.Context(), e), errBroken)
		list, _, err := s.Clone(nil).List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
	}
}

func TestCheckName(t *testing.T) {
	s, _ := newShares(t)
	require.NoError(t, s.CheckName(strings.Repeat("x", 255)))
	require.ErrorIs(t, s.CheckName(strings.Repeat("x", 256)), fsrvp.ErrNotSupported)
	s.MaxName = 8
	require.Error(t, s.CheckName("123456789"))
}
