//go:build unix

package recordfile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRights: others may neither write to the directory nor use the file, and nothing is a symbolic
// link.
func TestRights(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir, path string)
		want  string
	}{
		"directory of all":    {func(t *testing.T, dir, _ string) { require.NoError(t, os.Chmod(dir, 0o777)) }, "others may write to it"},
		"sticky directory":    {func(t *testing.T, dir, _ string) { require.NoError(t, os.Chmod(dir, 0o777|os.ModeSticky)) }, "others may write to it"},
		"file of all":         {func(t *testing.T, _, path string) { require.NoError(t, os.Chmod(path, 0o604)) }, "others may use it"},
		"id of all":           {func(t *testing.T, _, path string) { require.NoError(t, os.Chmod(path+".id", 0o640)) }, "others may use it"},
		"link":                {func(t *testing.T, _, path string) { link(t, path) }, "is a symbolic link"},
		"link to the id":      {func(t *testing.T, _, path string) { link(t, path+".id") }, "is a symbolic link"},
		"link to directory":   {func(t *testing.T, dir, _ string) { link(t, dir) }, "is a symbolic link"},
		"another's file":      {func(t *testing.T, _, path string) { chown(t, path) }, "belongs to user 12345"},
		"another's directory": {func(t *testing.T, dir, _ string) { chown(t, dir) }, "belongs to user 12345"},
		"no file": {func(t *testing.T, _, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o700))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			require.NoError(t, os.Mkdir(dir, 0o700))
			path := filepath.Join(dir, "file")
			require.NoError(t, open(t, path).Close())
			c.spoil(t, dir, path)
			_, err := Open(path, &Options{Kind: testKind})
			require.ErrorContains(t, err, c.want)
			if name != "no file" {
				require.NotErrorIs(t, err, os.ErrNotExist)
			}
		})
	}
}

func link(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.Rename(path, path+".real"))
	require.NoError(t, os.Symlink(path+".real", path))
}

func chown(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	require.NoError(t, os.Chown(path, 12345, -1))
}
