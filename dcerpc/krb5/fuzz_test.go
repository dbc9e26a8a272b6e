package krb5_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// FuzzAcceptor gives a client's first two tokens to an acceptor and to an observer.
func FuzzAcceptor(f *testing.F) {
	r := newRealm(krb5.AES256SHA1)
	p := establish(f, r.Initiator(testUser), r.Acceptor(), dcerpc.LevelPrivacy)
	f.Add(p.apReq, p.thirdLeg)
	smb, err := r.Initiator(testUser).NewSMBContext(testService)
	require.NoError(f, err)
	framed, _, err := smb.Step(f.Context(), nil)
	require.NoError(f, err)
	f.Add(framed, []byte(nil))
	kt := r.Keytab()
	f.Fuzz(func(t *testing.T, first, second []byte) {
		c, err := r.Acceptor().NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		if _, done, err := c.Step(t.Context(), first); err == nil && !done {
			if _, done, err = c.Step(t.Context(), second); done {
				require.NoError(t, err)
				require.NotEmpty(t, c.Identity().Account)
			}
		}
		o := krb5.NewObserver(kt)
		if o.APReq(first) == nil {
			o.APRep(second)
			o.ThirdLeg(second)
		}
	})
}

// FuzzInitiator gives a server's answer to an initiator.
func FuzzInitiator(f *testing.F) {
	r := newRealm(krb5.AES256SHA1)
	p := establish(f, r.Initiator(testUser), r.Acceptor(), dcerpc.LevelPrivacy)
	f.Add(p.apRep)
	f.Add(krbError(f, errorcode.KRB_AP_ERR_SKEW, nil)[4:])
	ticket, err := r.Ticket(testUser, testService, nil)
	require.NoError(f, err)
	i := krb5.NewInitiator(fixedTicket{ticket}, nil)
	f.Fuzz(func(t *testing.T, token []byte) {
		c, err := i.NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		require.NoError(t, err)
		_, done, err := c.Step(t.Context(), token)
		require.Error(t, err, "nobody can answer this context")
		require.False(t, done)
	})
}

// FuzzMessage gives a message of three parts and its token to a context of every encryption type.
// None can be right.
func FuzzMessage(f *testing.F) {
	var pairs []pair
	for _, etype := range allEtypes {
		pairs = append(pairs, newPair(f, etype))
		p := newPair(f, etype) // its messages are right, for itself
		for _, seal := range []bool{true, false} {
			m := protect(f, p.initiator, []byte("sixteen bytes..."), seal, true)
			f.Add(m.header, m.body, m.trailer, m.token, true)
		}
	}
	f.Fuzz(func(t *testing.T, header, body, trailer, token []byte, signHeader bool) {
		for _, p := range pairs {
			for _, c := range []*krb5.Context{p.initiator, p.acceptor} {
				m := dcerpc.Message{Header: header, Body: bytes.Clone(body), Trailer: trailer, SignHeader: signHeader}
				require.Error(t, c.Verify(m, token))
				require.Error(t, c.Unseal(m, token))
			}
		}
	})
}

// FuzzAuthenticator encrypts an authenticator of the fuzzer's with the session key, which every
// client has.
func FuzzAuthenticator(f *testing.F) {
	r := newRealm(krb5.AES256SHA1)
	ticket, err := r.Ticket(testUser, testService, nil)
	require.NoError(f, err)
	f.Add(krb5.MarshalAuthenticator(ticket, time.Now(), 0x1002))
	a := r.Acceptor()
	f.Fuzz(func(t *testing.T, plain []byte) {
		token, err := krb5.MarshalAPReq(ticket, plain)
		require.NoError(t, err)
		id, err := accept(t, a, token)
		if err == nil {
			require.Equal(t, testUser, id.Account)
		}
	})
}

// FuzzAPRepPart encrypts what an AP-REP holds with the session key, which every service has.
func FuzzAPRepPart(f *testing.F) {
	r := newRealm(krb5.AES256SHA1)
	ticket, err := r.Ticket(testUser, testService, nil)
	require.NoError(f, err)
	f.Add(krb5.MarshalAPRepPart(time.Now(), krb5.Key{Etype: krb5.AES256SHA1, Value: make([]byte, 32)}))
	f.Add(krb5.MarshalAPRepPart(time.Now(), krb5.Key{}))
	i := krb5.NewInitiator(fixedTicket{ticket}, nil)
	f.Fuzz(func(t *testing.T, plain []byte) {
		c, err := i.NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		require.NoError(t, err)
		token, err := krb5.EncryptAPRepPart(plain, ticket.SessionKey)
		require.NoError(t, err)
		c.Step(t.Context(), token)
	})
}

func FuzzParseKeytab(f *testing.F) {
	b, err := os.ReadFile("testdata/samba.keytab")
	require.NoError(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		kt, err := krb5.ParseKeytab(b)
		if err != nil {
			return
		}
		out, err := kt.AppendBinary(nil)
		if err != nil {
			return
		}
		if len(kt.Principals()) == 0 {
			return
		}
		again, err := krb5.ParseKeytab(out)
		require.NoError(t, err)
		require.Equal(t, kt, again)
	})
}

func FuzzCCache(f *testing.F) {
	r := newRealm(0)
	ticket, err := r.Ticket(testUser, testService, nil)
	require.NoError(f, err)
	f.Add(appendCCache(ticket.Client, ticket, ticket))
	cfg := &krb5.InitiatorConfig{Config: config.New()}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := t.TempDir() + "/ccache"
		require.NoError(t, os.WriteFile(path, b, 0o600))
		i, err := krb5.NewInitiatorFromCCache(path, cfg)
		if err != nil {
			require.ErrorIs(t, err, krb5.ErrConfig)
			return
		}
		c, err := i.NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		c.Step(t.Context(), nil)
	})
}

type fixedTicket struct{ t *krb5.Ticket }

func (s fixedTicket) Ticket(context.Context, string) (*krb5.Ticket, error) { return s.t, nil }

// FuzzKDCReply is what anybody on the way to the KDC may answer to a login.
func FuzzKDCReply(f *testing.F) {
	f.Add(krbError(f, errorcode.KDC_ERR_PREAUTH_REQUIRED, methodData(f,
		types.ETypeInfo2{{EType: 18, Salt: "salt", S2KParams: []byte{0, 0, 0, 1}}})))
	f.Add(asRep(f, make([]byte, 60), 18, types.PADataSequence{{PADataType: 19, PADataValue: []byte{0x30, 0}}}))
	f.Fuzz(func(t *testing.T, reply []byte) {
		c := config.New()
		c.Realms = []config.Realm{{Realm: testRealm, KDC: []string{"kdc:88"}}}
		i, err := krb5.NewInitiatorWithPassword("backup@"+testRealm, "secret", &krb5.InitiatorConfig{
			Config: c,
			Etypes: []krb5.Etype{krb5.AES128SHA1},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				return cannedConn{bytes.NewReader(reply)}, nil
			},
		})
		require.NoError(t, err)
		_, err = i.NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		sc, err := i.NewSMBContext(testService)
		require.NoError(t, err)
		_, _, err = sc.Step(t.Context(), nil)
		require.Error(t, err, "nobody knows the password")
	})
}

// A cannedConn takes whatever is written, and has one thing to say.
type cannedConn struct{ *bytes.Reader }

func (cannedConn) Write(b []byte) (int, error)      { return len(b), nil }
func (cannedConn) Close() error                     { return nil }
func (cannedConn) LocalAddr() net.Addr              { return nil }
func (cannedConn) RemoteAddr() net.Addr             { return nil }
func (cannedConn) SetDeadline(time.Time) error      { return nil }
func (cannedConn) SetReadDeadline(time.Time) error  { return nil }
func (cannedConn) SetWriteDeadline(time.Time) error { return nil }

func FuzzKrb5Conf(f *testing.F) {
	f.Add([]byte("[libdefaults]\n\tdefault_realm = R\n[realms]\n\tR = {\n\t\tkdc = a:1\n\t}\n[domain_realm]\n\t.a = R\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := t.TempDir() + "/krb5.conf"
		require.NoError(t, os.WriteFile(path, b, 0o600))
		i, err := krb5.NewInitiatorWithPassword("backup@R", "secret", &krb5.InitiatorConfig{Krb5Conf: path})
		if err != nil {
			require.ErrorIs(t, err, krb5.ErrConfig)
			return
		}
		require.NotNil(t, i)
	})
}
