package interop

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// rpcMechanisms log a user in to a service.
func rpcMechanisms(t *testing.T, n *peers.Network, u peers.User, service string) []rpctest.Mechanism {
	krb, ntlm := kerberos(t, n, u), ntlmAuth(t, u)
	nego, err := spnego.NewInitiator(krb.(spnego.InitiatorMechanism))
	require.NoError(t, err)
	return []rpctest.Mechanism{
		{Initiator: ntlm, Target: service, Account: u.Name, Legs: 3, Asks: true},
		{Initiator: krb, Target: service, Account: u.Name, Legs: 3, Asks: true},
		{Initiator: nego, Target: service, Account: u.Name, Legs: 4, Asks: true},
	}
}

// supportedVersion is the answer to GetSupportedVersion: from 1 to 1, and success.
var supportedVersion = []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}

// pipeTarget is the server behind the agent's pipe of a file server.
func pipeTarget(t *testing.T, n *peers.Network, host *peers.Host) *rpctest.Target {
	user := n.User("backup")
	pipes := dialer(t, n, kerberos(t, n, user))
	pipes.AlwaysRead = true
	const operations = 13
	return &rpctest.Target{
		Dial: func(ctx context.Context) (net.Conn, error) { return pipes.DialRPC(ctx, host.FQDN, fsrvp.Endpoint) },
		Main: fsrvp.Interface(), Other: rpctest.Mgmt(),
		Operations: rpctest.Operations{
			Call:   rpctest.Op(uint16(fsrvp.OpGetSupportedVersion)),
			Answer: func([]byte) []byte { return supportedVersion },
			// SetContext wants an unsigned long.
			Short: rpctest.Op(uint16(fsrvp.OpSetContext)), Count: operations,
			Fault: rpctest.Op(operations), FaultStatus: pdu.FaultOpRange, FaultFlags: pdu.DidNotExecute,
		},
		Mechanisms: rpcMechanisms(t, n, user, "host/"+host.FQDN),
		Timeout:    3 * time.Second, Messages: true, LosesLastFault: true,
	}
}

// sambaTargets are Samba's RPC servers: that of the domain controller over TCP, by its management
// interface, and the agent of a file server over its pipe.
func sambaTargets(t *testing.T, n *peers.Network) map[string]*rpctest.Target {
	dc := n.Host("dc")
	tcp := func(from string) func(context.Context) (net.Conn, error) {
		return func(ctx context.Context) (net.Conn, error) { return n.Host(from).Dial(ctx, "tcp", dc.Name+":135") }
	}
	pipe := pipeTarget(t, n, n.Host("fs"))
	pipe.FaultAllocHint = 24
	return map[string]*rpctest.Target{
		"pipe": pipe,
		"tcp": {
			Dial:    tcp("cl"),
			Dialers: map[string]func(context.Context) (net.Conn, error){"elsewhere": tcp("agent")},
			Main:    rpctest.Mgmt(), Operations: rpctest.MgmtOperations(), Other: epm.Interface(),
			Mechanisms: rpcMechanisms(t, n, n.User("Administrator"), "host/"+dc.FQDN),
			Timeout:    3 * time.Second, FaultAllocHint: 24,
		},
	}
}

// TestRPCScriptsOnSamba runs the conversations of package rpctest against Samba's server. What it
// is known to do otherwise is listed in testdata, for each release, transport and profile; a listed
// failure that passes fails the test, too.
func TestRPCScriptsOnSamba(t *testing.T) {
	n := networkOnce(t)
	n.Host("fs").Claim(t)
	hosts := map[string]string{"tcp": "dc", "pipe": "fs"}
	for name, target := range sambaTargets(t, n) {
		for _, profile := range rpctest.Profiles() {
			t.Run(name+"/"+string(profile), func(t *testing.T) {
				target := *target
				target.Profile = profile
				version := sambaVersion(t, n.Host(hosts[name]))
				if name == "pipe" && version != "4.17" {
					target.MaxFragment = 4280 // as on Windows
				}
				list := "rpctest-" + version + "-" + name + "-" + string(profile) + ".txt"
				text, err := os.ReadFile(filepath.Join("testdata", list))
				require.NoError(t, err, "a new release of Samba needs a list of what it does otherwise")
				known, err := rpctest.ParseKnown(string(text))
				require.NoError(t, err)
				passed, failed, na := rpctest.Run(t, &target, known, 24)
				t.Logf("%d passed, %d failed as known, %d not applicable", passed, failed, na)
				require.Greater(t, passed, 50)
			})
		}
	}
}

// sambaVersion is the release of Samba on a host, "4.17".
func sambaVersion(t *testing.T, host *peers.Host) string {
	t.Helper()
	program := "smbd"
	if host.Name == "dc" {
		program = "samba"
	}
	out := host.Output(t, program, "--version")
	version := strings.TrimPrefix(strings.TrimSpace(out), "Version ")
	parts := strings.SplitN(version, ".", 3)
	require.Len(t, parts, 3, out)
	return parts[0] + "." + parts[1]
}

// TestRPCScriptsBehindSamba runs them against our own server behind the smbd of a file server. All
// that apply pass.
func TestRPCScriptsBehindSamba(t *testing.T) {
	n := networkOnce(t)
	nas := n.Host("nas")
	nas.Claim(t)
	srv := &dcerpc.Server{Acceptors: acceptors(t, n, "nas", n.User("backup"))}
	srv.Handle(fsrvp.Interface(), handlerFunc(func(_ context.Context, call *dcerpc.Call) error {
		switch fsrvp.Opnum(call.Opnum) {
		case fsrvp.OpGetSupportedVersion:
			call.Response = append(call.Response, supportedVersion...)
		case fsrvp.OpSetContext:
			return dcerpc.ErrBadStub
		}
		return nil
	}), &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone, Opnums: 13})
	serve(t, nas, srv, nil)
	target := pipeTarget(t, n, nas)
	target.MaxFragment = 4280
	for _, profile := range rpctest.Profiles() {
		t.Run(string(profile), func(t *testing.T) {
			target := *target
			target.Profile = profile
			passed, _, _ := rpctest.Run(t, &target, nil, 24)
			t.Logf("%d passed", passed)
			require.Greater(t, passed, 100)
		})
	}
}
