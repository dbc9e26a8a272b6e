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
	require.ErrorContains(t, err, "it wrote output of more than 8388608 bytes")
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
		}, time.Minute, 10*time.Millisecond)
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

// TestKeep has a program write much more than the limit, in lines of which few are kept.
func TestKeep(t *testing.T) {
	keep := func(line []byte) bool { return strings.HasPrefix(string(line), "mine") }
	out, err := Run(t.Context(), Call{Keep: keep,
		Argv: sh("yes 'somebody else' | head -c 20000000; echo; echo mine one; echo; printf 'mine two'")})
	require.NoError(t, err)
	require.Equal(t, "mine one\nmine two", string(out))

	_, err = Run(t.Context(), Call{Keep: keep, Argv: sh("cat /dev/zero")})
	require.ErrorContains(t, err, "it wrote a line of more than 65536 bytes")
	_, err = Run(t.Context(), Call{Keep: keep, Argv: sh("yes mine")})
	require.ErrorContains(t, err, "it wrote output of more than 8388608 bytes")
	_, err = Run(t.Context(), Call{Keep: keep, Argv: sh("yes mine | head -c 8388607")})
	require.NoError(t, err, "the last line has no newline")
	_, err = Run(t.Context(), Call{Keep: keep, Argv: sh("yes mine | head -c 8388605; printf miner")})
	require.ErrorContains(t, err, "it wrote output of more than 8388608 bytes", "nor has this one")

	out, err = Run(t.Context(), Call{Argv: sh(`echo "$LC_ALL"`), Env: []string{"LC_ALL=C"}})
	require.NoError(t, err)
	require.Equal(t, "C\n", string(out))
}

// TestDaemon has programs that leave something at work, and that do other odd things.
func TestDaemon(t *testing.T) {
	dir := t.TempDir()
	pid := func(name string) int {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		require.NoError(t, err)
		return n
	}
	out, err := Run(t.Context(), Call{Argv: sh("sleep 1000 >/dev/null 2>&1 <&- & echo $! >" + dir + "/quiet; echo done")})
	require.NoError(t, err, "a daemon that holds nothing is none of ours")
	require.Equal(t, "done\n", string(out))
	require.NoError(t, syscall.Kill(pid("quiet"), 0))
	require.NoError(t, syscall.Kill(pid("quiet"), syscall.SIGKILL))

	_, err = Run(t.Context(), Call{Argv: sh("sleep 1000 & echo $! >" + dir + "/holds; echo done")})
	require.ErrorContains(t, err, "a process that it started still has its standard output")
	require.NoError(t, syscall.Kill(pid("holds"), syscall.SIGKILL))

	_, err = Run(t.Context(), Call{Argv: sh("trap '' TERM INT HUP; while :; do sleep 1000; done"), Timeout: 200 * time.Millisecond})
	require.ErrorContains(t, err, "ran for more than")

	out, err = Run(t.Context(), Call{Argv: sh("exec <&- ; echo early; exec >&-; exit 0"), Input: make([]byte, 4<<20)})
	require.NoError(t, err, "it does not read, and closes its output early")
	require.Equal(t, "early\n", string(out))

	_, err = Run(t.Context(), Call{Argv: sh("kill -SEGV $$")})
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, -1, e.Exit)
	require.ErrorContains(t, err, "segmentation fault")
}
