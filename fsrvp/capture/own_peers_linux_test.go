package capture

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// A hostDialer dials from a host of the peers' network.
type hostDialer struct{ host *peers.Host }

func (d hostDialer) DialRPC(ctx context.Context, server, endpoint string) (net.Conn, error) {
	return d.host.Dial(ctx, "tcp", net.JoinHostPort(server, endpoint))
}

// TestOwnTrafficBehindSamba captures our own client and server with a real smbd between them, sealed by Kerberos inside the pipe.
func TestOwnTrafficBehindSamba(t *testing.T) {
	needTshark(t)
	n := peers.Start(t)
	nas, user := n.Host("nas"), n.User("backup")
	nas.Claim(t)

	memory := fsrvptest.NewMemory()
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: memory.Snapshots, Shares: memory.Shares, StorePath: filepath.Join(t.TempDir(), "agent.db"),
		Names: []string{fsrvptest.ServerName}, Allow: []string{user.Principal()},
	})
	require.NoError(t, err)
	defer a.Close()
	acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: n.Keytab("nas")})
	require.NoError(t, err)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}}
	fsrvp.Register(srv, a, nil)
	l, err := sambapipe.Listen(&sambapipe.Config{Dir: nas.Path("/run/samba/ncalrpc"), LibexecDirs: []string{}})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer func() {
		require.NoError(t, srv.Close())
		<-served
	}()

	auth, err := krb5.NewInitiatorWithPassword(user.Principal(), user.Password, &krb5.InitiatorConfig{
		Krb5Conf: filepath.Join(n.Scripts, "etc", "krb5.conf"), Dial: n.Host("cl").Dial,
	})
	require.NoError(t, err)
	var pcap bytes.Buffer
	tap := newWiretap(t, &pcap, hostDialer{n.Host("cl")})
	tap.port = 445
	d := &smbpipe.Dialer{Auth: auth, Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return tap.DialRPC(ctx, host, port)
	}}
	c, err := fsrvp.Dial(t.Context(), nas.FQDN, &fsrvp.Config{Transport: d, Auth: auth})
	require.NoError(t, err)
	lifeCycle(t, c)
	require.NoError(t, c.Close())
	require.NoError(t, d.Close())

	file := filepath.Join(t.TempDir(), "own.pcap")
	require.NoError(t, os.WriteFile(file, pcap.Bytes(), 0o600))
	keys, err := krb5.LoadKeytab(n.Keytab("nas"))
	require.NoError(t, err)
	calls, sum := decode(t, file, &Config{Keytab: keys})
	require.Len(t, calls, 13)
	require.Zero(t, sum.Unreadable)
	require.Zero(t, sum.Unanswered)
	for _, call := range calls {
		require.Equal(t, user.Principal(), call.User())
		require.Equal(t, dcerpc.LevelPrivacy, call.Peer.Level)
	}
	out, err := exec.Command("tshark", "-r", file, "-K", n.Keytab("nas"), "-o", "kerberos.decrypt:TRUE", "-Y", "_ws.malformed").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "10.0.0.", "malformed packets")
}
