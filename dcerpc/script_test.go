package dcerpc_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/internal/echoserver"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/rpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// TestScripts runs the conversations of package rpctest against our server, in both profiles, and
// with toy mechanisms as with real ones. Each of them runs at least once.
func TestScripts(t *testing.T) {
	mechanisms := map[string]echoserver.Mechanisms{"toys": echoserver.Toys(), "real": realMechanisms(t)}
	ran := map[string]bool{}
	for name, m := range mechanisms {
		for _, profile := range rpctest.Profiles() {
			for _, s := range rpctest.Scripts() {
				t.Run(fmt.Sprintf("%s/%s/%s", name, profile, s.Name), func(t *testing.T) {
					res, err := echoserver.Run(t.Context(), s, m, profile)
					if errors.Is(err, errors.ErrUnsupported) {
						t.Skip(err)
					}
					require.NoError(t, err)
					switch res.Verdict {
					case rpctest.NotApplicable:
						t.Skip(res.Reason)
					case rpctest.Failed:
						t.Errorf("%v\n%s", res.Reason, strings.Join(res.Transcript, "\n"))
					}
					ran[s.Name] = true
				})
			}
		}
	}
	for _, s := range rpctest.Scripts() {
		require.True(t, ran[s.Name], "%s has not run", s.Name)
	}
}

// realMechanisms are NTLM, Kerberos and SPNEGO, of a domain of their own.
func realMechanisms(t *testing.T) echoserver.Mechanisms {
	const service = "host/fs1.example.test"
	realm := krb5test.NewRealm("EXAMPLE.TEST", 0)
	realm.AddService(service)
	realm.AddUser("backup")

	hash := ntlm.NTHash("secret")
	file := filepath.Join(t.TempDir(), "hashes")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "D\\backup\t%s\n", hex.EncodeToString(hash[:])), 0o600))
	accounts, err := ntlm.OpenHashFile(file)
	require.NoError(t, err)
	ntlmAcceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts})
	require.NoError(t, err)
	nego, err := spnego.NewAcceptor(realm.Acceptor(), ntlmAcceptor)
	require.NoError(t, err)

	ntlmInitiator, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "D", User: "backup", Password: "secret"})
	require.NoError(t, err)
	negoInitiator, err := spnego.NewInitiator(ntlmInitiator)
	require.NoError(t, err)
	return echoserver.Mechanisms{
		Acceptors: []dcerpc.Acceptor{ntlmAcceptor, realm.Acceptor(), nego},
		Initiators: []rpctest.Mechanism{
			{Initiator: ntlmInitiator, Account: "backup", Legs: 3, Asks: true},
			{Initiator: realm.Initiator("backup"), Target: service, Account: "backup", Legs: 3, Asks: true},
			{Initiator: negoInitiator, Account: "backup", Legs: 4, Asks: true},
		},
	}
}

// TestClientScripts runs the conversations of package rpctest with our client, each in a bubble of
// its own, so that time passes only while everybody waits.
func TestClientScripts(t *testing.T) {
	for _, s := range rpctest.ClientScripts() {
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				res := s.RunClient(t.Context(), echoserver.Client())
				require.Equal(t, rpctest.Passed, res.Verdict, "%s\n%s", res.Reason, strings.Join(res.Transcript, "\n"))
			})
		})
	}
}
