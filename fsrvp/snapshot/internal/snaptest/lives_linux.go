package snaptest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

const (
	livesEnv = "FSRVP_LIVES" // how many lives there are for each backend; empty: two
	lifeEnv  = "FSRVP_LIFE"  // marks a process that lives: its owner and its share
)

// A Life is a backend that lives as an agent's does, is killed three times, and leaves nothing.
type Life struct {
	// Backend makes the backend as an agent does when it starts. It is called in the processes that
	// are killed too, and finds what it needs in the environment.
	Backend func(t *testing.T) Backend
	// Share is the shared directory, full.
	Share string
	// Left returns what there is of snapshots, whoever may have made them, by any look that is not
	// the backend's own.
	Left func(t *testing.T) []string
}

// Living reports whether this process is one of those that Lives kills. Such a one calls Live.
func Living() bool { return os.Getenv(lifeEnv) != "" }

// Live takes and deletes snapshots until the process is killed. First it deletes what a life before
// has left.
func Live(t *testing.T, b Backend) {
	t.Helper()
	text, share, _ := strings.Cut(os.Getenv(lifeEnv), " ")
	var owner backend.Owner
	require.NoError(t, owner.UnmarshalText([]byte(text)))
	recovery(t, b, owner)
	for n := uint64(1); ; n++ {
		v, err := b.Volume(t.Context(), share)
		require.NoError(t, err)
		mark := backend.Mark{Owner: owner, Sequence: n}
		specs := []backend.SnapshotSpec{
			{ID: fsrvp.NewCopyID(), Mark: mark, Volume: v}, {ID: fsrvp.NewCopyID(), Mark: mark, Volume: v, Writable: true},
		}
		switch p := b.(type) {
		case backend.SnapshotPreparer:
			require.NoError(t, p.PrepareSnapshots(t.Context(), specs))
		case backend.Preparer:
			require.NoError(t, p.Prepare(t.Context(), []backend.Volume{v}))
		}
		require.NoError(t, os.WriteFile(filepath.Join(share, "changes"), []byte(strconv.FormatUint(n, 10)), 0o644))
		made, err := b.Create(t.Context(), specs)
		require.NoError(t, err)
		require.NoError(t, b.Seal(t.Context(), made[1]))
		for _, spec := range specs {
			require.NoError(t, b.Delete(t.Context(), spec))
		}
		fmt.Println("lived")
	}
}

// recovery deletes what an agent without a table finds of its own.
func recovery(t *testing.T, b Backend, owner backend.Owner) (found int) {
	t.Helper()
	own, foreign, err := b.List(t.Context(), owner)
	require.NoError(t, err)
	require.Empty(t, foreign)
	for _, spec := range own {
		require.NoError(t, b.Delete(t.Context(), spec))
	}
	return len(own)
}

// Lives runs the lives. The test that calls it calls Live where Living says so.
func Lives(t *testing.T, l Life) {
	t.Helper()
	lives := 2
	if text := os.Getenv(livesEnv); text != "" {
		var err error
		lives, err = strconv.Atoi(text)
		require.NoError(t, err, livesEnv)
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	owner := backend.NewOwner(l.Share)
	top, _, _ := strings.Cut(t.Name(), "/")
	require.Empty(t, l.Left(t))

	start := func() (*exec.Cmd, *bufio.Reader, *bytes.Buffer) {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+top+"$", "-test.timeout=10m")
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), lifeEnv+"="+owner.String()+" "+l.Share)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		said := new(bytes.Buffer)
		cmd.Stderr = said
		require.NoError(t, cmd.Start())
		return cmd, bufio.NewReader(out), said
	}
	// kill ends a process, that must not have ended by itself.
	kill := func(cmd *exec.Cmd, out *bufio.Reader, said *bytes.Buffer) {
		require.NoError(t, cmd.Process.Kill())
		rest, _ := io.ReadAll(out)
		err := cmd.Wait()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.True(t, exit.Sys().(syscall.WaitStatus).Signaled(), "%s%s", rest, said)
	}
	// A process that lives twice shows how long that takes.
	cmd, out, said := start()
	begun := time.Now()
	for range 2 {
		if line, err := out.ReadString('\n'); err != nil || line != "lived\n" {
			rest, _ := io.ReadAll(out)
			t.Fatalf("%q %v: %s%s", line, errors.Join(err, cmd.Wait()), rest, said)
		}
	}
	span := time.Since(begun)
	kill(cmd, out, said)
	recovery(t, l.Backend(t), owner)
	require.Empty(t, l.Left(t))

	left := 0
	for life := range lives {
		for range 3 {
			cmd, out, said := start()
			// There is no event to wait for: the point is that it may be anywhere.
			time.Sleep(time.Duration(rnd.Int64N(int64(span))))
			kill(cmd, out, said)
		}
		b := l.Backend(t)
		left += recovery(t, b, owner)
		require.Empty(t, l.Left(t), "life %d, seed %d", life, seed)
		ids(t, b)
	}
	t.Logf("%d lives, killed three times each within %v: %d snapshots were left for the agent after", lives, span, left)
}

// Entries returns the paths of what is in directories, that may not exist.
func Entries(t *testing.T, dirs ...string) []string {
	t.Helper()
	var paths []string
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if !errors.Is(err, os.ErrNotExist) {
			require.NoError(t, err)
		}
		for _, e := range list {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}
