package agent_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// TestOldCall has a node be stopped while a client's SetContext waits in its connection. The client
// goes on at another node. When the node runs again it finds the call, whose connection has ended,
// and does not start the client's creation over. A call of a client that is still there it does.
func TestOldCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, b := c.start(t, "a", nil), c.start(t, "b", nil)
		defer func() {
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
		}()
		l := b.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
		time.Sleep(time.Minute)
		a.Stall(10 * time.Second)
		gone, cancel := context.WithCancel(client1)
		time.AfterFunc(100*time.Millisecond, cancel)
		require.Error(t, a.SetContext(gone, fsrvp.ContextNASRollback))
		synctest.Wait()
		require.Equal(t, agent.Exposed, b.status(l.set))
		require.NoError(t, b.RecoveryCompleteShadowCopySet(client1, l.set))

		time.Sleep(time.Minute)
		begun := time.Now()
		a.Stall(10 * time.Second)
		m, err := a.GetShareMapping(client1, l.copies[0], l.set, vms, 1)
		require.NoError(t, err)
		require.NotEmpty(t, m.Exposed)
		require.Equal(t, 3*time.Second, time.Since(begun))

		time.Sleep(time.Minute)
		begun = time.Now()
		a.Stall(2 * time.Second)
		require.NoError(t, a.DeleteShareMapping(client1, l.set, l.copies[0], vms))
		require.Zero(t, time.Since(begun), "no client has given up so soon")
	})
}
