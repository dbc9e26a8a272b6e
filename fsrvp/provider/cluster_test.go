package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	agentstate "github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	sharememory "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// A testCluster is two nodes with one table, one volume and one share. The name "cluster" leads to
// one of them.
type testCluster struct {
	table     *agentstate.Memory
	snapshots *snapmemory.Snapshots
	shares    *sharememory.Shares
	nodes     []*agent.Agent

	mu     sync.Mutex
	front  int // where "cluster" leads
	dead   map[int]bool
	before func(op fsrvp.Opnum) // each call, and after
	after  func(op fsrvp.Opnum)
}

func startCluster(t *testing.T, owner func(context.Context, string, backend.Share) (string, error)) *testCluster {
	c := &testCluster{table: agentstate.NewMemory(agentstate.ID{}), snapshots: snapmemory.New("/v"),
		dead: map[int]bool{}}
	c.shares = sharememory.New(c.snapshots, backend.Share{Name: "vms", Path: "/v"})
	for i := range 2 {
		s, err := c.table.Open(fmt.Sprintf("node%d", i+1), nil)
		require.NoError(t, err)
		a, err := agent.New(t.Context(), &agent.Config{
			State: s, Snapshots: c.snapshots, Shares: c.shares, Machine: machine(owner, i), Owner: owner,
			Names: []string{"cluster", fmt.Sprintf("node%d", i+1)},
		})
		require.NoError(t, err)
		c.nodes = append(c.nodes, a)
	}
	return c
}

// machine is a node's own name where shares have owners, and the cluster's otherwise.
func machine(owner func(context.Context, string, backend.Share) (string, error), i int) string {
	if owner == nil {
		return "cluster"
	}
	return fmt.Sprintf("node%d", i+1)
}

func (c *testCluster) close(t *testing.T) {
	for i, a := range c.nodes {
		if err := a.Close(); !c.dead[i] {
			require.NoError(t, err)
		}
	}
}

// kill ends a node; its addresses move to the other.
func (c *testCluster) kill(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead[i] = true
	c.front = 1 - i
	c.table.SetLife(fmt.Sprintf("node%d", i+1), agentstate.Gone)
}

func (c *testCluster) isDead(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[i]
}

var errNodeGone = errors.New("connection reset by peer")

// A nodeClient calls one node.
type nodeClient struct{ fsrvp.ServiceFunc }

func (nodeClient) Close() error { return nil }

func (c *testCluster) dial(_ context.Context, server string) (Agent, error) {
	c.mu.Lock()
	i := c.front
	c.mu.Unlock()
	if name := strings.ToLower(server); strings.HasPrefix(name, "node") {
		i = int(name[4] - '1')
	}
	if c.isDead(i) {
		return nil, errNodeGone
	}
	return nodeClient{func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		c.before(req.Opnum())
		if c.isDead(i) {
			return nil, errNodeGone
		}
		ctx = dcerpc.WithPeer(ctx, dcerpc.Peer{
			Identity: dcerpc.Identity{Account: "backup", SIDs: []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators}},
			Addr:     &net.TCPAddr{IP: net.IPv4(192, 0, 2, 11), Port: 49152}, Level: dcerpc.LevelPrivacy,
		})
		resp, err := fsrvp.Serve(ctx, c.nodes[i], req)
		c.after(req.Opnum())
		if c.isDead(i) {
			return nil, errNodeGone
		}
		return resp, err
	}}, nil
}

func (c *testCluster) requireClean(t *testing.T, i int, msg string) {
	t.Helper()
	require.Empty(t, c.nodes[i].Table(), msg)
	require.Empty(t, c.snapshots.All(), msg)
	require.Empty(t, c.shares.All(), msg)
}

// TestNodeDiesInEachPhase kills the node that the run's client is connected to before and after
// each call. The run succeeds or fails, and a survivor cleans up.
func TestNodeDiesInEachPhase(t *testing.T) {
	for op := fsrvp.OpGetSupportedVersion; op <= fsrvp.OpPrepareShadowCopySet; op++ {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, done %v", op, answered), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { nodeDies(t, op, answered) })
			})
		}
	}
}

func nodeDies(t *testing.T, op fsrvp.Opnum, done bool) {
	c := startCluster(t, nil)
	defer c.close(t)
	once := func(at fsrvp.Opnum, now bool) {
		if at == op && now && !c.isDead(0) {
			c.kill(0)
			time.Sleep(2 * time.Second) // a survivor notices
		}
	}
	c.before = func(at fsrvp.Opnum) { once(at, !done) }
	c.after = func(at fsrvp.Opnum) { once(at, done) }
	backed := false
	err := Run(t.Context(), &Config{Dial: c.dial}, []string{`\\cluster\vms`}, func(_ context.Context, set *Set) error {
		backed = true
		_, ok := c.shares.Exposed(set.Copies[0].Path[strings.LastIndex(set.Copies[0].Path, `\`)+1:])
		require.True(t, ok)
		return nil
	})
	require.False(t, err == nil && !backed, "success without a backup")
	t.Logf("backed up %v, killed %v: %v", backed, c.isDead(0), err)
	if op == fsrvp.OpStartShadowCopySet && done {
		time.Sleep(time.Hour) // the client does not know the set; the Message Sequence Timer ends it
	}
	synctest.Wait()
	i := 0
	if c.isDead(0) {
		i = 1
	}
	c.requireClean(t, i, fmt.Sprint(err))
}

// TestOwnerMoves has the share's owner change between IsPathSupported and AddToShadowCopySet: the
// run fails, and nothing is left.
func TestOwnerMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		moved := false
		c := startCluster(t, func(context.Context, string, backend.Share) (string, error) {
			if moved {
				return "node2", nil
			}
			return "node1", nil
		})
		defer c.close(t)
		c.after = func(fsrvp.Opnum) {}
		c.before = func(op fsrvp.Opnum) { moved = moved || op == fsrvp.OpStartShadowCopySet }
		run := func() error {
			return Run(t.Context(), &Config{Dial: c.dial}, []string{`\\cluster\vms`},
				func(context.Context, *Set) error { return nil })
		}
		require.ErrorIs(t, run(), fsrvp.ErrInvalidArg)
		c.requireClean(t, 0, "")
		require.NoError(t, run(), "the next run finds the new owner")
		c.requireClean(t, 1, "")
	})
}
