package snaptest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

const (
	alice = 65534 // owns what shares lie in
	staff = 4711  // a group
	bob   = 4321
)

// Secure tests that nobody who owns a directory above a share leads a backend, which was made anew,
// anywhere else, and that snapshots are no more open than what they are of. Base is an empty
// directory that everybody may pass through, and volume makes a directory that is a volume of its
// own.
func Secure(t *testing.T, b Backend, base string, volume func(path string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root, to be other users")
	}
	t.Run("swapped", func(t *testing.T) { swapped(t, b, filepath.Join(base, "swapped"), volume) })
	t.Run("gates", func(t *testing.T) { gates(t, b, filepath.Join(base, "gates"), volume) })
	t.Run("closed later", func(t *testing.T) { closed(t, b, filepath.Join(base, "closed"), volume) })
	t.Run("mounted later", func(t *testing.T) { mounted(t, b, filepath.Join(base, "mounted"), volume) })
	t.Run("exposed", func(t *testing.T) { exposed(t, b, filepath.Join(base, "exposed"), volume) })
}

// as runs a command as a user in a group.
func as(uid, gid int, command ...string) (string, error) {
	args := append([]string{"--reuid=" + strconv.Itoa(uid), "--regid=" + strconv.Itoa(gid), "--clear-groups"},
		command...)
	out, err := exec.Command("setpriv", args...).CombinedOutput()
	return string(out), err
}

func mkdirs(t *testing.T, mode os.FileMode, uid int, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(path, 0o755))
	require.NoError(t, os.Chmod(path, mode))
	require.NoError(t, os.Chown(path, uid, uid))
}

// swapped has the owner of a directory above a share replace it after the share was added.
func swapped(t *testing.T, b Backend, base string, volume func(string)) {
	for name, swap := range map[string]string{
		"symbolic link": "mv mid was && ln -s ../secret mid",
		"link of old":   "mv mid was && ln -s was mid",
		"directory":     "mv mid was && mkdir -p mid/pub && touch mid/pub/key",
		"last step":     "mv mid/pub mid/was && ln -s ../../secret/pub mid/pub",
		"renamed":       "mv mid/pub mid/was",
		"above renamed": "mv mid was",
	} {
		t.Run(name, func(t *testing.T) {
			top := filepath.Join(base, name)
			mkdirs(t, 0o755, 0, filepath.Join(top, "secret/pub"))
			require.NoError(t, os.WriteFile(filepath.Join(top, "secret/pub/key"), []byte("root's secret"), 0o644))
			require.NoError(t, os.Chmod(filepath.Join(top, "secret"), 0o700))
			mkdirs(t, 0o755, alice, filepath.Join(top, "alice"))
			mkdirs(t, 0o755, alice, filepath.Join(top, "alice/mid"))
			share := filepath.Join(top, "alice/mid/pub")
			volume(share)
			require.NoError(t, os.Chown(share, alice, alice))
			require.NoError(t, os.WriteFile(filepath.Join(share, "hers"), []byte("alice's"), 0o644))
			v, err := b.Volume(t.Context(), share)
			require.NoError(t, err)
			ahead := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
			preparer, prepares := b.(backend.SnapshotPreparer)
			if prepares {
				require.NoError(t, preparer.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{ahead}))
			}
			out, err := as(alice, alice, "sh", "-c", "cd '"+top+"/alice' && "+swap)
			if err != nil && strings.Contains(out, "busy") { // what is mounted cannot be moved
				return
			}
			require.NoError(t, err, out)

			if prepares {
				_, err := b.Create(t.Context(), []backend.SnapshotSpec{ahead})
				require.Error(t, err, "the directory that was added is not the share any more")
				ids(t, b)
			}
			_, err = b.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
			require.Error(t, err)
			ids(t, b)
		})
	}
}

// gates has directories above a share that not everybody may pass through.
func gates(t *testing.T, b Backend, base string, volume func(string)) {
	for name, c := range map[string]struct {
		arrange                func(t *testing.T, dir string)
		alice, bob, staff, any bool // may read
	}{
		"nobody": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir, 0o700))
		}},
		"owner": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir, 0o700))
			require.NoError(t, os.Chown(dir, alice, 0))
		}, alice: true},
		"group": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir, 0o710))
			require.NoError(t, os.Chown(dir, 0, staff))
		}, staff: true},
		"all but the group": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir, 0o705))
			require.NoError(t, os.Chown(dir, 0, staff))
		}, alice: true, bob: true, any: true},
		"user by name": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, unix.Setxattr(dir, "system.posix_acl_access", ACL(7, bob, 5, 0, 5, 0), 0))
		}, bob: true},
		"masked": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, unix.Setxattr(dir, "system.posix_acl_access", ACL(7, bob, 7, 0, 4, 0), 0))
		}},
		"all but a user": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, unix.Setxattr(dir, "system.posix_acl_access", ACL(7, bob, 0, 5, 5, 5), 0))
		}, alice: true, staff: true, any: true},
		"two": {arrange: func(t *testing.T, dir string) {
			require.NoError(t, os.Chmod(dir, 0o710))
			require.NoError(t, os.Chown(dir, 0, staff))
			inner := filepath.Join(dir, "inner")
			require.NoError(t, os.Chmod(inner, 0o700))
			require.NoError(t, os.Chown(inner, alice, 0))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(base, name)
			mkdirs(t, 0o755, 0, filepath.Join(dir, "inner"))
			share := filepath.Join(dir, "inner/data")
			volume(share)
			require.NoError(t, os.WriteFile(filepath.Join(share, "f"), []byte("for some"), 0o644))
			c.arrange(t, dir)
			v, err := b.Volume(t.Context(), share)
			require.NoError(t, err)
			spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
			made, err := b.Create(t.Context(), []backend.SnapshotSpec{spec})
			require.NoError(t, err)
			for _, path := range []string{share, made[0].Path} {
				for _, user := range []struct {
					name     string
					uid, gid int
					may      bool
				}{
					{"alice", alice, alice, c.alice}, {"bob", bob, bob, c.bob}, {"staff", 12345, staff, c.staff}, {"any", 23456, 23456, c.any},
				} {
					out, err := as(user.uid, user.gid, "cat", filepath.Join(path, "f"))
					require.Equal(t, user.may, err == nil, "%s reads below %s: %s", user.name, path, out)
				}
			}
			all, _, err := b.List(t.Context(), backend.Owner{})
			require.NoError(t, err)
			require.Len(t, all, 1)
			require.Equal(t, spec.ID, all[0].ID)
			_, err = b.Create(t.Context(), []backend.SnapshotSpec{spec})
			require.ErrorIs(t, err, fsrvp.ErrObjectAlreadyExists)
			require.FileExists(t, filepath.Join(made[0].Path, "f"))
			require.NoError(t, b.Delete(t.Context(), all[0]), "what List knows is enough")
			ids(t, b)
			left, err := os.ReadDir(holder(t, made[0].Path))
			require.NoError(t, err)
			for _, e := range left {
				require.NotContains(t, e.Name(), spec.ID.String(), "gates go with the snapshot")
			}
		})
	}
}

// closed takes the right to pass through a directory above the share away when the bulk of the
// snapshot is made.
func closed(t *testing.T, b Backend, base string, volume func(string)) {
	preparer, ok := b.(backend.SnapshotPreparer)
	if !ok {
		return
	}
	above := filepath.Join(base, "above")
	mkdirs(t, 0o755, 0, above)
	share := filepath.Join(above, "data")
	volume(share)
	require.NoError(t, os.WriteFile(filepath.Join(share, "f"), []byte("for some"), 0o644))
	v, err := b.Volume(t.Context(), share)
	require.NoError(t, err)
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	require.NoError(t, preparer.PrepareSnapshots(t.Context(), []backend.SnapshotSpec{spec}))
	require.NoError(t, os.Chmod(above, 0o700))
	made, err := b.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	_, err = as(alice, alice, "cat", filepath.Join(made[0].Path, "f"))
	require.Error(t, err, "alice reads")
	require.NoError(t, b.Delete(t.Context(), spec))
	ids(t, b)
}

// mounted mounts something in the share after it was added: the snapshot, which is without it, is
// refused when it is taken, or when it is to be exposed.
func mounted(t *testing.T, b Backend, base string, volume func(string)) {
	mkdirs(t, 0o755, 0, base)
	share := filepath.Join(base, "share")
	volume(share)
	point := filepath.Join(share, "a/b")
	require.NoError(t, os.MkdirAll(point, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(share, "beside"), 0o755))
	v, err := b.Volume(t.Context(), share)
	require.NoError(t, err)
	rel, err := filepath.Rel(v.Path, share)
	require.NoError(t, err)
	require.NoError(t, unix.Mount("none", point, "tmpfs", 0, ""))
	defer func() { require.NoError(t, unix.Unmount(point, unix.MNT_DETACH)) }()
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	made, err := b.Create(t.Context(), []backend.SnapshotSpec{spec})
	if err == nil {
		checker := b.(backend.PathChecker)
		require.NoError(t, checker.CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, rel, "beside")))
		err = checker.CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, rel))
	}
	require.ErrorIs(t, err, fsrvp.ErrNotSupported)
	require.ErrorContains(t, err, "b")
	require.NoError(t, b.Delete(t.Context(), spec))
	ids(t, b)
}

// holder returns the directory of snapshots that a snapshot, maybe behind gates, is in: the last
// one that is there.
func holder(t *testing.T, path string) string {
	t.Helper()
	for {
		if _, err := os.Lstat(path); err == nil {
			return path
		}
		path = filepath.Dir(path)
	}
}

// exposed has symbolic links on the way to a directory that is to be exposed.
func exposed(t *testing.T, b Backend, base string, volume func(string)) {
	checker, ok := b.(backend.PathChecker)
	require.True(t, ok, "a backend checks what is exposed")
	mkdirs(t, 0o755, 0, base)
	share := filepath.Join(base, "share")
	volume(share)
	require.NoError(t, os.MkdirAll(filepath.Join(share, "a/b"), 0o755))
	require.NoError(t, os.Symlink("/etc", filepath.Join(share, "out")))
	require.NoError(t, os.Symlink("../..", filepath.Join(share, "a/up")))
	v, err := b.Volume(t.Context(), share)
	require.NoError(t, err)
	rel, err := filepath.Rel(v.Path, share)
	require.NoError(t, err)
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	made, err := b.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	for path, want := range map[string]error{
		"": nil, "a/b": nil, "out": fsrvp.ErrNotSupported, "out/ssl": fsrvp.ErrNotSupported, "a/up/share": fsrvp.ErrNotSupported,
		"nothing": os.ErrNotExist, "../..": fsrvp.ErrInvalidArg,
	} {
		err := checker.CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, rel, path))
		require.ErrorIs(t, err, want, path)
	}
	require.NoError(t, b.Delete(t.Context(), spec))
	ids(t, b)
}
