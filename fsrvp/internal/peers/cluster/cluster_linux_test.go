package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	envDir     = "FSRVP_CLUSTER_DIR"
	envRounds  = "FSRVP_CLUSTER_ROUNDS"
	envClients = "FSRVP_CLUSTER_CLIENTS"
	envSteps   = "FSRVP_CLUSTER_STEPS"
	password   = "Passw0rd.of.the.cluster"
	nodes      = 3
	volumes    = 2
	owner      = "10.98.0.3" // of the share "owned"
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
	if os.Getenv("FSRVP_PEERS_ROOT") != "" {
		t.Skip("the nodes run this machine's programs, whatever FSRVP_PEERS_ROOT says")
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
	timeout, long := "15m", os.Getenv(envRounds) != "" || os.Getenv(envClients) != "" || os.Getenv(envSteps) != ""
	if long {
		timeout = "0"
	}
	cmd := exec.Command("unshare", "-n", "-m", "-p", "--fork", "--kill-child", "--mount-proc", self, "-test.run=^TestCluster$", "-test.v", "-test.timeout="+timeout)
	cmd.Env = append(os.Environ(), envDir+"="+dir)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if long {
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	}
	err = cmd.Run()
	t.Logf("%s", &output)
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
	agents [solo + 1]*exec.Cmd // from 1 on
}

func inside(t *testing.T) {
	c := &cluster{T: t, dir: os.Getenv(envDir)}
	t.Cleanup(c.down)
	c.up()
	c.refusesWithoutSharedTable()
	for i := 1; i <= nodes; i++ {
		c.startAgent(i)
	}
	rounds, err := strconv.Atoi(os.Getenv(envRounds))
	if err != nil {
		rounds = 1
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"benchmark", c.benchmark},
		{"seven sets", c.sevenSets},
		{"cases", c.clusterCases},
		{"clients at once", c.clientsAtOnce},
		{"killed agent", c.killedAgent},
		{"other node uses", c.otherNodeUses},
		{"state", c.stateCommands},
		{"rounds", func() { c.randomRounds(rounds) }},
		{"cut node", c.cutNode},
		{"stopped node", c.stoppedNode},
		{"killed node", c.killedNode},
	} {
		if only := os.Getenv(envSteps); only == "" && step.name == "benchmark" ||
			only != "" && !slices.Contains(strings.Split(only, ","), step.name) {
			continue
		}
		begun := time.Now()
		step.do()
		if c.Failed() {
			c.Fatalf("in step %q", step.name)
		}
		c.Logf("step %q took %v", step.name, time.Since(begun).Round(time.Millisecond))
	}
}

func (c *cluster) up() {
	begun := time.Now()
	out, err := exec.Command(filepath.Join("testdata", "cluster.sh"), "up", c.dir, strconv.Itoa(nodes)).CombinedOutput()
	require.NoError(c, err, "%s", out)
	c.Logf("%d CTDB nodes are healthy after %v", nodes, time.Since(begun).Round(time.Millisecond))
	require.NoError(c, os.Mkdir(c.dir+"/shared/vms/owned", 0o755))
	for name, dir := range map[string]string{"vms": "vms", "other": "other", "owned": "vms/owned"} {
		c.on(1, "net", "conf", "addshare", name, c.dir+"/shared/"+dir, "writeable=y", "guest_ok=n")
	}
	for i := 1; i <= nodes; i++ {
		c.pipe(password+"\n"+password+"\n", i, "smbpasswd", "-s", "-a", "root")
		c.on(i, "smbd", "-D")
	}
	require.NoError(c, os.WriteFile(c.dir+"/shared/vms/file", []byte("one"), 0o644))
	for i := 1; i <= nodes; i++ {
		c.within(3*time.Minute, "smbd of node "+strconv.Itoa(i), func() error { return c.try(i, "", "smbclient", "-N", "-L", "127.0.0.1") })
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
	for i := 1; i <= solo; i++ {
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

// clusterArgs are agentArgs of a node that shares the table.
func (c *cluster) clusterArgs(i int, more ...string) []string {
	return append(c.agentArgs(i, "-cluster", c.dir+"/shared/fsrvp", "-owner", "owned="+owner), more...)
}

// startAgent starts the agent of a node.
func (c *cluster) startAgent(i int) {
	c.Helper()
	c.start(i, c.clusterArgs(i))
}

// start starts an agent, again where it ends, as systemd does.
func (c *cluster) start(i int, args []string) {
	c.Helper()
	c.within(3*time.Minute, fmt.Sprintf("the agent of node %d starts", i), func() error {
		log, err := os.OpenFile(c.log(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		cmd := c.command(i, c.dir+"/agent", args...)
		cmd.Stderr = log
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening samba:") {
			return fmt.Errorf("it has ended: %w", cmd.Wait())
		}
		c.agents[i] = cmd
		return nil
	})
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

// dialFrom connects to the agent of a node, as a client in no node, from one of its addresses.
func (c *cluster) dialFrom(addr string, i int) (*fsrvp.Client, func(), error) {
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "CLUST", User: "root", Password: password})
	if err != nil {
		return nil, nil, err
	}
	tcp := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	d := &smbpipe.Dialer{Auth: auth, Dial: tcp.DialContext}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := fsrvp.Dial(ctx, fmt.Sprintf("10.98.0.%d", i), &fsrvp.Config{Transport: d, Level: dcerpc.LevelInsecureNone, CallTimeout: 2 * time.Minute})
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	return client, func() { _ = errors.Join(client.Close(), d.Close()) }, nil
}
