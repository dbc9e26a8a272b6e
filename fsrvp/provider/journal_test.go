package provider

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

var kills = flag.Int("kills", 25, "how often TestRecoverAfterKill kills the backup program")

func TestRecoverNeedsAJournal(t *testing.T) {
	require.ErrorContains(t, Recover(t.Context(), &Config{Dial: newNetwork().dial}), "Journal")
}

func TestJournalIsOneProcessesOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	require.NoError(t, err)
	_, err = OpenJournal(path)
	require.ErrorContains(t, err, path+" is in use")
	require.NoError(t, j.Close())
	_, err = OpenJournal(filepath.Join(path, "below"))
	require.ErrorContains(t, err, "is not a directory")
}

// TestRecoverLeavesLiveRuns calls Recover in the middle of a run.
func TestRecoverLeavesLiveRuns(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	j, err := OpenJournal(filepath.Join(t.TempDir(), "journal"))
	require.NoError(t, err)
	defer j.Close()
	cfg := &Config{Dial: newNetwork(fs).dial, Journal: j}
	err = Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error {
		require.NoError(t, Recover(t.Context(), cfg))
		require.Len(t, fs.agent.Table(), 1)
		return nil
	})
	require.NoError(t, err)
	fs.requireClean(t)
	left, err := j.left()
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestRecoverTriesAgain has the server of a record down, and then up.
func TestRecoverTriesAgain(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	require.NoError(t, err)
	cfg := &Config{Dial: newNetwork(fs).dial, Journal: j, CleanUpLimit: 300 * time.Millisecond}
	fs.setFault(func(op fsrvp.Opnum) error {
		if op == fsrvp.OpDeleteShareMapping {
			return errInjected
		}
		return nil
	})
	require.ErrorIs(t, Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil }),
		errInjected)
	require.NoError(t, j.Close())

	cfg.Journal, err = OpenJournal(path)
	require.NoError(t, err)
	defer cfg.Journal.Close()
	cfg.Dial = newNetwork().dial
	require.ErrorContains(t, Recover(t.Context(), cfg), "clean on fs1: no such host")
	fs.setFault(nil)
	cfg.Dial = newNetwork(fs).dial
	require.NoError(t, Recover(t.Context(), cfg))
	fs.requireClean(t)
	require.NoError(t, Recover(t.Context(), cfg), "there is nothing left to do")
}

// The child of TestRecoverAfterKill backs up again and again until it is killed.
const (
	childEnv      = "FSRVP_PROVIDER_TEST_SERVERS" // "addr addr …" of the file servers fs0, fs1, …
	childPassword = "a password of this test"
)

// tcpDial connects to fsN at one of the addresses.
func tcpDial(addrs []string) func(ctx context.Context, server string) (Agent, error) {
	return func(ctx context.Context, server string) (Agent, error) {
		auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "TEST", User: "backup", Password: childPassword})
		if err != nil {
			return nil, err
		}
		var n int
		if _, err := fmt.Sscanf(server, "fs%d", &n); err != nil || n >= len(addrs) {
			return nil, fmt.Errorf("no such host: %s", server)
		}
		return fsrvp.Dial(ctx, server, &fsrvp.Config{Transport: tcpTo(addrs[n]), Auth: auth})
	}
}

// tcpTo is a Dialer for one address.
type tcpTo string

func (a tcpTo) DialRPC(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", string(a))
}

func TestChildBacksUp(t *testing.T) {
	env := os.Getenv(childEnv)
	if env == "" {
		t.Skip("runs as the child of TestRecoverAfterKill alone")
	}
	var addrs [2]string
	_, err := fmt.Sscan(env, &addrs[0], &addrs[1])
	require.NoError(t, err)
	j, err := OpenJournal(os.Getenv(childEnv + "_JOURNAL"))
	require.NoError(t, err)
	cfg := &Config{Dial: tcpDial(addrs[:]), Journal: j}
	fmt.Println("child is ready")
	for {
		err := Run(t.Context(), cfg, []string{`\\fs0\s0`, `\\fs1\s0`, `\\fs1\s1`}, func(context.Context, *Set) error {
			time.Sleep(time.Millisecond) // so that some kills come during a backup
			return nil
		})
		if err != nil {
			fmt.Println("child failed:", err)
			os.Exit(3)
		}
	}
}

// TestRecoverAfterKill kills a backup program at random moments; Recover, in another process on the
// same host, then leaves nothing on the servers.
func TestRecoverAfterKill(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	var servers []*fileServer
	var addrs []string
	for i := range 2 {
		fs := startFileServer(t, fmt.Sprintf("fs%d", i), 2, func(fs *fileServer, cfg *agent.Config) {
			cfg.Allow = []string{`TEST\backup`}
			cfg.MaxRetries = -1 // each kill makes the client start over
			fs.snapshots.Fault = func(_ context.Context, p snapmemory.Point) error {
				if p.Method == "Create" && !p.Done {
					time.Sleep(time.Millisecond) // so that some kills come during a commit
				}
				return nil
			}
		})
		servers, addrs = append(servers, fs), append(addrs, serveTCP(t, fs))
	}
	for i := range *kills {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("journal%d", i))
		cmd := exec.Command(exe, "-test.run=^TestChildBacksUp$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s", childEnv, addrs[0], addrs[1]), childEnv+"_JOURNAL="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for lines.Scan() && lines.Text() != "child is ready" {
		}
		time.Sleep(rand.N(80 * time.Millisecond))
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() {
			t.Error(lines.Text())
		}
		require.ErrorContains(t, cmd.Wait(), "killed")

		j, err := OpenJournal(path)
		require.NoError(t, err)
		left, err := j.left()
		require.NoError(t, err)
		require.NoError(t, Recover(t.Context(), &Config{Dial: tcpDial(addrs), Journal: j}), "kill %d, left %+v", i,
			left)
		for _, fs := range servers {
			fs.requireClean(t)
		}
		require.NoError(t, j.Close())
	}
}

// serveTCP serves a file server's agent on loopback too, with NTLM, and returns the address.
func serveTCP(t *testing.T, fs *fileServer) string {
	t.Helper()
	hashes := filepath.Join(t.TempDir(), "hashes")
	require.NoError(t, os.WriteFile(hashes, fmt.Appendf(nil, "TEST\\backup\t%x\n", ntlm.NTHash(childPassword)), 0o600))
	accounts, err := ntlm.OpenHashFile(hashes)
	require.NoError(t, err)
	acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts, ComputerName: "FS"})
	require.NoError(t, err)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
	fsrvp.Register(srv, fs.agent, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-served
	})
	return l.Addr().String()
}
