package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
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

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// The environment of the process that has namespaces of its own.
const (
	envDir    = "FSRVP_CLUSTER_DIR"
	envRounds = "FSRVP_CLUSTER_ROUNDS"
	password  = "Passw0rd.of.the.cluster"
	nodes     = 3
)

var programs = []string{
	"bash", "btrfs", "ctdb", "ctdbd", "ip", "mkfs.btrfs", "net", "nsenter", "pgrep", "setsid", "smbclient", "smbd", "smbpasswd", "unshare",
}

// TestCluster runs itself in a network and mount namespace, with a cluster.
func TestCluster(t *testing.T) {
	if os.Getenv(envDir) != "" {
		inside(t)
		return
	}
	if testing.Short() {
		t.Skip("it brings up a cluster")
	}
	if missing := missing(); missing != "" {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	agent := filepath.Join(dir, "agent")
	out, err := exec.Command("go", "build", "-o", agent, "github.com/go-fsrvp/go-fsrvp/examples/fsrvp-agent").CombinedOutput()
	require.NoError(t, err, "%s", out)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("unshare", "-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc", self, "-test.run=^TestCluster$", "-test.v", "-test.timeout=15m")
	cmd.Env = append(os.Environ(), envDir+"="+dir)
	out, err = cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}

// missing says what the machine lacks.
func missing() string {
	if os.Geteuid() != 0 {
		return "needs a cluster: not run as root"
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err.Error()
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return "needs a cluster: not installed: " + p
		}
	}
	if out, err := exec.Command("unshare", "-n", "-m", "-p", "--fork", "true").CombinedOutput(); err != nil {
		return fmt.Sprintf("needs a cluster: no namespaces: %s", out)
	}
	return ""
}

// A cluster is the one that is up.
type cluster struct {
	*testing.T
	dir    string
	agents [nodes + 1]*exec.Cmd // from 1 on
}

func inside(t *testing.T) {
	c := &cluster{T: t, dir: os.Getenv(envDir)}
	t.Cleanup(c.down)
	c.up()
	c.refusesWithoutSharedTable()
	for i := 1; i <= nodes; i++ {
		c.startAgent(i)
	}
	c.sevenSets()
	c.killedAgent()
	c.stoppedAgent()
	c.otherNodeUses()
	rounds := 2
	if n, err := strconv.Atoi(os.Getenv(envRounds)); err == nil {
		rounds = n
	}
	for i := range rounds {
		c.randomRound(i)
	}
	c.stoppedNode()
	c.killedNode()
}

func (c *cluster) up() {
	begun := time.Now()
	out, err := exec.Command(filepath.Join("testdata", "up.sh"), c.dir, strconv.Itoa(nodes)).CombinedOutput()
	require.NoError(c, err, "%s", out)
	c.Logf("%d CTDB nodes are healthy after %v", nodes, time.Since(begun).Round(time.Millisecond))
	c.on(1, "net", "conf", "addshare", "vms", c.dir+"/shared/vms", "writeable=y", "guest_ok=n")
	for i := 1; i <= nodes; i++ {
		c.pipe(password+"\n"+password+"\n", i, "smbpasswd", "-s", "-a", "root")
		c.on(i, "smbd", "-D")
	}
	require.NoError(c, os.WriteFile(c.dir+"/shared/vms/file", []byte("one"), 0o644))
	for i := 1; i <= nodes; i++ {
		c.within(time.Minute, "smbd of node "+strconv.Itoa(i), func() error { return c.try(i, "", "smbclient", "-N", "-L", "127.0.0.1") })
	}
}

func (c *cluster) down() {
	for i, a := range c.agents {
		if a != nil {
			_ = a.Process.Kill()
			_ = a.Wait()
		}
		if c.Failed() && i > 0 {
			log, _ := os.ReadFile(c.log(i))
			c.Logf("agent %d:\n%s", i, tail(log, 60))
		}
	}
	for i := 1; i <= nodes; i++ {
		_ = syscall.Kill(c.pid(i), syscall.SIGKILL)
	}
	c.within(30*time.Second, "unmounting", func() error { return exec.Command("umount", c.dir+"/shared").Run() })
}

func tail(log []byte, n int) []byte {
	lines := bytes.Split(log, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

func (c *cluster) pid(i int) int {
	b, _ := os.ReadFile(fmt.Sprintf("%s/n%d/pid", c.dir, i))
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 1 << 30 // nobody
	}
	return pid
}

func (c *cluster) command(i int, name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(c.pid(i)), "-a", "--", name}, args...)...)
}

// on runs a program on a node.
func (c *cluster) on(i int, name string, args ...string) string { return c.pipe("", i, name, args...) }

func (c *cluster) pipe(stdin string, i int, name string, args ...string) string {
	c.Helper()
	cmd := c.command(i, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(c, err, "%s %v on node %d: %s", name, args, i, out)
	return string(out)
}

func (c *cluster) try(i int, stdin, name string, args ...string) error {
	cmd := c.command(i, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// within waits until f succeeds.
func (c *cluster) within(d time.Duration, what string, f func() error) {
	c.Helper()
	begun := time.Now()
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Since(begun) > d {
			c.Fatalf("%s: not within %v: %v", what, d, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *cluster) log(i int) string { return fmt.Sprintf("%s/n%d/agent.log", c.dir, i) }

func (c *cluster) agentArgs(i int, more ...string) []string {
	return append([]string{
		"-listen", "samba:/run/samba/ncalrpc", "-shares", "samba", "-expose", "samba", "-snapshots", "btrfs",
		"-state", fmt.Sprintf("%s/n%d/state", c.dir, i), "-allow", `CLUST\root`, "-v",
	}, more...)
}

// startAgent starts the agent of a node.
func (c *cluster) startAgent(i int) {
	c.Helper()
	log, err := os.OpenFile(c.log(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(c, err)
	defer log.Close()
	cmd := c.command(i, c.dir+"/agent", c.agentArgs(i, "-cluster", c.dir+"/shared/fsrvp")...)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	require.NoError(c, err)
	require.NoError(c, cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening samba:") {
		_ = cmd.Wait()
		text, _ := os.ReadFile(c.log(i))
		c.Fatalf("the agent of node %d did not start:\n%s", i, tail(text, 30))
	}
	c.agents[i] = cmd
}

// signal sends a signal to the agent of a node. nsenter hands none on; when its child stops it
// stops itself, too.
func (c *cluster) signal(i int, s string) {
	c.Helper()
	c.on(i, "sh", "-c", fmt.Sprintf("kill -%s $(pgrep -x agent)", s))
}

// wake lets a stopped agent go on.
func (c *cluster) wake(i int) error {
	return errors.Join(c.try(i, "", "sh", "-c", "kill -CONT $(pgrep -x agent)"), c.agents[i].Process.Signal(syscall.SIGCONT))
}

func (c *cluster) killAgent(i int) {
	c.Helper()
	c.signal(i, "KILL")
	_ = c.agents[i].Wait()
	c.agents[i] = nil
}

// dial connects to the agent of a node, as a client in no node.
func (c *cluster) dial(i int) (*fsrvp.Client, func(), error) {
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "CLUST", User: "root", Password: password})
	if err != nil {
		return nil, nil, err
	}
	d := &smbpipe.Dialer{Auth: auth}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := fsrvp.Dial(ctx, fmt.Sprintf("10.98.0.%d", i), &fsrvp.Config{Transport: d, Level: dcerpc.LevelInsecureNone, CallTimeout: 30 * time.Second})
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return client, func() { _ = errors.Join(client.Close(), d.Close()) }, nil
}

// A life is a set on its way, whose client calls any node.
type life struct {
	set  fsrvp.SetID
	copy fsrvp.CopyID
	name string // of the exposed share
}

const wait = 30 * time.Second

func share(i int) string { return fmt.Sprintf(`\\10.98.0.%d\vms`, i) }

// stages are the calls of a life. Each names the share by the node that the client calls.
var stages = []struct {
	name string
	call func(ctx context.Context, s fsrvp.Service, i int, l *life) error
}{
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
}

// call calls one node.
func (c *cluster) call(i int, f func(context.Context, fsrvp.Service) error) error {
	client, closeIt, err := c.dial(i)
	if err != nil {
		return err
	}
	defer closeIt()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// requireRead reads a file of an exposed share at a node.
func (c *cluster) requireRead(i int, l *life, want string) {
	c.Helper()
	out, err := exec.Command("smbclient", fmt.Sprintf("//10.98.0.%d/%s", i, l.name), "-U", "CLUST\\root%"+password, "-c", "get file -").Output()
	require.NoError(c, err, "%s", out)
	require.True(c, strings.HasPrefix(string(out), want), "%s", out)
}

func (c *cluster) exposed(i int) (list []string) {
	for name := range strings.Lines(c.on(i, "net", "conf", "listshares")) {
		if strings.Contains(name, "@{") {
			list = append(list, strings.TrimSpace(name))
		}
	}
	return list
}

// requireEmpty checks that nothing is left on the cluster.
func (c *cluster) requireEmpty(i int) {
	c.Helper()
	require.Empty(c, c.exposed(i))
	out, err := exec.Command("btrfs", "subvolume", "list", c.dir+"/shared").CombinedOutput()
	require.NoError(c, err, "%s", out)
	require.Equal(c, 1, strings.Count(string(out), "\n"), "%s", out) // vms
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
		c.advance(k%nodes+1, lives[k], 0, len(stages))
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
	c.within(time.Minute, stages[stage].name+" at a survivor", func() error {
		return c.call(i, func(ctx context.Context, s fsrvp.Service) error { return stages[stage].call(ctx, s, i, l) })
	})
	return time.Since(begun)
}

// killedAgent kills an agent between Commit and Expose. The client goes on at another node.
func (c *cluster) killedAgent() {
	l := &life{}
	c.advance(2, l, 0, 5)
	c.killAgent(2)
	took := c.survivor(3, l, 5)
	c.Logf("an agent was killed: the next call at another node took %v", took.Round(time.Millisecond))
	c.advance(3, l, 6, len(stages))
	c.requireRead(1, l, "one")
	c.delete(1, l)
	c.requireEmpty(1)
	c.startAgent(2)
}

// stoppedAgent stops an agent for 10 s in the middle of a life.
func (c *cluster) stoppedAgent() {
	l := &life{}
	c.advance(1, l, 0, 5)
	c.signal(1, "STOP")
	begun := time.Now()
	took := c.survivor(2, l, 5)
	c.Logf("an agent was stopped: the next call at another node took %v", took.Round(time.Millisecond))
	c.advance(2, l, 6, len(stages))
	time.Sleep(10*time.Second - time.Since(begun))
	require.NoError(c, c.wake(1))
	c.requireRead(1, l, "one")
	c.delete(1, l)
	c.requireEmpty(1)
}

// otherNodeUses has a client read an exposed share at one node while another deletes it.
func (c *cluster) otherNodeUses() {
	l := &life{}
	c.advance(1, l, 0, len(stages))
	cmd := exec.Command("smbclient", fmt.Sprintf("//10.98.0.2/%s", l.name), "-U", "CLUST\\root%"+password)
	in, err := cmd.StdinPipe()
	require.NoError(c, err)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(c, cmd.Start())
	c.within(20*time.Second, "the client's session", func() error {
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

// randomRound lets an agent fail at some moment of a life, and has the client go on at another
// node.
func (c *cluster) randomRound(k int) {
	i := rand.IntN(nodes) + 1
	other := (i+rand.IntN(nodes-1))%nodes + 1
	how := []string{"killed", "stopped"}[rand.IntN(2)]
	stage := 2 + rand.IntN(len(stages)-2)
	after := time.Duration(rand.IntN(200)) * time.Millisecond
	c.Logf("round %d: the agent of node %d is %s %v after the begin of %s, and the client goes on at node %d", k, i, how, after, stages[stage].name, other)
	l := &life{}
	c.advance(i, l, 0, stage)
	told := *l
	ended := make(chan error, 1)
	go func() {
		next := told
		err := c.call(i, func(ctx context.Context, s fsrvp.Service) error {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			return stages[stage].call(ctx, s, i, &next)
		})
		if err == nil {
			*l = next
		}
		ended <- err
	}()
	time.Sleep(after)
	c.signal(i, map[string]string{"killed": "KILL", "stopped": "STOP"}[how])
	awake := make(chan error, 1)
	if how == "stopped" {
		time.AfterFunc(10*time.Second, func() { awake <- c.wake(i) })
	}
	answered := <-ended == nil
	c.goOn(other, l, stage, answered)
	if how == "stopped" {
		require.NoError(c, <-awake)
	} else {
		_ = c.agents[i].Wait()
		c.startAgent(i)
	}
	c.within(30*time.Second, "nothing is left", func() error {
		if list := c.exposed(other); len(list) > 0 {
			return fmt.Errorf("exposed: %v", list)
		}
		out, err := exec.Command("btrfs", "subvolume", "list", c.dir+"/shared").CombinedOutput()
		if err == nil && strings.Count(string(out), "\n") != 1 {
			err = fmt.Errorf("subvolumes: %s", out)
		}
		return err
	})
}

// goOn is what a client does whose call was not answered: the same at another node, and where that
// fails, it gives the set up. From Commit's answer on it must not fail.
func (c *cluster) goOn(i int, l *life, stage int, answered bool) {
	c.Helper()
	begun := time.Now()
	if answered {
		stage++
	}
	for ; stage < len(stages); stage++ {
		err := errors.New("not called")
		for time.Since(begun) < time.Minute {
			err = c.call(i, func(ctx context.Context, s fsrvp.Service) error { return stages[stage].call(ctx, s, i, l) })
			if err == nil || errors.Is(err, fsrvp.ErrBadState) && stages[stage].name == "RecoveryComplete" { // its answer was missed
				err = nil
				break
			}
			if stage <= 4 {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		if err == nil {
			continue
		}
		require.LessOrEqual(c, stage, 4, "%s at node %d: %v: the client was told that Commit has succeeded", stages[stage].name, i, err)
		c.Logf("%s at node %d: %v; the set is given up", stages[stage].name, i, err)
		_ = c.call(i, func(ctx context.Context, s fsrvp.Service) error { return s.AbortShadowCopySet(ctx, l.set) })
		return
	}
	c.requireRead(i, l, "one")
	c.delete(i, l)
}

// stoppedNode stops all processes of a node for 10 s, so that CTDB goes on without it. It comes
// back, and takes nothing away.
func (c *cluster) stoppedNode() {
	l, kept := &life{}, &life{}
	c.advance(2, kept, 0, len(stages))
	c.advance(2, l, 0, 5)
	_ = c.try(2, "", "sh", "-c", "kill -STOP -1") // the shell itself is spared
	begun := time.Now()
	c.survivor(1, l, 5)
	c.Logf("a node was stopped: the next call at another node had succeeded after %v", time.Since(begun).Round(time.Millisecond))
	c.advance(1, l, 6, len(stages))
	c.requireRead(3, l, "one")
	time.Sleep(10*time.Second - time.Since(begun))
	require.NoError(c, c.try(2, "", "sh", "-c", "kill -CONT -1"))
	require.NoError(c, c.agents[2].Process.Signal(syscall.SIGCONT))
	c.within(time.Minute, "the node is back", func() error {
		return c.call(2, func(ctx context.Context, s fsrvp.Service) error {
			_, err := s.GetShareMapping(ctx, kept.copy, kept.set, share(2), 1)
			return err
		})
	})
	c.requireRead(1, kept, "one")
	c.delete(2, l)
	c.delete(3, kept)
	c.requireEmpty(1)
}

// killedNode kills a whole node between Commit and Expose.
func (c *cluster) killedNode() {
	l := &life{}
	c.advance(3, l, 0, 5)
	begun := time.Now()
	require.NoError(c, syscall.Kill(c.pid(3), syscall.SIGKILL))
	_ = c.agents[3].Wait()
	c.agents[3] = nil
	c.survivor(1, l, 5)
	c.Logf("a node was killed: the next call at another node had succeeded after %v", time.Since(begun).Round(time.Millisecond))
	c.advance(1, l, 6, len(stages))
	c.requireRead(2, l, "one")
	c.delete(2, l)
	c.requireEmpty(2)
}
