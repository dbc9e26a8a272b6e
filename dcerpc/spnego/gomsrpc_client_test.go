package spnego_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	msrpc "github.com/oiweiwei/go-msrpc/dcerpc"
	mgmt "github.com/oiweiwei/go-msrpc/msrpc/mgmt/mgmt/v1"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	gokrb5 "github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/nametype"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// ccache is a credential cache of go-msrpc's with one ticket of the realm.
func (w *world) ccache(t testing.TB) credential.CCache {
	t.Helper()
	ticket, err := w.realm.Ticket(user, target, nil)
	require.NoError(t, err)
	principal := func(p krb5.Principal, kind int32) credentials.Principal {
		return credentials.Principal{Realm: p.Realm, PrincipalName: types.PrincipalName{NameType: kind,
			NameString: p.Name}}
	}
	client := principal(ticket.Client, nametype.KRB_NT_PRINCIPAL)
	return credential.NewFromCCacheV9(user, &credentials.CCache{
		Version:          4,
		DefaultPrincipal: client,
		Credentials: []*credentials.Credential{{
			Client:    client,
			Server:    principal(ticket.Service, nametype.KRB_NT_SRV_INST),
			Key:       types.EncryptionKey{KeyType: int32(ticket.SessionKey.Etype), KeyValue: ticket.SessionKey.Value},
			AuthTime:  time.Now(),
			StartTime: time.Now().Add(-time.Minute),
			EndTime:   ticket.EndTime,
			Ticket:    ticket.Raw,
		}},
	})
}

// TestGoMSRPCClient has go-msrpc's whole DCE/RPC client talk to our server over TCP.
func TestGoMSRPCClient(t *testing.T) {
	w := newWorld(t)
	kerberos := msrpc.WithMechanism(ssp.KRB5, &gokrb5.Config{
		KRB5Config: config.New(), DCEStyle: true, DisablePAFXFAST: true,
	})
	withPassword := msrpc.WithCredentials(credential.NewFromPassword(`FSRVP\`+user, password))
	withTicket := msrpc.WithCredentials(w.ccache(t))
	for name, tc := range map[string]struct {
		options  []msrpc.Option
		authType dcerpc.AuthType
	}{
		"NTLM":                 {[]msrpc.Option{msrpc.WithMechanism(ssp.NTLM), withPassword}, dcerpc.AuthNTLM},
		"SPNEGO with NTLM":     {[]msrpc.Option{msrpc.WithMechanism(ssp.SPNEGO), msrpc.WithMechanism(ssp.NTLM), withPassword}, dcerpc.AuthSPNEGO},
		"Kerberos":             {[]msrpc.Option{kerberos, withTicket}, dcerpc.AuthKerberos},
		"SPNEGO with Kerberos": {[]msrpc.Option{msrpc.WithMechanism(ssp.SPNEGO), kerberos, withTicket}, dcerpc.AuthSPNEGO},
	} {
		for level, protection := range map[dcerpc.AuthLevel]msrpc.Option{
			dcerpc.LevelIntegrity: msrpc.WithSign(), dcerpc.LevelPrivacy: msrpc.WithSeal(),
		} {
			for syntax, encoding := range map[string]msrpc.Option{"NDR20": msrpc.WithNDR20(),
				"NDR64": msrpc.WithNDR64()} {
				t.Run(fmt.Sprint(name, "/level ", level, "/", syntax), func(t *testing.T) {
					server := newTCPServer(t, w)
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					conn, err := msrpc.Dial(ctx, "127.0.0.1",
						msrpc.WithEndpoint(fmt.Sprintf("ncacn_ip_tcp:[%d]", server.port)))
					require.NoError(t, err)
					defer conn.Close(ctx)
					cli, err := mgmt.NewManagementClient(ctx, conn,
						append(tc.options, protection, encoding, msrpc.WithTargetName(target))...)
					require.NoError(t, err)
					for range 3 {
						stats, err := cli.InquireStats(ctx, &mgmt.InquireStatsRequest{Count: 4})
						require.NoError(t, err)
						require.NotZero(t, stats.Statistics[0], "calls")
						ids, err := cli.InquireInterfaceIDs(ctx, &mgmt.InquireInterfaceIDsRequest{})
						require.NoError(t, err)
						require.Len(t, ids.InterfaceIDVector.InterfaceID, 1)
					}
					require.Equal(t, []requestAuth{{tc.authType, level}}, server.seen())
				})
			}
		}
	}
}

// requestAuth is what the trailer of a request says.
type requestAuth struct {
	authType dcerpc.AuthType
	level    dcerpc.AuthLevel
}

// A tcpServer serves an echo on a port of the loopback interface, and notes how requests come.
type tcpServer struct {
	*dcerpc.Server
	port int

	mu    sync.Mutex
	auths map[requestAuth]bool
}

func newTCPServer(t testing.TB, w *world) *tcpServer {
	t.Helper()
	s := &tcpServer{auths: map[requestAuth]bool{}}
	s.Server = &dcerpc.Server{
		Acceptors: []dcerpc.Acceptor{
			w.realm.Acceptor(target), w.ntlmAcceptor(t), negAcceptor(t, w.realm.Acceptor(target), w.ntlmAcceptor(t)),
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Trace:  s.trace,
	}
	s.Handle(echoInterface(), &echo{}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.port = l.Addr().(*net.TCPAddr).Port
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-served, dcerpc.ErrServerClosed)
	})
	return s
}

// trace notes the trailer of every request that was received.
func (s *tcpServer) trace(p dcerpc.TracedPDU) {
	req, err := pdu.ParseRequest(p.PDU)
	if p.Sent || err != nil {
		return
	}
	auth := requestAuth{dcerpc.AuthType(req.Auth.Type), dcerpc.AuthLevel(req.Auth.Level)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auths[auth] = true
}

func (s *tcpServer) seen() []requestAuth {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []requestAuth
	for a := range s.auths {
		out = append(out, a)
	}
	return out
}
