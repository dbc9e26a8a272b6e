package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// A life is a set on its way, whose client calls any node.
type life struct {
	set  fsrvp.SetID
	copy fsrvp.CopyID
	name string // of the exposed share
}

const wait = 30 * time.Second

func share(i int) string { return fmt.Sprintf(`\\10.98.0.%d\vms`, i) }

// A stage is one of the calls of a life.
type stage struct {
	name string
	call func(ctx context.Context, s fsrvp.Service, i int, l *life) error
}

// stages are the calls of a life. Each names the share by the node that the client calls.
var stages = []stage{
	{"SetContext", func(ctx context.Context, s fsrvp.Service, _ int, _ *life) error {
		return s.SetContext(ctx, fsrvp.ContextNASRollback)
	}},
	{"Start", func(ctx context.Context, s fsrvp.Service, _ int, l *life) (err error) {
		l.set, err = s.StartShadowCopySet(ctx, fsrvp.NewSetID())
		return err
	}},
	{"Add", func(ctx context.Context, s fsrvp.Service, i int, l *life) (err error) {
		l.copy, err = s.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), l.set, share(i))
		return err
	}},
	{"Prepare", func(ctx context.Context, s fsrvp.Service, _ int, l *life) error {
		return s.PrepareShadowCopySet(ctx, l.set, wait)
	}},
	{"Commit", func(ctx context.Context, s fsrvp.Service, _ int, l *life) error {
		return s.CommitShadowCopySet(ctx, l.set, wait)
	}},
	{"Expose", func(ctx context.Context, s fsrvp.Service, _ int, l *life) error {
		return s.ExposeShadowCopySet(ctx, l.set, wait)
	}},
	{"GetShareMapping", func(ctx context.Context, s fsrvp.Service, i int, l *life) error {
		m, err := s.GetShareMapping(ctx, l.copy, l.set, share(i), 1)
		if err == nil {
			l.name = m.Exposed
		}
		return err
	}},
	{"RecoveryComplete", func(ctx context.Context, s fsrvp.Service, _ int, l *life) error {
		return s.RecoveryCompleteShadowCopySet(ctx, l.set)
	}},
	{"DeleteShareMapping", func(ctx context.Context, s fsrvp.Service, i int, l *life) error {
		return s.DeleteShareMapping(ctx, l.set, l.copy, share(i))
	}},
}

// The places of some stages.
const (
	start     = 1
	commit    = 4
	expose    = 5
	mapping   = 6
	recovered = 8 // the set is Recovered before it
)

// call calls one node.
func (c *cluster) call(i int, f func(context.Context, fsrvp.Service) error) error {
	return c.callFrom("10.98.0.254", i, f)
}

func (c *cluster) callFrom(addr string, i int, f func(context.Context, fsrvp.Service) error) error {
	client, closeIt, err := c.dialFrom(addr, i)
	if err != nil {
		return err
	}
	defer closeIt()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return f(ctx, client)
}

// advance does the stages from..to (not included) of a life at one node, over one connection.
func (c *cluster) advance(i int, l *life, from, to int) {
	c.Helper()
	require.NoError(c, c.call(i, func(ctx context.Context, s fsrvp.Service) error {
		for _, st := range stages[from:to] {
			if err := st.call(ctx, s, i, l); err != nil {
				return fmt.Errorf("%s at node %d: %w", st.name, i, err)
			}
		}
		return nil
	}))
}

func (c *cluster) delete(i int, l *life) {
	c.Helper()
	require.NoError(c, c.call(i, func(ctx context.Context, s fsrvp.Service) error {
		return s.DeleteShareMapping(ctx, l.set, l.copy, share(i))
	}), "deleting at node %d", i)
}

// requireRead reads a file of an exposed share at a node. While CTDB goes on without another one, a
// client has to try again.
func (c *cluster) requireRead(i int, l *life, want string) {
	c.Helper()
	c.within(3*time.Minute, "reading "+l.name, func() error {
		out, err := c.smbclient(i, l.name, "get file -")
		if err != nil || !strings.HasPrefix(string(out), want) {
			return fmt.Errorf("not %q: %s, %w", want, out, err)
		}
		return nil
	})
}

func (c *cluster) exposed(i int) (list []string) {
	for name := range strings.Lines(c.on(i, "net", "conf", "listshares")) {
		if strings.Contains(name, "@{") {
			list = append(list, strings.TrimSpace(name))
		}
	}
	return list
}

// left fails where there are not just so many copies on the cluster's file system and among its
// shares, as a node sees them.
func (c *cluster) left(i, copies int) error {
	if list := c.exposed(i); len(list) != copies {
		return fmt.Errorf("exposed: %v", list)
	}
	out, err := exec.Command("btrfs", "subvolume", "list", c.dir+"/shared").CombinedOutput()
	if err != nil || strings.Count(string(out), "\n") != copies+volumes {
		return fmt.Errorf("subvolumes: %s, %w", out, err)
	}
	return nil
}

// requireEmpty checks that nothing is left on the cluster.
func (c *cluster) requireEmpty(i int) {
	c.Helper()
	require.NoError(c, c.left(i, 0))
}

// table returns the sets that a node's agent knows.
func (c *cluster) table(i int) ([]agent.Set, error) {
	out, err := c.command(i, c.dir+"/agent", "list", "-json", "-state", fmt.Sprintf("%s/n%d/state", c.dir, i)).Output()
	if err != nil {
		return nil, fmt.Errorf("list at node %d: %w", i, err)
	}
	var sets []agent.Set
	return sets, json.Unmarshal(out, &sets)
}

// requireSameTables waits until all agents know just the sets that clients have been told of.
func (c *cluster) requireSameTables(told ...fsrvp.SetID) {
	c.Helper()
	c.within(3*time.Minute, "the table of every node is the same", func() error { return c.sameTables(told...) })
}

func (c *cluster) sameTables(told ...fsrvp.SetID) error {
	var first []agent.Set
	for i := 1; i <= nodes; i++ {
		if c.agents[i] == nil {
			continue
		}
		sets, err := c.table(i)
		if err != nil {
			return err
		}
		if first == nil {
			first = sets
		}
		if !reflect.DeepEqual(first, sets) {
			return fmt.Errorf("the table of node %d is %+v, and of another %+v", i, sets, first)
		}
	}
	if len(first) != len(told) {
		return fmt.Errorf("the table has %+v, and not %v", first, told)
	}
	for _, set := range first {
		if !slices.Contains(told, set.ID) || set.Work != (agent.Work{}) || set.Status != agent.Recovered ||
			set.Removing {
			return fmt.Errorf("the table has %+v, and not %v", set, told)
		}
	}
	return nil
}

// refusesWithoutSharedTable starts an agent as it would be on a single server.
func (c *cluster) refusesWithoutSharedTable() {
	out, err := c.command(1, c.dir+"/agent", c.agentArgs(1)...).CombinedOutput()
	require.Error(c, err)
	require.Contains(c, string(out), `"clustering = yes"`)
}

// sevenSets makes sets at nodes 1, 2, 3, 1, 2, 3, 1, of which Samba's own agent has lost four then.
func (c *cluster) sevenSets() {
	lives := make([]*life, 7)
	for k := range lives {
		lives[k] = &life{}
		require.NoError(c, os.WriteFile(c.dir+"/shared/vms/file", fmt.Appendf(nil, "state %d", k), 0o644))
		c.advance(k%nodes+1, lives[k], 0, recovered)
	}
	require.Len(c, c.exposed(2), len(lives))
	for k, l := range lives {
		c.requireRead((k+1)%nodes+1, l, fmt.Sprintf("state %d", k))
		require.NoError(c, c.call((k+1)%nodes+1, func(ctx context.Context, s fsrvp.Service) error {
			m, err := s.GetShareMapping(ctx, l.copy, l.set, share((k+1)%nodes+1), 1)
			if err == nil && m.Exposed != l.name {
				err = fmt.Errorf("it is exposed as %q, not %q", m.Exposed, l.name)
			}
			return err
		}))
		c.delete((k+2)%nodes+1, l)
	}
	c.requireEmpty(3)
	require.NoError(c, os.WriteFile(c.dir+"/shared/vms/file", []byte("one"), 0o644))
}

// survivor does the next stage at a node, again until it succeeds, and returns how long that took.
func (c *cluster) survivor(i int, l *life, stage int) time.Duration {
	c.Helper()
	begun := time.Now()
	c.within(3*time.Minute, stages[stage].name+" at a survivor", func() error {
		return c.call(i, func(ctx context.Context, s fsrvp.Service) error { return stages[stage].call(ctx, s, i, l) })
	})
	return time.Since(begun)
}

// killedAgent kills an agent between Commit and Expose. The client goes on at another node.
func (c *cluster) killedAgent() {
	l := &life{}
	c.advance(2, l, 0, expose)
	c.killAgent(2)
	took := c.survivor(3, l, expose)
	c.Logf("an agent was killed: the next call at another node took %v", took.Round(time.Millisecond))
	c.advance(3, l, mapping, recovered)
	c.requireRead(1, l, "one")
	c.delete(1, l)
	c.requireEmpty(1)
	c.startAgent(2)
}

// otherNodeUses has a client read an exposed share at one node while another deletes it.
func (c *cluster) otherNodeUses() {
	l := &life{}
	c.advance(1, l, 0, recovered)
	cmd := exec.Command("smbclient", fmt.Sprintf("//10.98.0.2/%s", l.name), "-U", "CLUST\\root%"+password)
	in, err := cmd.StdinPipe()
	require.NoError(c, err)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(c, cmd.Start())
	c.within(3*time.Minute, "the client's session", func() error {
		if !strings.Contains(c.on(3, "smbstatus", "-S"), "vms@{") {
			return errors.New("nobody uses the share")
		}
		return nil
	})
	c.delete(3, l)
	c.requireEmpty(3)
	_, err = in.Write([]byte("get file -\nquit\n"))
	require.NoError(c, err)
	require.NoError(c, in.Close())
	_ = cmd.Wait()
	require.NotContains(c, out.String(), "one\n")
	require.Contains(c, out.String(), "NT_STATUS_", "the session of the client at the other node has ended")
}

// stoppedNode stops all processes of a node for 10 s, so that CTDB goes on without it. It comes
// back, and takes nothing away.
func (c *cluster) stoppedNode() { c.lostNode("stopped", 2, (*cluster).stopNode, (*cluster).wakeNode) }

// cutNode cuts a node from the network for 10 s. Its agent goes on, and finds that the cluster has
// gone on without it.
func (c *cluster) cutNode() { c.lostNode("cut off", 3, (*cluster).cut, (*cluster).heal) }

func (c *cluster) lostNode(how string, i int, strike func(*cluster, int), lift func(*cluster, int) error) {
	l, kept := &life{}, &life{}
	one, other := i%nodes+1, (i+1)%nodes+1
	c.advance(i, kept, 0, recovered)
	c.advance(i, l, 0, expose)
	strike(c, i)
	begun := time.Now()
	c.survivor(one, l, expose)
	c.Logf("a node was %s: the next call at another node had succeeded after %v", how, time.Since(begun).Round(time.Millisecond))
	c.advance(one, l, mapping, recovered)
	c.requireRead(other, l, "one")
	time.Sleep(10*time.Second - time.Since(begun))
	require.NoError(c, lift(c, i))
	c.isBack(i)
	c.within(3*time.Minute, "the node is back", func() error {
		return c.call(i, func(ctx context.Context, s fsrvp.Service) error {
			_, err := s.GetShareMapping(ctx, kept.copy, kept.set, share(i), 1)
			return err
		})
	})
	c.requireRead(one, kept, "one")
	c.requireSameTables(kept.set, l.set)
	c.delete(i, l)
	c.delete(other, kept)
	c.requireEmpty(one)
	c.requireSameTables()
}

// killedNode kills a whole node between Commit and Expose.
func (c *cluster) killedNode() {
	l := &life{}
	c.advance(3, l, 0, expose)
	begun := time.Now()
	c.killNode(3)
	c.survivor(1, l, expose)
	c.Logf("a node was killed: the next call at another node had succeeded after %v", time.Since(begun).Round(time.Millisecond))
	c.advance(1, l, mapping, recovered)
	c.requireRead(2, l, "one")
	c.delete(2, l)
	c.requireEmpty(2)
	c.requireSameTables()
}

// stateCommands checks, saves and brings back the table by the program's commands.
func (c *cluster) stateCommands() {
	l := &life{}
	c.advance(2, l, 0, recovered)
	state := func(args ...string) (string, error) {
		args = append(append([]string{"state"}, args...), "-state", c.dir+"/n1/state", "-cluster", c.dir+"/shared/fsrvp")
		out, err := c.command(1, c.dir+"/agent", args...).CombinedOutput()
		return string(out), err
	}
	out, err := state("check")
	require.NoError(c, err, out)
	require.Regexp(c, `verdict +whole\n`, out)
	require.Contains(c, out, l.set.String())
	saved, err := state("export")
	require.NoError(c, err, saved)
	file := c.dir + "/saved.json"
	require.NoError(c, os.WriteFile(file, []byte(saved), 0o600))
	out, err = state("import", file)
	require.Error(c, err, "agents are running")
	require.Contains(c, out, "an agent is running with this state")
	for i := 1; i <= nodes; i++ {
		c.killAgent(i)
	}
	out, err = state("import", file)
	require.NoError(c, err, out)
	require.Contains(c, out, "imported 1 sets")
	for i := 1; i <= nodes; i++ {
		c.startAgent(i)
	}
	c.requireSameTables(l.set)
	c.requireRead(3, l, "one")
	c.delete(1, l)
	c.requireEmpty(2)
}
