package writer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// What the test binary is, by its first argument, where it is not the tests.
const (
	asGuard   = "writer-guard"
	asProgram = "writer-program" // freezes what its second argument says, and waits
	asAgent   = "writer-qemu-ga" // becomes qemu-ga in a root of its own
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var main func() error
		switch os.Args[1] {
		case asGuard:
			main = GuardMain
		case asProgram:
			main = programMain
		case asAgent:
			main = agentMain
		}
		if main != nil {
			if err := main(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	enterNamespace()
	code := m.Run()
	leak := goleak.Find()
	for began := time.Now(); leak != nil && time.Since(began) < time.Minute; { // guards end by themselves
		leak = goleak.Find()
	}
	if leak != nil && code == 0 {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

func testGuard() Guard {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Guard{Command: []string{exe, asGuard}}
}

// kinds is one writer of any kind, for programMain.
type kinds struct {
	FSFreeze   *FSFreeze       `json:",omitempty"`
	GuestAgent *QEMUGuestAgent `json:",omitempty"`
	Command    *Command        `json:",omitempty"`
}

func (k kinds) writer() (provider.Writer, error) {
	switch {
	case k.FSFreeze != nil:
		return k.FSFreeze.Writer()
	case k.GuestAgent != nil:
		return k.GuestAgent.Writer()
	}
	return k.Command.Writer()
}

// programMain is a backup program that freezes, says so, and waits for the end of its input.
func programMain() error {
	var k kinds
	if err := json.Unmarshal([]byte(os.Args[2]), &k); err != nil {
		return err
	}
	w, err := k.writer()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := w.Prepare(ctx, nil); err != nil {
		return err
	}
	fmt.Println("prepared")
	if err := w.Freeze(ctx); err != nil {
		return err
	}
	fmt.Println("frozen")
	var b [1]byte
	_, _ = os.Stdin.Read(b[:])
	err = w.Thaw(ctx)
	fmt.Println("thawed", err)
	return err
}

// missing ends a test that needs what this machine has not, or fails where the environment has
// FSRVP_PEERS=require.
func missing(tb testing.TB, format string, args ...any) {
	tb.Helper()
	if os.Getenv("FSRVP_PEERS") == "require" {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

func timeoutContext(tb testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	tb.Helper()
	return context.WithTimeout(tb.Context(), d)
}

// patience is how long a test waits for what takes milliseconds on an idle machine. It is less than
// the limits that would do it otherwise, of 30 s and a minute.
const patience = 25 * time.Second

func eventually(t *testing.T, ok func() bool, msg string) {
	t.Helper()
	require.Eventually(t, ok, patience, 5*time.Millisecond, msg)
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
