package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// startServer serves an agent on loopback with NTLM, and returns the flags that reach it.
func startServer(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	memory := fsrvptest.NewMemory()
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: memory.Snapshots, Shares: memory.Shares, StorePath: filepath.Join(dir, "agent.db"),
		Names: []string{"127.0.0.1"}, Allow: []string{`TEST\backup`},
	})
	require.NoError(t, err)
	hashes := filepath.Join(dir, "hashes")
	require.NoError(t, os.WriteFile(hashes, fmt.Appendf(nil, "TEST\\backup\t%x\n", ntlm.NTHash("secret")), 0o600))
	password := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	accounts, err := ntlm.OpenHashFile(hashes)
	require.NoError(t, err)
	acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts})
	require.NoError(t, err)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
	fsrvp.Register(srv, a, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		<-served
		require.NoError(t, a.Close())
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return []string{
		"-server", "127.0.0.1", "-share", `\\127.0.0.1\share`, "-same-volume", `\\127.0.0.1\second`, "-other-volume", `\\127.0.0.1\other`,
		"-hidden", `\\127.0.0.1\hidden$`, "-mechanism", "ntlm", "-user", `TEST\backup`, "-password-file", password, "-transport", "tcp:" + port,
	}
}

func TestConformance(t *testing.T) {
	args := startServer(t)
	var stdout, stderr bytes.Buffer
	failed, err := run(t.Context(), append(args, "-json"), &stdout, &stderr)
	require.NoError(t, err)
	require.False(t, failed, stdout.String())
	verdicts := map[string]int{}
	for d := json.NewDecoder(&stdout); d.More(); {
		var l line
		require.NoError(t, d.Decode(&l))
		verdicts[l.Verdict]++
		if l.Verdict != "pass" {
			require.NotEmpty(t, l.Reason, "%+v", l)
		}
	}
	require.Len(t, fsrvptest.Cases(), verdicts["pass"]+verdicts["n/a"])
	require.Greater(t, verdicts["pass"], 50)
	require.Contains(t, stderr.String(), " passed, 0 failed, ")
}

// TestKnownFailures expects the other profile's answers, lists one of the failures, and one that is none.
func TestKnownFailures(t *testing.T) {
	args := append(startServer(t), "-profile", "strict", "-run", "/Abort")
	known := filepath.Join(t.TempDir(), "known")
	var stdout, stderr bytes.Buffer
	failed, err := run(t.Context(), append(args, "-json"), &stdout, &stderr)
	require.NoError(t, err)
	require.True(t, failed)
	byVerdict := map[string]string{}
	for d := json.NewDecoder(&stdout); d.More(); {
		var l line
		require.NoError(t, d.Decode(&l))
		byVerdict[l.Verdict] = l.Case
	}
	require.NotEmpty(t, byVerdict["fail"])
	require.NotEmpty(t, byVerdict["pass"])
	require.NoError(t, os.WriteFile(known, fmt.Appendf(nil, "# a comment\n%s\thas to be\n%s\tnot true\n", byVerdict["fail"], byVerdict["pass"]), 0o600))
	stdout.Reset()
	failed, err = run(t.Context(), append(args, "-known", known), &stdout, &stderr)
	require.NoError(t, err)
	require.True(t, failed)
	require.Contains(t, stdout.String(), "known")
	require.Contains(t, stdout.String(), "passes, and -known lists it (not true)")
}

func TestList(t *testing.T) {
	var stdout, stderr bytes.Buffer
	failed, err := run(t.Context(), []string{"-list"}, &stdout, &stderr)
	require.NoError(t, err)
	require.False(t, failed)
	require.Equal(t, len(fsrvptest.Cases()), strings.Count(stdout.String(), "\n"))
}

func TestRefuses(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "known")
	require.NoError(t, os.WriteFile(bad, []byte("no/such case\treason\n"), 0o600))
	for _, c := range []struct{ args, want string }{
		{"", "-server is missing"},
		{"-server h", `-share is missing`},
		{`-server h -share \\h\s -profile other`, `-profile is "other"`},
		{`-server h -share \\h\s -lacks wings`, `-lacks is "wings"`},
		{`-server h -share \\h\s -run (`, "-run: "},
		{`-server h -share \\h\s -run nothing-has-this-name`, "no case matches"},
		{`-server h -share \\h\s -known ` + bad, bad + ": fsrvptest: line 1"},
		{`-server h -share \\h\s`, "one of -keytab, -ccache and -password-file"},
		{"-server h stray", `"stray" is no flag`},
	} {
		ctx := t.Context()
		_, err := run(ctx, strings.Fields(c.args), new(bytes.Buffer), new(bytes.Buffer))
		require.ErrorContains(t, err, c.want, c.args)
	}
}
