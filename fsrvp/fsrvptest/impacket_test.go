package fsrvptest_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// TestImpacket has impacket's client call an agent over TCP: NTLM at each level, in whole PDUs and
// in fragments of 64 bytes.
func TestImpacket(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, which has Debian's modules
	if err := exec.Command(python, "-c", "import impacket").Run(); err != nil {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatal("FSRVP_PEERS=require, and there is no python3-impacket")
		}
		t.Skip("there is no python3-impacket")
	}
	srv, err := fsrvptest.NewServer(nil)
	require.NoError(t, err)
	defer srv.Close()
	accounts := filepath.Join(t.TempDir(), "hashes")
	// The NT hash of "password".
	require.NoError(t, os.WriteFile(accounts,
		[]byte("FSRVP\\backup\t8846f7eaee8fb117ad06bdd830b7586c\tS-1-5-21-1-2-3-1104,S-1-5-32-551\n"), 0o600))
	verifier, err := ntlm.OpenHashFile(accounts)
	require.NoError(t, err)
	acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: verifier, ComputerName: "FS1"})
	require.NoError(t, err)
	rpc := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}, MinLevel: dcerpc.LevelInsecureConnect,
		Logger: slog.New(slog.DiscardHandler)}
	fsrvp.Register(rpc, srv.Agent(), &fsrvp.HandlerConfig{MinLevel: dcerpc.LevelInsecureConnect,
		Logger: slog.New(slog.DiscardHandler)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- rpc.Serve(l) }()
	defer func() {
		require.NoError(t, rpc.Close())
		<-served
	}()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "testdata/call_by_impacket.py", port, "backup",
		"password").CombinedOutput()
	require.NoError(t, err, "%s", out)
	var want strings.Builder
	for _, level := range []int{2, 5, 6} {
		for _, fragment := range []string{"None", "64"} {
			fmt.Fprintf(&want, "level %d fragment %s versions 1 1 0x0 supported 1 0x0\n", level, fragment)
		}
	}
	want.WriteString("wrong password refused\nno log-on status 0x80070005\n")
	require.Equal(t, want.String(), string(out))
}
