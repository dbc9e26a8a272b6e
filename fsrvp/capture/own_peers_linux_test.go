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
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/sambapipe"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
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

// A samba is our server behind a real smbd, which takes Kerberos and NTLM.
type samba struct {
	*peers.Network
	nas  *peers.Host
	user peers.User
}

func startSamba(t *testing.T) *samba {
	n := peers.Start(t)
	s := &samba{n, n.Host("nas"), n.User("backup")}
	s.nas.Claim(t)
	memory := fsrvptest.NewMemory()
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: memory.Snapshots, Shares: memory.Shares, StorePath: filepath.Join(t.TempDir(), "agent.db"),
		Names: []string{fsrvptest.ServerName}, Allow: []string{s.user.Principal(), `FSRVP\backup`},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	kerberos, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: n.Keytab("nas")})
	require.NoError(t, err)
	byNTLM, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: onePassword(s.user.Password), ComputerName: "NAS"})
	require.NoError(t, err)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{kerberos, byNTLM}}
	fsrvp.Register(srv, a, nil)
	l, err := sambapipe.Listen(&sambapipe.Config{Dir: s.nas.Path("/run/samba/ncalrpc"), LibexecDirs: []string{}})
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		<-served
	})
	return s
}

// record calls the server and returns a capture of it.
func (s *samba) record(t *testing.T, auth dcerpc.Initiator, d *smbpipe.Dialer,
	calls func(t *testing.T, c *fsrvp.Client)) []byte {
	var pcap bytes.Buffer
	tap := newWiretap(t, &pcap, hostDialer{s.Host("cl")})
	tap.port = 445
	d.Auth = auth
	d.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return tap.DialRPC(ctx, host, port)
	}
	c, err := fsrvp.Dial(t.Context(), s.nas.FQDN, &fsrvp.Config{Transport: d, Auth: auth})
	require.NoError(t, err)
	calls(t, c)
	require.NoError(t, c.Close())
	require.NoError(t, d.Close())
	return pcap.Bytes()
}

// TestOwnTrafficBehindSamba captures our own client and server with a real smbd between them,
// sealed by Kerberos inside the pipe.
func TestOwnTrafficBehindSamba(t *testing.T) {
	needTshark(t)
	s := startSamba(t)
	auth, err := krb5.NewInitiatorWithPassword(s.user.Principal(), s.user.Password, &krb5.InitiatorConfig{
		Krb5Conf: filepath.Join(s.Scripts, "etc", "krb5.conf"), Dial: s.Host("cl").Dial,
	})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "own.pcap")
	require.NoError(t, os.WriteFile(file, s.record(t, auth, &smbpipe.Dialer{}, lifeCycle), 0o600))
	keys, err := krb5.LoadKeytab(s.Keytab("nas"))
	require.NoError(t, err)
	calls, sum := decode(t, file, &Config{Keytab: keys})
	require.Len(t, calls, 13)
	require.Zero(t, sum.Unreadable)
	require.Zero(t, sum.Unanswered)
	require.Empty(t, sum.Problems)
	for _, call := range calls {
		require.Equal(t, s.user.Principal(), call.User())
		require.Equal(t, dcerpc.LevelPrivacy, call.Peer.Level)
	}
	out, err := exec.Command("tshark", "-r", file, "-K", s.Keytab("nas"), "-o", "kerberos.decrypt:TRUE", "-Y",
		"_ws.malformed").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NotContains(t, string(out), "10.0.0.", "malformed packets")

	t.Run("algorithms", func(t *testing.T) { testAlgorithms(t, s) })
}

// testAlgorithms captures sessions of every dialect, with every signing algorithm and every cipher,
// opened by NTLM and by Kerberos with the tickets of a credential cache. Everything is read, and
// every signature is right. With -update they are kept.
func testAlgorithms(t *testing.T, s *samba) {
	ccache := s.CCache(t, s.user, "cifs/"+s.nas.FQDN, "host/"+s.nas.FQDN)
	kerberos, err := krb5.NewInitiatorFromCCache(ccache, &krb5.InitiatorConfig{Krb5Conf: filepath.Join(s.Scripts, "etc",
		"krb5.conf")})
	require.NoError(t, err)
	byNTLM, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "FSRVP", User: s.user.Name, Password: s.user.Password})
	require.NoError(t, err)
	tickets, err := krb5.LoadTickets(ccache)
	require.NoError(t, err)
	if *update {
		b, err := os.ReadFile(ccache)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("testdata/sealed/ccache", b, 0o644))
	}
	for _, tt := range sealedCaptures() {
		for mech, auth := range map[string]dcerpc.Initiator{"krb5": kerberos, "ntlm": byNTLM} {
			name := tt.name + "-" + mech
			t.Run(name, func(t *testing.T) {
				d := &smbpipe.Dialer{Dialect: tt.dialect, Encrypt: tt.cipher != 0,
					SMB: &smb2.Config{Signing: tt.signing}}
				if tt.cipher != 0 {
					d.SMB.Ciphers = []smb2.Cipher{tt.cipher}
				}
				file := s.record(t, auth, d, func(t *testing.T, c *fsrvp.Client) {
					_, err := c.GetSupportedVersion(t.Context())
					require.NoError(t, err)
					_, err = c.IsPathSupported(t.Context(), `\\`+fsrvptest.ServerName+`\share`)
					require.NoError(t, err)
				})
				checkSealed(t, file, mech, tickets, tt)
				if *update {
					require.NoError(t, os.WriteFile("testdata/sealed/"+name+".pcap", file, 0o644))
				}
			})
		}
	}
}
