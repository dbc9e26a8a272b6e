package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal returns the two sides of a pseudo-terminal.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	require.NoError(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	return screen, tty
}

// TestProgress runs cases with a terminal for standard error: it shows the case that runs and how
// many there are, and is clean at the end.
func TestProgress(t *testing.T) {
	screen, tty := terminal(t)
	defer screen.Close()
	var shown bytes.Buffer
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(&shown, screen) }) // EIO, when the other side is closed
	var stdout bytes.Buffer
	failed, err := run(t.Context(), []string{"-demo", "-run", "/smbtorture/", "-brief"}, &stdout, tty)
	require.NoError(t, err)
	require.False(t, failed)
	require.NoError(t, tty.Close())
	read.Wait()
	require.Contains(t, shown.String(), "smbtorture/create_simple")
	require.Contains(t, shown.String(), "/10")
	require.Contains(t, shown.String(), "8 passed, 0 failed")
	require.NotContains(t, stdout.String(), "/10")
}

// TestWaits is about what is said without a terminal: only what takes long.
func TestWaits(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 3)
	current := "Add/Twice"
	p.begin(current)
	p.pause()
	p.done()
	require.Empty(t, out.String())
	p.waits(&current)(195 * time.Second)
	require.Equal(t, "Add/Twice: the server is blocked; waiting for its timer, for at most 3m15s\n", out.String())
	p.end()
}
