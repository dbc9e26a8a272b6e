package snaptest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// A Backend is what all backends implement.
type Backend interface {
	backend.Snapshots
	backend.Sealer
	backend.SnapshotLister
}

// Conform tests a backend that was made anew: on the first of several shared directories, which are
// on different volumes, empty, and on file systems that nothing else uses.
func Conform(t *testing.T, b Backend, dirs ...string) {
	t.Helper()
	dir := dirs[0]
	Build(t, dir)
	volume, err := b.Volume(t.Context(), dir)
	require.NoError(t, err)
	again, err := b.Volume(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, volume, again)
	rel, err := filepath.Rel(volume.Path, dir)
	require.NoError(t, err)
	require.True(t, filepath.IsLocal(rel), "%s is within %s", dir, volume.Path)
	spec := func(writable bool) backend.SnapshotSpec {
		return backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: volume, Writable: writable}
	}

	t.Run("read-only", func(t *testing.T) {
		want := List(t, dir)
		s := spec(false)
		begin := time.Now()
		made, err := b.Create(t.Context(), []backend.SnapshotSpec{s})
		require.NoError(t, err)
		require.Len(t, made, 1)
		require.Equal(t, s, made[0].SnapshotSpec)
		require.Equal(t, time.UTC, made[0].Created.Location())
		require.WithinRange(t, made[0].Created, begin.Add(-time.Second), time.Now().Add(time.Second))
		Same(t, want, List(t, filepath.Join(made[0].Path, rel)))
		Same(t, want, List(t, dir), "the original is as it was")
		ids(t, b, s.ID)
		hidden := false // by the directory that it is in, or the next
		for _, above := range []string{filepath.Dir(made[0].Path), filepath.Dir(filepath.Dir(made[0].Path))} {
			fi, err := os.Stat(above)
			require.NoError(t, err)
			hidden = hidden || fi.Mode().Perm()&0o004 == 0
		}
		require.True(t, hidden, "users list no snapshots")

		require.NoError(t, os.WriteFile(filepath.Join(dir, "docs/plain.txt"), []byte("changed"), 0o600))
		require.NoError(t, os.Remove(filepath.Join(dir, "links/one")))
		Same(t, want, List(t, filepath.Join(made[0].Path, rel)), "the original does not show through")
		require.NoError(t, b.Seal(t.Context(), made[0]))

		_, err = b.Create(t.Context(), []backend.SnapshotSpec{s})
		require.ErrorIs(t, err, fsrvp.ErrObjectAlreadyExists)
		Same(t, want, List(t, filepath.Join(made[0].Path, rel)), "and is not lost by that")

		require.NoError(t, b.Delete(t.Context(), s))
		require.NoDirExists(t, made[0].Path)
		require.NoError(t, b.Delete(t.Context(), s), "again")
		require.NoError(t, b.Delete(t.Context(), spec(true)), "one that never was")
		ids(t, b)
	})
	t.Run("prepared", func(t *testing.T) {
		preparer, ok := b.(backend.SnapshotPreparer)
		if !ok {
			return
		}
		one, two := spec(false), spec(true)
		require.NoError(t, preparer.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{one}))
		require.NoError(t, preparer.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{one, two}), "again, with more")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "docs/plain.txt"), []byte("changed since"), 0o600))
		require.NoError(t, os.Rename(filepath.Join(dir, "docs/sub"), filepath.Join(dir, "docs/moved since")))
		want := List(t, dir)
		three := spec(false)
		made, err := b.Create(t.Context(), []backend.SnapshotSpec{two, three})
		require.NoError(t, err)
		for _, m := range made {
			require.Empty(t, m.Moved)
			Same(t, want, List(t, filepath.Join(m.Path, rel)))
		}
		require.NoError(t, os.Rename(filepath.Join(dir, "docs/moved since"), filepath.Join(dir, "docs/sub")))
		require.NoError(t, b.Delete(t.Context(), one), "one that was prepared only")
		ids(t, b, two.ID, three.ID)
		require.NoError(t, b.Delete(t.Context(), two))
		require.NoError(t, b.Delete(t.Context(), three))
		ids(t, b)

		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the set was aborted")
		cancel(cause)
		require.ErrorIs(t, preparer.PrepareSnapshots(ctx, []backend.SnapshotSpec{spec(false), spec(true)}), cause)
		require.NoError(t, preparer.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{one}))
		_, err = b.Create(ctx, []backend.SnapshotSpec{one})
		require.ErrorIs(t, err, cause)
		ids(t, b)
	})
	t.Run("writable", func(t *testing.T) {
		s := spec(true)
		made, err := b.Create(t.Context(), []backend.SnapshotSpec{s})
		require.NoError(t, err)
		file := filepath.Join(made[0].Path, rel, "docs/recovered")
		require.NoError(t, os.WriteFile(file, []byte("log replayed"), 0o644))
		require.NoError(t, b.Seal(t.Context(), made[0]))
		require.NoError(t, b.Seal(t.Context(), made[0]), "again")
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, "log replayed", string(got))
		require.NoFileExists(t, filepath.Join(dir, "docs/recovered"))
		all, _, err := b.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.NoError(t, b.Delete(t.Context(), all[0]), "what List knows is enough")
		ids(t, b)
	})
	t.Run("set", func(t *testing.T) {
		var specs []backend.SnapshotSpec
		seen := make(map[string]bool)
		for _, d := range dirs {
			v, err := b.Volume(t.Context(), d)
			require.NoError(t, err)
			require.False(t, seen[v.ID], "volumes are told apart")
			seen[v.ID] = true
			specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v})
		}
		made, err := b.Create(t.Context(), specs)
		require.NoError(t, err)
		for i := range specs {
			require.Equal(t, specs[i], made[i].SnapshotSpec, "in the order that was asked for")
			require.NoError(t, b.Delete(t.Context(), specs[i]))
		}
		bad := specs[len(specs)-1]
		bad.ID, bad.Volume.Path = fsrvp.NewCopyID(), filepath.Join(dir, "docs/sub/empty/gone")
		_, err = b.Create(t.Context(), append(slices.Clone(specs), bad))
		require.ErrorIs(t, err, os.ErrNotExist)
		ids(t, b)
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the set was aborted")
		cancel(cause)
		_, err := b.Create(ctx, []backend.SnapshotSpec{spec(false), spec(true)})
		require.ErrorIs(t, err, cause)
		ids(t, b)
	})
	t.Run("concurrent", func(t *testing.T) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 3 {
					s := spec(false)
					made, err := b.Create(context.WithoutCancel(t.Context()), []backend.SnapshotSpec{s})
					if err == nil {
						_, err = os.Stat(filepath.Join(made[0].Path, rel, "docs/big"))
					}
					if err == nil {
						_, _, err = b.List(t.Context(), backend.Owner{})
					}
					if err := errors.Join(err, b.Delete(t.Context(), s)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		ids(t, b)
	})
	t.Run("deleted by several", func(t *testing.T) {
		for range 5 {
			s := spec(false)
			_, err := b.Create(t.Context(), []backend.SnapshotSpec{s})
			require.NoError(t, err)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if err := b.Delete(context.WithoutCancel(t.Context()), s); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			ids(t, b)
		}
	})
	t.Run("owners", func(t *testing.T) {
		mine, theirs, old := spec(false), spec(true), spec(false)
		mine.Mark = backend.Mark{Owner: backend.NewOwner("here"), Sequence: 1<<64 - 1}
		theirs.Mark = backend.Mark{Owner: backend.NewOwner("there"), Sequence: 7}
		all := []backend.SnapshotSpec{mine, theirs, old}
		for _, s := range all { // as different agents do
			made, err := b.Create(t.Context(), []backend.SnapshotSpec{s})
			require.NoError(t, err)
			require.Equal(t, s, made[0].SnapshotSpec)
		}
		marks := func(specs []backend.SnapshotSpec) map[fsrvp.CopyID]backend.Mark {
			m := map[fsrvp.CopyID]backend.Mark{}
			for _, s := range specs {
				m[s.ID] = s.Mark
			}
			return m
		}
		own, foreign, err := b.List(t.Context(), mine.Mark.Owner)
		require.NoError(t, err)
		require.Equal(t, map[fsrvp.CopyID]backend.Mark{mine.ID: mine.Mark}, marks(own))
		require.Equal(t, map[fsrvp.CopyID]backend.Mark{theirs.ID: theirs.Mark, old.ID: {}}, marks(foreign))

		for _, owner := range []backend.Owner{mine.Mark.Owner, {}} {
			stolen := theirs
			stolen.Mark = backend.Mark{Owner: owner}
			require.ErrorIs(t, b.Delete(t.Context(), stolen), backend.ErrForeign)
			_, err = b.Create(t.Context(), []backend.SnapshotSpec{stolen})
			require.ErrorIs(t, err, fsrvp.ErrObjectAlreadyExists)
		}
		own, foreign, err = b.List(t.Context(), theirs.Mark.Owner)
		require.NoError(t, err)
		require.Len(t, own, 1)
		require.Len(t, foreign, 2)

		adopted := old
		adopted.Mark = mine.Mark
		require.NoError(t, b.Delete(t.Context(), adopted), "without a mark it is whose table knows it")
		mine.Mark.Sequence = 0
		require.NoError(t, b.Delete(t.Context(), mine), "the owner counts, not the sequence")
		require.NoError(t, b.Delete(t.Context(), own[0]), "what List says of it is enough")
		ids(t, b)
	})
	t.Run("unsupported", func(t *testing.T) {
		link := filepath.Join(Dir(t), "link")
		require.NoError(t, os.Symlink(dir, link))
		for path, want := range map[string]error{
			filepath.Join(dir, "nothing"): fsrvp.ErrObjectNotFound,
			"relative":                    fsrvp.ErrInvalidArg,
			dir + "/../x":                 fsrvp.ErrInvalidArg,
			link:                          fsrvp.ErrNotSupported,
			filepath.Join(link, "docs"):   fsrvp.ErrNotSupported,
			filepath.Join(dir, "sparse"):  fsrvp.ErrNotSupported,
		} {
			_, err := b.Volume(t.Context(), path)
			require.ErrorIs(t, err, want, path)
		}
		_, err := b.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(),
			Volume: backend.Volume{ID: "other:x", Path: dir}}})
		require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
		require.ErrorIs(t, b.Delete(t.Context(), backend.SnapshotSpec{Volume: backend.Volume{ID: "other:x"}}),
			fsrvp.ErrInvalidArg)

		point := filepath.Join(dir, "docs/sub/empty")
		require.NoError(t, unix.Mount("none", point, "tmpfs", 0, ""))
		defer func() { require.NoError(t, unix.Unmount(point, 0)) }()
		_, err = b.Volume(t.Context(), dir)
		require.ErrorIs(t, err, fsrvp.ErrNotSupported, "a mount below")
		_, err = b.Volume(t.Context(), filepath.Join(dir, "links"))
		require.NoError(t, err, "a mount elsewhere")
	})
}

// ids demands that the backend holds these snapshots, and none else.
func ids(t *testing.T, b Backend, want ...fsrvp.CopyID) {
	t.Helper()
	all, _, err := b.List(t.Context(), backend.Owner{})
	require.NoError(t, err)
	got := make([]fsrvp.CopyID, len(all))
	for i := range all {
		got[i] = all[i].ID
	}
	require.ElementsMatch(t, want, got)
}
