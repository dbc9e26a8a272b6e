//go:build unix

package recordfile

import (
	"os"
	"path/filepath"
	"strings"
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

// TestRemovedWhileOpen removes and moves what is open: nobody else opens it, and nothing of
// somebody else's, who has come to its place, is replaced.
func TestRemovedWhileOpen(t *testing.T) {
	o := &Options{Kind: testKind}
	long := put("long", strings.Repeat("x", 600_000)) // after which the file is written anew

	t.Run("the id", func(t *testing.T) {
		path := filepath.Join(quickDir(t), "file")
		f := open(t, path)
		require.NoError(t, f.Write(put("a", "1")))
		require.NoError(t, os.Remove(path+".id"))
		_, err := Open(path, o)
		require.ErrorIs(t, err, ErrInUse)
		_, err = Replace(path, o, f.ID(), nil)
		require.ErrorIs(t, err, ErrInUse)
		require.NoError(t, f.Write(put("a", "2")))
		require.NoError(t, f.Write(long), "it is stored, in the old file")
		require.NoError(t, f.Close())
		again := open(t, path)
		origin, _ := again.Origin()
		require.Equal(t, Unknown, origin)
		require.Equal(t, "2", string(again.Load()["a"]))
		require.Len(t, again.Load(), 2)
	})
	t.Run("all", func(t *testing.T) {
		path := filepath.Join(quickDir(t), "file")
		f := open(t, path)
		require.NoError(t, f.Write(put("a", "1")))
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Remove(path+".id"))
		for range 2 {
			require.ErrorContains(t, f.Write(put("a", "2")), "removed while it was in use")
		}
		require.Equal(t, "1", string(f.Load()["a"]))
	})
	t.Run("moved", func(t *testing.T) {
		top := quickDir(t)
		here, there := filepath.Join(top, "here"), filepath.Join(top, "there")
		require.NoError(t, os.Mkdir(here, 0o700))
		f := open(t, filepath.Join(here, "file"))
		require.NoError(t, os.Rename(here, there))
		require.NoError(t, f.Write(put("a", "1")))
		require.NoError(t, os.Mkdir(here, 0o700))
		other := open(t, filepath.Join(here, "file"))
		require.NoError(t, other.Write(put("b", "1")))
		require.NoError(t, f.Write(long))
		require.NoError(t, f.Write(long))
		require.NoError(t, f.Close())
		require.NoError(t, other.Write(put("b", "2")))
		require.NoError(t, other.Close())
		require.Equal(t, "2", string(open(t, filepath.Join(here, "file")).Load()["b"]))
		moved := open(t, filepath.Join(there, "file"))
		require.Equal(t, "1", string(moved.Load()["a"]))
		require.Len(t, moved.Load()["long"], 600_000)
		require.Equal(t, f.ID(), moved.ID())
	})
}
