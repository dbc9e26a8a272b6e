package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dyingEnv marks a process that runs a program and is killed.
const dyingEnv = "FSRVP_TEST_DYING"

// TestDies kills a process that runs a program: that dies too, and what it has started holds the
// directory until it has ended.
func TestDies(t *testing.T) {
	if dir := os.Getenv(dyingEnv); dir != "" {
		hold, err := Hold(dir)
		require.NoError(t, err)
		fmt.Println("ready")
		// The shell does not wait for the part that goes on, until a file says so.
		_, err = Run(t.Context(), Call{Hold: hold,
			Argv: sh(`cd "` + dir + `"; (while [ ! -e end ]; do sleep 0.01; done; touch ended) <&- >&- 2>&- & touch began; exec sleep 1000`)})
		t.Fatal(err)
	}
	dir := t.TempDir()
	require.NoError(t, Await(t.Context(), dir, time.Second))
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDies$")
	cmd.Env = append(os.Environ(), dyingEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := os.Stat(dir + "/began"); return err == nil }, 30*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	require.ErrorContains(t, Await(t.Context(), dir, 100*time.Millisecond), "still running")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the agent is stopped")
	cancel(cause)
	require.ErrorIs(t, Await(ctx, dir, time.Minute), cause)
	require.NoError(t, os.WriteFile(dir+"/end", nil, 0o600))
	require.NoError(t, Await(t.Context(), dir, time.Minute), "the shell is dead, and its child has ended")
	require.FileExists(t, dir+"/ended")

	require.NoError(t, Await(t.Context(), dir+"/nothing", time.Second))
	none, err := Hold(dir + "/nothing")
	require.NoError(t, err)
	require.Nil(t, none)
}
