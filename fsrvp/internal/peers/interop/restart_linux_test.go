package interop

import (
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// promptly is less than any time-out, and long enough for a machine that is busy.
const promptly = 25 * time.Second

// moments are those of a life cycle after which something is restarted.
var moments = []string{"Start", "Add", "Commit", "Expose", "RecoveryComplete"}

const (
	afterStart = iota
	afterAdd
	afterCommit
	afterExpose
	afterRecoveryComplete
	afterDelete
)

// A life is that of a set with the share data in it, and of its client.
type life struct {
	*backupClient
	n       *peers.Network
	agent   *agentProcess
	kind    fsrvp.ContextValue
	came    int // to which moment
	set     fsrvp.SetID
	id      fsrvp.CopyID
	exposed string
}

// begin begins a life, up to a moment.
func begin(t *testing.T, n *peers.Network, agent *agentProcess, kind fsrvp.ContextValue, to int) *life {
	t.Helper()
	l := &life{backupClient: newBackupClient(t, n), n: n, agent: agent, kind: kind, came: -1}
	require.NoError(t, os.WriteFile(l.nas.Path("/srv/btrfs/data/file"), []byte("before"), 0o644))
	l.goOn(t, to)
	return l
}

// step does what comes next in the set's life.
func (l *life) step(ctx context.Context) error {
	share := l.unc("data")
	var err error
	switch l.came + 1 {
	case afterStart:
		if err = l.SetContext(ctx, l.kind); err == nil {
			l.set, err = l.StartShadowCopySet(ctx, fsrvp.NewSetID())
		}
	case afterAdd:
		l.id, err = l.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), l.set, share)
	case afterCommit:
		if err = l.PrepareShadowCopySet(ctx, l.set, time.Minute); err == nil {
			err = l.CommitShadowCopySet(ctx, l.set, time.Minute)
		}
		if err == nil {
			err = os.WriteFile(l.nas.Path("/srv/btrfs/data/file"), []byte("after"), 0o644)
		}
	case afterExpose:
		if err = l.ExposeShadowCopySet(ctx, l.set, time.Minute); err != nil {
			return err
		}
		var m *fsrvp.ShareMapping
		if m, err = l.GetShareMapping(ctx, l.id, l.set, share, 1); err == nil {
			l.exposed = m.Exposed
		}
	case afterRecoveryComplete:
		err = l.RecoveryCompleteShadowCopySet(ctx, l.set)
	case afterDelete:
		err = l.DeleteShareMapping(ctx, l.set, l.id, share)
	}
	if err == nil {
		l.came++
	}
	return err
}

// goOn goes on to a moment.
func (l *life) goOn(t *testing.T, to int) {
	t.Helper()
	for l.came < to {
		require.NoError(t, l.step(t.Context()), "of context %v", l.kind)
	}
}

// abort is how a client cleans up.
func (l *life) abort(t *testing.T) {
	t.Helper()
	err := l.AbortShadowCopySet(t.Context(), l.set)
	if l.came == afterRecoveryComplete {
		require.ErrorIs(t, err, fsrvp.ErrBadState)
		l.goOn(t, afterDelete)
		return
	}
	require.NoError(t, err)
}

// startOver is how a client cleans up that has forgotten its set. What is Recovered it has to
// delete.
func (l *life) startOver(t *testing.T) {
	t.Helper()
	require.NoError(t, l.SetContext(t.Context(), fsrvp.ContextBackup))
	if l.came == afterRecoveryComplete {
		l.goOn(t, afterDelete)
	}
}

// requireGone fails unless the agent knows the set no more, and nothing is left of it.
func (l *life) requireGone(t *testing.T) {
	t.Helper()
	_, err := l.GetShareMapping(t.Context(), l.id, l.set, l.unc("data"), 1)
	require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
	requireNothingLeft(t, l.nas)
}

// requireReadable reads the exposed share, where there is one.
func (l *life) requireReadable(t *testing.T) {
	t.Helper()
	if l.exposed == "" {
		return
	}
	content, err := fs.ReadFile(l.open(t, l.exposed), "file")
	require.NoError(t, err)
	require.Equal(t, "before", string(content))
}

// requireBroken fails unless the next call on this connection says at once that the connection is
// gone.
func (l *life) requireBroken(t *testing.T) {
	t.Helper()
	begun := time.Now()
	err := l.step(t.Context())
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Regexp(t, "the server has closed the (connection|pipe)", err.Error())
	require.Less(t, time.Since(begun), promptly)
}

// requireNoAgent fails unless a client is told at once that the pipe has no server.
func (l *life) requireNoAgent(t *testing.T) {
	t.Helper()
	begun := time.Now()
	_, err := fsrvp.Dial(t.Context(), l.nas.FQDN, &fsrvp.Config{Transport: l.d, Level: dcerpc.LevelInsecureNone})
	require.Regexp(t, "the service is not running|not be running", err.Error())
	require.Less(t, time.Since(begun), promptly)
}

// redial goes on in another session.
func (l *life) redial(t *testing.T) {
	t.Helper()
	l.backupClient = newBackupClient(t, l.n)
}

// The restarts. Each returns with a client that can go on.

// terminate restarts the agent as an init system does.
func (l *life) terminate(t *testing.T) {
	t.Helper()
	l.agent.signal(t, syscall.SIGTERM)
	require.Eventually(t, func() bool {
		_, err := l.GetSupportedVersion(t.Context())
		return err != nil
	}, time.Minute, time.Millisecond)
	l.requireBroken(t)
	require.NoError(t, l.Close())
	l.agent.wait(t)
	if l.kind.Persistent() {
		l.requireReadable(t)
	} else {
		requireNothingLeft(t, l.nas)
	}
	l.agent.start(t)
	l.redial(t)
}

// crash restarts the agent after a SIGKILL.
func (l *life) crash(t *testing.T) {
	t.Helper()
	l.agent.kill(t)
	l.requireBroken(t)
	l.requireReadable(t)
	l.agent.start(t)
	l.redial(t)
}

// reconnect restarts smbd.
func (l *life) reconnect(t *testing.T) {
	t.Helper()
	restartSmbd(t, l.nas)
	l.requireBroken(t)
	l.redial(t)
}

// restartSmbd stops smbd with all its children, and starts it again. It does not sync its
// databases, as before.
func restartSmbd(t testing.TB, h *peers.Host) {
	t.Helper()
	restartSmbdWith(t, h, "TDB_NO_FSYNC=1")
}

// restartSmbdWith is restartSmbd with a variable in smbd's environment, which may be none.
func restartSmbdWith(t testing.TB, h *peers.Host, env string) {
	t.Helper()
	h.Output(t, "sh", "-c", `kill $(cat /run/samba/smbd.pid); while pgrep -x smbd; do sleep 0.02; done >/dev/null
		env -u TDB_NO_FSYNC `+env+` LC_ALL=C smbd -D >/dev/null 2>&1`)
	require.Eventually(t, func() bool {
		c, err := h.Dial(context.WithoutCancel(t.Context()), "tcp", net.JoinHostPort(h.FQDN, "445"))
		if err == nil {
			c.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)
}

// restartDcerpcd stops samba-dcerpcd, which starts again when somebody calls srvsvc. Our pipe has
// nothing to do with it: the client goes on as it is.
func (l *life) restartDcerpcd(t *testing.T) {
	t.Helper()
	l.nas.Output(t, "sh", "-c",
		`kill $(cat /run/samba/samba-dcerpcd.pid); while pgrep -x samba-dcerpcd; do sleep 0.02; done >/dev/null`)
	l.requireOtherPipes(t)
}

// requireOtherPipes calls srvsvc and lsarpc.
func (l *life) requireOtherPipes(t *testing.T) {
	t.Helper()
	u := l.n.User("backup")
	out := rpcclient(t, l.n, l.nas, "netshareenum; lsaquery", "-U", u.Principal()+"%"+u.Password)
	require.Contains(t, out, "netname: fsrvp_share")
	require.Contains(t, out, "Domain Sid: ")
	if l.exposed != "" {
		require.Contains(t, out, "netname: "+l.exposed)
	}
}

// TestRestarts restarts what a life cycle depends on after each of its moments. Either it goes on
// to its end, or the client is told and cleans up; in no case is anything left.
func TestRestarts(t *testing.T) {
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	agent := startAgentBehindSamba(t, n)
	restarts := []struct {
		name   string
		of     func(*life, *testing.T)
		breaks bool // the client's connection
		ends   bool // the agent, and with it what is not persistent
	}{
		{"agent, SIGTERM", (*life).terminate, true, true},
		{"agent, SIGKILL", (*life).crash, true, true},
		{"smbd", (*life).reconnect, true, false},
		{"samba-dcerpcd", (*life).restartDcerpcd, false, false},
	}
	for i, restart := range restarts {
		t.Run(restart.name, func(t *testing.T) {
			t.Run("goes on", func(t *testing.T) {
				l := begin(t, n, agent, fsrvp.ContextNASRollback, -1)
				for m := range moments {
					l.goOn(t, m)
					restart.of(l, t)
					l.requireReadable(t)
				}
				l.requireOtherPipes(t)
				l.goOn(t, afterDelete)
				requireNothingLeft(t, nas)
			})
			if !restart.breaks {
				return
			}
			for m, moment := range moments {
				if testing.Short() && (m+i)%3 != 0 { // other moments for each restart
					continue
				}
				t.Run("ends after "+moment, func(t *testing.T) {
					l := begin(t, n, agent, fsrvp.ContextAppRollback, m)
					restart.of(l, t)
					if (m+i)%2 == 0 {
						l.abort(t)
					} else {
						l.startOver(t)
					}
					l.requireGone(t)
				})
			}
			if !restart.ends {
				return
			}
			for m, moment := range moments {
				if testing.Short() && (m+i)%3 != 0 {
					continue
				}
				t.Run("is not persistent, after "+moment, func(t *testing.T) {
					l := begin(t, n, agent, []fsrvp.ContextValue{fsrvp.ContextBackup,
						fsrvp.ContextFileShareBackup}[m%2], m)
					restart.of(l, t)
					if m == afterRecoveryComplete {
						require.ErrorIs(t, l.step(t.Context()), fsrvp.ErrObjectNotFound)
					} else {
						require.ErrorIs(t, l.step(t.Context()), fsrvp.ErrInvalidArg)
					}
					l.requireGone(t)
				})
			}
		})
	}
	t.Run("without an agent", func(t *testing.T) {
		l := begin(t, n, agent, fsrvp.ContextBackup, afterStart)
		agent.kill(t)
		l.requireNoAgent(t)
		agent.start(t)
		l.redial(t)
		l.requireGone(t)
		agent.stop(t)
		l.requireNoAgent(t)
		agent.start(t)
	})
	requireNoSets(t, agent)
}

// requireNoSets fails unless the agent, by its log, has taken each set out of its table that it had
// ever put there.
func requireNoSets(t *testing.T, agent *agentProcess) {
	t.Helper()
	change := regexp.MustCompile(`msg="shadow copy set [^"]*" .* set=(\S+) .* to=(\S+)`)
	status := map[string]string{}
	for _, m := range change.FindAllStringSubmatch(agent.logged(t), -1) {
		status[m[1]] = m[2]
	}
	require.NotEmpty(t, status)
	for set, to := range status {
		require.Equal(t, `""`, to, set)
	}
}
