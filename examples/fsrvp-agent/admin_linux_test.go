package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// TestAdministration lists, shows and deletes sets, of a running agent and of one that is not, and
// saves, damages and brings back the state.
func TestAdministration(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30)) // longer than the address of a socket
	data, users, state := filepath.Join(dir, "data"), filepath.Join(dir, "users"), filepath.Join(dir, "state")
	require.NoError(t, os.MkdirAll(data, 0o755))
	require.NoError(t, os.WriteFile(users, fmt.Appendf(nil, "TEST\\backup\t%x\n", ntlm.NTHash("secret")), 0o600))
	backends := []string{"-share", "data=" + data, "-snapshots", "copy", "-snapshot-dir",
		filepath.Join(dir, "snapshots"),
		"-expose", "directory:" + filepath.Join(dir, "exposed"), "-state", state}

	start := func() (port string, stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- run(ctx, append([]string{"-listen", "tcp:127.0.0.1:0", "-ntlm-users", users, "-allow",
				`TEST\backup`}, backends...), w, io.Discard)
			w.Close()
		}()
		line, err := bufio.NewReader(r).ReadString('\n')
		require.NoError(t, err)
		_, port, err = net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "listening tcp:")))
		require.NoError(t, err)
		return port, func() {
			cancel()
			require.NoError(t, <-ended)
		}
	}
	// command runs one, and returns what it prints.
	command := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), args, &out, io.Discard)
		return out.String(), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := command(args...)
		require.NoError(t, err)
		return out
	}

	port, stop := start()
	info, err := os.Stat(filepath.Join(state, socketName))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "TEST", User: "backup", Password: "secret"})
	require.NoError(t, err)
	c, err := fsrvp.Dial(t.Context(), "127.0.0.1", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: port}, Auth: auth})
	require.NoError(t, err)
	var sets []string
	for i := range 3 {
		require.NoError(t, c.SetContext(t.Context(), fsrvp.ContextNASRollback))
		set, err := c.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
		require.NoError(t, err)
		_, err = c.AddToShadowCopySet(t.Context(), fsrvp.NewCopyID(), set, `\\localhost\data`)
		require.NoError(t, err)
		require.NoError(t, c.CommitShadowCopySet(t.Context(), set, time.Minute))
		require.NoError(t, c.ExposeShadowCopySet(t.Context(), set, time.Minute))
		if i < 2 {
			require.NoError(t, c.RecoveryCompleteShadowCopySet(t.Context(), set))
		}
		sets = append(sets, set.String())
	}
	require.NoError(t, c.Close())

	list := func() (ids []string) {
		var got []struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(must("list", "-json", "-state", state)), &got))
		for _, s := range got {
			ids = append(ids, s.ID)
		}
		return ids
	}
	require.ElementsMatch(t, sets, list())
	require.Contains(t, must("list", "-state", state), "Recovered")
	require.Contains(t, must("show", sets[0], "-state", state), "exposed as data@{")
	_, err = command("delete", sets[2], "-state", state)
	require.ErrorContains(t, err, "-force")
	must("delete", sets[2], "-state", state, "-force")
	require.ElementsMatch(t, sets[:2], list())
	require.Equal(t, "", must("orphans", "-state", state))
	_, err = command("state", "import", "/dev/null", "-state", state)
	require.Error(t, err)
	stop()

	// No agent is running.
	require.ElementsMatch(t, sets[:2], list())
	require.Contains(t, must("state", "check", "-state", state), "whole")
	saved := filepath.Join(dir, "saved")
	require.NoError(t, os.WriteFile(saved, []byte(must("state", "export", "-state", state)), 0o600))
	store := filepath.Join(state, storeName)
	b, err := os.ReadFile(store)
	require.NoError(t, err)
	b[20600] ^= 1
	require.NoError(t, os.WriteFile(store, b, 0o600))
	_, err = command("state", "check", "-state", state)
	require.ErrorContains(t, err, store+" is damaged")
	_, err = command(append([]string{"orphans"}, backends...)...)
	require.ErrorContains(t, err, "nothing was deleted")
	must("state", "import", saved, "-state", state)
	require.ElementsMatch(t, sets[:2], list())
	_, err = command("delete", sets[0], "-state", state)
	require.ErrorContains(t, err, "no agent is running")
	must(append([]string{"delete", sets[0]}, backends...)...)
	require.Equal(t, sets[1:2], list())
	for _, wrong := range [][]string{{"list"}, {"show", "-state", state}, {"show", "x", "-state", state},
		{"state", "-state", state}, {"state", "burn", "-state", state}} {
		_, err := command(wrong...)
		require.Error(t, err, "%q", wrong)
	}
}

// TestStateLost: an agent whose table is gone while its copies are there does not start, with an
// exit status of its own, and says what to do; what it says works.
func TestStateLost(t *testing.T) {
	s := newSite(t)
	// Not in the directory that all agents of this machine share, whose copies it would count.
	conf := s.config(t, good+"snapshot-dir = $D/snapshots\n")
	sv := startService(t, s, conf)
	c, err := sv.dial(t, "secret")
	require.NoError(t, err)
	require.NoError(t, c.SetContext(t.Context(), fsrvp.ContextNASRollback))
	set, err := c.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
	require.NoError(t, err)
	_, err = c.AddToShadowCopySet(t.Context(), fsrvp.NewCopyID(), set, `\\localhost\data`)
	require.NoError(t, err)
	require.NoError(t, c.CommitShadowCopySet(t.Context(), set, time.Minute))
	require.NoError(t, c.ExposeShadowCopySet(t.Context(), set, time.Minute))
	require.NoError(t, c.RecoveryCompleteShadowCopySet(t.Context(), set))

	command := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append(args, "-config", conf), &out, io.Discard)
		return out.String(), err
	}
	_, err = command("state", "accept")
	require.ErrorContains(t, err, "end it first")
	require.NoError(t, sv.stop())
	require.NoError(t, os.RemoveAll(s.path("state")))

	_, err = command()
	exit := new(program.Exit)
	require.ErrorAs(t, err, &exit)
	require.Equal(t, exitState, exit.Status)
	require.ErrorContains(t, err, "fsrvp-agent state accept")
	out, err := command("state", "accept")
	require.NoError(t, err)
	require.Contains(t, out, "with 0 sets")
	again := startService(t, s, conf)
	out, err = command("orphans")
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(out, "\n"), "a snapshot and a share: %s", out)
	out, err = command("orphans", "-remove", "-force")
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(out, "removed"), out)
	require.Equal(t, 0.0, again.value(t, "fsrvp_problems"))
}
