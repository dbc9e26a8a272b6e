package safepath

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

func base(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	return dir
}

func TestOpen(t *testing.T) {
	dir := base(t)
	deep := filepath.Join(dir, "a/b/c")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	require.NoError(t, os.Chmod(filepath.Join(dir, "a"), 0o711))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/file"), nil, 0o644))
	require.NoError(t, os.Symlink("b", filepath.Join(dir, "a/link")))

	d, err := Open(deep)
	require.NoError(t, err)
	defer d.Close()
	require.Equal(t, deep, d.Name())
	require.Equal(t, "/", d.Above[0].Path)
	last := d.Above[len(d.Above)-2:]
	require.Equal(t, filepath.Join(dir, "a"), last[0].Path)
	require.EqualValues(t, 0o711, last[0].Mode)
	require.Equal(t, filepath.Join(dir, "a/b"), last[1].Path)

	for path, want := range map[string]error{
		"relative":                      fsrvp.ErrInvalidArg,
		deep + "/..":                    fsrvp.ErrInvalidArg,
		filepath.Join(dir, "a/link"):    fsrvp.ErrNotSupported,
		filepath.Join(dir, "a/link/c"):  fsrvp.ErrNotSupported,
		filepath.Join(dir, "a/file"):    fsrvp.ErrNotSupported,
		filepath.Join(dir, "a/nothing"): os.ErrNotExist,
		filepath.Join(dir, "no/thing"):  fsrvp.ErrObjectNotFound,
	} {
		_, err := Open(path)
		require.ErrorIs(t, err, want, path)
	}
	root, err := Open("/")
	require.NoError(t, err)
	require.Empty(t, root.Above)
	require.NoError(t, root.Close())
}

func TestPin(t *testing.T) {
	dir := base(t)
	path := filepath.Join(dir, "a/b")
	require.NoError(t, os.MkdirAll(path, 0o755))
	d, err := Open(path)
	require.NoError(t, err)
	pin, err := d.Pin()
	require.NoError(t, err)
	require.NotEmpty(t, pin)
	require.NoError(t, d.Close())
	for _, p := range []string{pin, ""} {
		d, err = OpenPinned(path, p)
		require.NoError(t, err)
		require.NoError(t, d.Close())
	}
	require.NoError(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "was")))
	require.NoError(t, os.MkdirAll(path, 0o755))
	_, err = OpenPinned(path, pin)
	require.ErrorContains(t, err, "is not the same directory")
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.Symlink(filepath.Join(dir, "was/b"), path))
	_, err = OpenPinned(path, pin)
	require.ErrorIs(t, err, fsrvp.ErrNotSupported, "the same directory, by a symbolic link")
}

func TestCheckBeneath(t *testing.T) {
	dir := base(t)
	root := filepath.Join(dir, "root")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o755))
	require.NoError(t, os.Symlink("a", filepath.Join(root, "in")))
	require.NoError(t, os.Symlink("/", filepath.Join(root, "a/out")))
	require.NoError(t, os.Symlink("root", filepath.Join(dir, "also")))
	require.NoError(t, unix.Mkfifo(filepath.Join(root, "a/fifo"), 0o600))
	for path, want := range map[string]error{
		root:                              nil,
		filepath.Join(root, "a/b"):        nil,
		filepath.Join(root, "in"):         fsrvp.ErrNotSupported,
		filepath.Join(root, "in/b"):       fsrvp.ErrNotSupported,
		filepath.Join(root, "a/out/tmp"):  fsrvp.ErrNotSupported,
		filepath.Join(root, "a/fifo"):     fsrvp.ErrNotSupported,
		filepath.Join(root, "a/b/c"):      os.ErrNotExist,
		filepath.Join(dir, "elsewhere"):   fsrvp.ErrInvalidArg,
		filepath.Join(root, "a/../../up"): fsrvp.ErrInvalidArg,
	} {
		if err := CheckBeneath(root, path); want == nil {
			require.NoError(t, err, path)
		} else {
			require.ErrorIs(t, err, want, path)
		}
	}
	require.NoError(t, CheckBeneath(filepath.Join(dir, "also"), filepath.Join(dir, "also/a")),
		"the root is the administrator's")
}
