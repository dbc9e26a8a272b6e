//go:build unix

package trusted

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDir(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	require.ErrorIs(t, Dir(dir), fs.ErrNotExist)
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, Dir(dir))
	for _, mode := range []fs.FileMode{0o777, 0o775, 0o757, 0o777 | fs.ModeSticky} {
		require.NoError(t, os.Chmod(dir, mode))
		require.ErrorContains(t, Dir(dir), "chmod", mode)
	}
	require.NoError(t, os.Chmod(dir, 0o711))

	require.NoError(t, os.Chmod(top, 0o777))
	require.ErrorContains(t, Dir(dir), "chmod", "its parent")
	require.NoError(t, os.Chmod(top, 0o777|fs.ModeSticky))
	require.NoError(t, Dir(dir))

	link := filepath.Join(top, "link")
	require.NoError(t, os.Symlink(dir, link))
	require.ErrorContains(t, Dir(link), "symbolic link")
	file := filepath.Join(top, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, Dir(file))

	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(dir, 65534, 65534))
		require.ErrorContains(t, Dir(dir), "user 65534")
		require.NoError(t, os.Chown(dir, 0, 0))
		require.NoError(t, os.Chown(top, 65534, 65534))
		require.ErrorContains(t, Dir(dir), "user 65534")
	}
}
