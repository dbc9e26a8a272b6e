package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/replay"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/transcript"
)

// check runs the command with -json, and returns its lines.
func check(t *testing.T, args ...string) (lines map[string]line, failed bool, stderr string) {
	t.Helper()
	var stdout, errs bytes.Buffer
	failed, err := run(t.Context(), append(args, "-json"), &stdout, &errs)
	require.NoError(t, err)
	lines = map[string]line{}
	for d := json.NewDecoder(&stdout); d.More(); {
		var l line
		require.NoError(t, d.Decode(&l))
		require.NotEmpty(t, l.Demand)
		require.NotContains(t, lines, l.Case)
		lines[l.Case] = l
	}
	return lines, failed, errs.String()
}

// TestReachesAllCases gives all flags: no case is left that needs something else, but for the timer
// and a share that is one of the cluster's here.
func TestReachesAllCases(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the commands of the hooks are those of a POSIX shell")
	}
	s := startServer(t, 0)
	junit := filepath.Join(t.TempDir(), "report.xml")
	record := filepath.Join(t.TempDir(), "transcript")
	lines, failed, stderr := check(t, append(s.everything(t), "-shuffle", "7", "-junit", junit, "-transcript",
		record)...)
	require.False(t, failed, stderr)
	require.Len(t, lines, len(fsrvptest.Cases()))
	verdicts := map[string]int{}
	for name, l := range lines {
		verdicts[l.Verdict]++
		if l.Verdict == verdictPass {
			require.NotEmpty(t, l.Did, name)
			continue
		}
		require.Equal(t, verdictNA, l.Verdict, "%+v", l)
		if !strings.Contains(l.Reason, "Message Sequence Timer") {
			require.Contains(t, []string{"Add/MountPoint", "IsPathSupported/MountPoint"}, name, l.Reason)
		}
	}
	require.Contains(t, stderr, fmt.Sprintf("%d passed, 0 failed, 0 blocked, 0 known failures, %d not applicable\n",
		verdicts["pass"], verdicts["n/a"]))
	snapshots, shares, err := s.memory.Held(t.Context())
	require.NoError(t, err)
	require.Zero(t, snapshots+shares, "the cases have left something")
	testJUnit(t, junit, lines)
	testTranscript(t, record, lines)
}

// testJUnit reads what build servers read.
func testJUnit(t *testing.T, file string, lines map[string]line) {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var report junitSuites
	require.NoError(t, xml.Unmarshal(b, &report))
	require.Len(t, report.Suites, 3)
	n := 0
	for _, suite := range report.Suites {
		require.Equal(t, suite.Tests, len(suite.Cases))
		require.Zero(t, suite.Failures+suite.Errors)
		skipped := 0
		for _, c := range suite.Cases {
			n++
			l := lines[c.Name]
			require.Equal(t, l.Verdict == verdictNA, c.Skipped != nil, c.Name)
			if c.Skipped != nil {
				skipped++
			} else {
				require.Contains(t, c.Out, l.Demand)
				require.Contains(t, c.Out, l.Did)
			}
		}
		require.Equal(t, suite.Skipped, skipped)
	}
	require.Equal(t, len(lines), n)
}

// testTranscript reads the calls, and plays those of one case against another server.
func testTranscript(t *testing.T, file string, lines map[string]line) {
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	calls, err := transcript.ReadAll(f)
	require.NoError(t, err)
	require.Greater(t, len(calls), len(lines))
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, len(lines), bytes.Count(whole, []byte(`{"format":"fsrvp-transcript"`)))

	const name = `"case":"smbtorture/create_simple"`
	_, rest, found := strings.Cut(string(whole), name)
	require.True(t, found)
	rest = `{"format":"fsrvp-transcript","version":1,` + name + rest
	end := strings.Index(rest[1:], `{"format"`)
	if end < 0 {
		end = len(rest) - 1
	}
	recording, err := transcript.ReadAll(strings.NewReader(rest[:end+1]))
	require.NoError(t, err)
	target := fsrvptest.Target{}
	other, err := fsrvptest.NewServer(nil)
	require.NoError(t, err)
	defer other.Close()
	target, err = other.Target(t.Context())
	require.NoError(t, err)
	report, err := replay.Run(t.Context(), recording, &replay.Config{Service: target.Client, TimeoutScale: 1})
	require.NoError(t, err)
	require.Equal(t, len(recording), report.Calls)
	for _, d := range report.Differences {
		require.Equal(t, "OwnerMachineName", d.Field, d.String())
	}
}

// TestTimer reaches the cases of the Message Sequence Timer: some of them, since they take seconds.
func TestTimer(t *testing.T) {
	t.Parallel()
	s := startServer(t, time.Second)
	lines, failed, stderr := check(t, s.flags("backup", "-sequence-timeout", "1s", "-run",
		"/Timer/(NullArguments|Started|SetContext)$")...)
	require.False(t, failed, stderr)
	require.Len(t, lines, 3)
	for _, l := range lines {
		require.Equal(t, verdictPass, l.Verdict, "%+v", l)
	}
}

// TestOnlyAShare gives as little as can be given: what needs more is not applicable, and says what
// that is.
func TestOnlyAShare(t *testing.T) {
	t.Parallel()
	s := startServer(t, 0)
	var stdout, stderr bytes.Buffer
	failed, err := run(t.Context(), s.flags("backup"), &stdout, &stderr)
	require.NoError(t, err)
	require.False(t, failed, stdout.String())
	require.Contains(t, stdout.String(),
		"        The text: When the set is neither Started nor Added the answer is FSRVP_E_BAD_STATE.\n")
	require.Contains(t, stdout.String(),
		"        The server: SetContext ok, StartShadowCopySet ok, AddToShadowCopySet ok, ")
	require.Contains(t, stdout.String(), "        the target has no client with another address\n")
	require.Equal(t, len(fsrvptest.Cases()), strings.Count(stdout.String(), "        The text: "))
	require.Contains(t, stderr.String(), " passed, 0 failed, ")

	stdout.Reset()
	_, err = run(t.Context(), s.flags("backup", "-brief", "-run", "/Add/Twice$"), &stdout, &stderr)
	require.NoError(t, err)
	require.Regexp(t, `^pass +[0-9a-z.µ]+ +MS-FSRVP   3.1.4.4    Add/Twice\n$`, stdout.String())
}

// TestKnownFailures expects the other profile's answers, lists one of the failures, and one that is
// none.
func TestKnownFailures(t *testing.T) {
	t.Parallel()
	args := startServer(t, 0).flags("backup", "-profile", "strict", "-run", "/Abort/")
	known := filepath.Join(t.TempDir(), "known")
	lines, failed, _ := check(t, args...)
	require.True(t, failed)
	byVerdict := map[string]string{}
	for name, l := range lines {
		byVerdict[l.Verdict] = name
	}
	require.NotEmpty(t, byVerdict["fail"])
	require.NotEmpty(t, byVerdict["pass"])
	require.NoError(t, os.WriteFile(known, fmt.Appendf(nil, "# a comment\n%s\tmust be\n%s\tnot true\n",
		byVerdict["fail"], byVerdict["pass"]), 0o600))
	lines, failed, _ = check(t, append(args, "-known", known)...)
	require.True(t, failed)
	require.Equal(t, verdictKnown, lines[byVerdict["fail"]].Verdict)
	require.Equal(t, "passes, and -known lists it (not true)", lines[byVerdict["pass"]].Reason)
}

// TestCompare compares a run that expects the other profile's answers with one that does not, and
// the other way round.
func TestCompare(t *testing.T) {
	t.Parallel()
	s := startServer(t, 0)
	old := filepath.Join(t.TempDir(), "old.json")
	compare := func(profile string, more ...string) (failed bool, stdout string) {
		var out, errs bytes.Buffer
		failed, err := run(t.Context(), s.flags("backup", append(more, "-profile", profile, "-run", "UnknownSet")...),
			&out, &errs)
		require.NoError(t, err)
		return failed, out.String()
	}
	failed, lines := compare("windows", "-json")
	require.False(t, failed)
	require.NoError(t, os.WriteFile(old, []byte(lines), 0o600))
	failed, diff := compare("windows", "-brief", "-compare", old)
	require.False(t, failed)
	require.Contains(t, diff, "verdicts are as before\n")
	failed, diff = compare("strict", "-brief", "-compare", old)
	require.True(t, failed)
	require.Contains(t, diff,
		"worse   Commit/UnknownSet: was pass, is fail: CommitShadowCopySet: the answer is E_INVALIDARG, and must be")
	failed, lines = compare("strict", "-json")
	require.True(t, failed)
	require.NoError(t, os.WriteFile(old, []byte(lines), 0o600))
	failed, diff = compare("strict", "-brief", "-compare", old)
	require.False(t, failed, "it is no worse than before")
	require.Contains(t, diff, "verdicts are as before\n")
	failed, diff = compare("windows", "-brief", "-compare", old)
	require.False(t, failed)
	require.Contains(t, diff, "        Commit/UnknownSet: was fail, is pass\n")
}

// TestCheck has the check before the first case find everything that it can tell apart; the command
// then ends with 2.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := startServer(t, 0)
	wrong := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(wrong, []byte("another\n"), 0o600))
	acceptor, err := s.acceptor()
	require.NoError(t, err)
	empty := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- empty.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, empty.Close())
		<-ended
	})
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	transport := func(l net.Listener) string { return fmt.Sprintf("tcp:%d", l.Addr().(*net.TCPAddr).Port) }
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"wrong password":   {s.flags("backup", "-password-file", wrong), wrongCredentials},
		"unknown user":     {s.flags("somebody"), wrongCredentials},
		"no rights":        {s.flags("nobody1"), noRights},
		"no such share":    {s.flags("backup", "-share", `\\127.0.0.1\absent`), noShare},
		"another host":     {s.flags("backup", "-share", `\\fs9\share`), noShare},
		"cannot be copied": {s.flags("backup", "-share", `\\127.0.0.1\plain`), cannotCopy},
		"no interface":     {s.flags("backup", "-transport", transport(l)), noService},
		"nobody listens":   {s.flags("backup", "-transport", transport(nobody)), noService},
		"no such host":     {s.flags("backup", "-server", "no-such-host.invalid"), unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout bytes.Buffer
			_, err := run(t.Context(), c.args, &stdout, new(bytes.Buffer))
			require.ErrorContains(t, err, c.want+": ")
			require.True(t, strings.HasPrefix(err.Error(), c.want+": "), err)
			require.Contains(t, err.Error(), "\n  "+hints[c.want])
			require.Empty(t, stdout.String())
			exit := new(program.Exit)
			require.ErrorAs(t, program.Verdict(false, err), &exit)
			require.Equal(t, 2, exit.Status)
		})
	}
	var stdout bytes.Buffer
	failed, err := run(t.Context(), s.flags("backup", "-check"), &stdout, new(bytes.Buffer))
	require.NoError(t, err)
	require.False(t, failed)
	require.Equal(t, "127.0.0.1 can be checked with \\\\127.0.0.1\\share\n", stdout.String())

	other := s.flags("backup", "-other-address", "127.0.0.2")
	o, err := parse(other, &stdout)
	require.NoError(t, err)
	conns, err := o.connect(t.Context())
	require.NoError(t, err)
	defer conns.Close()
	require.NoError(t, o.target.Other.SetContext(t.Context(), 0))
	_, err = o.target.Other.StartShadowCopySet(t.Context(), [16]byte{1})
	require.NoError(t, err)
	_, err = run(t.Context(), s.flags("backup"), &stdout, new(bytes.Buffer))
	require.ErrorContains(t, err, busyServer+": ")
}

// TestReset resets the server after each case that fails: here those that expect the other
// profile's answers.
func TestReset(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the command is one of a POSIX shell")
	}
	t.Parallel()
	s := startServer(t, 0)
	args := s.flags("backup", "-profile", "strict", "-run", "/(UnknownSet|Twice)$", "-reset", s.command(t, "reset"))
	lines, failed, _ := check(t, args...)
	require.True(t, failed)
	bad := 0
	for _, l := range lines {
		if l.bad() {
			bad++
		}
	}
	require.Greater(t, bad, 3)
	require.Less(t, bad, len(lines))
	require.EqualValues(t, bad, s.resets.Load())
}

// TestKinds tells apart what SMB, Kerberos and TCP say of a server.
func TestKinds(t *testing.T) {
	pipe := func(s smb2.Status) error { return &smb2.Error{Op: smb2.OpOpenPipe, Status: s} }
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&smb2.Error{Op: smb2.OpLogin, Status: smb2.StatusLogonFailure}, wrongCredentials},
		{&smb2.Error{Op: smb2.OpLogin, Status: smb2.StatusAccountLockedOut}, wrongCredentials},
		{&smb2.Error{Op: smb2.OpLogin, Err: krb5.ErrPassword}, wrongCredentials},
		{krb5.ErrServiceUnknown, wrongCredentials},
		{pipe(smb2.StatusObjectNameNotFound), noService},
		{pipe(smb2.StatusConnRefused), noService},
		{pipe(smb2.StatusAccessDenied), noRights},
		{&smb2.Error{Op: smb2.OpConnect, Err: syscall.ECONNREFUSED}, unreachable},
		{syscall.ECONNREFUSED, noService},
		{krb5.ErrUnreachable, unreachable},
	} {
		require.Equal(t, tt.want, kindOf(fmt.Errorf("%w: %w", fsrvptest.ErrUnreachable, tt.err)), "%v", tt.err)
	}
	require.Equal(t, strangeAnswers, kindOf(fsrvptest.ErrAnswers))
	require.Equal(t, wrongCredentials, kindOf(fsrvptest.ErrProtection))
}

// TestPace adds shares of two sets.
func TestPace(t *testing.T) {
	const pace = 300 * time.Millisecond
	p := &pacer{least: pace}
	first, second := fsrvp.NewSetID(), fsrvp.NewSetID()
	start := time.Now()
	require.NoError(t, p.wait(t.Context(), second), "none was added")
	require.NoError(t, p.wait(t.Context(), first))
	p.added(first)
	require.NoError(t, p.wait(t.Context(), first))
	require.NoError(t, p.wait(t.Context(), second))
	require.GreaterOrEqual(t, time.Since(start), pace)
	p.added(second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.wait(ctx, first), context.Canceled)
}

// TestDemo checks the server within the program, the timer's cases too.
func TestDemo(t *testing.T) {
	t.Parallel()
	lines, failed, stderr := check(t, "-demo", "-run", "smbtorture/|/Access/")
	require.False(t, failed, stderr)
	require.Greater(t, len(lines), 25)
	require.Equal(t, verdictPass, lines["Access/Level/CALL"].Verdict)
	lines, failed, stderr = check(t, "-demo", "-profile", "strict", "-sequence-timeout", "1s", "-run", "/Timer/Added$")
	require.False(t, failed, stderr)
	require.Equal(t, verdictPass, lines["Timer/Added"].Verdict)
}

// TestREADME runs the commands of the README, with the settings of a server of this test in place
// of the reader's own.
func TestREADME(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the commands are those of a POSIX shell")
	}
	s := startServer(t, 0)
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var script strings.Builder
	script.WriteString("set -e\n")
	blocks := strings.Split(string(b), "<!-- run: ")[1:]
	require.Greater(t, len(blocks), 5)
	for _, block := range blocks {
		name, rest, ok := strings.Cut(block, " -->\n```sh\n")
		require.True(t, ok, block)
		commands, _, ok := strings.Cut(rest, "\n```\n")
		require.True(t, ok, name)
		if name == "settings" {
			require.Contains(t, commands, "SERVER=")
			require.Contains(t, commands, "LOGIN=")
			commands = fmt.Sprintf("SERVER=127.0.0.1\nSHARE='\\\\127.0.0.1\\share'\nLOGIN='-mechanism ntlm -user TEST\\backup -password-file %s -transport tcp:%s'",
				filepath.Join(s.dir, "password"), s.port)
		}
		fmt.Fprintf(&script, "echo '== %s'\n%s\n", name, commands)
	}
	dir := t.TempDir()
	exe := filepath.Join(dir, "fsrvp-conformance")
	for _, program := range []string{"fsrvp-conformance", "fsrvp-replay"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, program),
			"github.com/go-fsrvp/go-fsrvp/examples/"+program).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	cmd := exec.Command("/bin/sh", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(exe)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, name := range []string{"report.xml", "mine.xml"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		var report junitSuites
		require.NoError(t, xml.Unmarshal(b, &report), name)
		require.NotEmpty(t, report.Suites, name)
	}
	require.Contains(t, string(out), "127.0.0.1 can be checked with")
	require.Contains(t, string(out), "verdicts are as before")
}

func TestList(t *testing.T) {
	var stdout, stderr bytes.Buffer
	failed, err := run(t.Context(), []string{"-list"}, &stdout, &stderr)
	require.NoError(t, err)
	require.False(t, failed)
	require.Equal(t, 2*len(fsrvptest.Cases()), strings.Count(stdout.String(), "\n"))
	require.Contains(t, stdout.String(),
		"FileServer 3.1        FileServer/VSSAbortShadowCopySet_Recovered\n        The text: Abort is FSRVP_E_BAD_STATE")
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "known")
	require.NoError(t, os.WriteFile(bad, []byte("no/such case\treason\n"), 0o600))
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	server := `-server h -share \\h\s -user u -mechanism ntlm -password-file ` + password
	for _, c := range []struct{ args, want string }{
		{"", "-server is missing"},
		{"-server h", `-share is missing`},
		{`-server h -share \\h\s -profile other`, `-profile is "other"`},
		{`-server h -share \\h\s -lacks wings`, `-lacks is "wings"`},
		{`-server h -share \\h\s -levels none,all`, `-levels has "all"`},
		{`-server h -share \\h\s -run (`, "-run: "},
		{`-server h -share \\h\s -run nothing-has-this-name`, "no case matches"},
		{`-server h -share \\h\s -known ` + bad, bad + ": fsrvptest: line 1"},
		{`-server h -share \\h\s -compare ` + bad, bad + ": object 1 is not a line of -json"},
		{`-server h -share \\h\s -compare ` + empty, empty + ": there is nothing in it"},
		{`-server h -share \\h\s`, "say how to log in: -keytab, -ccache, -password-file"},
		{server + " -transport tcp:1 -files smb", "-files smb needs -transport smb"},
		{server + " -other-address here", `-other-address is "here"`},
		{server + " -unprivileged-user n", "the unprivileged account: say how to log in"},
		{"-server h stray", `"stray" is not a flag`},
		{"-demo -server h", "-demo has a server of its own"},
	} {
		_, err := run(t.Context(), strings.Fields(c.args), new(bytes.Buffer), new(bytes.Buffer))
		require.ErrorContains(t, err, c.want, c.args)
	}
}
