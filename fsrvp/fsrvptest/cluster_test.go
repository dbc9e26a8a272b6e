package fsrvptest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// answeredAgain are the cases in which a server of several nodes must not do as one node does: the
// client repeats a call at another node, and is answered as it was, since it may have missed that
// answer.
var answeredAgain = map[string]string{
	"Commit/Succeeds":           "another Commit: the answer is ZERO",
	"Commit/BadState/Committed": "the answer is ZERO",
	"Expose/BadState/Exposed":   "the answer is ZERO",
}

// TestClusterAgent runs the suite on three agents with one table: each call goes to the next of
// them.
func TestClusterAgent(t *testing.T) {
	for _, profile := range profiles {
		t.Run(profile.String(), func(t *testing.T) {
			fsrvptest.Run(t, func(tb testing.TB) fsrvptest.Target {
				target, _ := cluster(tb, profile)
				target.Known = answeredAgain
				return target
			})
		})
		t.Run(profile.String()+"/nodes", func(t *testing.T) {
			fsrvptest.RunCases(t, fsrvptest.ClusterCases(), func(tb testing.TB) fsrvptest.Target {
				target, at := cluster(tb, profile)
				target.Client, target.Nodes = at(0), []fsrvp.Service{at(1), at(2)}
				target.Inapplicable = map[string]string{}
				return target
			})
		})
	}
}

// TestClusterCasesNeedNodes: they are not applicable to a server alone.
func TestClusterCasesNeedNodes(t *testing.T) {
	target := direct(t, agent.Config{})
	require.GreaterOrEqual(t, len(fsrvptest.ClusterCases()), 5)
	for _, c := range fsrvptest.ClusterCases() {
		require.Equal(t, fsrvptest.NotApplicable, c.Run(t.Context(), &target).Verdict, c.Name)
	}
}

// TestClusterCasesFail has the nodes be two servers that know nothing of each other, but for their
// copies: every case fails.
func TestClusterCasesFail(t *testing.T) {
	a, b := direct(t, agent.Config{}), direct(t, agent.Config{})
	a.Nodes, a.Held = []fsrvp.Service{b.Client}, nil
	for _, c := range fsrvptest.ClusterCases() {
		res := c.Run(t.Context(), &a)
		require.Equal(t, fsrvptest.Failed, res.Verdict, c.Name)
	}
}

// cluster is a target of three agents, and what gives a client of one of them.
func cluster(tb testing.TB, profile agent.Profile) (fsrvptest.Target, func(node int) fsrvp.Service) {
	m := fsrvptest.NewMemory()
	table := state.NewMemory(state.ID{})
	nodes, stores := make([]*agent.Agent, 3), make([]state.Shared, 3)
	start := func(ctx context.Context) error {
		for i := range nodes {
			var err error
			if stores[i], err = table.Open(fmt.Sprint("node", i), nil); err != nil {
				return err
			}
			nodes[i], err = agent.New(ctx, &agent.Config{
				State: stores[i], Snapshots: m.Snapshots, Shares: m.Shares, Profile: profile, Machine: "fs1",
				Names: []string{"fs1", fsrvptest.ServerName, "127.0.0.1", "role"},
				Owner: func(_ context.Context, _ string, share backend.Share) (string, error) {
					return map[string]string{"mounted": "fs2"}[share.Name], nil
				},
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	end := func() (err error) {
		for i := range nodes {
			err = errors.Join(err, nodes[i].Close(), stores[i].Close())
		}
		return err
	}
	require.NoError(tb, start(context.Background()))
	tb.Cleanup(func() { require.NoError(tb, end()) })
	var calls atomic.Int64
	peer := func(ip string, node int, groups ...dcerpc.SID) fsrvp.Service {
		p := dcerpc.Peer{
			Identity: dcerpc.Identity{Account: "backup", SIDs: groups},
			Addr: &net.TCPAddr{IP: net.ParseIP(ip),
				Port: 49152}, AuthType: dcerpc.AuthKerberos, Level: dcerpc.LevelPrivacy,
		}
		return fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
			i := node
			if i < 0 {
				i = int(calls.Add(1)) % len(nodes)
			}
			return fsrvp.Serve(dcerpc.WithPeer(ctx, p), nodes[i], req)
		})
	}
	operators := dcerpc.SIDBuiltinBackupOperators
	target := fsrvptest.Target{
		Profile: profile, Client: peer("192.0.2.1", -1, operators), SameHost: peer("192.0.2.1", -1, operators),
		Other: peer("192.0.2.2", -1, operators), Unprivileged: peer("192.0.2.3", -1),
		Share: `\\fs1\share`, SameVolume: `\\fs1\second`, OtherVolume: `\\fs1\other`, Hidden: `\\fs1\hidden$`,
		Aliases:     []string{`\\FS1.fsrvp.test\share`, `\\127.0.0.1\share`},
		Unsupported: `\\fs1\plain`, Elsewhere: `\\fs1\mounted`, ElsewhereOwner: "fs2", Owner: "fs1",
		Clustered: `\\role\other`, ScaleOut: `\\role\other`,
		Files: m.Shares, Rights: m, Held: m.Held, Delay: m.Delay,
	}
	target.Restart = func(ctx context.Context) error {
		if err := end(); err != nil {
			return err
		}
		return start(ctx)
	}
	target.Reset = target.Restart
	return target, func(node int) fsrvp.Service { return peer("192.0.2.1", node, operators) }
}
