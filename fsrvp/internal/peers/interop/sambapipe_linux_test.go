package interop

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// versionServer answers GetSupportedVersion with 1 to 1, and remembers who asked.
func versionServer(asked chan<- dcerpc.Peer) *dcerpc.Server {
	srv := &dcerpc.Server{Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(fsrvp.Interface(), handlerFunc(func(ctx context.Context, call *dcerpc.Call) error {
		p, _ := dcerpc.PeerFromContext(ctx)
		select {
		case asked <- p:
		default:
		}
		e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
		e.Uint32(1)
		e.Uint32(1)
		e.Uint32(0)
		var err error
		call.Response, err = e.Bytes()
		return err
	}), &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	return srv
}

// rpcclient runs Samba's client in the client's host, with a command that changes nothing. It does
// so again where the client's own patience, of 10 s, has ended: smbd may have to start a server.
func rpcclient(t *testing.T, n *peers.Network, server *peers.Host, command string, args ...string) string {
	t.Helper()
	for begun := time.Now(); ; {
		out, err := n.Host("cl").Command(t.Context(), "rpcclient",
			append([]string{server.FQDN, "-c", command}, args...)...).CombinedOutput()
		t.Logf("%s: %v\n%s", command, err, out)
		if time.Since(begun) > 5*time.Minute || !strings.Contains(string(out), "NT_STATUS_IO_TIMEOUT") {
			return string(out)
		}
	}
}

// TestHandOver has Samba's client call a server of ours behind smbd, as everybody that there is.
func TestHandOver(t *testing.T) {
	n := networkOnce(t)
	nas := n.Host("nas")
	nas.Claim(t)
	asked := make(chan dcerpc.Peer, 1)
	serve(t, nas, versionServer(asked), nil)
	for _, tt := range []struct {
		name          string
		args          []string
		account       string
		authenticated bool
		encrypted     bool
		operator      bool
	}{
		{"backup, Kerberos", []string{"-U", "backup@FSRVP.TEST%" + n.User("backup").Password, "--use-kerberos=required"}, "backup", true, false, true},
		{"backup, NTLM", []string{"-U", `FSRVP\backup%` + n.User("backup").Password, "--use-kerberos=off"}, "backup", true, false, true},
		{"backup, encrypted", []string{"-U", `FSRVP\backup%` + n.User("backup").Password, "--client-protection=encrypt"}, "backup", true, true, true},
		{"nobody1", []string{"-U", `FSRVP\nobody1%` + n.User("nobody1").Password}, "nobody1", true, false, false},
		{"anonymous", []string{"-U%"}, "", false, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.Contains(t, rpcclient(t, n, nas, "fss_get_sup_version", tt.args...),
				"supports FSRVP versions from 1 to 1")
			p := <-asked
			t.Logf("%+v", p)
			require.Equal(t, tt.authenticated, p.Session)
			require.Equal(t, tt.encrypted, p.SessionEncrypted)
			require.Equal(t, tt.account, p.SessionIdentity.Account)
			require.Equal(t, tt.operator, p.SessionIdentity.HasSID(dcerpc.SIDBuiltinBackupOperators))
			require.Equal(t, dcerpc.LevelInsecureNone, p.Level)
			host, _, err := net.SplitHostPort(p.Addr.String())
			require.NoError(t, err)
			require.Equal(t, n.Host("cl").Addr.String(), host)
			if tt.authenticated {
				require.Equal(t, peers.Domain, p.SessionIdentity.Domain)
				require.True(t, strings.HasPrefix(string(p.SessionIdentity.SIDs[0]), "S-1-5-21-"))
			}
		})
	}
}

// TestRPCSecurity binds with security of RPC's own inside the pipe.
func TestRPCSecurity(t *testing.T) {
	n := networkOnce(t)
	nas := n.Host("nas")
	nas.Claim(t)
	asked := make(chan dcerpc.Peer, 1)
	srv := versionServer(asked)
	srv.Acceptors = []dcerpc.Acceptor{kerberosAcceptor(t, n, "nas")}
	serve(t, nas, srv, nil)
	u := n.User("backup")
	for binding, level := range map[string]dcerpc.AuthLevel{"krb5,sign": dcerpc.LevelIntegrity,
		"krb5,seal": dcerpc.LevelPrivacy} {
		out, err := n.Host("cl").Command(t.Context(), "rpcclient", "ncacn_np:"+nas.FQDN+"["+binding+"]", "-c",
			"fss_get_sup_version",
			"-U", u.Principal()+"%"+u.Password, "--use-kerberos=required").CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "supports FSRVP versions from 1 to 1")
		p := <-asked
		require.Equal(t, level, p.Level)
		require.Equal(t, "backup", p.Account)
		require.Equal(t, "backup", p.SessionIdentity.Account)
	}
}

// A syncBuffer may be written to and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestTakeOver lets samba-dcerpcd start, with its own server for the pipe, in every order: it takes
// the socket, and we take it back; the pipes of others work throughout.
func TestTakeOver(t *testing.T) {
	n := networkOnce(t)
	fs, u := n.Host("fs"), n.User("backup")
	fs.Claim(t)
	creds := []string{"-U", u.Principal() + "%" + u.Password}
	asked := make(chan dcerpc.Peer, 1)
	ours := func() bool {
		rpcclient(t, n, fs, "fss_get_sup_version", creds...)
		select {
		case <-asked:
			return true
		default:
			return false
		}
	}
	others := func() {
		t.Helper()
		require.Contains(t, rpcclient(t, n, fs, "netshareenum", creds...), "fsrvp_share")
		require.Contains(t, rpcclient(t, n, fs, "lsaquery", creds...), "Domain Sid")
	}
	var log syncBuffer
	serve(t, fs, versionServer(asked), slog.New(slog.NewTextHandler(&log, nil)))
	require.True(t, ours(), "before samba-dcerpcd")
	others() // which starts it
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "taken back") }, time.Minute,
		10*time.Millisecond)
	require.True(t, ours(), "after samba-dcerpcd has started")
	others()
	for range 2 {
		fs.Output(t, "sh", "-c",
			"kill $(cat /run/samba/samba-dcerpcd.pid); while pgrep -x samba-dcerpcd; do sleep 0.05; done")
		before := strings.Count(log.String(), "taken back")
		others()
		require.Eventually(t, func() bool { return strings.Count(log.String(), "taken back") > before }, time.Minute,
			10*time.Millisecond)
		require.True(t, ours(), "after samba-dcerpcd has started again")
	}
	restartSmbd(t, fs)
	require.Eventually(t, ours, time.Minute, 10*time.Millisecond, "after smbd has started again")
	others() // for which samba-dcerpcd may have started again
	require.Eventually(t, ours, time.Minute, 10*time.Millisecond, "and still")
}
