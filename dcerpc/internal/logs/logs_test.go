package logs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/logs"
)

func TestCut(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("a", 256)} {
		require.Equal(t, s, logs.Cut(s))
	}
	for _, fill := range []string{"a", "\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x92\xbe", "\x80", "\x00"} {
		for n := range 5 {
			got := logs.Cut(strings.Repeat("x", n) + strings.Repeat(fill, 300))
			require.LessOrEqual(t, len(got), logs.MaxText)
			require.Greater(t, len(got), logs.MaxText-8)
			require.True(t, strings.HasSuffix(got, "..."))
			require.Equal(t, utf8.ValidString(fill), utf8.ValidString(got))
		}
	}
}

func TestShort(t *testing.T) {
	require.Equal(t, io.EOF, logs.Short(io.EOF))
	err := logs.Short(fmt.Errorf("%s: %w", strings.Repeat("x", 60000), io.EOF))
	require.ErrorIs(t, err, io.EOF)
	require.Len(t, err.Error(), logs.MaxText)
}

// A lockedBuffer is what timers write their lines to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// take returns what was written since the last call.
func (l *lockedBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

// TestRefusals logs the first refusal of an address, and the others as a sum by the minute.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		lines := func() []string {
			synctest.Wait()
			return strings.Split(strings.TrimSuffix(out.take(), "\n"), "\n")
		}
		var r logs.Refusals
		for i := range 1000 {
			r.Note(log, "10.0.0.1", fmt.Errorf("bad %d", i))
		}
		r.Note(log, "10.0.0.2", errors.New("other"))
		got := lines()
		require.Len(t, got, 2)
		require.Contains(t, got[0], "bad 0")
		require.Contains(t, got[1], "other")
		time.Sleep(logs.Window + time.Second)
		got = lines()
		require.Len(t, got, 1)
		require.Contains(t, got[0], "times=999")
		require.Contains(t, got[0], "bad 999")
		time.Sleep(10 * logs.Window)
		require.Equal(t, []string{""}, lines())
		for i := range 5000 {
			r.Note(log, fmt.Sprint("host", i), errors.New("many"))
		}
		require.Less(t, len(lines()), 300)
		r.Close()
		require.Contains(t, lines()[0], "times=")
		time.Sleep(logs.Window)
		r.Note(log, "10.0.0.1", errors.New("late"))
		require.Len(t, lines(), 1)
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a clock: 5 min": "a clock: 5 min", "Größe": "Größe", "a\nb": `"a\nb"`, "\x1b[2J": `"\x1b[2J"`, "\xff": `"\xff"`,
	} {
		require.Equal(t, want, logs.Printable(in))
	}
	require.Len(t, logs.Printable(strings.Repeat("a", 1000)), logs.MaxText)
}
