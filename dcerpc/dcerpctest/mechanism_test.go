package dcerpctest_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
)

// contexts runs the legs of m.
func contexts(t *testing.T, m *dcerpctest.Mechanism, level dcerpc.AuthLevel) (client, server dcerpc.Context) {
	t.Helper()
	client, err := m.Initiator().NewContext("host/fs1", level)
	require.NoError(t, err)
	server, err = m.Acceptor().NewContext(level)
	require.NoError(t, err)
	token, clientDone, err := client.Step(t.Context(), nil)
	require.NoError(t, err)
	serverDone := false
	for leg := 1; !clientDone || !serverDone; leg++ {
		require.Less(t, leg, 10)
		if leg%2 == 1 {
			token, serverDone, err = server.Step(t.Context(), token)
		} else {
			token, clientDone, err = client.Step(t.Context(), token)
		}
		require.NoError(t, err)
	}
	return client, server
}

// TestMechanism changes each byte that a level protects, and each that it does not.
func TestMechanism(t *testing.T) {
	for legs := 1; legs < 7; legs++ {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
			for _, all := range []bool{false, true} {
				t.Run(fmt.Sprint(legs, " legs, level ", level, ", all ", all), func(t *testing.T) {
					m := &dcerpctest.Mechanism{Legs: legs, Account: "backup", SignAll: all}
					client, server := contexts(t, m, level)
					require.Equal(t, "backup", server.Identity().Account)
					for i := range 3 * 4 {
						header, body, trailer := []byte("head"), []byte("body"), []byte("tail")
						token := make([]byte, client.TokenSize(level))
						msg := dcerpc.Message{Header: header, Body: body, Trailer: trailer}
						check := server.Verify
						if level == dcerpc.LevelPrivacy {
							require.NoError(t, client.Seal(msg, token))
							require.NotEqual(t, "body", string(body))
							check = server.Unseal
						} else {
							require.NoError(t, client.Sign(msg, token))
							require.Equal(t, "body", string(body))
						}
						sent := bytes.Clone(body)
						part := [][]byte{header, body, trailer}[i/4]
						part[i%4] ^= 1
						err := check(msg, token)
						part[i%4] ^= 1
						if protected := all || i/4 == 1; !protected {
							require.NoError(t, err)
							continue
						}
						require.ErrorIs(t, err, dcerpctest.ErrSignature)
						copy(body, sent)
						require.NoError(t, check(msg, token), "a failed check does not use the sequence number")
						require.Equal(t, "body", string(body))
						require.ErrorIs(t, check(msg, token), dcerpctest.ErrSignature, "twice")
					}
				})
			}
		}
	}
}

func TestMechanismErrors(t *testing.T) {
	m := &dcerpctest.Mechanism{Legs: 2}
	server, err := m.Acceptor().NewContext(dcerpc.LevelIntegrity)
	require.NoError(t, err)
	for _, token := range []string{"", "junk", `TOY 2/2 5 "" ""`, `TOY 1/3 5 "" ""`, `TOY 1/2 6 "" ""`} {
		_, _, err := server.Step(t.Context(), []byte(token))
		require.Error(t, err, token)
	}
	client, server := contexts(t, m, dcerpc.LevelIntegrity)
	_, _, err = client.Step(t.Context(), nil)
	require.ErrorContains(t, err, "after done")
	require.Error(t, client.Sign(dcerpc.Message{}, make([]byte, 3)))
	require.ErrorIs(t, server.Verify(dcerpc.Message{}, make([]byte, 3)), dcerpctest.ErrSignature)

	refusing := &dcerpctest.Mechanism{Refuse: 1}
	server, err = refusing.Acceptor().NewContext(dcerpc.LevelIntegrity)
	require.NoError(t, err)
	client, err = refusing.Initiator().NewContext("", dcerpc.LevelIntegrity)
	require.NoError(t, err)
	token, _, err := client.Step(t.Context(), nil)
	require.NoError(t, err)
	_, _, err = server.Step(t.Context(), token)
	require.ErrorContains(t, err, "refused")
}
