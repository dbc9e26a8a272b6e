package spnego_test

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const target = "host/fs.fsrvp.test"

// The account of all tests, and its SIDs in both mechanisms.
const (
	user     = "backup"
	password = "Secret1"
)

// A world has both sides of every mechanism.
type world struct {
	realm  *krb5test.Realm
	hashes *ntlm.HashFile
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{realm: krb5test.NewRealm("FSRVP.TEST", krb5.AES256SHA1)}
	w.realm.AddService(target)
	w.realm.AddUser(user, dcerpc.SIDBuiltinBackupOperators)
	path := filepath.Join(t.TempDir(), "hashes")
	line := fmt.Sprintf("FSRVP\\%s\t%x\tS-1-5-21-1-2-3-1104,%s\n", user, ntlm.NTHash(password),
		dcerpc.SIDBuiltinBackupOperators)
	require.NoError(t, os.WriteFile(path, []byte(line), 0o600))
	var err error
	w.hashes, err = ntlm.OpenHashFile(path)
	require.NoError(t, err)
	return w
}

func (w *world) ntlmInitiator(t testing.TB) *ntlm.Initiator { return w.ntlmInitiatorWith(t, password) }

func (w *world) ntlmInitiatorWith(t testing.TB, password string) *ntlm.Initiator {
	t.Helper()
	i, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "FSRVP", User: user, Password: password})
	require.NoError(t, err)
	return i
}

func (w *world) ntlmAcceptor(t testing.TB) *ntlm.Acceptor {
	t.Helper()
	a, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: w.hashes, ComputerName: "FS", DomainName: "FSRVP"})
	require.NoError(t, err)
	return a
}

func negInitiator(t testing.TB, mechs ...spnego.InitiatorMechanism) *spnego.Initiator {
	t.Helper()
	i, err := spnego.NewInitiator(mechs...)
	require.NoError(t, err)
	return i
}

func negAcceptor(t testing.TB, mechs ...spnego.AcceptorMechanism) *spnego.Acceptor {
	t.Helper()
	a, err := spnego.NewAcceptor(mechs...)
	require.NoError(t, err)
	return a
}

// A combination is a client and a server that have to agree.
type combination struct {
	name      string
	initiator dcerpc.Initiator
	acceptor  dcerpc.Acceptor
	mechanism string // that they agree on
	legs      int
}

// combinations are all ways in which the mechanisms are used over RPC.
func (w *world) combinations(t testing.TB) []combination {
	kerberos, kerberosAcceptor := w.realm.Initiator(user), w.realm.Acceptor(target)
	ntlm, ntlmAcceptor := w.ntlmInitiator(t), w.ntlmAcceptor(t)
	stranger := w.realm.Initiator("a user without tickets")
	both := negAcceptor(t, kerberosAcceptor, ntlmAcceptor)
	return []combination{
		{"Kerberos", kerberos, kerberosAcceptor, "krb5", 3},
		{"NTLM", ntlm, ntlmAcceptor, "ntlm", 3},
		{"SPNEGO with Kerberos", negInitiator(t, kerberos), negAcceptor(t, kerberosAcceptor), "krb5", 4},
		{"SPNEGO with NTLM", negInitiator(t, ntlm), negAcceptor(t, ntlmAcceptor), "ntlm", 4},
		{"SPNEGO with both", negInitiator(t, kerberos, ntlm), both, "krb5", 4},
		{"SPNEGO with both, NTLM first", negInitiator(t, ntlm, kerberos), both, "ntlm", 4},
		{"SPNEGO, the server has no Kerberos", negInitiator(t, kerberos, ntlm), negAcceptor(t, ntlmAcceptor), "ntlm", 6},
		{"SPNEGO, the server has no NTLM", negInitiator(t, ntlm, kerberos), negAcceptor(t, kerberosAcceptor), "krb5", 6},
		{"SPNEGO, the client has no ticket", negInitiator(t, stranger, ntlm), both, "ntlm", 4},
	}
}

// levels are those that protect calls.
func levels() []dcerpc.AuthLevel {
	return []dcerpc.AuthLevel{dcerpc.LevelPacket, dcerpc.LevelIntegrity, dcerpc.LevelPrivacy}
}

// contexts starts a combination's contexts.
func (c *combination) contexts(t testing.TB, level dcerpc.AuthLevel) (client, server dcerpc.Context) {
	t.Helper()
	client, err := c.initiator.NewContext(target, level)
	require.NoError(t, err)
	server, err = c.acceptor.NewContext(level)
	require.NoError(t, err)
	return client, server
}

// errEndless is an exchange that does not come to its end.
var errEndless = errors.New("an exchange of tokens without end")

// exchange steps both sides until both are done, and returns the number of tokens. A change that is
// not nil may alter token number n, from 1, on its way.
func exchange(client, server dcerpc.Context, change func(n int, token []byte) []byte) (legs int, err error) {
	sides, done := [2]dcerpc.Context{client, server}, [2]bool{}
	var token []byte
	for n := 0; ; n++ {
		var out []byte
		out, done[n%2], err = sides[n%2].Step(context.Background(), token)
		if err != nil {
			return legs, err
		}
		if len(out) == 0 {
			if !done[0] || !done[1] {
				return legs, errors.New("no token, and not done")
			}
			return legs, nil
		}
		if legs++; legs > 8 {
			return legs, errEndless
		}
		if done[(n+1)%2] {
			return legs, errors.New("a token for a side that is done")
		}
		if change != nil {
			out = change(legs, out)
		}
		token = out
	}
}

func establish(t testing.TB, client, server dcerpc.Context) int {
	t.Helper()
	legs, err := exchange(client, server, nil)
	require.NoError(t, err)
	return legs
}

func message(n int) dcerpc.Message {
	return dcerpc.Message{
		Header:     bytes.Repeat([]byte{5, 0, 0, 3}, 6),
		Body:       bytes.Repeat([]byte("stub"), n/4),
		Trailer:    []byte{9, 6, 0, 0, 1, 0, 0, 0},
		SignHeader: true,
	}
}

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

// talk sends messages both ways.
func talk(client, server dcerpc.Context, level dcerpc.AuthLevel) error {
	for _, size := range []int{32, 0, 4000} {
		for _, dir := range [][2]dcerpc.Context{{client, server}, {server, client}} {
			m, want := message(size), message(size)
			token, err := protect(dir[0], level, m)
			if err != nil {
				return err
			}
			if err := check(dir[1], level, m, token); err != nil {
				return err
			}
			if !bytes.Equal(m.Body, want.Body) {
				return errors.New("another body")
			}
		}
	}
	return nil
}

// A dummy is a mechanism that the other side does not have, or whose contexts cannot prove the
// list.
type dummy struct {
	oid asn1.ObjectIdentifier
	err error // of its first Step
}

func newDummy(oid asn1.ObjectIdentifier) *dummy { return &dummy{oid: oid} }

func (d *dummy) AuthType() dcerpc.AuthType  { return dcerpc.AuthNone }
func (d *dummy) OID() asn1.ObjectIdentifier { return d.oid }
func (d *dummy) NewContext(string, dcerpc.AuthLevel) (dcerpc.Context, error) {
	return &dummyContext{mech: d}, nil
}
func (c *dummyContext) TokenSize(dcerpc.AuthLevel) int      { return 0 }
func (c *dummyContext) Sign(dcerpc.Message, []byte) error   { return nil }
func (c *dummyContext) Seal(dcerpc.Message, []byte) error   { return nil }
func (c *dummyContext) Verify(dcerpc.Message, []byte) error { return nil }
func (c *dummyContext) Unseal(dcerpc.Message, []byte) error { return nil }
func (c *dummyContext) Identity() dcerpc.Identity           { return dcerpc.Identity{Mechanism: "dummy"} }

// dummyAcceptor is a dummy's other side.
type dummyAcceptor struct{ *dummy }

func (d dummyAcceptor) NewContext(dcerpc.AuthLevel) (dcerpc.Context, error) {
	return &dummyContext{mech: d.dummy}, nil
}

// dummyContext is done after "hello" and "welcome".
type dummyContext struct {
	mech  *dummy
	steps int
}

func (c *dummyContext) Step(_ context.Context, in []byte) ([]byte, bool, error) {
	c.steps++
	switch {
	case c.mech.err != nil:
		return nil, false, c.mech.err
	case len(in) == 0 && c.steps == 1:
		return []byte("hello"), false, nil
	case string(in) == "hello" && c.steps == 1:
		return []byte("welcome"), true, nil
	case string(in) == "welcome" && c.steps == 2:
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("dummy: %q at step %d", in, c.steps)
}
