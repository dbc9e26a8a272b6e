package sspi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
)

const testTarget = "host/fs1.example.test"

// pair makes both sides of a package.
func pair(t testing.TB, f *fake, p Package) (*Initiator, *Acceptor) {
	t.Helper()
	i, err := newInitiator(f, &InitiatorConfig{Package: p})
	require.NoError(t, err)
	a, err := newAcceptor(f, &AcceptorConfig{Package: p})
	require.NoError(t, err)
	t.Cleanup(func() { a.Close() })
	return i, a
}

// contexts makes a pair of contexts, which are closed with the test.
func contexts(t testing.TB, f *fake, p Package, level dcerpc.AuthLevel) (initiator, acceptor *Context) {
	t.Helper()
	i, a := pair(t, f, p)
	ic, err := i.NewContext(testTarget, level)
	require.NoError(t, err)
	ac, err := a.NewContext(level)
	require.NoError(t, err)
	t.Cleanup(func() { ic.(*Context).Close(); ac.(*Context).Close() })
	return ic.(*Context), ac.(*Context)
}

// run runs the exchange and returns its first error.
func run(ctx context.Context, initiator, acceptor dcerpc.Context) error {
	var token []byte
	for range 10 {
		var done bool
		var err error
		if token, done, err = initiator.Step(ctx, token); err != nil || done && len(token) == 0 {
			return err
		}
		if token, done, err = acceptor.Step(ctx, token); err != nil || done && len(token) == 0 {
			return err
		}
	}
	return errors.New("no end")
}

func echoID() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0200-8899-aabbccddeeff"), Major: 1}
}

// who answers with who called.
type who struct{}

func (who) ServeRPC(ctx context.Context, call *dcerpc.Call) error {
	p, _ := dcerpc.PeerFromContext(ctx)
	b, err := json.Marshal(p.Identity)
	call.Response = append(append(call.Response, b...), call.Stub...)
	return err
}

// TestRPC runs real calls with all packages, at all levels, with header signing and without: both
// sides by SSPI, and each of them against this module's own mechanism.
func TestRPC(t *testing.T) {
	for _, p := range []Package{Negotiate, Kerberos, NTLM} {
		for _, level := range []dcerpc.AuthLevel{dcerpc.LevelInsecureConnect, dcerpc.LevelPacket, dcerpc.LevelIntegrity,
			dcerpc.LevelPrivacy} {
			for _, noSigning := range []bool{false, true} {
				for _, peer := range []string{"both", "initiator", "acceptor"} {
					t.Run(fmt.Sprintf("%s level %d noHeaderSigning %v %s", p, level, noSigning, peer),
						func(t *testing.T) {
							testRPC(t, p, level, noSigning, peer)
						})
				}
			}
		}
	}
}

func testRPC(t *testing.T, p Package, level dcerpc.AuthLevel, noSigning bool, sides string) {
	f := newFake(t)
	i, a := pair(t, f, p)
	var initiator dcerpc.Initiator = i
	var acceptor dcerpc.Acceptor = a
	switch sides {
	case "initiator":
		acceptor = f.acceptor(string(p))
	case "acceptor":
		initiator = f.initiator(string(p), nil)
	}
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{acceptor}, MinLevel: dcerpc.LevelInsecureConnect,
		Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(echoID(), who{}, nil)
	l := dcerpctest.Listen()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	conn, err := l.Dial(t.Context())
	require.NoError(t, err)
	cc, err := dcerpc.NewClientConn(t.Context(), conn, echoID(), &dcerpc.Config{
		Auth: initiator, Level: level, Target: testTarget, NoHeaderSigning: noSigning,
	})
	require.NoError(t, err)
	for _, n := range []int{0, 1, 100, 20000} {
		call := dcerpc.Call{Syntax: cc.Syntax(), Stub: make([]byte, n)}
		require.NoError(t, cc.Call(t.Context(), &call))
		var id dcerpc.Identity
		require.NoError(t, json.NewDecoder(strings.NewReader(string(call.Response))).Decode(&id))
		require.Equal(t, "backup", id.Account)
		require.NotEmpty(t, id.SIDs)
		want := map[Package]string{Negotiate: "krb5", Kerberos: "krb5", NTLM: "ntlm"}[p]
		require.Equal(t, want, id.Mechanism)
		require.Equal(t, want, cc.Identity().Mechanism)
		if want == "krb5" {
			require.Equal(t, "backup@EXAMPLE.TEST", id.Principal)
			require.Equal(t, testTarget+"@EXAMPLE.TEST", cc.Identity().Principal)
			require.Contains(t, id.SIDs, dcerpc.SIDBuiltinBackupOperators)
		}
		if sides != "initiator" {
			require.Equal(t, "EXAMPLE", id.Domain)
			require.Equal(t, dcerpc.PrivilegeBackup, id.Privileges)
		}
	}
	cc.Close()
	require.NoError(t, srv.Close())
	<-done
	require.Eventually(t, func() bool { return f.counts() == "0 contexts, 1 credentials" }, // the acceptor's
		time.Minute, time.Millisecond, "%s", f.counts())
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Close(), ErrClosed)
	_, err = a.NewContext(level)
	require.ErrorIs(t, err, ErrClosed)
}

// TestFlags: what is asked for is what the level needs, and no less is taken.
func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		level    dcerpc.AuthLevel
		identify bool
		flags    uint32
		needed   []uint32
	}{
		{dcerpc.LevelInsecureConnect, false, 0x202, nil},
		{dcerpc.LevelInsecureConnect, true, 0x20202, nil},
		{dcerpc.LevelIntegrity, false, 0x1020E, []uint32{flagInitIntegrity, flagReplayDetect, flagSequenceDetect, flagMutualAuth}},
		{dcerpc.LevelPrivacy, false, 0x1021E, []uint32{flagInitIntegrity, flagReplayDetect, flagSequenceDetect, flagMutualAuth, flagConfidentiality}},
		{dcerpc.LevelPrivacy, true, 0x3021E, nil},
	} {
		for _, denied := range append([]uint32{0}, tt.needed...) {
			f := newFake(t)
			f.denied[denied] = denied != 0
			i, err := newInitiator(f, &InitiatorConfig{Package: Kerberos, Identify: tt.identify})
			require.NoError(t, err)
			ic, err := i.NewContext(testTarget, tt.level)
			require.NoError(t, err)
			ac, err := f.acceptor("Kerberos").NewContext(tt.level)
			require.NoError(t, err)
			err = run(t.Context(), ic, ac)
			require.Equal(t, tt.flags, f.flags)
			switch denied {
			case 0:
				require.NoError(t, err)
			case flagMutualAuth:
				require.ErrorIs(t, err, statusMutualAuthFailed)
			default:
				require.ErrorIs(t, err, ErrWeak)
			}
			ic.(*Context).Close()
		}
	}
}

// TestProtection: a server learns what the client did not ask for.
func TestProtection(t *testing.T) {
	for _, tt := range []struct {
		level      dcerpc.AuthLevel
		sign, seal bool
	}{{dcerpc.LevelIntegrity, true, false}, {dcerpc.LevelPrivacy, true, true}} {
		f := newFake(t)
		_, ac := contexts(t, f, NTLM, dcerpc.LevelPrivacy)
		ic, err := f.initiator("NTLM", nil).NewContext(testTarget, tt.level)
		require.NoError(t, err)
		require.NoError(t, run(t.Context(), ic, ac))
		sign, seal := ac.Protection()
		require.Equal(t, tt.sign, sign)
		require.Equal(t, tt.seal, seal)
	}
}

// TestCompleteAuthToken: tokens that are to be completed are.
func TestCompleteAuthToken(t *testing.T) {
	for _, p := range []Package{Negotiate, Kerberos, NTLM} {
		f := newFake(t)
		f.complete = true
		ic, ac := contexts(t, f, p, dcerpc.LevelPrivacy)
		require.NoError(t, run(t.Context(), ic, ac))
		require.Equal(t, "backup", ac.Identity().Account)
	}
}

// TestBuffers: what the system is given of a message.
func TestBuffers(t *testing.T) {
	m := dcerpc.Message{Header: []byte("header"), Body: []byte("the body"), Trailer: []byte("trailer!")}
	for _, tt := range []struct {
		p      Package
		header bool
		kinds  []uint32
	}{
		{Kerberos, false, []uint32{1, 2}},
		{Kerberos, true, []uint32{0x10000001, 1, 0x10000001, 2}},
		{Negotiate, false, []uint32{1, 2}},
		{NTLM, false, []uint32{0x10000001, 1, 0x10000001, 2}},
		{NTLM, true, []uint32{0x10000001, 1, 0x10000001, 2}},
	} {
		f := newFake(t)
		ic, ac := contexts(t, f, tt.p, dcerpc.LevelPrivacy)
		require.NoError(t, run(t.Context(), ic, ac))
		var kinds []uint32
		f.seen = func(list []secBuffer) {
			kinds = nil
			for _, b := range list {
				kinds = append(kinds, b.kind)
			}
		}
		m.SignHeader = tt.header
		for _, c := range []*Context{ic, ac} {
			other := ac
			if c == ac {
				other = ic
			}
			token := make([]byte, c.TokenSize(dcerpc.LevelIntegrity))
			require.NoError(t, c.Sign(m, token))
			require.Equal(t, tt.kinds, kinds)
			require.NoError(t, other.Verify(m, token))
			require.Equal(t, tt.kinds, kinds)
			body := string(m.Body)
			token = make([]byte, c.TokenSize(dcerpc.LevelPrivacy))
			require.NoError(t, c.Seal(m, token))
			require.NotEqual(t, body, string(m.Body))
			require.NoError(t, other.Unseal(m, token))
			require.Equal(t, body, string(m.Body))
		}
	}
}

// TestTampering: whatever is changed, of what is signed, shows.
func TestTampering(t *testing.T) {
	for _, p := range []Package{Kerberos, NTLM} {
		for part := range 4 {
			f := newFake(t)
			ic, ac := contexts(t, f, p, dcerpc.LevelPrivacy)
			require.NoError(t, run(t.Context(), ic, ac))
			m := dcerpc.Message{Header: []byte("header"), Body: []byte("the body"), Trailer: []byte("trailer!"),
				SignHeader: true}
			token := make([]byte, ic.TokenSize(dcerpc.LevelPrivacy))
			require.NoError(t, ic.Seal(m, token))
			[][]byte{m.Header, m.Body, m.Trailer, token[len(token)-8:]}[part][0] ^= 1
			err := ac.Unseal(m, token)
			require.Error(t, err, "%s part %d", p, part)
			require.ErrorIs(t, err, StatusMessageAltered)
			require.ErrorContains(t, err, "switch header signing off")
			require.Equal(t, make([]byte, 8), m.Body, "the body of a message that is refused")
		}
		f := newFake(t)
		ic, ac := contexts(t, f, p, dcerpc.LevelIntegrity)
		require.NoError(t, run(t.Context(), ic, ac))
		m := dcerpc.Message{Body: []byte("the body")}
		first, second := make([]byte, ic.TokenSize(5)), make([]byte, ic.TokenSize(5))
		require.NoError(t, ic.Sign(m, first))
		require.NoError(t, ic.Sign(m, second))
		require.Error(t, ac.Verify(m, second), "a message out of sequence")
	}
}

// TestTokenLength: header signing covers the token's length, so that it must be the one that was
// said.
func TestTokenLength(t *testing.T) {
	f := newFake(t)
	ic, ac := contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	require.NoError(t, run(t.Context(), ic, ac))
	m := dcerpc.Message{Body: []byte("the body")}
	require.ErrorContains(t, ic.Sign(m, make([]byte, 27)), "27 bytes of room for a token of 28")
	require.ErrorContains(t, ic.Seal(m, make([]byte, 77)), "77 bytes of room for a token of 76")
	f.shortBy = 1
	require.ErrorContains(t, ic.Seal(m, make([]byte, 76)), "a token of 75 bytes after announcing 76")
	require.Zero(t, ic.TokenSize(dcerpc.LevelInsecureConnect))
	require.Error(t, ac.Verify(m, nil))
}

// TestStatuses: every status of every function becomes a sentence, and everything is released.
func TestStatuses(t *testing.T) {
	for _, function := range []string{"QuerySecurityPackageInfo", "AcquireCredentialsHandle",
		"InitializeSecurityContext", "AcceptSecurityContext",
		"sizes", "negotiated", "names", "token"} {
		for _, s := range []Status{StatusLogonDenied, StatusTargetUnknown, StatusNoCredentials, 0x80091234} {
			f := newFake(t)
			f.statuses[function] = s
			i, err := newInitiator(f, nil)
			if err == nil {
				var a *Acceptor
				a, err = newAcceptor(f, nil)
				require.NoError(t, err)
				ic, ierr := i.NewContext(testTarget, dcerpc.LevelPrivacy)
				require.NoError(t, ierr)
				ac, aerr := a.NewContext(dcerpc.LevelPrivacy)
				require.NoError(t, aerr)
				err = run(t.Context(), ic, ac)
				ic.(*Context).Close()
				ac.(*Context).Close()
				require.NoError(t, a.Close())
			}
			require.ErrorIs(t, err, s, function)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, Negotiate, e.Package)
			require.Equal(t, "0 contexts, 0 credentials", f.counts())
		}
	}
	f := newFake(t)
	f.maxToken = 100 // the least is used
	f.realm.AddService("host/fs2.example.test")
	ic, _ := contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	require.Len(t, ic.room().data, leastToken)
	f.maxToken = 1 << 30
	ic, _ = contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	require.Len(t, ic.room().data, mostToken)
	i, err := newInitiator(f, &InitiatorConfig{Package: Kerberos})
	require.NoError(t, err)
	c, err := i.NewContext("host/nobody.example.test", dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, _, err = c.Step(t.Context(), nil)
	require.EqualError(t, err,
		"sspi: Kerberos to host/nobody.example.test: InitializeSecurityContext: the domain knows no such service: "+
			"SEC_E_TARGET_UNKNOWN (0x80090303); check the server's name, its full DNS name is best, and that the service principal name is "+
			"registered for one account alone (setspn -Q, setspn -X)")
	_, _, err = c.Step(t.Context(), nil)
	require.ErrorIs(t, err, errOver)
	c.(*Context).Close()
}

// TestStatusTexts: names are those of winerror.h, and every error says what to do.
func TestStatusTexts(t *testing.T) {
	name := regexp.MustCompile(`^SEC_[EI]_[A-Z0-9_]+$`)
	seen := map[string]Status{}
	for s, text := range statusTexts {
		require.Regexp(t, name, text.name)
		require.Zero(t, seen[text.name], text.name)
		seen[text.name] = s
		require.Equal(t, strings.HasPrefix(text.name, "SEC_I_") || s == 0, s.succeeded(), text.name)
		require.NotEmpty(t, text.meaning)
		if !s.succeeded() {
			require.NotEmpty(t, text.advice, text.name)
		}
		require.Contains(t, s.Error(), fmt.Sprintf("%s (0x%08X)", text.name, uint32(s)))
	}
	require.Equal(t, `SECURITY_STATUS 0x80090399; run "certutil -error 0x80090399" to see what it means`,
		Status(0x80090399).Error())
	require.Contains(t, Status(0xC0000001).Error(), "NTSTATUS 0xC0000001")
}

// TestNobody: a server refuses those whom it cannot name.
func TestNobody(t *testing.T) {
	f := newFake(t)
	f.anonymous = true
	ic, ac := contexts(t, f, NTLM, dcerpc.LevelPrivacy)
	require.ErrorIs(t, run(t.Context(), ic, ac), ErrAnonymous)
	require.Error(t, ac.Sign(dcerpc.Message{}, nil), "a context that is refused protects nothing")
	f.anonymous, f.noToken = false, true
	ic, ac = contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	err := run(t.Context(), ic, ac)
	require.ErrorIs(t, err, ErrNobody)
	require.ErrorIs(t, err, StatusUnsupported)
	_, _, err = ac.Step(t.Context(), nil)
	require.ErrorIs(t, err, errOver)
}

// TestStepEnds: the system cannot be interrupted, and Step returns all the same. The handles are
// released when the system has.
func TestStepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.block = make(chan struct{})
		i, a := pair(t, f, Kerberos)
		ic, err := i.NewContext(testTarget, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = ic.Step(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, _, err = ic.Step(t.Context(), nil)
		require.ErrorIs(t, err, errOver)
		require.NoError(t, ic.(*Context).Close())
		require.Equal(t, "0 contexts, 2 credentials", f.counts(), "released under the system's feet")
		close(f.block)
		synctest.Wait()
		require.Equal(t, "0 contexts, 1 credentials", f.counts())

		ac, err := a.NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = ac.Step(ended, []byte("x"))
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, a.Close())
		require.Equal(t, "0 contexts, 1 credentials", f.counts(), "a context uses the acceptor's credentials")
		require.NoError(t, ac.(*Context).Close())
		require.NoError(t, ac.(*Context).Close())
		require.Equal(t, "0 contexts, 0 credentials", f.counts())
	})
}

// TestClose: a closed context does nothing any more, and its handles are released once.
func TestClose(t *testing.T) {
	f := newFake(t)
	ic, ac := contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	require.NoError(t, run(t.Context(), ic, ac))
	require.NoError(t, ic.Close())
	require.Equal(t, "1 contexts, 1 credentials", f.counts())
	m := dcerpc.Message{Body: []byte("x")}
	require.ErrorIs(t, ic.Sign(m, make([]byte, 28)), ErrClosed)
	require.ErrorIs(t, ic.Seal(m, make([]byte, 76)), ErrClosed)
	require.ErrorIs(t, ic.Verify(m, nil), ErrClosed)
	require.ErrorIs(t, ic.Unseal(m, nil), ErrClosed)
	ic, _ = contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	require.NoError(t, ic.Close())
	_, _, err := ic.Step(t.Context(), nil)
	require.ErrorIs(t, err, ErrClosed)
}

// TestGarbage: what nobody closes is released nevertheless.
func TestGarbage(t *testing.T) {
	f := newFake(t)
	func() {
		i, err := newInitiator(f, &InitiatorConfig{Package: Kerberos})
		require.NoError(t, err)
		a, err := newAcceptor(f, &AcceptorConfig{Package: Kerberos})
		require.NoError(t, err)
		for range 10 {
			ic, err := i.NewContext(testTarget, dcerpc.LevelPrivacy)
			require.NoError(t, err)
			ac, err := a.NewContext(dcerpc.LevelPrivacy)
			require.NoError(t, err)
			require.NoError(t, run(t.Context(), ic, ac))
		}
		require.GreaterOrEqual(t, f.next, uintptr(31), "20 contexts, 11 credentials")
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return f.counts() == "0 contexts, 0 credentials"
	}, time.Minute, 10*time.Millisecond, "%s", f.counts())
}

// TestCredentials: given ones reach the system, and no output.
func TestCredentials(t *testing.T) {
	f := newFake(t)
	id := &Credentials{Domain: "EXAMPLE", User: "backup", Password: "secret"}
	i, err := newInitiator(f, &InitiatorConfig{Package: NTLM, Credentials: id})
	require.NoError(t, err)
	id.User, id.Password = "other", "other" // the Initiator has its own
	c, err := i.NewContext(testTarget, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	for _, cred := range f.creds {
		require.Equal(t, "secret", cred.id.Password)
		require.Equal(t, "backup", cred.id.User)
	}
	c.(*Context).Close()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{*i.p.id, i.p.id} {
			require.NotContains(t, fmt.Sprintf(format, v), "secret", format)
		}
	}
	b, err := json.Marshal(i.p.id)
	require.NoError(t, err)
	require.Equal(t, `"EXAMPLE\\backup"`, string(b))
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "id", i.p.id, "id2", *i.p.id)
	require.NotContains(t, log.String(), "secret")
	for _, bad := range []Credentials{{}, {Password: "x"}, {User: "a\x00b"}, {User: "a", Password: "\x00"},
		{User: "a", Domain: "\x00"}} {
		_, err := newInitiator(f, &InitiatorConfig{Credentials: &bad})
		require.Error(t, err)
		_, err = newAcceptor(f, &AcceptorConfig{Credentials: &bad})
		require.Error(t, err)
	}
	_, err = newInitiator(f, &InitiatorConfig{Package: "Schannel"})
	require.ErrorContains(t, err, "unknown package")
}

// TestHostileTokens: no token of a peer's is too long, or makes the system see a context twice.
func TestHostileTokens(t *testing.T) {
	f := newFake(t)
	_, ac := contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	_, _, err := ac.Step(t.Context(), make([]byte, mostToken+1))
	require.ErrorContains(t, err, "65537 bytes")
	_, ac = contexts(t, f, Kerberos, dcerpc.LevelPrivacy)
	_, _, err = ac.Step(t.Context(), []byte("no token"))
	require.ErrorIs(t, err, StatusInvalidToken)
	_, _, err = ac.Step(t.Context(), []byte("no token"))
	require.ErrorIs(t, err, errOver)
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string][2]string{
		`EXAMPLE\backup`: {"backup", "EXAMPLE"}, "backup@EXAMPLE.TEST": {"backup", "EXAMPLE.TEST"}, "backup": {"backup",
			""},
		`host/fs1.example.test@EXAMPLE.TEST`: {"host/fs1.example.test", "EXAMPLE.TEST"}, "@x": {"@x", ""}, "": {},
	} {
		account, domain := splitName(name)
		require.Equal(t, want, [2]string{account, domain}, name)
	}
}

func TestOtherSystems(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("this is Windows")
	}
	_, err := NewInitiator(nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = NewAcceptor(nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
