package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/ctdb"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// TestStateOfCluster saves the table of a server alone, brings it to a cluster, and back.
func TestStateOfCluster(t *testing.T) {
	dir := t.TempDir()
	alone, table := filepath.Join(dir, "alone"), filepath.Join(dir, "table")
	for _, d := range []string{alone, table} {
		require.NoError(t, os.Mkdir(d, 0o700))
	}
	memory := fsrvptest.NewMemory()
	start := func(s state.Store) *agent.Agent {
		a, err := agent.New(t.Context(), &agent.Config{StorePath: filepath.Join(alone, storeName), State: s,
			Snapshots: memory.Snapshots, Shares: memory.Shares, Names: []string{"fs1"}, KeepExposed: true})
		require.NoError(t, err)
		return a
	}
	node := func(name string) *ctdb.Store {
		s, err := ctdb.Open(t.Context(), &ctdb.Config{Dir: table, Member: name,
			Life: func(context.Context, string) (state.Life, error) { return state.Present, nil }})
		require.NoError(t, err)
		return s
	}
	command := func(args ...string) (string, error) {
		var out strings.Builder
		err := run(t.Context(), args, &out, io.Discard)
		return out.String(), err
	}
	move := func(from, to []string) {
		t.Helper()
		saved, err := command(append([]string{"state", "export"}, from...)...)
		require.NoError(t, err)
		file := filepath.Join(dir, "saved")
		require.NoError(t, os.WriteFile(file, []byte(saved), 0o600))
		_, err = command(append([]string{"state", "import", file}, to...)...)
		require.NoError(t, err)
	}
	ofAlone, ofCluster := []string{"-state", alone}, []string{"-state", filepath.Join(dir, "node"), "-cluster", table}

	a := start(nil)
	set := exposeOne(t, a)
	want := a.Table()
	require.NoError(t, a.Close())
	move(ofAlone, ofCluster)

	s := node("n1")
	a = start(s)
	require.Equal(t, want, a.Table())
	out, err := command(append([]string{"state", "check"}, ofCluster...)...)
	require.NoError(t, err)
	require.Contains(t, out, set.String())
	require.Regexp(t, `verdict +whole`, out)
	saved, err := command(append([]string{"state", "export"}, ofCluster...)...)
	require.NoError(t, err)
	file := filepath.Join(dir, "live")
	require.NoError(t, os.WriteFile(file, []byte(saved), 0o600))
	_, err = command(append([]string{"state", "import", file}, ofCluster...)...)
	require.ErrorIs(t, err, state.ErrInUse)
	require.NoError(t, a.Close())
	require.NoError(t, s.Close())
	list, err := command(append([]string{"list"}, ofCluster...)...)
	require.NoError(t, err)
	require.Contains(t, list, set.String(), "no agent runs, and the table is read")

	move(ofCluster, ofAlone)
	a = start(nil)
	require.Equal(t, want, a.Table())
	require.NoError(t, a.Remove(t.Context(), set, true))
	require.Empty(t, memory.Snapshots.All())
	require.NoError(t, a.Close())

	base := filepath.Join(table, "table-0000000001", "base")
	b, err := os.ReadFile(base)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(base, b, 0o600))
	_, err = command(append([]string{"state", "check"}, ofCluster...)...)
	var damage *state.DamageError
	require.ErrorAs(t, err, &damage)
}

// exposeOne makes a set that is exposed.
func exposeOne(t *testing.T, a *agent.Agent) fsrvp.SetID {
	ctx := dcerpc.WithPeer(t.Context(), dcerpc.Peer{Identity: dcerpc.Identity{SIDs: []dcerpc.SID{dcerpc.SIDBuiltinAdmins}},
		Level: dcerpc.LevelPrivacy})
	require.NoError(t, a.SetContext(ctx, fsrvp.ContextNASRollback))
	set, err := a.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	_, err = a.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\share`)
	require.NoError(t, err)
	require.NoError(t, a.CommitShadowCopySet(ctx, set, 1e10))
	require.NoError(t, a.ExposeShadowCopySet(ctx, set, 1e10))
	return set
}

// TestOwners maps shares to nodes.
func TestOwners(t *testing.T) {
	require.Nil(t, ownersOf(nil))
	owners := ownersOf([]string{"Data=node1", "a=b=node2", "*=10.0.0.9"})
	for share, want := range map[string]string{"data": "node1", "A=B": "node2", "vms": "10.0.0.9"} {
		host, err := owners(t.Context(), "fs1", backend.Share{Name: share})
		require.NoError(t, err)
		require.Equal(t, want, host, share)
	}
	host, err := ownersOf([]string{"data=node1"})(t.Context(), "fs1", backend.Share{Name: "vms"})
	require.NoError(t, err)
	require.Empty(t, host)
}
