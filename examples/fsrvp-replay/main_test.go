package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/examples/internal/credentials"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
	sharememory "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const captures = "../../testdata/captures"

// A lab is a file server on loopback with a share "data", and an account that may back it up.
type lab struct {
	agent    *agent.Agent
	flags    []string // by which the example reaches it
	password string   // file
	users    string   // file
}

func newLab(t testing.TB, change ...func(*agent.Config)) *lab {
	t.Helper()
	dir := t.TempDir()
	hash := ntlm.NTHash("secret")
	l := &lab{password: filepath.Join(dir, "password"), users: filepath.Join(dir, "users")}
	require.NoError(t, os.WriteFile(l.password, []byte("secret\n"), 0o600))
	require.NoError(t, os.WriteFile(l.users, fmt.Appendf(nil, "LAB\\backup\t%x\n", hash), 0o600))
	users, err := ntlm.OpenHashFile(l.users)
	require.NoError(t, err)
	acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: users})
	require.NoError(t, err)

	snapshots := snapmemory.New("/data")
	cfg := &agent.Config{
		Snapshots: snapshots,
		Shares:    sharememory.New(snapshots, backend.Share{Name: "data", Path: "/data"}),
		StorePath: filepath.Join(dir, "agent.db"),
		Names:     []string{"127.0.0.1"},
		Machine:   "LAB",
		Allow:     []string{`LAB\backup`},
	}
	for _, f := range change {
		f(cfg)
	}
	l.agent, err = agent.New(t.Context(), cfg)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}, Logger: log}
	fsrvp.Register(srv, l.agent, &fsrvp.HandlerConfig{Logger: log})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, dcerpc.ErrServerClosed)
		require.NoError(t, l.agent.Close())
	})
	port := listener.Addr().(*net.TCPAddr).Port
	l.flags = append([]string{"-server", "127.0.0.1", "-transport", fmt.Sprintf("tcp:%d", port)}, l.credentials()...)
	return l
}

func (l *lab) credentials() []string {
	return []string{"-mechanism", "ntlm", "-user", `LAB\backup`, "-password-file", l.password}
}

// client calls a server as the lab's account.
func (l *lab) client(t testing.TB, addr string) *fsrvp.Config {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "LAB", User: "backup", Password: "secret"})
	require.NoError(t, err)
	return &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: port}, Auth: auth}
}

// names map what the captures call the share.
var names = []string{"-map", `\\fs.fsrvp.test\fsrvp_share=\\127.0.0.1\data`, "-map",
	`\\FS\fsrvp_share=\\127.0.0.1\data`, "-map", `\\FS=\\LAB`}

// try runs the example to its end.
func try(t testing.TB, args ...[]string) (differs bool, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	differs, err := run(t.Context(), slices.Concat(args...), strings.NewReader(""), &out, &errs)
	require.NoError(t, err, errs.String())
	return differs, out.String(), errs.String()
}

// TestCaptures replays what Samba's clients did with Samba's server against our agent.
func TestCaptures(t *testing.T) {
	lifeCycle := []string{
		`call 11 GetShareMapping \\fs.fsrvp.test\fsrvp_share\: ShareNameUNC: recorded "\\127.0.0.1\data", now "\\127.0.0.1\data\"`,
		`call 12 GetShareMapping \\fs.fsrvp.test\fsrvp_share\: ShareNameUNC: recorded "\\127.0.0.1\data", now "\\127.0.0.1\data\"`,
		`call 13 IsPathShadowCopied \\FS.FSRVP.TEST\fsrvp_share\: Return: recorded 0x8004230C FSRVP_E_NOT_SUPPORTED, now 0x00000000 ZERO`,
	}
	for _, test := range []struct {
		file, keytab string
		want         []string
		summary      string
	}{
		{"01_rpcclient_np_norpcauth", "all", lifeCycle, "15 of 15 calls"},
		{"02_rpcclient_np_krb5_sign", "all", lifeCycle, "12 as recorded, 3 different"},
		{"03_rpcclient_np_krb5_seal", "all", lifeCycle, "15 of 15 calls"},
		{"05_rpcclient_np_ntlm_sign", "all", lifeCycle, "15 of 15 calls"},
		{"06_rpcclient_np_unprivileged", "all", []string{
			`call 1 GetSupportedVersion: Return: recorded 0x80070005 E_ACCESSDENIED, now 0x00000000 ZERO`,
			`call 2 IsPathSupported \\FS.FSRVP.TEST\fsrvp_share\: Return: recorded 0x80070005 E_ACCESSDENIED, now 0x00000000 ZERO`,
			`call 3 IsPathSupported \\fs.fsrvp.test\fsrvp_share\: Return: recorded 0x80070005 E_ACCESSDENIED, now 0x00000000 ZERO`,
		}, "3 of 3 calls"},
		// The client of 07 let a sequence time-out of 2 s go by, and a replay without pace does
		// not.
		{"07_smbtorture_np_smb2_all10", "all", []string{
			`call 21 GetShareMapping \\FS.FSRVP.TEST\fsrvp_share\: ShareNameUNC: recorded "\\127.0.0.1\data", now "\\127.0.0.1\data\"`,
			`call 31 GetShareMapping \\FS.FSRVP.TEST\fsrvp_share\: ShareNameUNC: recorded "\\127.0.0.1\data", now "\\127.0.0.1\data\"`,
			`call 52 GetShareMapping \\FS.FSRVP.TEST\fsrvp_share\: ShareNameUNC: recorded "\\127.0.0.1\data", now "\\127.0.0.1\data\"`,
			`call 90 StartShadowCopySet: Return: recorded 0x80042301 FSRVP_E_BAD_STATE, now 0x00000000 ZERO`,
			`call 95 AddToShadowCopySet \\FS.FSRVP.TEST\fsrvp_share: Return: recorded 0x80070057 E_INVALIDARG, now 0x00000000 ZERO`,
			`call 102 PrepareShadowCopySet: Return: recorded 0x80070057 E_INVALIDARG, now 0x00000000 ZERO`,
			`call 110 CommitShadowCopySet: Return: recorded 0x80070057 E_INVALIDARG, now 0x00000000 ZERO`,
			`call 119 ExposeShadowCopySet: Return: recorded 0x80070057 E_INVALIDARG, now 0x00000000 ZERO`,
		}, "removed shadow copy set"},
		{"08_smbtorture_np_bigendian", "all", []string{
			`call 23 GetShareMapping \\FS.FSRVP.TEST\fsrvp_share\: ShareNameUNC: recorded "\\127.0.0.1\data", now "\\127.0.0.1\data\"`,
		}, "32 of 32 calls"},
		{"12_smbtorture_tcp_5555_anon_dummy", "all", nil, "1 of 1 calls"},
		{"16_rpcclient_np_smb311_aes256ccm_krb5_seal", "fs", nil, "2 of 2 calls"},
		{"17_rpcclient_np_spnego_krb5_seal", "fs", lifeCycle, "15 of 15 calls"},
	} {
		t.Run(test.file, func(t *testing.T) {
			l := newLab(t)
			differs, stdout, stderr := try(t, recorded(test.file, test.keytab), names, l.flags)
			require.Equal(t, test.want != nil, differs)
			require.Equal(t, test.want, splitLines(stdout))
			require.Contains(t, stderr, test.summary)
			require.Empty(t, l.agent.Table(), "nothing is left behind")
		})
	}
}

// recorded are the flags for a capture.
func recorded(file, keytab string) []string {
	return []string{"-in", filepath.Join(captures, file+".pcapng"), "-in-keytab",
		filepath.Join(captures, keytab+".keytab")}
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// TestPace replays the one that lets time go by at its pace, with its server's time-out.
func TestPace(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the recording, 18 s")
	}
	two := 2 * time.Second
	l := newLab(t, func(cfg *agent.Config) {
		cfg.Timers = agent.Timers{SetContext: two, Start: two, Add: two, Prepare: two, Commit: two, Expose: two,
			GetShareMapping: two, Failure: two}
	})
	_, stdout, _ := try(t, recorded("07_smbtorture_np_smb2_all10", "all"), names, l.flags, []string{"-speed", "1"})
	for _, line := range splitLines(stdout) {
		require.Contains(t, line, "ShareNameUNC")
	}
	require.Len(t, splitLines(stdout), 3)
}

// TestTranscripts makes a transcript of a capture, and one of its replay.
func TestTranscripts(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.jsonl"), filepath.Join(dir, "2.jsonl")
	differs, stdout, stderr := try(t, recorded("03_rpcclient_np_krb5_seal", "all"), []string{"-out", first})
	require.False(t, differs)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "wrote 15 calls")
	got, err := os.ReadFile(first)
	require.NoError(t, err)
	want, err := os.ReadFile("../../fsrvp/replay/testdata/lifecycle.jsonl")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "what the tests of fsrvp/replay play to Samba")

	l := newLab(t)
	differs, stdout, _ = try(t, []string{"-in", first, "-out", second, "-json"}, names, l.flags)
	require.True(t, differs)
	lines := splitLines(stdout)
	require.Len(t, lines, 4)
	var d struct {
		Call          int
		Method, Field string
		Recorded, Now any
	}
	require.NoError(t, json.Unmarshal([]byte(lines[2]), &d))
	require.Equal(t, "IsPathShadowCopied", d.Method)
	require.Equal(t, "Return", d.Field)
	require.Equal(t, float64(fsrvp.ErrNotSupported), d.Recorded)
	require.Zero(t, d.Now)
	var sum callSummary
	require.NoError(t, json.Unmarshal([]byte(lines[3]), &sum))
	require.Equal(t, callSummary{Calls: 15, Recorded: 15, Same: 12, Different: 3, Differences: 3, Seconds: sum.Seconds},
		sum)

	// Our agent answers itself as it does.
	differs, stdout, _ = try(t, []string{"-in", second}, newLab(t).flags)
	require.False(t, differs, stdout)
}

// serving runs the example with -serve, and returns its address and how to end it.
func serving(t *testing.T, args ...[]string) (addr string, end func() (differs bool, stdout, stderr string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var stdout, stderr bytes.Buffer
	r, w := io.Pipe()
	type result struct {
		differs bool
		err     error
	}
	done := make(chan result, 1)
	go func() {
		differs, err := run(ctx, slices.Concat(args...), strings.NewReader(""), &stdout, io.MultiWriter(w, &stderr))
		w.CloseWithError(err)
		done <- result{differs, err}
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	_, addr, _ = strings.Cut(strings.TrimSpace(line), " ")
	go func() { _, _ = io.Copy(io.Discard, r) }() // until run ends
	return addr, func() (bool, string, string) {
		cancel()
		res := <-done
		require.NoError(t, res.err, stderr.String())
		return res.differs, stdout.String(), stderr.String()
	}
}

// here maps the captures' server to this machine.
var here = []string{"-serve", "tcp:127.0.0.1:0", "-map", `\\fs.fsrvp.test=\\127.0.0.1`, "-map", `\\FS=\\127.0.0.1`}

// TestServe has a backup of the provider's with the answers of Samba's server.
func TestServe(t *testing.T) {
	l := newLab(t)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	addr, end := serving(t, recorded("03_rpcclient_np_krb5_seal", "all"), here,
		[]string{"-ntlm-users", l.users, "-out", out})
	cfg := &provider.Config{Client: l.client(t, addr), Context: fsrvp.ContextBackup | fsrvp.AttrAutoRecovery,
		RetryFor: -1}
	var copies []provider.Copy
	backup := func(_ context.Context, set *provider.Set) error {
		copies = set.Copies
		return nil
	}
	require.NoError(t, provider.Run(t.Context(), cfg, []string{`\\127.0.0.1\fsrvp_share`}, backup))
	require.Len(t, copies, 1)
	require.Equal(t, 2026, copies[0].Created.Year(), "as it was recorded")
	differs, stdout, stderr := end()
	require.False(t, differs)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "11 of 15 recorded calls were made, and 0 others")
	require.Contains(t, stderr, "not made: IsPathShadowCopied")

	// What was served is a recording of its own.
	_, _, stderr = try(t, []string{"-in", out, "-out", filepath.Join(t.TempDir(), "copy")})
	require.Contains(t, stderr, "wrote 11 calls")
}

func TestServeDepartures(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		args := []string{"-insecure-anonymous", "-departure", "0x80070057"}
		if asJSON {
			args = append(args, "-json")
		}
		addr, end := serving(t, recorded("01_rpcclient_np_norpcauth", "all"), here, args)
		_, port, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		c, err := fsrvp.Dial(t.Context(), "127.0.0.1", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: port},
			Level: dcerpc.LevelInsecureNone})
		require.NoError(t, err)
		_, err = c.GetSupportedVersion(t.Context())
		require.NoError(t, err)
		_, err = c.StartShadowCopySet(t.Context(), fsrvp.NewSetID())
		require.ErrorIs(t, err, fsrvp.ErrInvalidArg)
		require.NoError(t, c.Close())
		differs, stdout, stderr := end()
		require.True(t, differs)
		lines := splitLines(stdout)
		if !asJSON {
			require.Len(t, lines, 1)
			require.Regexp(t, `^127\.0\.0\.1:\d+: StartShadowCopySet: SetContext must come first; expected is SetContext$`, lines[0])
			require.Contains(t, stderr, "1 of 15 recorded calls were made, and 1 others")
			continue
		}
		require.Len(t, lines, 2)
		var d struct{ Client, Method, Reason, Expected string }
		require.NoError(t, json.Unmarshal([]byte(lines[0]), &d))
		require.Equal(t, "StartShadowCopySet", d.Method)
		require.Equal(t, "SetContext", d.Expected)
		require.Contains(t, d.Client, "127.0.0.1:")
		var sum serveSummary
		require.NoError(t, json.Unmarshal([]byte(lines[1]), &sum))
		require.Equal(t, 15, sum.Recorded)
		require.Equal(t, 1, sum.Asked)
		require.Equal(t, 1, sum.Departures)
		require.Len(t, sum.Unasked, 14)
	}
}

// TestServeKeytab is a start with Kerberos; who calls is not the example's business.
func TestServeKeytab(t *testing.T) {
	_, end := serving(t, recorded("01_rpcclient_np_norpcauth", "all"), here,
		[]string{"-keytab", filepath.Join(captures, "agent.keytab")})
	differs, _, stderr := end()
	require.False(t, differs)
	require.Contains(t, stderr, "0 of 15 recorded calls were made")
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	const header = `{"format":"fsrvp-transcript","version":1}` + "\n"
	call := func(server string) string {
		return `{"time":"2026-01-01T00:00:00Z","server":"` + server + `","opnum":0,"request":{}}` + "\n"
	}
	good := file("good", header+call("10.0.0.1:445"))
	two := file("two", header+call("10.0.0.1:445")+call("10.0.0.2:445"))
	sealed := filepath.Join(captures, "03_rpcclient_np_krb5_seal.pcapng")
	l := newLab(t)
	nobody := []string{"-server", "127.0.0.1", "-transport", "tcp:1"}
	for name, test := range map[string]struct {
		args []string
		want string // in what is printed
	}{
		"nothing":              {nil, "-in is missing"},
		"no flag":              {[]string{"-in", good, "extra"}, `"extra" is not a flag`},
		"unknown flag":         {[]string{"-on", good}, "not defined"},
		"help":                 {[]string{"-h"}, "usage: fsrvp-replay"},
		"no purpose":           {[]string{"-in", good}, "-server HOST, -serve ADDR or -out FILE"},
		"two purposes":         {[]string{"-in", good, "-server", "a", "-serve", "b"}, "exclude each other"},
		"speed":                {[]string{"-in", good, "-server", "a", "-speed", "-1"}, "-speed is -1"},
		"no speed":             {[]string{"-in", good, "-server", "a", "-speed", "NaN"}, "-speed is NaN"},
		"time-outs":            {[]string{"-in", good, "-server", "a", "-timeout-scale", "0"}, "-timeout-scale is 0"},
		"departure":            {[]string{"-in", good, "-server", "a", "-departure", "E_FAIL"}, "such as 0x80042301"},
		"departure of success": {[]string{"-in", good, "-server", "a", "-departure", "0"}, "other than zero"},
		"map":                  {[]string{"-in", good, "-server", "a", "-map", `\\a`}, `'\\old=\\new'`},
		"tolerate":             {[]string{"-in", good, "-server", "a", "-tolerate", "Return"}, "METHOD.FIELD=RECORDED:NOW"},
		"map twice":            {[]string{"-in", good, "-server", "a", "-map", `\\a=\\b`, "-map", `\\a=\\c`}, "twice"},
		"map of no share":      {[]string{"-in", good, "-server", "a", "-map", `a=\\b`}, "UNC path"},
		"who may call":         {[]string{"-in", good, "-serve", "tcp:127.0.0.1:0"}, "-insecure-anonymous"},
		"no file":              {[]string{"-in", filepath.Join(dir, "none"), "-out", "x"}, "no such file"},
		"empty file":           {[]string{"-in", file("empty", ""), "-out", "x"}, "is empty"},
		"neither":              {[]string{"-in", file("neither", "hello"), "-out", "x"}, "neither a transcript nor a packet capture"},
		"damaged transcript":   {[]string{"-in", file("damaged", header+"{"), "-out", "x"}, "line 2"},
		"no calls":             {[]string{"-in", file("header", header), "-out", "x"}, "no calls that can be replayed"},
		"sealed":               {[]string{"-in", sealed, "-out", "x"}, "-in-keytab with the keys of the recorded server"},
		"encrypted":            {[]string{"-in", filepath.Join(captures, "13_rpcclient_np_smb311_aes128gcm.pcapng"), "-out", "x"}, "SMB 3 encryption"},
		"no keytab":            {[]string{"-in", sealed, "-in-keytab", good, "-out", "x"}, "-in-keytab"},
		"two servers":          {[]string{"-in", two, "-out", "x"}, "-in-server: 10.0.0.1, 10.0.0.2"},
		"another server":       {[]string{"-in", two, "-in-server", "10.0.0.3", "-out", "x"}, "but to 10.0.0.1, 10.0.0.2"},
		"out":                  {[]string{"-in", good, "-out", filepath.Join(dir, "none", "x")}, "-out: "},
		"no credentials":       {append([]string{"-in", good}, nobody...), "-keytab, -ccache, -password-file"},
		"no server":            {slices.Concat([]string{"-in", good}, nobody, l.credentials()), "connection refused"},
		"serve: address":       {[]string{"-in", good, "-serve", "tcp:5555", "-insecure-anonymous"}, "tcp:HOST:PORT or samba:NCALRPC_DIR"},
		"serve: keytab":        {[]string{"-in", good, "-serve", "tcp:127.0.0.1:0", "-keytab", good}, "-keytab"},
		"serve: users":         {[]string{"-in", good, "-serve", "tcp:127.0.0.1:0", "-ntlm-users", good}, "-ntlm-users"},
		"serve: samba":         {[]string{"-in", good, "-serve", "samba:" + filepath.Join(good, "ncalrpc"), "-insecure-anonymous"}, "-serve: "},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			_, err := run(t.Context(), test.args, strings.NewReader(""), &stdout, &stderr)
			require.Error(t, err)
			require.Contains(t, stdout.String()+stderr.String()+credentials.Explain(err).Error(), test.want)
		})
	}

	// One of several servers, from standard input.
	text, err := os.ReadFile(two)
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	_, err = run(t.Context(), []string{"-in", "-", "-in-server", "10.0.0.2:445", "-out", filepath.Join(dir, "one")},
		bytes.NewReader(text), &stdout, &stderr)
	require.NoError(t, err)
	require.Contains(t, stderr.String(), "wrote 1 calls")
}

// TestOutputBroken has nobody who reads the differences.
func TestOutputBroken(t *testing.T) {
	l := newLab(t)
	var stderr bytes.Buffer
	differs, err := run(t.Context(), slices.Concat(recorded("01_rpcclient_np_norpcauth", "all"), names, l.flags),
		strings.NewReader(""), brokenWriter{}, &stderr)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.True(t, differs)
	require.Empty(t, l.agent.Table())
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestTolerate replays a capture against another server, whose differences are no matter but for
// one.
func TestTolerate(t *testing.T) {
	l := newLab(t)
	differs, stdout, stderr := try(t, recorded("01_rpcclient_np_norpcauth", "all"), names, l.flags,
		[]string{"-tolerate", "GetShareMapping.ShareNameUNC"})
	require.True(t, differs)
	require.Equal(t, []string{
		`call 13 IsPathShadowCopied \\FS.FSRVP.TEST\fsrvp_share\: Return: recorded 0x8004230C FSRVP_E_NOT_SUPPORTED, now 0x00000000 ZERO`,
	}, splitLines(stdout))
	require.Contains(t, stderr, "14 as recorded, 1 different (1 results), 2 results tolerated")
	differs, stdout, _ = try(t, recorded("01_rpcclient_np_norpcauth", "all"), names, l.flags,
		[]string{"-tolerate", "*.ShareNameUNC", "-tolerate", "IsPathShadowCopied.Return=NOT_SUPPORTED:0"})
	require.False(t, differs)
	require.Empty(t, stdout)
}
