//go:build unix

package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestRun(t *testing.T) {
	out, err := Run(t.Context(), Call{Argv: sh("cat; echo noise >&2"), Input: []byte("through")})
	require.NoError(t, err)
	require.Equal(t, "through", string(out))

	_, err = Run(t.Context(), Call{Argv: sh("echo 'pool is full' >&2; exit 5")})
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 5, e.Exit)
	require.ErrorContains(t, err, "pool is full")

	_, err = Run(t.Context(), Call{Argv: sh("head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1")})
	require.ErrorAs(t, err, &e)
	require.LessOrEqual(t, len(e.Stderr), maxStderr)
	require.True(t, strings.HasSuffix(e.Stderr, "xend"))

	_, err = Run(t.Context(), Call{Argv: []string{filepath.Join(t.TempDir(), "nothing")}})
	require.ErrorAs(t, err, &e)
	require.Equal(t, -1, e.Exit)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestTooMuch(t *testing.T) {
	_, err := Run(t.Context(), Call{Argv: sh("cat /dev/zero")})
	require.ErrorContains(t, err, "wrote more than")
}

// TestKilled has a program with a child that goes on.
func TestKilled(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	script := "sleep 1000 & echo $! >" + note + ".new; mv " + note + ".new " + note + "; wait"
	gone := func() {
		b, err := os.ReadFile(note)
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			// a zombie waits for init
			return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(stat), ") Z ")
		}, 5*time.Second, 10*time.Millisecond)
	}
	_, err := Run(t.Context(), Call{Argv: sh(script), Timeout: 300 * time.Millisecond})
	require.ErrorContains(t, err, "ran for more than")
	gone()
	require.NoError(t, os.Remove(note))

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the set was aborted")
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(note); err == nil {
				cancel(cause)
			}
		}
	}()
	_, err = Run(ctx, Call{Argv: sh(script)})
	require.ErrorIs(t, err, cause)
	gone()
	_, err = Run(ctx, Call{Argv: sh("true")})
	require.ErrorIs(t, err, cause)
}
