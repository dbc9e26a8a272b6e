package capture

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// ntlmServer is an agent on TCP that takes NTLM, by itself and within SPNEGO. It returns the port.
func ntlmServer(t *testing.T) string {
	mech, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: onePassword("Secret1"), ComputerName: "FS"})
	require.NoError(t, err)
	nego, err := spnego.NewAcceptor(mech)
	require.NoError(t, err)
	memory := fsrvptest.NewMemory()
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: memory.Snapshots, Shares: memory.Shares, StorePath: filepath.Join(t.TempDir(), "agent.db"),
		Names: []string{fsrvptest.ServerName}, Allow: []string{`FSRVP\backup`},
	})
	require.NoError(t, err)
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{mech, nego}, Logger: slog.New(slog.DiscardHandler)}
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
	return port
}

// TestOwnTrafficNTLM captures our own client and server with NTLM, by itself and in SPNEGO, and has
// tshark, which knows the password, read what was said.
func TestOwnTrafficNTLM(t *testing.T) {
	port := ntlmServer(t)
	mech, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "FSRVP", User: "backup", Password: "Secret1"})
	require.NoError(t, err)
	nego, err := spnego.NewInitiator(mech)
	require.NoError(t, err)
	for name, auth := range map[string]dcerpc.Initiator{"ntlm": mech, "spnego": nego} {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
			t.Run(fmt.Sprintf("%s, level %d", name, level), func(t *testing.T) {
				var pcap bytes.Buffer
				cfg := &fsrvp.Config{Transport: newWiretap(t, &pcap, &dcerpc.TCPDialer{Port: port}), Auth: auth,
					Level: level}
				c, err := fsrvp.Dial(t.Context(), "127.0.0.1", cfg)
				require.NoError(t, err)
				lifeCycle(t, c)
				require.NoError(t, c.Close())

				calls, sum := decodeBytes(t, pcap.Bytes(), &Config{NTHashes: passwords("Secret1")})
				require.Empty(t, sum.Problems)
				require.Len(t, calls, 13)
				for _, call := range calls {
					require.NoError(t, call.RequestErr)
					require.NoError(t, call.ResponseErr)
					require.False(t, call.Tampered)
					require.Equal(t, `FSRVP\backup`, call.User())
					require.Equal(t, level, call.Peer.Level)
				}
				// A byte of any call that is changed shows, at both levels.
				list := packetsOf(t, pcap.Bytes())
				_, sum = decodeBytes(t, change(t, list, int(calls[4].Packet)-1, 16+8),
					&Config{NTHashes: passwords("Secret1")})
				require.EqualValues(t, 1, reasons(sum)[ErrTampered]+reasons(sum)[ErrSignature])

				if name == "spnego" && level == dcerpc.LevelPrivacy {
					return // tshark 4.0 does not begin the key stream anew after a mechListMIC (MS-SPNG 3.3.5.1)
				}
				needTshark(t)
				file := filepath.Join(t.TempDir(), "ntlm.pcap")
				require.NoError(t, os.WriteFile(file, pcap.Bytes(), 0o600))
				require.Equal(t, tsharkReadings(t, file, "-o", "ntlmssp.nt_password:Secret1"), readings(t, calls))
			})
		}
	}
}
