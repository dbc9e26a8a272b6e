package interop

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(hookVariable); socket != "" {
		os.Exit(askHook(socket, os.Args[1:]))
	}
	// The hosts that they claim keep the tests apart: those of the three servers run side by side,
	// and no test that waits for its host keeps another from running.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "64"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if agentDir != "" {
			_ = os.RemoveAll(agentDir) // a temporary directory
		}
		os.Exit(code)
	}))
}

// network returns the network of peers for a test that runs in parallel with those that claim other
// hosts.
func network(t *testing.T) *peers.Network {
	t.Helper()
	t.Parallel()
	return peers.Start(t)
}

// networkOnce is network for a test that FSRVP_SAMBA does not change.
func networkOnce(t *testing.T) *peers.Network {
	t.Helper()
	once(t)
	return network(t)
}

// once skips a test where FSRVP_SAMBA asks for another run of those that our agent behind Samba
// has a part in: the test does without it, or has it change shares in both ways.
func once(t *testing.T) {
	t.Helper()
	if programsAlone() {
		t.Skip("FSRVP_SAMBA=programs does not change this test")
	}
}

// programsAlone reports whether FSRVP_SAMBA=programs asks for an agent that changes Samba's shares
// by Samba's programs alone.
func programsAlone() bool { return os.Getenv("FSRVP_SAMBA") == "programs" }

// kerberosConfig reaches the KDC from the client's host.
func kerberosConfig(n *peers.Network) *krb5.InitiatorConfig {
	return &krb5.InitiatorConfig{Krb5Conf: filepath.Join(n.Scripts, "etc", "krb5.conf"), Dial: n.Host("cl").Dial}
}

// kerberos logs in by password.
func kerberos(tb testing.TB, n *peers.Network, u peers.User) dcerpc.Initiator {
	tb.Helper()
	i, err := krb5.NewInitiatorWithPassword(u.Principal(), u.Password, kerberosConfig(n))
	require.NoError(tb, err)
	return i
}

func ntlmAuth(tb testing.TB, u peers.User) dcerpc.Initiator {
	tb.Helper()
	i, err := ntlm.NewInitiator(ntlm.Credentials{Domain: peers.Domain, User: u.Name, Password: u.Password})
	require.NoError(tb, err)
	return i
}

// dialer dials from the client's host.
func dialer(tb testing.TB, n *peers.Network, auth dcerpc.Initiator) *smbpipe.Dialer {
	tb.Helper()
	d := &smbpipe.Dialer{Auth: auth, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.Host("cl").Dial(ctx, network, address)
	}}
	tb.Cleanup(func() { require.NoError(tb, d.Close()) })
	return d
}

// addShare makes a registry share of a file server, with parameters such as "hide dot files=no",
// until the test ends.
func addShare(tb testing.TB, h *peers.Host, name, path string, params ...string) {
	tb.Helper()
	h.Output(tb, "net", "conf", "addshare", name, path, "writeable=y", "guest_ok=n")
	tb.Cleanup(func() { h.Output(tb, "net", "conf", "delshare", name) })
	for _, p := range params {
		key, value, _ := strings.Cut(p, "=")
		h.Output(tb, "net", "conf", "setparm", name, key, value)
	}
}

// serve has srv answer for \pipe\FssagentRpc behind the smbd of a file server, which the test has
// claimed.
func serve(tb testing.TB, h *peers.Host, srv *dcerpc.Server, logger *slog.Logger) {
	tb.Helper()
	l, err := sambapipe.Listen(&sambapipe.Config{Dir: h.Path("/run/samba/ncalrpc"), LibexecDirs: []string{},
		Logger: logger})
	require.NoError(tb, err)
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	tb.Cleanup(func() {
		require.NoError(tb, srv.Close())
		require.Error(tb, <-done)
		l.Close()
	})
}

// kerberosAcceptor takes tickets for a host of the network.
func kerberosAcceptor(tb testing.TB, n *peers.Network, host string) dcerpc.Acceptor {
	tb.Helper()
	a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: n.Keytab(host)})
	require.NoError(tb, err)
	return a
}

// handlerFunc is a dcerpc.Handler.
type handlerFunc func(ctx context.Context, call *dcerpc.Call) error

func (f handlerFunc) ServeRPC(ctx context.Context, call *dcerpc.Call) error { return f(ctx, call) }
