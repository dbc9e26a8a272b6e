package interop

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// negotiate is SPNEGO around mechanisms.
func negotiate(tb testing.TB, mechs ...spnego.InitiatorMechanism) *spnego.Initiator {
	tb.Helper()
	i, err := spnego.NewInitiator(mechs...)
	require.NoError(tb, err)
	return i
}

// TestLogOnToSamba calls the management interface of Samba's domain controller with every mechanism
// at every level.
func TestLogOnToSamba(t *testing.T) {
	n := networkOnce(t)
	u := n.User("backup")
	kerberos := kerberos(t, n, u).(*krb5.Initiator)
	password := ntlmAuth(t, u).(*ntlm.Initiator)
	wrong := u
	wrong.Password = "wrong"
	for name, tc := range map[string]struct {
		auth      dcerpc.Initiator
		mechanism string // empty where the log-on has to fail
	}{
		"NTLM":                                {password, "ntlm"},
		"NTLM with a wrong password":          {ntlmAuth(t, wrong), ""},
		"SPNEGO with NTLM":                    {negotiate(t, password), "ntlm"},
		"SPNEGO with a wrong password":        {negotiate(t, ntlmAuth(t, wrong).(*ntlm.Initiator)), ""},
		"SPNEGO with Kerberos":                {negotiate(t, kerberos), "krb5"},
		"SPNEGO with both":                    {negotiate(t, kerberos, password), "krb5"},
		"SPNEGO with both, NTLM first":        {negotiate(t, password, kerberos), "ntlm"},
		"SPNEGO with something unknown first": {negotiate(t, unknown{password}, password), "ntlm"},
	} {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelPacket, dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
			t.Run(fmt.Sprint(name, "/level ", level), func(t *testing.T) {
				conn, err := n.Host("cl").Dial(t.Context(), "tcp", "dc.fsrvp.test:135")
				require.NoError(t, err)
				mgmt := dcerpc.SyntaxID{UUID: uuid.MustParse("afa8bd80-7d8a-11c9-bef4-08002b102989"), Major: 1}
				cc, err := dcerpc.NewClientConn(t.Context(), conn, mgmt, &dcerpc.Config{
					Auth: tc.auth, Level: level, Target: "host/dc.fsrvp.test", Syntaxes: []ndr.Syntax{ndr.NDR20},
				})
				for range 3 {
					if err != nil {
						break
					}
					const isServerListening = 2
					err = cc.Call(t.Context(), &dcerpc.Call{Opnum: isServerListening, Syntax: cc.Syntax()})
				}
				if cc != nil {
					defer cc.Close()
				}
				if tc.mechanism == "" {
					require.Error(t, err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, tc.mechanism, cc.Identity().Mechanism)
			})
		}
	}
}

// unknown is a mechanism under a name that no server knows.
type unknown struct{ spnego.InitiatorMechanism }

func (unknown) OID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 31}
}

// TestWinbind has winbind on a member of the domain verify log-ons, and name the accounts' SIDs.
func TestWinbind(t *testing.T) {
	n := networkOnce(t)
	u, fs := n.User("backup"), n.Host("fs")
	fs.Claim(t) // winbindd asks samba-dcerpcd for local groups, which a reset ends
	fs.Run(t, func(t *testing.T) {
		helper := ntlm.NewWinbindHelper(&ntlm.WinbindConfig{SIDs: ntlm.Wbinfo("")})
		defer helper.Close()
		acceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: helper, ComputerName: "FS",
			DomainName: peers.Domain})
		require.NoError(t, err)
		for _, tc := range []struct {
			credentials ntlm.Credentials
			ok          bool
		}{
			{ntlm.Credentials{Domain: peers.Domain, User: u.Name, Password: u.Password}, true},
			{ntlm.Credentials{Domain: peers.Domain, User: u.Name, Password: "wrong"}, false},
			{ntlm.Credentials{Domain: "fsrvp.test", User: "BACKUP", Password: u.Password}, true},
			{ntlm.Credentials{User: u.Principal(), Password: u.Password}, true},
			{ntlm.Credentials{Domain: "ELSEWHERE", User: u.Name, Password: u.Password}, false},
			{ntlm.Credentials{Domain: peers.Domain, User: "no such user", Password: u.Password}, false},
			{ntlm.Credentials{Domain: peers.Domain, User: u.Name, Password: u.Password}, true},
		} {
			initiator, err := ntlm.NewInitiator(tc.credentials)
			require.NoError(t, err)
			id, err := logOn(t.Context(), initiator, acceptor)
			if !tc.ok {
				require.ErrorIs(t, err, ntlm.ErrLogonFailure, "%+v", tc.credentials)
				continue
			}
			require.NoError(t, err, "%+v", tc.credentials)
			require.Equal(t, tc.credentials.User, id.Account)
			require.True(t, id.HasSID(dcerpc.SIDBuiltinBackupOperators), "%v", id.SIDs)
			require.Contains(t, string(id.SIDs[0]), "S-1-5-21-")
		}
	})
}

// logOn exchanges the tokens of both sides and returns who the server says that the client is.
func logOn(ctx context.Context, i dcerpc.Initiator, a dcerpc.Acceptor) (dcerpc.Identity, error) {
	client, err := i.NewContext("host/fs.fsrvp.test", dcerpc.LevelPrivacy)
	if err != nil {
		return dcerpc.Identity{}, err
	}
	server, err := a.NewContext(dcerpc.LevelPrivacy)
	if err != nil {
		return dcerpc.Identity{}, err
	}
	var token []byte
	for range 4 {
		if token, _, err = client.Step(ctx, token); err != nil {
			return dcerpc.Identity{}, err
		}
		var done bool
		if token, done, err = server.Step(ctx, token); err != nil {
			return dcerpc.Identity{}, err
		}
		if done {
			return server.Identity(), nil
		}
	}
	return dcerpc.Identity{}, errors.New("an exchange without end")
}
