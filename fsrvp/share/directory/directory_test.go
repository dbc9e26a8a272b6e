package directory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// newShares has a share "Data", and a snapshot of it with a file.
func newShares(t *testing.T) (*Shares, backend.Exposure) {
	t.Helper()
	base, copied := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(copied, "file"), []byte("old"), 0o600))
	s, err := New(filepath.Join(t.TempDir(), "exposed"), map[string]string{"Data": base})
	require.NoError(t, err)
	share, err := s.Lookup(t.Context(), "dATA")
	require.NoError(t, err)
	id := fsrvp.NewCopyID()
	return s, backend.Exposure{
		Name: "Data@{" + id.String() + "}", Base: share, Path: copied,
		Snapshot: backend.Snapshot{SnapshotSpec: backend.SnapshotSpec{ID: id}, Path: copied},
	}
}

func TestExposeAndUnexpose(t *testing.T) {
	s, e := newShares(t)
	for range 2 { // exposing the same again is no error
		require.NoError(t, s.Expose(t.Context(), e))
		data, err := os.ReadFile(filepath.Join(s.Path(e.Name), "file"))
		require.NoError(t, err)
		require.Equal(t, "old", string(data))
	}
	names, err := s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{e.Name}, names)
	require.NoError(t, s.SealShare(t.Context(), e))
	for range 2 { // nor is removing what is not there
		require.NoError(t, s.Unexpose(t.Context(), e.Name))
	}
	names, err = s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	require.DirExists(t, e.Path, "the snapshot went with its link")
}

func TestLookup(t *testing.T) {
	real := t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(real, link))
	s, err := New(t.TempDir(), map[string]string{"Bücher$": link})
	require.NoError(t, err)
	share, err := s.Lookup(t.Context(), "BÜCHER$")
	require.NoError(t, err)
	resolved, err := filepath.EvalSymlinks(real)
	require.NoError(t, err)
	require.Equal(t, backend.Share{Name: "Bücher$", Path: resolved}, share)
	_, err = s.Lookup(t.Context(), "other")
	require.ErrorIs(t, err, fsrvp.ErrObjectNotFound)
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, c := range []struct {
		name   string
		dir    string
		shares map[string]string
		want   string
	}{
		{"names that differ in case", dir, map[string]string{"a": dir, "A": dir}, "same name"},
		{"a path as name", dir, map[string]string{`a\b`: dir}, `"a\\b"`},
		{"an empty name", dir, map[string]string{"": dir}, `""`},
		{"no directory", dir, map[string]string{"a": filepath.Join(dir, "missing")}, "missing"},
		{"a file", dir, map[string]string{"a": file}, "not a directory"},
		{"a place that cannot be made", filepath.Join(file, "exposed"), nil, "exposed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.dir, c.shares)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestCheckName(t *testing.T) {
	s, e := newShares(t)
	require.NoError(t, s.CheckName(e.Name))
	id := "@{" + fsrvp.NewCopyID().String() + "}"
	require.NoError(t, s.CheckName("a$"+id+"$"))
	for _, bad := range []string{
		"", "Data", id, "a@{0}", "../a" + id, `a\b` + id, "a\x00" + id, strings.Repeat("a", 256-len(id)) + id,
	} {
		require.Error(t, s.CheckName(bad), "%q", bad)
		e.Name = bad
		require.Error(t, s.Expose(t.Context(), e), "%q", bad)
		require.NoError(t, s.Unexpose(t.Context(), bad), "%q", bad)
	}
}

func TestWhatIsNotOursStays(t *testing.T) {
	s, e := newShares(t)
	require.NoError(t, os.Mkdir(s.Path(e.Name), 0o755))
	require.ErrorContains(t, s.Expose(t.Context(), e), "in the way")
	require.Error(t, s.Unexpose(t.Context(), e.Name))
	require.DirExists(t, s.Path(e.Name))
	require.NoError(t, os.WriteFile(s.Path("notes"), nil, 0o600))
	names, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestExposeOfNothing(t *testing.T) {
	s, e := newShares(t)
	e.Path = filepath.Join(e.Path, "missing")
	require.Error(t, s.Expose(t.Context(), e))
	names, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestHalfMadeLinkIsRemoved(t *testing.T) {
	s, e := newShares(t)
	temp := s.Path(".new-" + e.Snapshot.ID.String() + "-data")
	require.NoError(t, os.Symlink(e.Path, temp))
	names, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	_, err = os.Lstat(temp)
	require.ErrorIs(t, err, os.ErrNotExist)
}
