package cluster

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// solo is the number of a machine that is no node of the cluster.
const solo = nodes + 1

// benchmark compares how long a life takes, from SetContext to DeleteShareMapping, over connections
// that are open: with this project's agents on the cluster, on a server alone, and with Samba's own
// agent on the cluster. They take turns.
func (c *cluster) benchmark() {
	c.bootSolo()
	c.on(1, "net", "conf", "setparm", "vms", "vfs objects", "btrfs") // for Samba's agent
	c.on(1, "net", "conf", "setparm", "vms", "btrfs: manipulate snapshots", "yes")
	took := map[string][]time.Duration{}
	lives := func(what string, n int, pause time.Duration, at ...int) {
		var lines []*fsrvptest.Line
		for _, i := range at {
			l := c.line("10.98.0.254", i)
			defer l.Close()
			lines = append(lines, l)
		}
		for k := range n + 1 {
			time.Sleep(pause)
			begun := time.Now()
			require.NoError(c, c.lifeOver(lines, at), what)
			if k > 0 { // the first one connects
				took[what] = append(took[what], time.Since(begun))
			}
		}
	}
	const (
		many = "ours, three nodes, each call at another"
		one  = "ours, three nodes, all calls at one"
		solo = "ours, a server alone"
		own  = "Samba's own on three nodes, all calls at one"
	)
	for range 3 {
		lives(many, 3, 0, 1, 2, 3)
		lives(one, 3, 0, 1)
		lives(solo, 3, 0, nodes+1)
		for i := 1; i <= nodes; i++ {
			c.killAgent(i)
			_ = c.try(i, "", "rm", "-f", "/run/samba/ncalrpc/np/FssagentRpc")
		}
		lives(own, 3, 1100*time.Millisecond, 1) // its snapshots are named by the second
		for i := 1; i <= nodes; i++ {
			_ = c.try(i, "", "sh", "-c", "kill $(pgrep -f 'rpcd_fsrvp|samba-dcerpcd')")
			c.within(time.Minute, "Samba's agent ends", func() error {
				if c.try(i, "", "pgrep", "-r", "R,S,D", "-f", "rpcd_fsrvp|samba-dcerpcd") == nil {
					return errors.New("it runs")
				}
				return nil
			})
			c.startAgent(i)
		}
	}
	fmt.Printf("%-46s %5s %8s %8s %8s\n", "a life of one share, ms", "n", "best", "median", "worst")
	for _, name := range []string{many, one, solo, own} {
		list := took[name]
		slices.Sort(list)
		fmt.Printf("%-46s %5d %8d %8d %8d\n", name, len(list), list[0].Milliseconds(), list[len(list)/2].Milliseconds(),
			list[len(list)-1].Milliseconds())
	}
}

// bootSolo brings up the machine that is no node, with its agent.
func (c *cluster) bootSolo() {
	out, err := exec.Command("testdata/cluster.sh", "solo", c.dir, fmt.Sprint(solo)).CombinedOutput()
	require.NoError(c, err, "%s", out)
	c.pipe(password+"\n"+password+"\n", solo, "smbpasswd", "-s", "-a", "root")
	c.on(solo, "net", "conf", "addshare", "vms", c.dir+"/shared/vms", "writeable=y", "guest_ok=n")
	c.startSMB(solo)
	c.start(solo, c.agentArgs(solo, "-allow", `SOLO\root`))
}

// lifeOver is a whole life, each call over the next of some connections.
func (c *cluster) lifeOver(lines []*fsrvptest.Line, at []int) error {
	l := &life{}
	for k, st := range stages {
		i := k % len(lines)
		if err := st.call(c.Context(), lines[i], at[i], l); err != nil {
			return fmt.Errorf("%s at node %d: %w", st.name, at[i], err)
		}
	}
	return nil
}
