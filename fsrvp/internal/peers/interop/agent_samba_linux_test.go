package interop

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// An agentProcess is examples/fsrvp-agent behind the smbd of the host nas, with btrfs snapshots and
// registry shares.
type agentProcess struct {
	host *peers.Host
	args []string
	cmd  *exec.Cmd
	log  string // the file that it logs to
}

// agentDir is where buildAgent has put the program.
var agentDir string

// buildAgent builds examples/fsrvp-agent, once for all tests.
var buildAgent = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fsrvp-agent-*")
	if err != nil {
		return "", err
	}
	agentDir = dir
	exe := filepath.Join(dir, "agent")
	out, err := exec.Command("go", "build", "-o", exe,
		"github.com/go-fsrvp/go-fsrvp/examples/fsrvp-agent").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return exe, nil
})

// sambaModes are the flags of the two ways in which the agent changes Samba's registry.
var sambaModes = map[string][]string{"helper": nil, "programs": {"-samba-programs"}}

// startAgentBehindSamba starts the program, and has it end with the test. With FSRVP_SAMBA=programs
// in the environment it runs Samba's programs for every step.
func startAgentBehindSamba(t testing.TB, n *peers.Network, args ...string) *agentProcess {
	t.Helper()
	p := &agentProcess{host: n.Host("nas"), log: filepath.Join(t.TempDir(), "log")}
	p.args = append([]string{
		"-listen", "samba:/run/samba/ncalrpc", "-shares", "samba", "-expose", "samba", "-snapshots", "btrfs", "-snapshot-dir", "/srv/btrfs/.fsrvp",
		"-previous-versions", "/srv/btrfs/previous",
		"-state", t.TempDir(), "-keytab", n.Keytab("nas"), "-ntlm-winbind", "-v",
	}, args...)
	if programsAlone() {
		p.args = append(p.args, "-samba-programs")
	}
	p.start(t)
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			if log, err := os.ReadFile(p.log); err == nil {
				t.Logf("the agent's log:\n%s", log)
			}
		}
	})
	return p
}

func (p *agentProcess) start(t testing.TB) {
	t.Helper()
	exe, err := buildAgent()
	require.NoError(t, err)
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	p.cmd = p.host.Command(context.Background(), exe, p.args...)
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "listening samba:") {
		_ = p.cmd.Wait()
		text, _ := os.ReadFile(p.log)
		t.Fatalf("the agent did not start:\n%s", text)
	}
}

// stop ends the program as an init system does.
func (p *agentProcess) stop(t testing.TB) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	p.signal(t, syscall.SIGTERM)
	p.wait(t)
}

// wait waits for the program, which has been told to end.
func (p *agentProcess) wait(t testing.TB) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	require.NoError(t, p.cmd.Wait())
	p.cmd = nil
}

// kill ends the program as a crash does.
func (p *agentProcess) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	require.Error(t, p.cmd.Wait())
	p.cmd = nil
}

// logged is what the program has logged, over all its starts.
func (p *agentProcess) logged(t testing.TB) string {
	t.Helper()
	log, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return string(log)
}

// signal sends a signal to the program, which is the one child of the nsenter that has started it.
func (p *agentProcess) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.cmd.Process.Pid))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(children)))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, sig))
}

// TestSmbtortureBehindSamba runs Samba's tests of the protocol against our agent behind its smbd.
// The agent keeps exposed sets: enum_created has a client begin a second set while its first is
// exposed and not recovered, and wants both.
func TestSmbtortureBehindSamba(t *testing.T) {
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	for _, flags := range []string{"smb2", "smb2,sign", "smb2,seal", "smb2,spnego,sign", "smb2,krb5,seal", "smb2,bigendian,sign",
		"smb2,ndr64,sign"} {
		t.Run(flags, func(t *testing.T) {
			if testing.Short() && flags != "smb2,krb5,seal" {
				t.Skip("each takes many seconds; TestSmbtortureOverTCP has all of RPC's own security")
			}
			if programsAlone() && flags != "smb2,krb5,seal" {
				t.Skip("how the client binds has no part in how shares are changed")
			}
			nas.Reset(t, 0)
			agent := startAgentBehindSamba(t, n, "-keep-exposed")
			to := &torture{binding: "ncacn_np:" + nas.FQDN + "[" + flags + "]", tests: []string{
				"enum_created", "sc_share_io", "bad_id", "sc_set_abort", "create_simple", "set_ctx",
				"get_version", "is_path_supported",
			}}
			if !strings.Contains(flags, "ndr64") {
				// share_sd binds to Samba's own srvsvc with the same flags, which does not have
				// NDR64.
				to.tests = append([]string{"share_sd"}, to.tests...)
			}
			to.run(t.Context(), n)
			to.check(t)
			if testing.Short() {
				t.Skip("seq_timeout waits for half a minute, and TestSmbtortureOverTCP runs it")
			}
			agent.stop(t)
			agent.args = append(agent.args, "-sequence-timeout", torturePatience.String())
			agent.start(t)
			to.tests = []string{"seq_timeout"}
			to.run(t.Context(), n)
			to.check(t)
		})
	}
}
