//go:build unix

package samba

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// A mode is whether the helper changes the registry, or programs do.
type mode string

const (
	byHelper   mode = "helper"
	byPrograms mode = "programs"
)

// inBothModes runs a test in each mode.
func inBothModes(t *testing.T, test func(t *testing.T, with mode)) {
	for _, with := range []mode{byHelper, byPrograms} {
		t.Run(string(with), func(t *testing.T) { test(t, with) })
	}
}

// new is New in that mode, with Close at the test's end.
func (m mode) new(t testing.TB, cfg Config) *Shares {
	t.Helper()
	if m == byHelper {
		if out, err := exec.Command("/usr/bin/python3", "-I", "-c", "import samba.samba3.smbconf").CombinedOutput(); err != nil {
			missing(t, "needs python3-samba: "+string(out))
		}
	}
	cfg.ProgramsOnly = m == byPrograms
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := New(t.Context(), &cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.Equal(t, m == byHelper, s.Helper().Running)
	return s
}

// quickDir returns a directory of the test's own, in memory where that is possible: Samba syncs its databases.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "fsrvp-samba-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
