package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// line is a client of a node, with a connection that it keeps.
func (c *cluster) line(addr string, i int) *fsrvptest.Line {
	return fsrvptest.NewLine(func(context.Context) (fsrvp.Service, error) {
		client, closeIt, err := c.dialFrom(addr, i)
		if err != nil {
			return nil, err
		}
		return &closing{client, closeIt}, nil
	})
}

type closing struct {
	*fsrvp.Client
	closeIt func()
}

func (s *closing) Close() error { s.closeIt(); return nil }

// ofClusters are the cases of the suite that need a cluster, Microsoft's among them.
func ofClusters() []fsrvptest.Case {
	list := fsrvptest.ClusterCases()
	for _, c := range fsrvptest.Cases() {
		switch c.Name {
		case "FileServer/BVT_VSSOperateShadowCopySet_WritableSnapshot_GeneralFileServer",
			"FileServer/BVT_VSSOperateShadowCopySet_WritableSnapshot_ScaleoutFileServer",
			"FileServer/BVT_VSSOperateShadowCopySet_ClusterSharePath_OwnerNode",
			"FileServer/BVT_VSSOperateShadowCopySet_ClusterSharePath_NonOwnerNode",
			"FileServer/VSSOperateShadowCopySet_DifferentNodeSharePath", "IsPathSupported/Elsewhere":
			list = append(list, c)
		}
	}
	return list
}

// clusterCases runs the cases of a cluster against the three nodes.
func (c *cluster) clusterCases() {
	list := ofClusters()
	require.Len(c, list, len(fsrvptest.ClusterCases())+6)
	fsrvptest.RunCases(c.T, list, func(tb testing.TB) fsrvptest.Target {
		nodes := make([]fsrvp.Service, nodes)
		for i := range nodes {
			l := c.line("10.98.0.254", i+1)
			tb.Cleanup(func() { _ = l.Close() })
			nodes[i] = l
		}
		return fsrvptest.Target{
			Client: nodes[0], Nodes: nodes[1:], Share: share(1), Owner: "CLUST", Clustered: `\\CLUST\other`, ScaleOut: `\\clust\other`,
			Elsewhere: `\\10.98.0.1\owned`, ElsewhereOwner: owner, Files: c,
			Held: func(context.Context) (snapshots, shares int, err error) {
				out, err := exec.Command("btrfs", "subvolume", "list", c.dir+"/shared").Output()
				return strings.Count(string(out), "\n") - volumes, len(c.exposed(1)), err
			},
			Inapplicable: map[string]string{},
		}
	})
}

// ReadFile implements fsrvptest.Files, by any node.
func (c *cluster) ReadFile(share, name string) ([]byte, error) {
	return c.smbclient(rand.IntN(nodes)+1, share, "get "+name+" -")
}

// WriteFile implements fsrvptest.Files, by any node.
func (c *cluster) WriteFile(share, name string, data []byte) error {
	local := c.dir + "/written"
	if err := os.WriteFile(local, data, 0o600); err != nil {
		return err
	}
	_, err := c.smbclient(rand.IntN(nodes)+1, share, fmt.Sprintf("put %s %s", local, name))
	return err
}

// smbclient does commands of that program on a share at a node, and returns what it prints.
func (c *cluster) smbclient(i int, share, commands string) ([]byte, error) {
	cmd := exec.Command("smbclient", fmt.Sprintf("//10.98.0.%d/%s", i, share), "-U", "CLUST\\root%"+password, "-c", commands)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("smbclient: %w: %s%s", err, out, &stderr)
	}
	return out, nil
}

// A told is what clients have been told of all sets.
type told struct {
	calls sync.RWMutex // read-locked during a call
	mu    sync.Mutex
	sets  map[fsrvp.SetID]agent.SetStatus
}

// now notes an answer; empty: the set is gone.
func (m *told) now(id fsrvp.SetID, s agent.SetStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sets[id] = s; s == "" {
		delete(m.sets, id)
	}
}

// differs returns where a table is another than clients were told. No call goes on.
func (m *told) differs(sets []agent.Set) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(sets) != len(m.sets) {
		return fmt.Errorf("%d sets, and clients were told of %d", len(sets), len(m.sets))
	}
	for _, s := range sets {
		if m.sets[s.ID] != s.Status || s.Removing || s.Work != (agent.Work{}) {
			return fmt.Errorf("clients were told that set %s is %q, and it is %+v", s.ID, m.sets[s.ID], s)
		}
	}
	return nil
}

// clientsAtOnce has three clients make, look at and delete sets at once, each call at any node.
// Between their calls the tables of all nodes are what the clients were told, and the same.
func (c *cluster) clientsAtOnce() {
	lasts := 5 * time.Second
	if d, err := time.ParseDuration(os.Getenv(envClients)); err == nil {
		lasts = d
	}
	m := &told{sets: map[fsrvp.SetID]agent.SetStatus{}}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	until := time.Now().Add(lasts)
	var creating, made atomic.Int64
	errs := make([]error, 3)
	var wg sync.WaitGroup
	for k := range errs {
		wg.Go(func() {
			var at [nodes]*fsrvptest.Line
			for i := range at {
				at[i] = c.line(fmt.Sprintf("10.98.0.%d", 251+k), i+1)
				defer at[i].Close()
			}
			cl := &client{told: m, at: at, creating: &creating}
			for n := 0; errs[k] == nil && ctx.Err() == nil && (time.Now().Before(until) || n == 0); n++ {
				if errs[k] = cl.life(ctx); errs[k] == nil {
					made.Add(1)
				}
			}
			if errs[k] == nil {
				errs[k] = cl.deleteAll(ctx, 0)
			}
			if errs[k] != nil {
				cancel()
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	looked := 0
	for going := true; going; looked++ {
		select {
		case <-done:
			going = false
		case <-time.After(time.Second):
		}
		m.calls.Lock()
		c.within(3*time.Minute, "the tables are the same", func() error {
			for i := 1; i <= nodes; i++ {
				sets, err := c.table(i)
				if err == nil {
					err = m.differs(sets)
				}
				if err != nil {
					return fmt.Errorf("node %d: %w", i, err)
				}
			}
			return nil
		})
		m.calls.Unlock()
	}
	require.Equal(c, make([]error, len(errs)), errs)
	c.Logf("three clients made %d sets in %v; the tables of all nodes were what they had been told, %d times", made.Load(),
		lasts, looked)
	c.requireEmpty(1)
}

// A client makes sets, and knows what it was told.
type client struct {
	*told
	at       [nodes]*fsrvptest.Line
	creating *atomic.Int64 // clients whose SetContext was answered, and RecoveryComplete not yet called
	lives    []*life       // its sets that are Recovered
}

// call does a stage of a life at any node, and notes that the set has come to a status.
func (cl *client) call(ctx context.Context, at int, l *life, to agent.SetStatus) error {
	cl.calls.RLock()
	defer cl.calls.RUnlock()
	i := rand.IntN(nodes)
	err := stages[at].call(ctx, cl.at[i], i+1, l)
	if err == nil && at >= start {
		cl.now(l.set, to)
	}
	if err != nil {
		err = fmt.Errorf("%s at node %d: set %s: %w", stages[at].name, i+1, l.set, err)
	}
	return err
}

// life makes a set, and deletes old ones.
func (cl *client) life(ctx context.Context) error {
	l := &life{}
	for {
		err := cl.call(ctx, 0, l, "")
		if err == nil {
			break
		}
		if !errors.Is(err, fsrvp.ErrShadowCopySetInProgress) {
			return err
		}
		select {
		case <-time.After(time.Duration(1+rand.IntN(20)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if n := cl.creating.Add(1); n != 1 {
		return fmt.Errorf("%d clients make sets at once", n)
	}
	for at, to := range []agent.SetStatus{start: agent.Started, 2: agent.Added, 3: agent.Added, commit: agent.Committed,
		expose: agent.Exposed, mapping: agent.Exposed} {
		if at < start {
			continue
		}
		if err := cl.call(ctx, at, l, to); err != nil {
			return err
		}
	}
	cl.creating.Add(-1) // the next client may begin before the answer comes
	if err := cl.call(ctx, recovered-1, l, agent.Recovered); err != nil {
		return err
	}
	cl.lives = append(cl.lives, l)
	for i := range nodes {
		again := *l
		cl.calls.RLock()
		err := stages[mapping].call(ctx, cl.at[i], i+1, &again)
		cl.calls.RUnlock()
		if err != nil || again != *l {
			return fmt.Errorf("node %d: set %s is exposed as %s, not as %s: %w", i+1, l.set, again.name, l.name, err)
		}
	}
	return cl.deleteAll(ctx, rand.IntN(3))
}

// deleteAll deletes its sets but for the newest.
func (cl *client) deleteAll(ctx context.Context, but int) error {
	for len(cl.lives) > but {
		l := cl.lives[0]
		cl.lives = cl.lives[1:]
		if err := cl.call(ctx, recovered, l, ""); err != nil {
			return err
		}
	}
	return nil
}
