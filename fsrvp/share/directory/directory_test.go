package directory

import (
	"os"
	"path/filepath"
	"runtime"
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
	names, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: e.Name}}, names)
	require.NoError(t, s.SealShare(t.Context(), e))
	for range 2 { // nor is removing what is not there
		require.NoError(t, s.Unexpose(t.Context(), backend.Owner{}, e.Name))
	}
	names, _, err = s.List(t.Context(), backend.Owner{})
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
		"", "Data", id, "a@{0}", "../a" + id, `a\b` + id, "a\x00" + id, strings.Repeat("a", 249-len(id)) + id, ".owner-a" + id, ".new-a" + id,
	} {
		require.Error(t, s.CheckName(bad), "%q", bad)
		e.Name = bad
		require.Error(t, s.Expose(t.Context(), e), "%q", bad)
		require.NoError(t, s.Unexpose(t.Context(), backend.Owner{}, bad), "%q", bad)
	}
}

func TestWhatIsNotOursStays(t *testing.T) {
	s, e := newShares(t)
	require.NoError(t, os.Mkdir(s.Path(e.Name), 0o755))
	require.ErrorContains(t, s.Expose(t.Context(), e), "in the way")
	require.Error(t, s.Unexpose(t.Context(), backend.Owner{}, e.Name))
	require.DirExists(t, s.Path(e.Name))
	require.NoError(t, os.WriteFile(s.Path("notes"), nil, 0o600))
	names, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestExposeOfNothing(t *testing.T) {
	s, e := newShares(t)
	e.Path = filepath.Join(e.Path, "missing")
	require.Error(t, s.Expose(t.Context(), e))
	names, _, err := s.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	require.Empty(t, names)
}

// TestHalfMade has what a crash leaves at each step: it is whose it would be, Expose completes it,
// and Unexpose removes it.
func TestHalfMade(t *testing.T) {
	s, e := newShares(t)
	e.Mark = backend.Mark{Owner: backend.NewOwner("here"), Sequence: 3}
	steps := []func() error{
		func() error { return os.Symlink(e.Mark.String(), s.Path(ownerPrefix+e.Name)) },
		func() error { return os.Symlink(e.Path, s.Path(newPrefix+e.Name)) },
	}
	for n := range len(steps) + 1 {
		for _, finish := range []func() error{
			func() error { return s.Unexpose(t.Context(), e.Mark.Owner, e.Name) },
			func() error { return s.Expose(t.Context(), e) },
		} {
			for _, step := range steps[:n] {
				require.NoError(t, step())
			}
			own, foreign, err := s.List(t.Context(), e.Mark.Owner)
			require.NoError(t, err)
			require.Empty(t, foreign)
			if n > 0 {
				require.Equal(t, []backend.ExposedShare{{Name: e.Name, Mark: e.Mark, Partial: true}}, own)
			}
			require.NoError(t, finish())
			require.NoError(t, s.Unexpose(t.Context(), e.Mark.Owner, e.Name))
			entries, err := os.ReadDir(s.dir)
			require.NoError(t, err)
			require.Empty(t, entries)
		}
	}
}

// TestOwners has two agents with one directory.
func TestOwners(t *testing.T) {
	s, mine := newShares(t)
	mine.Mark = backend.Mark{Owner: backend.NewOwner("here"), Sequence: 3}
	theirs, old := mine, mine
	theirs.Name, theirs.Mark = "Data@{"+fsrvp.NewCopyID().String()+"}", backend.Mark{Owner: backend.NewOwner("there")}
	old.Name, old.Mark = "Data@{"+fsrvp.NewCopyID().String()+"}", backend.Mark{}
	for _, e := range []backend.Exposure{mine, theirs, old} {
		require.NoError(t, s.Expose(t.Context(), e))
	}
	own, foreign, err := s.List(t.Context(), mine.Mark.Owner)
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: mine.Name, Mark: mine.Mark}}, own)
	require.ElementsMatch(t, []backend.ExposedShare{{Name: theirs.Name, Mark: theirs.Mark}, {Name: old.Name}}, foreign)

	require.ErrorIs(t, s.Unexpose(t.Context(), mine.Mark.Owner, theirs.Name), backend.ErrForeign)
	require.ErrorIs(t, s.Unexpose(t.Context(), backend.Owner{}, theirs.Name), backend.ErrForeign)
	stolen := theirs
	stolen.Mark = mine.Mark
	require.ErrorIs(t, s.Expose(t.Context(), stolen), backend.ErrForeign)
	require.FileExists(t, filepath.Join(s.Path(theirs.Name), "file"))

	adopted := old
	adopted.Mark = mine.Mark
	require.NoError(t, s.Expose(t.Context(), adopted))
	own, _, err = s.List(t.Context(), mine.Mark.Owner)
	require.NoError(t, err)
	require.Len(t, own, 2, "what had no mark has one")
	require.NoError(t, s.Unexpose(t.Context(), mine.Mark.Owner, old.Name))

	x := fsrvp.NewCopyID().String()
	require.NoError(t, os.Symlink("no mark", s.Path(ownerPrefix+"x@{"+x+"}")))
	require.NoError(t, os.Symlink("/", s.Path("x@{"+x+"}")))
	own, foreign, err = s.List(t.Context(), mine.Mark.Owner)
	require.NoError(t, err)
	require.Len(t, append(own, foreign...), 2, "what has a mark that is none is nobody's")
	require.Error(t, s.Unexpose(t.Context(), mine.Mark.Owner, "x@{"+x+"}"))
}

// TestFailureKeepsOld: a share that cannot be exposed again stays as it was, and of a new one
// nothing is left.
func TestFailureKeepsOld(t *testing.T) {
	s, e := newShares(t)
	e.Mark = backend.Mark{Owner: backend.NewOwner("here"), Sequence: 3}
	require.NoError(t, s.Expose(t.Context(), e))
	inTheWay := func(name string) {
		require.NoError(t, os.Mkdir(s.Path(newPrefix+name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(s.Path(newPrefix+name), "file"), nil, 0o600))
	}
	inTheWay(e.Name)
	again := e
	require.Error(t, s.Expose(t.Context(), again))
	again.Mark.Sequence = 5
	require.Error(t, s.Expose(t.Context(), again))
	require.FileExists(t, filepath.Join(s.Path(e.Name), "file"))
	own, _, err := s.List(t.Context(), e.Mark.Owner)
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: e.Name, Mark: e.Mark}}, own)

	require.NoError(t, os.RemoveAll(s.Path(newPrefix+e.Name)))
	require.NoError(t, s.Expose(t.Context(), again))
	own, _, err = s.List(t.Context(), e.Mark.Owner)
	require.NoError(t, err)
	require.Equal(t, []backend.ExposedShare{{Name: e.Name, Mark: again.Mark}}, own, "the newer mark")

	e.Name = "Data@{" + fsrvp.NewCopyID().String() + "}"
	inTheWay(e.Name)
	require.Error(t, s.Expose(t.Context(), e))
	require.NoFileExists(t, s.Path(e.Name))
	require.DirExists(t, s.Path(newPrefix+e.Name))
	require.NoError(t, os.RemoveAll(s.Path(newPrefix+e.Name)))
	own, _, err = s.List(t.Context(), e.Mark.Owner)
	require.NoError(t, err)
	require.NotContains(t, own, backend.ExposedShare{Name: e.Name, Mark: e.Mark})
	require.NoError(t, s.Expose(t.Context(), e))
}

// TestUntrustedDir: nobody else may be able to put links where the copies are.
func TestUntrustedDir(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("access lists are the administrator's to set")
	}
	top := t.TempDir()
	dir := filepath.Join(top, "exposed")
	require.NoError(t, os.Mkdir(dir, 0o755))
	link := filepath.Join(top, "link")
	require.NoError(t, os.Symlink(dir, link))
	_, err := New(link, nil)
	require.ErrorContains(t, err, "symbolic link")
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err = New(dir, nil)
	require.ErrorContains(t, err, "chmod")
	require.NoError(t, os.Chmod(dir, 0o755))
	_, err = New(dir, nil)
	require.NoError(t, err)
}
