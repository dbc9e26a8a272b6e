package durable

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Dir(dir))
	if canSyncDir {
		require.ErrorIs(t, Dir(filepath.Join(dir, "none")), fs.ErrNotExist)
	}
}

func TestData(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	_, err = f.WriteString("x")
	require.NoError(t, err)
	require.NoError(t, Data(f))
	require.NoError(t, f.Close())
	require.Error(t, Data(f), "a closed file")
}
