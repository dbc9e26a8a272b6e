package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// TestConformanceCommand has fsrvp-conformance, on the client's host, check Samba's own agent as
// somebody would who has only the command: without a reset, in two other orders than the
// standard's, on a server on which the first run has been. Each verdict is that of
// TestConformanceOfSamba, which resets the server after each failure; and the server can be used
// afterwards.
//
// It runs the cases that leave most behind. FSRVP_CONFORMANCE=all in the environment runs all.
func TestConformanceCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	n := networkOnce(t)
	server, cl := n.Host("fs"), n.Host("cl")
	version := smbdVersion(t, server)
	exe := filepath.Join(t.TempDir(), "fsrvp-conformance")
	built, err := exec.Command("go", "build", "-o", exe,
		"github.com/go-fsrvp/go-fsrvp/examples/fsrvp-conformance").CombinedOutput()
	require.NoError(t, err, string(built))
	known, _ := knownFailures(t, version)
	known, err = filepath.Abs(known)
	require.NoError(t, err)
	server.Claim(t)

	const second = "10.99.0.103" // an address of the client's host, for the other client
	cl.Output(t, "ip", "addr", "add", second+"/24", "dev", "eth0")
	t.Cleanup(func() { cl.Output(t, "ip", "addr", "del", second+"/24", "dev", "eth0") })
	all := os.Getenv("FSRVP_CONFORMANCE") == "all"
	for _, run := range []struct {
		name    string
		cases   []fsrvptest.Case
		part    string
		timeout time.Duration
	}{
		{"cases", conformanceCases(false), `/(Start|Abort)/`, 0},
		{"timer", conformanceCases(true), `/Timer/Exposed$`, time.Second},
	} {
		t.Run(run.name, func(t *testing.T) {
			server.Reset(t, run.timeout)
			target := sambaAgent(t, n, server)
			hooks := serveHooks(t, &target)
			args := []string{
				"-server", server.FQDN, "-share", target.Share, "-same-volume", target.SameVolume, "-other-volume", target.OtherVolume,
				"-hidden", target.Hidden, "-mounted", target.Mounted, "-unsupported", target.Unsupported, "-clustered", target.Clustered,
				"-scale-out", target.ScaleOut, "-user", n.User("backup").Principal(), "-keytab", n.Keytab("backup"),
				"-unprivileged-user", n.User("nobody1").Principal(), "-unprivileged-keytab", n.Keytab("nobody1"), "-other-address", second,
				"-restart", hooks + " restart", "-held", hooks + " held", "-rights", hooks + " rights", "-freeze", hooks + " freeze",
				"-pace", "1s", "-known", known, "-json",
			}
			for _, alias := range target.Aliases {
				args = append(args, "-alias", strings.TrimSuffix(alias, `\`))
			}
			if run.timeout > 0 {
				args = append(args, "-sequence-timeout", run.timeout.String())
			}
			part := run.part
			if all {
				part = namesOf(run.cases)
			}
			for seed := range 2 {
				lines := runConformance(t, cl, exe, append(args, "-shuffle", strconv.Itoa(seed+1), "-run", part))
				if all {
					require.Len(t, lines, len(run.cases))
				}
				require.NotEmpty(t, lines)
				for name, verdict := range lines {
					_, listed := inapplicable[name]
					require.Equal(t, listed, verdict == "n/a", name)
				}
			}
			requireUsable(t, target.Client, target.Share)
			if run.timeout == 0 {
				requireChecks(t, n, exe, target.Share)
			}
		})
	}
}

// requireChecks has the check before the first case tell apart what can be wrong; the command ends
// with 2.
func requireChecks(t *testing.T, n *peers.Network, exe, share string) {
	t.Helper()
	wrong := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(wrong, []byte("another\n"), 0o600))
	backup, nobody := n.User("backup").Principal(), n.User("nobody1").Principal()
	fs, dc := n.Host("fs").FQDN, n.Host("dc").FQDN
	for want, args := range map[string][]string{
		"wrong credentials: ": {"-server", fs, "-share", share, "-user", backup, "-password-file", wrong},
		"no rights: ":         {"-server", fs, "-share", share, "-user", nobody, "-keytab", n.Keytab("nobody1")},
		"no such share: ":     {"-server", fs, "-share", `\\` + fs + `\absent`, "-user", backup, "-keytab", n.Keytab("backup")},
		"no service: ":        {"-server", dc, "-share", `\\` + dc + `\sysvol`, "-user", backup, "-keytab", n.Keytab("backup")},
	} {
		out, err := n.Host("cl").Command(t.Context(), exe, append(args, "-check")...).CombinedOutput()
		exit := new(exec.ExitError)
		require.ErrorAs(t, err, &exit, "%s%s", want, out)
		require.Equal(t, 2, exit.ExitCode(), "%s%s", want, out)
		require.Contains(t, string(out), "fsrvp-conformance: "+want)
	}
}

func smbdVersion(t *testing.T, h *peers.Host) string {
	t.Helper()
	return versionNumber.FindString(h.Output(t, "smbd", "--version"))
}

// namesOf is a regular expression for -run.
func namesOf(cases []fsrvptest.Case) string {
	var names []string
	for _, c := range cases {
		names = append(names, strings.NewReplacer("|", `\|`, ".", `\.`).Replace(c.Name))
	}
	return "/(" + strings.Join(names, "|") + ")$"
}

// runConformance runs the command, which must find nothing that is not known, and returns its
// verdicts.
func runConformance(t *testing.T, cl *peers.Host, exe string, args []string) map[string]string {
	t.Helper()
	start := time.Now()
	cmd := cl.Command(t.Context(), exe, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	verdicts := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(stdout.Bytes())); d.More(); {
		var l struct{ Case, Verdict, Reason, Did string }
		require.NoError(t, d.Decode(&l))
		verdicts[l.Case] = l.Verdict
		if l.Verdict == "fail" || l.Verdict == "blocked" {
			t.Errorf("%s: %s: %s\n%s", l.Case, l.Verdict, l.Reason, l.Did)
		}
	}
	require.NoError(t, err, stderr.String())
	t.Logf("%d cases in %v: %s", len(verdicts), time.Since(start).Round(time.Second), stderr.String())
	return verdicts
}

// requireUsable takes a set through its life.
func requireUsable(t *testing.T, s fsrvp.Service, share string) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, s.SetContext(ctx, fsrvp.ContextBackup))
	set, err := s.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := s.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.NoError(t, s.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.ExposeShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.RecoveryCompleteShadowCopySet(ctx, set))
	require.NoError(t, s.DeleteShareMapping(ctx, set, id, share))
	if l, ok := s.(*fsrvptest.Line); ok {
		l.HangUp()
	}
}

// hookVariable has the path of a socket on which a test does what the commands of fsrvp-conformance
// ask for: what an administrator's scripts would do on the server's host. The commands are this
// program, see TestMain.
const hookVariable = "FSRVP_INTEROP_TEST_HOOKS"

// A hookAnswer is what a hook prints, and how it exits.
type hookAnswer struct {
	Output, Err string
	Status      int
}

// askHook is the command of a hook.
func askHook(socket string, args []string) int {
	conn, err := net.Dial("unix", socket)
	if err == nil {
		defer conn.Close()
		err = json.NewEncoder(conn).Encode(args)
	}
	var answer hookAnswer
	if err == nil {
		err = json.NewDecoder(conn).Decode(&answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(answer.Output)
	fmt.Fprint(os.Stderr, answer.Err)
	return answer.Status
}

// serveHooks does for commands what a target can do, and returns the beginning of their lines.
func serveHooks(t *testing.T, target *fsrvptest.Target) string {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "hooks") // short enough for the name of a socket
	require.NoError(t, err)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var args []string
			answer := hookAnswer{}
			if err = json.NewDecoder(conn).Decode(&args); err == nil {
				answer.Output, err = hook(context.WithoutCancel(t.Context()), target, args)
			}
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				answer.Status = 3
			case err != nil:
				answer.Err, answer.Status = err.Error(), 1
			}
			_ = json.NewEncoder(conn).Encode(answer) // the command says so
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-ended
		os.RemoveAll(dir)
	})
	return hookVariable + "=" + socket + " " + exe
}

func hook(ctx context.Context, target *fsrvptest.Target, args []string) (string, error) {
	switch {
	case slices.Equal(args, []string{"restart"}):
		return "", target.Restart(ctx)
	case slices.Equal(args, []string{"held"}):
		snapshots, shares, err := target.Held(ctx)
		return fmt.Sprintln(snapshots, shares), err
	case len(args) == 4 && args[0] == "rights" && args[1] == "mark":
		return "", target.Rights.Mark(ctx, args[2], args[3])
	case len(args) == 4 && args[0] == "rights" && args[1] == "unmark":
		return "", target.Rights.Unmark(ctx, args[2], args[3])
	case len(args) == 3 && args[0] == "rights":
		marks, err := target.Rights.Marks(ctx, args[2])
		return strings.Join(marks, "\n"), err
	case len(args) == 3 && args[0] == "freeze":
		op := map[string]fsrvp.Opnum{
			"prepare": fsrvp.OpPrepareShadowCopySet, "commit": fsrvp.OpCommitShadowCopySet, "expose": fsrvp.OpExposeShadowCopySet,
		}[args[1]]
		ms, err := strconv.Atoi(args[2])
		if err != nil {
			return "", err
		}
		return "", target.Delay(op, time.Duration(ms)*time.Millisecond)
	}
	return "", fmt.Errorf("no hook %q: %w", args, io.ErrUnexpectedEOF)
}
