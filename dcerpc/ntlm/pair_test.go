package ntlm

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// micContext has the methods that SPNEGO needs in addition to dcerpc.Context.
type micContext interface {
	dcerpc.Context
	GetMIC(data []byte) ([]byte, error)
	VerifyMIC(data, mic []byte) error
	ResetKeys()
	SessionKey() []byte
}

var (
	_ micContext = (*initiatorContext)(nil)
	_ micContext = (*acceptorContext)(nil)
)

func newAcceptor(t testing.TB, v Verifier) *Acceptor {
	t.Helper()
	a, err := NewAcceptor(&AcceptorConfig{Verifier: v, ComputerName: "FS", DomainName: "FSRVP",
		DNSComputerName: "fs.fsrvp.test"})
	require.NoError(t, err)
	return a
}

func newInitiator(t testing.TB, user, password string) *Initiator {
	t.Helper()
	i, err := NewInitiator(Credentials{Domain: "FSRVP", User: user, Password: password, Workstation: "CL"})
	require.NoError(t, err)
	return i
}

// newPair starts both sides' contexts, unestablished.
func newPair(t testing.TB, level dcerpc.AuthLevel) (client, server micContext) {
	t.Helper()
	c, err := newInitiator(t, "backup", "Secret1").NewContext("host/fs.fsrvp.test", level)
	require.NoError(t, err)
	s, err := newAcceptor(t, accounts{"Secret1"}).NewContext(level)
	require.NoError(t, err)
	return c.(micContext), s.(micContext)
}

// tokens of one exchange, in order.
type exchange struct{ negotiate, challenge, authenticate []byte }

// establish exchanges the three tokens.
func establish(t testing.TB, client, server micContext) exchange {
	t.Helper()
	var x exchange
	var done bool
	var err error
	ctx := context.Background()
	x.negotiate, done, err = client.Step(ctx, nil)
	require.NoError(t, err)
	require.False(t, done)
	x.challenge, done, err = server.Step(ctx, x.negotiate)
	require.NoError(t, err)
	require.False(t, done)
	x.authenticate, done, err = client.Step(ctx, x.challenge)
	require.NoError(t, err)
	require.True(t, done)
	last, done, err := server.Step(ctx, x.authenticate)
	require.NoError(t, err)
	require.True(t, done)
	require.Empty(t, last)
	return x
}

// message is a PDU of n bytes of stub, each time a new buffer.
func message(n int) dcerpc.Message {
	return dcerpc.Message{
		Header:  bytes.Repeat([]byte{5, 0, 0, 3}, 6),
		Body:    bytes.Repeat([]byte("stub"), n/4),
		Trailer: []byte{10, 6, 0, 0, 1, 0, 0, 0},
	}
}

// protect and check work at a level as a connection does.
func protect(c dcerpc.Context, level dcerpc.AuthLevel, m dcerpc.Message) ([]byte, error) {
	token := make([]byte, c.TokenSize(level))
	if level == dcerpc.LevelPrivacy {
		return token, c.Seal(m, token)
	}
	return token, c.Sign(m, token)
}

func check(c dcerpc.Context, level dcerpc.AuthLevel, m dcerpc.Message, token []byte) error {
	if level == dcerpc.LevelPrivacy {
		return c.Unseal(m, token)
	}
	return c.Verify(m, token)
}
