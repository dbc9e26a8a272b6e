package interop

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// conformanceCases are the cases that wait for the Message Sequence Timer, or all others.
func conformanceCases(timed bool) (cases []fsrvptest.Case) {
	for _, c := range fsrvptest.Cases() {
		if timed == (c.Section == "3.1.5" || c.Name == "smbtorture/seq_timeout" ||
			strings.HasPrefix(c.Name, "Store/RestartTimed/")) {
			cases = append(cases, c)
		}
	}
	return cases
}

// TestConformanceBehindSamba runs the whole suite against our agent behind a real smbd: first with
// the timer's values of the standard, then the cases that wait for it with a short one.
func TestConformanceBehindSamba(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	const sequenceTimeout = 1200 * time.Millisecond
	for _, run := range []struct {
		name    string
		cases   []fsrvptest.Case
		timeout time.Duration
		args    []string
	}{
		{"cases", conformanceCases(false), 0, nil},
		{"timer", conformanceCases(true), sequenceTimeout, []string{"-sequence-timeout", sequenceTimeout.String()}},
	} {
		t.Run(run.name, func(t *testing.T) {
			nas.Reset(t, 0)
			p := startAgentBehindSamba(t, n, run.args...)
			fsrvptest.RunCases(t, run.cases, func(testing.TB) fsrvptest.Target {
				target := agentBehindSamba(t, n, p)
				target.SequenceTimeout = run.timeout
				return target
			})
		})
	}
}

// agentBehindSamba is our agent with all that its host can offer.
func agentBehindSamba(t *testing.T, n *peers.Network, p *agentProcess) fsrvptest.Target {
	t.Helper()
	s := newConformanceServer(t, n, p.host)
	require.NoError(t, os.WriteFile(p.host.Path("/srv/btrfs/share/versions"), nil, 0o644))
	target := s.target(t, "fsrvp_share")
	// The agent of the test is told to trust the session under a pipe.
	delete(target.Levels, dcerpc.LevelInsecureNone)
	target.Inapplicable = maps.Clone(inapplicable)
	target.Inapplicable["Access/Level/NONE"] = "the agent lets the session's user call"
	target.SameVolume = s.addShare(t, "second", s.addDir(t, "/srv/btrfs/share/second"))
	target.OtherVolume = s.unc("data")
	target.Clustered, target.ScaleOut = s.byAddress("data")
	target.Hidden = s.addShare(t, "hidden$", s.addDir(t, "/srv/btrfs/data/hidden"))
	s.addOddShares(t, &target)
	target.Restart = func(context.Context) error {
		p.stop(t)
		p.start(t)
		return nil
	}
	return target
}
