package fsrvptest_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

func TestMain(m *testing.M) {
	if os.Getenv(memoryServer) != "" {
		if err := serveForMemory(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

var profiles = []agent.Profile{agent.Windows, agent.Strict}

// quickDir is a directory for stores that need not outlive the machine.
func quickDir(tb testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "fsrvptest-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newServer starts an embedded server for a test.
func newServer(t testing.TB, cfg *fsrvptest.ServerConfig) *fsrvptest.Server {
	cfg.Agent.StorePath = filepath.Join(quickDir(t), "store")
	s, err := fsrvptest.NewServer(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestAgent runs the suite on an agent with backends in memory: called directly, and through
// DCE/RPC in memory and on TCP, sealed by Kerberos.
func TestAgent(t *testing.T) {
	t.Parallel()
	for _, profile := range profiles {
		t.Run(profile.String()+"/direct", func(t *testing.T) {
			t.Parallel() // it waits more than it works; so do those below
			fsrvptest.Run(t, func(tb testing.TB) fsrvptest.Target { return direct(tb, agent.Config{Profile: profile}) })
		})
		for name, tcp := range map[string]bool{"memory": false, "tcp": true} {
			t.Run(profile.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := newServer(t, &fsrvptest.ServerConfig{Agent: agent.Config{Profile: profile}, TCP: tcp})
				fsrvptest.Run(t, func(tb testing.TB) fsrvptest.Target {
					target, err := s.Target(tb.Context())
					require.NoError(tb, err)
					return target
				})
			})
		}
	}
}

// TestReset runs cases that expect the other profile's answers: the server is reset after each.
func TestReset(t *testing.T) {
	s := newServer(t, &fsrvptest.ServerConfig{})
	var cases []fsrvptest.Case
	known := map[string]string{}
	for _, c := range fsrvptest.Cases() {
		if strings.HasSuffix(c.Name, "/UnknownSet") && c.Name != "Delete/UnknownSet" {
			cases, known[c.Name] = append(cases,
				c), "the answer is E_INVALIDARG, and must be FSRVP_E_SHADOWCOPYSET_ID_MISMATCH"
		}
	}
	require.Greater(t, len(cases), 3)
	resets := 0
	fsrvptest.RunCases(t, cases, func(tb testing.TB) fsrvptest.Target {
		target, err := s.Target(tb.Context())
		require.NoError(tb, err)
		target.Profile, target.Known = agent.Strict, known
		target.Reset = func(ctx context.Context) error {
			resets++
			return target.Restart(ctx)
		}
		return target
	})
	require.Equal(t, len(cases), resets)
}

// TestRightsAreRestored runs the cases that change rights.
func TestRightsAreRestored(t *testing.T) {
	target := direct(t, agent.Config{})
	rights := &countedRights{Rights: target.Rights}
	target.Rights = rights
	for _, c := range fsrvptest.Cases() {
		if c.Name == "Expose/Rights" || c.Name == "smbtorture/share_sd" {
			require.Equal(t, fsrvptest.Passed, c.Run(t.Context(), &target).Verdict)
		}
	}
	require.Equal(t, 3, rights.marked)
	require.Equal(t, 3, rights.unmarked)
}

// countedRights counts changes.
type countedRights struct {
	fsrvptest.Rights
	marked, unmarked int
}

func (r *countedRights) Mark(ctx context.Context, share, mark string) error {
	r.marked++
	return r.Rights.Mark(ctx, share, mark)
}

func (r *countedRights) Unmark(ctx context.Context, share, mark string) error {
	r.unmarked++
	return r.Rights.Unmark(ctx, share, mark)
}

// direct is an agent without RPC in front of it, where nobody looks at how calls are protected.
func direct(tb testing.TB, cfg agent.Config) fsrvptest.Target {
	target, _ := directAgent(tb, cfg)
	return target
}

// directAgent is direct, with the agent that runs now.
func directAgent(tb testing.TB, cfg agent.Config) (fsrvptest.Target, func() *agent.Agent) {
	m := fsrvptest.NewMemory()
	cfg.Snapshots, cfg.Shares, cfg.Names = m.Snapshots, m.Shares, []string{"fs1", fsrvptest.ServerName, "127.0.0.1",
		"role"}
	cfg.StorePath = filepath.Join(quickDir(tb), "store")
	cfg.Owner = func(_ context.Context, _ string, share backend.Share) (string, error) {
		return map[string]string{"mounted": "fs2"}[share.Name], nil
	}
	var a *agent.Agent
	start := func(ctx context.Context) (err error) {
		a, err = agent.New(ctx, &cfg)
		return err
	}
	require.NoError(tb, start(context.Background()))
	peer := func(ip string, level dcerpc.AuthLevel, groups ...dcerpc.SID) fsrvp.Service {
		p := dcerpc.Peer{
			Identity: dcerpc.Identity{Account: "backup", SIDs: groups},
			Addr:     &net.TCPAddr{IP: net.ParseIP(ip), Port: 49152}, AuthType: dcerpc.AuthKerberos, Level: level,
		}
		return fsrvptest.NewLine(func(context.Context) (fsrvp.Service, error) { return fsrvptest.As(a, p), nil })
	}
	operators := dcerpc.SIDBuiltinBackupOperators
	target := fsrvptest.Target{
		Profile: cfg.Profile,
		Client:  peer("192.0.2.1", dcerpc.LevelPrivacy, operators), SameHost: peer("192.0.2.1", dcerpc.LevelIntegrity,
			operators),
		Other: peer("192.0.2.2", dcerpc.LevelPrivacy, operators), Unprivileged: peer("192.0.2.3", dcerpc.LevelPrivacy),
		Share: `\\fs1\share`, SameVolume: `\\fs1\second`, OtherVolume: `\\fs1\other`, Hidden: `\\fs1\hidden$`,
		Aliases:     []string{`\\FS1.fsrvp.test\share`, `\\127.0.0.1\share`},
		Unsupported: `\\fs1\plain`, Elsewhere: `\\fs1\mounted`, ElsewhereOwner: "fs2", Owner: "fs1",
		Clustered: `\\role\other`, ScaleOut: `\\role\other`,
		Files: m.Shares, Rights: m, Held: m.Held, Delay: m.Delay,
	}
	target.Restart = func(ctx context.Context) error {
		if err := a.Close(); err != nil {
			return err
		}
		return start(ctx)
	}
	tb.Cleanup(func() { require.NoError(tb, a.Close()) })
	return target, func() *agent.Agent { return a }
}

// TestTimers runs all cases with the Message Sequence Timer's own 180 s, in a bubble where they
// take no time: called directly, and through DCE/RPC in memory.
func TestTimers(t *testing.T) {
	const timeout = 180 * time.Second
	timers := agent.Timers{Add: timeout, Prepare: timeout, GetShareMapping: timeout}
	for _, profile := range profiles {
		t.Run(profile.String()+"/direct", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := direct(t, agent.Config{Profile: profile, Timers: timers})
				target.SequenceTimeout, target.CaseTimeout = timeout, 10*time.Hour
				requireAll(t, &target)
			})
		})
		t.Run(profile.String()+"/memory", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, &fsrvptest.ServerConfig{Agent: agent.Config{Profile: profile, Timers: timers}})
				target, err := s.Target(t.Context())
				require.NoError(t, err)
				target.SequenceTimeout, target.CaseTimeout = timeout, 10*time.Hour
				requireAll(t, &target)
			})
		})
	}
}

// requireAll runs all cases and demands that none fails. What is not applicable it logs.
func requireAll(t *testing.T, target *fsrvptest.Target) {
	for _, c := range fsrvptest.Cases() {
		res := c.Run(context.Background(), target)
		switch res.Verdict {
		case fsrvptest.Failed:
			t.Errorf("%s %s: %s\n%s", c.Section, c.Name, c.Demand, res.Reason)
		case fsrvptest.NotApplicable:
			t.Logf("%s %s: %s", c.Section, c.Name, res.Reason)
		}
	}
}

func TestCases(t *testing.T) {
	names := map[string]bool{}
	for _, c := range fsrvptest.Cases() {
		require.NotEmpty(t, c.Name)
		require.NotEmpty(t, c.Demand, c.Name)
		require.NotEmpty(t, c.Section, c.Name)
		require.False(t, names[c.Name], "%s is there twice", c.Name)
		names[c.Name] = true
	}
	t.Logf("%d cases", len(names))
}
