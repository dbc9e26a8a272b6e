package krb5_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
)

// apReq is an initiator's first token.
func apReq(t testing.TB, i *krb5.Initiator, target string) []byte {
	t.Helper()
	c, err := i.NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	b, _, err := c.Step(t.Context(), nil)
	require.NoError(t, err)
	return b
}

// accept gives a token to a new context of the acceptor's.
func accept(t testing.TB, a *krb5.Acceptor, token []byte) (dcerpc.Identity, error) {
	t.Helper()
	c, err := a.NewContext(dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, done, err := c.Step(t.Context(), token)
	require.False(t, done)
	return c.Identity(), err
}

// TestLocalSIDs drops what a PAC says of a host's own groups, in whichever of its lists.
func TestLocalSIDs(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	domain := r.DomainSID()
	sid := r.AddUser("mallory", dcerpc.SIDBuiltinAdmins, "S-1-5-18", "S-1-22-1-0", "S-1-5-80-1-2-3-4-5", domain+"-1234",
		"S-1-18-1", "S-1-5-11")
	strict, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), RequirePAC: true})
	require.NoError(t, err)
	want := []dcerpc.SID{sid, domain + "-513", domain + "-1234", "S-1-18-1"}
	require.Equal(t, want, establish(t, r.Initiator("mallory"), strict, dcerpc.LevelPrivacy).acceptor.Identity().SIDs)
	resource := &krb5test.TicketOptions{ResourceGroups: []dcerpc.SID{dcerpc.SIDBuiltinBackupOperators}}
	require.ElementsMatch(t, want, establish(t, r.InitiatorWith("mallory", resource), strict,
		dcerpc.LevelPrivacy).acceptor.Identity().SIDs)
}

func TestRequirePAC(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), RequirePAC: true})
	require.NoError(t, err)
	for _, o := range []*krb5test.TicketOptions{{NoPAC: true}, {MinimalPAC: true}} {
		_, err := accept(t, a, apReq(t, r.InitiatorWith(testUser, o), testService))
		require.ErrorIs(t, err, krb5.ErrPAC)
	}
	_, err = accept(t, a, apReq(t, r.Initiator(testUser), testService))
	require.NoError(t, err)
}

// TestNameTypes takes the names of accounts alone for accounts.
func TestNameTypes(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	for kind, ok := range map[int32]bool{1: true, 2: true, 3: true, 6: false, 7: false, 10: false, 11: false,
		-128: false} {
		_, err := accept(t, r.Acceptor(), apReq(t, r.InitiatorWith(testUser, &krb5test.TicketOptions{NameType: kind}),
			testService))
		if ok {
			require.NoError(t, err, kind)
		} else {
			require.ErrorIs(t, err, krb5.ErrToken, kind)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	domain := r.DomainSID()
	sid := r.AddUser("backup", dcerpc.SIDBuiltinBackupOperators, domain+"-1234")
	p := establish(t, r.Initiator("backup"), r.Acceptor(), dcerpc.LevelPrivacy)
	require.Equal(t, dcerpc.Identity{
		Account:   "backup",
		Domain:    testRealm,
		Principal: "backup@" + testRealm,
		Mechanism: "krb5",
		SIDs:      []dcerpc.SID{sid, domain + "-513", domain + "-1234", dcerpc.SIDBuiltinBackupOperators},
	}, p.acceptor.Identity())
	require.Equal(t, dcerpc.Identity{
		Account:   testService,
		Domain:    testRealm,
		Principal: testService + "@" + testRealm,
		Mechanism: "krb5",
	}, p.initiator.Identity())

	for name, o := range map[string]*krb5test.TicketOptions{
		"no PAC":      {NoPAC: true},
		"minimal PAC": {MinimalPAC: true},
	} {
		p := establish(t, r.InitiatorWith("backup", o), r.Acceptor(), dcerpc.LevelPrivacy)
		require.Empty(t, p.acceptor.Identity().SIDs, name)
		require.Equal(t, "backup", p.acceptor.Identity().Account, name)
	}
	resource := &krb5test.TicketOptions{ResourceGroups: []dcerpc.SID{"S-1-5-21-1-2-3-99", "S-1-5-21-1-2-3-98"}}
	p = establish(t, r.InitiatorWith("backup", resource), r.Acceptor(), dcerpc.LevelPrivacy)
	require.Subset(t, p.acceptor.Identity().SIDs, resource.ResourceGroups)
	require.Len(t, p.acceptor.Identity().SIDs, 6)

	// A name with an "@" does not become one of another realm.
	r.AddUser("admin@OTHER.TEST")
	p = establish(t, r.Initiator("admin@OTHER.TEST"), r.Acceptor(), dcerpc.LevelPrivacy)
	require.Equal(t, `admin\@OTHER.TEST@`+testRealm, p.acceptor.Identity().Principal)
}

func TestBadTickets(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	r.AddService("host/other.example.test")
	otherKey := krb5.Key{Etype: krb5.AES256SHA1, Value: bytes.Repeat([]byte{7}, 32)}
	// Times are hours and minutes from now, since a test in parallel may have to wait for its turn.
	for name, test := range map[string]struct {
		options    *krb5test.TicketOptions
		start, end time.Duration
		want       error
		text       string
	}{
		"expired":            {&krb5test.TicketOptions{}, -11 * time.Hour, -time.Hour, krb5.ErrExpired, "backup@EXAMPLE.TEST"},
		"within the skew":    {&krb5test.TicketOptions{}, -11 * time.Hour, -4 * time.Minute, nil, ""},
		"not yet valid":      {&krb5test.TicketOptions{}, time.Hour, 11 * time.Hour, krb5.ErrNotYetValid, "backup@EXAMPLE.TEST"},
		"invalid":            {&krb5test.TicketOptions{Invalid: true}, 0, 10 * time.Hour, krb5.ErrNotYetValid, "backup@EXAMPLE.TEST"},
		"unknown key":        {&krb5test.TicketOptions{Key: &otherKey}, 0, 10 * time.Hour, krb5.ErrWrongKey, "host/fs1.example.test@EXAMPLE.TEST"},
		"other version":      {&krb5test.TicketOptions{Key: &otherKey, Version: 4}, 0, 10 * time.Hour, krb5.ErrKeyVersion, "version 4"},
		"same key, version":  {&krb5test.TicketOptions{Version: 4}, 0, 10 * time.Hour, nil, ""},
		"wrong realm":        {&krb5test.TicketOptions{Key: &otherKey, Realm: "OTHER.TEST"}, 0, 10 * time.Hour, krb5.ErrNoKey, "host/fs1.example.test@OTHER.TEST"},
		"RC4 session key":    {&krb5test.TicketOptions{SessionEtype: krb5.RC4HMAC}, 0, 10 * time.Hour, krb5.ErrEtype, "rc4-hmac"},
		"AES128 session key": {&krb5test.TicketOptions{SessionEtype: krb5.AES128SHA1}, 0, 10 * time.Hour, nil, ""},
		"PAC changed":        {&krb5test.TicketOptions{SpoilPAC: 8*150 + 3}, 0, 10 * time.Hour, krb5.ErrPAC, "backup@EXAMPLE.TEST"},
		"PAC of another":     {&krb5test.TicketOptions{PACName: "administrator"}, 0, 10 * time.Hour, krb5.ErrPAC, "administrator"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.options.StartTime, test.options.EndTime = time.Now().Add(test.start), time.Now().Add(test.end)
			source := krb5.NewInitiator(ticketOf{r, test.options}, &krb5.InitiatorConfig{InsecureRC4: true})
			a := r.Acceptor(testService)
			id, err := accept(t, a, apReq(t, source, testService))
			if test.want == nil {
				require.NoError(t, err)
				require.NotEmpty(t, id.SIDs)
				return
			}
			require.ErrorIs(t, err, test.want)
			require.ErrorContains(t, err, test.text)
		})
	}
	// A ticket of another service, for which the acceptor has no key.
	_, err := accept(t, r.Acceptor(testService), apReq(t, r.Initiator(testUser), "host/other.example.test"))
	require.ErrorIs(t, err, krb5.ErrNoKey)
	require.ErrorContains(t, err, "host/other.example.test@EXAMPLE.TEST")
	require.ErrorContains(t, err, testService)
}

type ticketOf struct {
	r *krb5test.Realm
	o *krb5test.TicketOptions
}

func (s ticketOf) Ticket(_ context.Context, service string) (*krb5.Ticket, error) {
	return s.r.Ticket(testUser, service, s.o)
}

func TestRC4OnlyWhenAsked(t *testing.T) {
	t.Parallel()
	r := newRealm(krb5.RC4HMAC)
	token := apReq(t, r.Initiator(testUser), testService)
	for _, etypes := range [][]krb5.Etype{nil, {krb5.AES256SHA1, krb5.RC4HMAC}} {
		a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), Etypes: etypes})
		require.NoError(t, err)
		_, err = accept(t, a, token)
		require.ErrorIs(t, err, krb5.ErrEtype)

		i := krb5.NewInitiator(ticketOf{r, nil}, &krb5.InitiatorConfig{Etypes: etypes})
		c, err := i.NewContext(testService, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		_, _, err = c.Step(t.Context(), nil)
		require.ErrorIs(t, err, krb5.ErrEtype)
	}
	_, err := accept(t, r.Acceptor(), token)
	require.NoError(t, err)
}

func TestReplayedAPReq(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(0)
		a := r.Acceptor()
		token := apReq(t, r.Initiator(testUser), testService)
		_, err := accept(t, a, token)
		require.NoError(t, err)
		_, err = accept(t, a, token)
		require.ErrorIs(t, err, krb5.ErrReplay)
		// Another acceptor knows nothing of it, and a new authenticator is none.
		_, err = accept(t, r.Acceptor(), token)
		require.NoError(t, err)
		_, err = accept(t, a, apReq(t, r.Initiator(testUser), testService))
		require.NoError(t, err)
		time.Sleep(4 * time.Minute)
		_, err = accept(t, a, token)
		require.ErrorIs(t, err, krb5.ErrReplay)
		// Long after, it is too old anyway.
		time.Sleep(time.Hour)
		_, err = accept(t, a, token)
		require.ErrorIs(t, err, krb5.ErrSkew)
	})
}

func TestReplayCacheIsBounded(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), ReplayCacheSize: 2})
	require.NoError(t, err)
	var tokens [][]byte
	for range 3 {
		tokens = append(tokens, apReq(t, r.Initiator(testUser), testService))
		_, err := accept(t, a, tokens[len(tokens)-1])
		require.NoError(t, err)
	}
	_, err = accept(t, a, tokens[2])
	require.ErrorIs(t, err, krb5.ErrReplay)
	_, err = accept(t, a, tokens[0])
	require.NoError(t, err, "the oldest is forgotten")
}

func TestSkewedClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(0)
		token := apReq(t, r.Initiator(testUser), testService)
		wide, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), ClockSkew: time.Hour})
		require.NoError(t, err)
		time.Sleep(5*time.Minute + time.Second)
		_, err = accept(t, r.Acceptor(), token)
		require.ErrorIs(t, err, krb5.ErrSkew)
		require.ErrorContains(t, err, "backup@EXAMPLE.TEST")
		require.ErrorContains(t, err, "5m1s")
		_, err = accept(t, wide, token)
		require.NoError(t, err)
	})
}

func TestKeytabIsReadAgain(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	path := filepath.Join(t.TempDir(), "keytab")
	write := func(kt *krb5.Keytab) {
		b, err := kt.AppendBinary(nil)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path+".new", b, 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	_, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: path})
	require.ErrorIs(t, err, krb5.ErrConfig)
	require.ErrorIs(t, err, os.ErrNotExist)

	write(r.Keytab())
	a, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: path})
	require.NoError(t, err)
	i := r.Initiator(testUser)
	_, err = accept(t, a, apReq(t, i, testService))
	require.NoError(t, err)

	r.AddService(testService) // a new key
	_, err = accept(t, a, apReq(t, i, testService))
	require.ErrorIs(t, err, krb5.ErrWrongKey)
	write(r.Keytab())
	_, err = accept(t, a, apReq(t, i, testService))
	require.NoError(t, err)

	// While the file is away, or is none, the keys of before stay.
	require.NoError(t, os.WriteFile(path, []byte("no keytab"), 0o600))
	_, err = accept(t, a, apReq(t, i, testService))
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	_, err = accept(t, a, apReq(t, i, testService))
	require.NoError(t, err)
}

func TestPrincipals(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	r.AddService("cifs/fs1.example.test")
	only, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(),
		Principals: []string{"HOST/FS1.example.test"}})
	require.NoError(t, err)
	_, err = accept(t, only, apReq(t, r.Initiator(testUser), testService))
	require.NoError(t, err)
	_, err = accept(t, only, apReq(t, r.Initiator(testUser), "cifs/fs1.example.test"))
	require.ErrorIs(t, err, krb5.ErrNoKey)
	_, err = accept(t, r.Acceptor(), apReq(t, r.Initiator(testUser), "cifs/fs1.example.test"))
	require.NoError(t, err)
	_, err = krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: r.Keytab(), Principals: []string{"http/fs1.example.test"}})
	require.ErrorIs(t, err, krb5.ErrNoKey)
	require.ErrorIs(t, err, krb5.ErrConfig)
	_, err = krb5.NewAcceptor(nil)
	require.ErrorIs(t, err, krb5.ErrConfig)
}

// The exchange as SMB has it: framed, two legs.
func TestSMBContext(t *testing.T) {
	t.Parallel()
	for _, etype := range allEtypes {
		r := newRealm(etype)
		ic, err := r.Initiator(testUser).NewSMBContext(testService)
		require.NoError(t, err)
		ac, err := r.Acceptor().NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		req, done, err := ic.Step(t.Context(), nil)
		require.NoError(t, err)
		require.False(t, done)
		require.Equal(t, byte(0x60), req[0])
		require.Nil(t, ic.SessionKey())
		rep, done, err := ac.Step(t.Context(), req)
		require.NoError(t, err)
		require.True(t, done)
		require.Equal(t, byte(0x60), rep[0])
		out, done, err := ic.Step(t.Context(), rep)
		require.NoError(t, err)
		require.True(t, done)
		require.Empty(t, out)
		acceptor := ac.(*krb5.Context)
		require.False(t, ic.DCEStyle())
		require.False(t, acceptor.DCEStyle())
		require.NotEmpty(t, ic.SessionKey())
		require.Equal(t, ic.SessionKey(), acceptor.SessionKey())
		mic, err := ic.GetMIC([]byte("list"))
		require.NoError(t, err)
		require.NoError(t, acceptor.VerifyMIC([]byte("list"), mic))
		require.NoError(t, protect(t, ic, []byte("twenty bytes of data"), true, true).check(acceptor))

		o := krb5.NewObserver(r.Keytab())
		require.NoError(t, o.APReq(req))
		require.NoError(t, o.APRep(rep))
		require.Equal(t, ic.SessionKey(), o.SessionKey())
		require.NoError(t, o.VerifyMIC(krb5.FromInitiator, []byte("list"), mic))
		require.Equal(t, acceptor.Identity(), o.Identity())
	}
}

// Steps out of turn, and tokens that are none.
func TestStepMisuse(t *testing.T) {
	t.Parallel()
	r := newRealm(0)
	p := establish(t, r.Initiator(testUser), r.Acceptor(), dcerpc.LevelPrivacy)
	for _, c := range []*krb5.Context{p.initiator, p.acceptor} {
		_, _, err := c.Step(t.Context(), p.thirdLeg)
		require.Error(t, err)
	}
	for name, token := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "AP-REP": p.apRep, "third leg": p.thirdLeg,
		"cut": p.apReq[:100], "tag": {0x6E}, "frame": {0x60}, "empty frame": {0x60, 0x00},
	} {
		_, err := accept(t, r.Acceptor(), token)
		require.ErrorIs(t, err, krb5.ErrToken, name)
	}
	// The third leg of another exchange.
	ic, err := r.Initiator(testUser).NewContext(testService, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	ac, err := r.Acceptor().NewContext(dcerpc.LevelPrivacy)
	require.NoError(t, err)
	require.Zero(t, ac.TokenSize(dcerpc.LevelPrivacy))
	require.Error(t, ac.Sign(dcerpc.Message{}, nil))
	require.Error(t, ac.Verify(dcerpc.Message{}, nil))
	req, _, err := ic.Step(t.Context(), nil)
	require.NoError(t, err)
	_, _, err = ac.Step(t.Context(), req)
	require.NoError(t, err)
	require.Error(t, ac.Seal(dcerpc.Message{}, nil), "not before the third leg")
	_, done, err := ac.Step(t.Context(), p.thirdLeg)
	require.ErrorIs(t, err, krb5.ErrMutual)
	require.False(t, done)

	for _, target := range []string{"", "/", "host/", "host/a@", "a@b@c"} {
		_, err := r.Initiator(testUser).NewContext(target, dcerpc.LevelPrivacy)
		require.Error(t, err, "%q", target)
	}
	c, err := r.Initiator(testUser).NewContext("host/unknown.example.test", dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, _, err = c.Step(t.Context(), nil)
	require.ErrorIs(t, err, krb5.ErrServiceUnknown)
}
