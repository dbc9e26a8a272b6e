package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// versionOnly answers every method as GetSupportedVersion is.
type versionOnly struct{}

func (versionOnly) ServeRPC(_ context.Context, call *dcerpc.Call) error {
	call.Response = append(call.Response, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
	return nil
}

// TestRPC runs the conversations of package rpctest by the command, against a server over TCP.
func TestRPC(t *testing.T) {
	srv := &dcerpc.Server{}
	srv.Handle(fsrvp.Interface(), versionOnly{}, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone,
		Opnums: fsrvpOperations})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		<-done
	}()
	t.Setenv("KRB5CCNAME", "")
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	base := []string{"-rpc", "-server", "127.0.0.1", "-transport", "tcp:" + port, "-parallel", "4"}
	command := func(args ...string) (failed bool, out, log string) {
		var stdout, stderr bytes.Buffer
		failed, err := run(t.Context(), append(append([]string{}, base...), args...), &stdout, &stderr)
		require.NoError(t, err)
		return failed, stdout.String(), stderr.String()
	}

	for _, iface := range []string{"mgmt", "fsrvp"} {
		for _, profile := range []string{"windows2022", "standard"} {
			failed, out, log := command("-profile", profile, "-interface", iface)
			require.False(t, failed, out)
			require.Regexp(t, `^\d{2,3} passed, 0 failed, 0 blocked, 0 known failures, \d+ not applicable\n$`, log)
		}
	}

	junit := filepath.Join(t.TempDir(), "junit.xml")
	known := filepath.Join(t.TempDir(), "known")
	require.NoError(t, os.WriteFile(known, []byte("bind/request-first\t\n"), 0o600))
	failed, out, log := command("-json", "-junit", junit, "-known", known, "-run", "^bind/|^alter")
	require.True(t, failed, "a known failure that passes")
	require.Contains(t, log, " 1 failed, 0 blocked, 0 known")
	for _, one := range strings.Split(strings.TrimSpace(out), "\n") {
		var l line
		require.NoError(t, json.Unmarshal([]byte(one), &l))
		require.NotEmpty(t, l.Demand)
	}
	b, err := os.ReadFile(junit)
	require.NoError(t, err)
	var all junitSuites
	require.NoError(t, xml.Unmarshal(b, &all))
	require.Len(t, all.Suites, 1)
	require.Equal(t, 1, all.Suites[0].Failures)
	require.Len(t, all.Suites[0].Cases, all.Suites[0].Tests)
	old := filepath.Join(t.TempDir(), "old.json")
	require.NoError(t, os.WriteFile(old, []byte(out), 0o600))
	failed, out, _ = command("-compare", old, "-run", "^bind/|^alter")
	require.False(t, failed, out)
	require.Contains(t, out, "bind/request-first: was fail, is pass")

	own := filepath.Join(t.TempDir(), "own.txtar")
	require.NoError(t, os.WriteFile(own, []byte("-- wrong --\nrule: none: nothing\n> bind\n< bind_nak\n"), 0o600))
	failed, out, _ = command("-scripts", own, "-v")
	require.True(t, failed)
	require.Contains(t, out, "own/wrong")
	require.Contains(t, out, "the answer is a bind_ack acceptance:ndr20, want a PDU bind_nak")
	require.Contains(t, out, "> bind call_id=1")

	failed, out, _ = command("-list", "-run", "group-dies")
	require.False(t, failed)
	require.Regexp(t, `^rpc +bind +bind/group-dies\n +The text: C706 9.3.1: an association group dies `, out)

	echo := []string{"-interface", fsrvp.Interface().UUID.String() + "/1.0", "-other", "mgmt", "-opnums", "13"}
	failed, out, _ = command(append(echo, "-call", "0", "-run", "request/")...)
	require.False(t, failed, out)
	failed, _, _ = command(append(echo, "-echo", "0", "-run", "request/")...)
	require.True(t, failed, "it does not echo")
}

// TestRPCUsage has mistakes in the flags.
func TestRPCUsage(t *testing.T) {
	t.Setenv("KRB5CCNAME", "")
	for want, args := range map[string][]string{
		"-server is missing":          {},
		"-profile is":                 {"-server", "h", "-profile", "x"},
		"-parallel is":                {"-server", "h", "-parallel", "0"},
		"is not a flag":               {"-server", "h", "x"},
		"-run":                        {"-server", "h", "-run", "("},
		"no script matches":           {"-server", "h", "-run", "xyzzy"},
		"-scripts":                    {"-server", "h", "-scripts", "/nowhere"},
		"-known":                      {"-server", "h", "-known", "/nowhere"},
		"-interface: ":                {"-server", "h", "-interface", "x"},
		"-other: ":                    {"-server", "h", "-other", fsrvp.Interface().UUID.String() + "/x.0"},
		"needs -call or -echo":        {"-server", "h", "-interface", fsrvp.Interface().UUID.String() + "/7.0"},
		"say how to log in":           {"-server", "h"},
		"cannot connect to 127.0.0.1": {"-server", "127.0.0.1", "-transport", "tcp:1"},
	} {
		_, err := run(t.Context(), append([]string{"-rpc"}, args...), new(bytes.Buffer), new(bytes.Buffer))
		require.ErrorContains(t, err, want)
	}
}
