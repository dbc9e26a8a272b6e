package fileid

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(a, []byte("x"), 0o600))
	id := Of(a)
	if id == "" {
		t.Skip("the file system says too little")
	}
	f, err := os.Open(a)
	require.NoError(t, err)
	require.Equal(t, id, OfFile(f))
	require.NoError(t, f.Close())
	require.Empty(t, OfFile(f), "a closed file")

	require.NoError(t, os.WriteFile(a, []byte("more"), 0o600))
	require.NoError(t, os.Rename(a, b))
	require.Equal(t, id, Of(b), "the file, changed and renamed")
	require.Empty(t, Of(a))
	require.NoError(t, os.WriteFile(a, []byte("more"), 0o600))
	require.NotEqual(t, id, Of(a), "a copy")
	require.NoError(t, os.Remove(b))
	require.NoError(t, os.Symlink(a, b))
	require.NotEqual(t, Of(a), Of(b))
}

func TestRoot(t *testing.T) {
	dir := t.TempDir()
	root, id := Root(filepath.Join(dir, "none"))
	require.Empty(t, root+id)
	if root, id = Root(dir); id == "" {
		t.Skip("the file system says too little")
	}
	require.Equal(t, Of(root), id)
	inner := filepath.Join(dir, "a", "b")
	require.NoError(t, os.MkdirAll(inner, 0o700))
	again, sameID := Root(inner)
	require.Equal(t, []string{root, id}, []string{again, sameID})
	if proc, id := Root("/proc/self"); id != "" {
		require.Equal(t, "/proc", proc)
	}
}
