package krb5_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// fakeKDC answers every request on a connection of its own with what reply returns, length and all.
func fakeKDC(t *testing.T, reply func(req []byte) []byte) *krb5.InitiatorConfig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				var head [4]byte
				if _, err := io.ReadFull(conn, head[:]); err != nil {
					return
				}
				req := make([]byte, binary.BigEndian.Uint32(head[:]))
				if _, err := io.ReadFull(conn, req); err != nil {
					return
				}
				conn.Write(reply(req))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	c := config.New()
	c.Realms = []config.Realm{{Realm: testRealm, KDC: []string{l.Addr().String()}}}
	return &krb5.InitiatorConfig{Config: c}
}

func withLength(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func krbError(t testing.TB, code int32, data []byte) []byte {
	t.Helper()
	e := messages.NewKRBError(types.NewPrincipalName(2, "krbtgt/"+testRealm), testRealm, code, "")
	e.EData = data
	b, err := e.Marshal()
	require.NoError(t, err)
	return withLength(b)
}

// methodData is the data of KDC_ERR_PREAUTH_REQUIRED.
func methodData(t testing.TB, info types.ETypeInfo2) []byte {
	t.Helper()
	value, err := asn1.Marshal(info)
	require.NoError(t, err)
	b, err := asn1.Marshal(types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: value}})
	require.NoError(t, err)
	return b
}

func TestKDCErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[int32]error{
		errorcode.KDC_ERR_PREAUTH_FAILED:      krb5.ErrPassword,
		errorcode.KDC_ERR_KEY_EXPIRED:         krb5.ErrPasswordAge,
		errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN: krb5.ErrClientUnknown,
		errorcode.KDC_ERR_WRONG_REALM:         krb5.ErrClientUnknown,
		errorcode.KDC_ERR_CLIENT_REVOKED:      krb5.ErrClientRevoked,
		errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN: krb5.ErrServiceUnknown,
		errorcode.KDC_ERR_ETYPE_NOSUPP:        krb5.ErrEtype,
		errorcode.KRB_AP_ERR_SKEW:             krb5.ErrSkew,
		errorcode.KRB_AP_ERR_TKT_EXPIRED:      krb5.ErrExpired,
		errorcode.KRB_AP_ERR_TKT_NYV:          krb5.ErrNotYetValid,
		errorcode.KRB_ERR_GENERIC:             nil,
	} {
		cfg := fakeKDC(t, func([]byte) []byte { return krbError(t, code, nil) })
		i, err := krb5.NewInitiatorWithPassword("backup@"+testRealm, "secret", cfg)
		require.NoError(t, err)
		_, err = step(t, i, testService)
		require.Error(t, err)
		require.ErrorContains(t, err, "backup@EXAMPLE.TEST")
		require.NotContains(t, err.Error(), "secret")
		var e messages.KRBError
		require.ErrorAs(t, err, &e)
		require.Equal(t, code, e.ErrorCode)
		if want != nil {
			require.ErrorIs(t, err, want)
		}
	}
}

func asRep(t testing.TB, cipher []byte, etype int32, padata types.PADataSequence) []byte {
	t.Helper()
	r := messages.ASRep{KDCRepFields: messages.KDCRepFields{
		PVNO: 5, MsgType: 11, PAData: padata, CRealm: testRealm, CName: types.NewPrincipalName(1, "backup"),
		Ticket:  messages.Ticket{TktVNO: 5, Realm: testRealm, SName: types.NewPrincipalName(2, "krbtgt/"+testRealm)},
		EncPart: types.EncryptedData{EType: etype, Cipher: cipher},
	}}
	b, err := r.Marshal()
	require.NoError(t, err)
	return withLength(b)
}

func TestHostileKDC(t *testing.T) {
	t.Parallel()
	rep := func(cipher []byte, etype int32, padata types.PADataSequence) []byte {
		return asRep(t, cipher, etype, padata)
	}
	preauth := func(info types.ETypeInfo2) []byte {
		return krbError(t, errorcode.KDC_ERR_PREAUTH_REQUIRED, methodData(t, info))
	}
	for name, test := range map[string]struct {
		reply []byte
		want  error
	}{
		"nothing":              {nil, krb5.ErrUnreachable},
		"half a length":        {[]byte{0, 0}, krb5.ErrUnreachable},
		"a length of 4 GiB":    {[]byte{0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3}, krb5.ErrUnreachable},
		"less than its length": {[]byte{0, 0, 0, 9, 1, 2, 3}, krb5.ErrUnreachable},
		"empty":                {withLength(nil), krb5.ErrToken},
		"text":                 {withLength([]byte("hello")), krb5.ErrToken},
		"half a KRB-ERROR":     {withLength(krbError(t, 25, nil)[4:30]), krb5.ErrToken},
		"no METHOD-DATA":       {krbError(t, errorcode.KDC_ERR_PREAUTH_REQUIRED, nil), krb5.ErrToken},
		"empty METHOD-DATA":    {krbError(t, errorcode.KDC_ERR_PREAUTH_REQUIRED, []byte{0x30, 0}), krb5.ErrEtype},
		"empty ETYPE-INFO2":    {preauth(types.ETypeInfo2{}), krb5.ErrEtype},
		"DES alone":            {preauth(types.ETypeInfo2{{EType: 3}}), krb5.ErrEtype},
		"RC4 alone":            {preauth(types.ETypeInfo2{{EType: 23}}), krb5.ErrEtype},
		"2^32 iterations":      {preauth(types.ETypeInfo2{{EType: 18, Salt: "x", S2KParams: []byte{0, 0, 0, 0}}}), krb5.ErrToken},
		"2^31 iterations":      {preauth(types.ETypeInfo2{{EType: 18, Salt: "x", S2KParams: []byte{0x80, 0, 0, 0}}}), krb5.ErrToken},
		"odd parameters":       {preauth(types.ETypeInfo2{{EType: 18, Salt: "x", S2KParams: []byte{1}}}), krb5.ErrToken},
		"no cipher text":       {rep(nil, 18, nil), krb5.ErrPassword},
		"short cipher text":    {rep(make([]byte, 27), 18, nil), krb5.ErrPassword},
		"other cipher text":    {rep(make([]byte, 60), 18, nil), krb5.ErrPassword},
		"RC4 answer":           {rep(make([]byte, 60), 23, nil), krb5.ErrEtype},
		"unknown etype":        {rep(make([]byte, 60), 99, nil), krb5.ErrEtype},
		"bad ETYPE-INFO2":      {rep(make([]byte, 60), 18, types.PADataSequence{{PADataType: 19, PADataValue: []byte{1}}}), krb5.ErrToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeKDC(t, func([]byte) []byte { return test.reply })
			i, err := krb5.NewInitiatorWithPassword("backup@"+testRealm, "secret", cfg)
			require.NoError(t, err)
			_, err = step(t, i, testService)
			require.ErrorIs(t, err, test.want)
		})
	}
}

// A context that ends while another one asks the KDC does not wait for it.
func TestTicketsAreBoundedByContext(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	cfg := fakeKDC(t, func([]byte) []byte {
		close(asked)
		<-release
		return nil
	})
	cfg.KDCTimeout = time.Minute
	i, err := krb5.NewInitiatorWithPassword("backup@"+testRealm, "secret", cfg)
	require.NoError(t, err)
	first, err := i.NewSMBContext(testService)
	require.NoError(t, err)
	second, err := i.NewSMBContext(testService)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, _, err := first.Step(ctx, nil)
		failed <- err
	}()
	<-asked
	ended, end := context.WithCancel(t.Context())
	end()
	_, _, err = second.Step(ended, nil)
	require.ErrorIs(t, err, context.Canceled)
	cancel()
	err = <-failed
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, krb5.ErrUnreachable)
	close(release)
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	cfg := &krb5.InitiatorConfig{Config: config.New()}
	for name, text := range map[string]string{"backup": "which realm", "": "empty name", "a@": "empty realm",
		"a@b@c": "two realms"} {
		_, err := krb5.NewInitiatorWithPassword(name, "secret", cfg)
		require.ErrorIs(t, err, krb5.ErrConfig)
		require.ErrorContains(t, err, text)
	}
	_, err := krb5.NewInitiatorWithPassword("a@B", "secret", &krb5.InitiatorConfig{Krb5Conf: "/nonexistent/krb5.conf"})
	require.ErrorIs(t, err, krb5.ErrConfig)
	require.ErrorContains(t, err, "/nonexistent/krb5.conf")
	_, err = krb5.NewInitiatorWithKeytab("a@B", &krb5.Keytab{}, cfg)
	require.ErrorIs(t, err, krb5.ErrNoKey)
	_, err = krb5.NewInitiatorWithKeytab("", &krb5.Keytab{}, cfg)
	require.ErrorIs(t, err, krb5.ErrConfig)
}

func TestPrincipal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]krb5.Principal{
		"backup":                  {Name: []string{"backup"}},
		"backup@R":                {Name: []string{"backup"}, Realm: "R"},
		"host/fs1.example.test@R": {Name: []string{"host", "fs1.example.test"}, Realm: "R"},
		`a\@b\/c\\d@R`:            {Name: []string{`a@b/c\d`}, Realm: "R"},
		`a\n\t\b\0@R\@S`:          {Name: []string{"a\n\t\b\x00"}, Realm: "R@S"},
	} {
		p, err := krb5.ParsePrincipal(text)
		require.NoError(t, err)
		require.Equal(t, want, p)
		require.Equal(t, text, p.String())
	}
}

// A key is not printed by chance.
func TestKeyIsNotPrinted(t *testing.T) {
	t.Parallel()
	k := krb5.Key{Etype: krb5.AES256SHA1, Value: []byte("0123456789")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		require.Equal(t, "aes256-cts-hmac-sha1-96 key", fmt.Sprintf(verb, k))
	}
}
