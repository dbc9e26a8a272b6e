//go:build unix

package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWarnOfReaders(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keytab")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o620: true} {
		require.NoError(t, os.Chmod(name, mode))
		var log bytes.Buffer
		warnOfReaders(slog.New(slog.NewTextHandler(&log, nil)), "-keytab", name)
		require.Equal(t, warns, log.Len() > 0, mode)
	}
	var log bytes.Buffer
	warnOfReaders(slog.New(slog.NewTextHandler(&log, nil)), "-keytab", "")
	require.Zero(t, log.Len())
}
