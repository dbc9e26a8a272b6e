//go:build unix

package samba

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"sync"
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
		if out, err := exec.Command("/usr/bin/python3", "-I", "-c",
			"import samba.samba3.smbconf").CombinedOutput(); err != nil {
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

// quickDir returns a directory of the test's own, in memory where that is possible: Samba syncs its
// databases.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "fsrvp-samba-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// A logCounter counts the programs that ran, by the log.
type logCounter struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *logCounter) logger() *slog.Logger { return slog.New(programHandler{slog.DiscardHandler, c}) }

func (c *logCounter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts = nil
}

func (c *logCounter) of(program string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[program]
}

// A programHandler hands a logCounter the names of the programs in a log.
type programHandler struct {
	slog.Handler
	counter *logCounter
}

func (h programHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h programHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "program" {
			h.counter.mu.Lock()
			defer h.counter.mu.Unlock()
			if h.counter.counts == nil {
				h.counter.counts = map[string]int{}
			}
			h.counter.counts[a.Value.String()]++
		}
		return true
	})
	return nil
}
