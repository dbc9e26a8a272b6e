package agent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// TestOutNode has the cluster put a node out for a time, as CTDB bans one, while its agent runs on.
// The node does not come into the table again before, where others would end each of its stays; its
// calls wait. It is one like any other when it is in the cluster again.
func TestOutNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, b := c.start(t, "a", nil), c.start(t, "b", nil)
		defer func() {
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
		}()
		l := a.bring(t, fsrvp.ContextNASRollback, agent.Committed, vms)
		c.table.SetLife("a", state.Lost)
		time.Sleep(5 * time.Second)
		require.NoError(t, b.ExposeShadowCopySet(client1, l.set, wait))
		require.NoError(t, b.RecoveryCompleteShadowCopySet(client1, l.set))
		before := string(c.table.Records()["node/a"])
		require.NotContains(t, before, "stay")

		ended := make(chan error, 1)
		go func() { _, err := a.IsPathShadowCopied(client1, vms); ended <- err }()
		time.Sleep(5 * time.Minute)
		require.Equal(t, before, string(c.table.Records()["node/a"]), "it stays out")
		require.Empty(t, ended, "its calls wait")

		// Neither does one come that starts anew.
		require.NoError(t, a.Close())
		require.Error(t, <-ended)
		require.NoError(t, a.cfg.State.Close())
		s, err := c.table.Open("a", nil)
		require.NoError(t, err)
		c.table.SetLife("a", state.Lost)
		a.cfg.State = s
		started := make(chan struct{})
		go func() { a.start(t); close(started) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, before, string(c.table.Records()["node/a"]))
		c.table.SetLife("a", state.Present)
		<-started
		require.NoError(t, a.DeleteShareMapping(client1, l.set, l.copies[0], vms))
		a.empty(t)
	})
}
