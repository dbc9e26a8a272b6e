package sspi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// A fake is a secur32 that answers as Microsoft's documentation of sspi.h says. Its packages are
// those of this module, so that the tokens and the signatures are real ones.
//
// What it holds its caller to:
//
//   - every handle is used while it exists, and released once; a context before its credentials;
//   - the first call for a context has no context and, for an initiator, no token; the later ones
//     have both;
//   - a token that is to be completed is worth nothing before CompleteAuthToken;
//   - attributes and messages only of a context that is established;
//   - a message has one SECBUFFER_DATA that may be written, one SECBUFFER_TOKEN, and read-only
//     buffers around the data; a token's buffer that is too short is SEC_E_BUFFER_TOO_SMALL.
type fake struct {
	t     testing.TB
	realm *krb5test.Realm

	maxToken  uint32                 // of packages; 0: 48000
	denied    map[uint32]bool        // flags that are not granted
	complete  bool                   // tokens must be completed
	statuses  map[string]Status      // that functions fail with
	anonymous bool                   // the client's token is of nobody
	noToken   bool                   // there is none, as in Wine
	shortBy   int                    // how much shorter tokens are than was said
	block     chan struct{}          // where not nil, the exchange waits for it
	seen      func(list []secBuffer) // sees what is protected

	mu       sync.Mutex
	next     uintptr
	creds    map[secHandle]*fakeCred
	contexts map[secHandle]*fakeContext
	flags    uint32 // asked for last
}

type fakeCred struct {
	pkg   string
	use   uint32
	id    *Credentials
	users int
}

type fakeContext struct {
	cred        secHandle
	pkg         string
	inner       dcerpc.Context
	accepts     bool
	level       dcerpc.AuthLevel
	done        bool
	uncompleted bool
}

const fakePassword = "Passw0rd"

func newFake(t testing.TB) *fake {
	f := &fake{t: t, realm: krb5test.NewRealm("EXAMPLE.TEST", krb5.AES256SHA1), denied: map[uint32]bool{},
		statuses: map[string]Status{},
		creds:    map[secHandle]*fakeCred{}, contexts: map[secHandle]*fakeContext{}}
	f.realm.AddUser("backup", dcerpc.SIDBuiltinBackupOperators)
	f.realm.AddService("host/fs1.example.test")
	t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		require.Empty(t, f.contexts, "contexts that were not deleted")
		require.Empty(t, f.creds, "credentials that were not freed")
	})
	return f
}

// fails returns the status that a function is to fail with.
func (f *fake) fails(function string) (Status, bool) {
	s, ok := f.statuses[function]
	return s, ok
}

func (f *fake) handle() secHandle {
	f.next++
	return secHandle{f.next, ^f.next}
}

func (f *fake) querySecurityPackageInfo(name string) (uint32, Status) {
	if s, ok := f.fails("QuerySecurityPackageInfo"); ok {
		return 0, s
	}
	if _, err := Package(name).authType(); err != nil {
		return 0, StatusPackageNotFound
	}
	if f.maxToken != 0 {
		return f.maxToken, StatusOK
	}
	return 48000, StatusOK
}

func (f *fake) acquireCredentialsHandle(name string, use uint32, id *Credentials) (secHandle, Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.fails("AcquireCredentialsHandle"); ok {
		return secHandle{}, s
	}
	h := f.handle()
	f.creds[h] = &fakeCred{pkg: name, use: use, id: id}
	return h, StatusOK
}

func (f *fake) freeCredentialsHandle(h secHandle) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.creds[h]
	if c == nil {
		f.t.Errorf("FreeCredentialsHandle of %v, which does not exist", h)
		return StatusInvalidHandle
	}
	if c.users > 0 {
		f.t.Errorf("credentials are freed with %d contexts", c.users)
	}
	delete(f.creds, h)
	return StatusOK
}

func (f *fake) deleteSecurityContext(h secHandle) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.contexts[h]
	if c == nil {
		f.t.Errorf("DeleteSecurityContext of %v, which does not exist", h)
		return StatusInvalidHandle
	}
	f.creds[c.cred].users--
	delete(f.contexts, h)
	return StatusOK
}

// mechanisms are the packages.
func (f *fake) initiator(name string, id *Credentials) dcerpc.Initiator {
	user := "backup"
	if id != nil {
		user = id.User
	}
	own, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "EXAMPLE", User: user, Password: fakePassword})
	require.NoError(f.t, err)
	switch name {
	case "Kerberos":
		return f.realm.Initiator(user)
	case "NTLM":
		return own
	}
	n, err := spnego.NewInitiator(f.realm.Initiator(user), own)
	require.NoError(f.t, err)
	return n
}

// Verify knows one account.
func (f *fake) Verify(_ context.Context, c *ntlm.Challenge) (*ntlm.Result, error) {
	key, ok := c.Check(ntlm.NTHash(fakePassword))
	if !ok {
		return nil, ntlm.ErrLogonFailure
	}
	return &ntlm.Result{SessionBaseKey: key, Identity: dcerpc.Identity{Account: c.User, Domain: c.Domain,
		SIDs: []dcerpc.SID{"S-1-5-21-1-2-3-1104"}}}, nil
}

func (f *fake) acceptor(name string) dcerpc.Acceptor {
	own, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: f, ComputerName: "FS1"})
	require.NoError(f.t, err)
	kerberos, err := krb5.NewAcceptor(&krb5.AcceptorConfig{Keytab: f.realm.Keytab(), InsecureLocalSIDs: true})
	require.NoError(f.t, err)
	switch name {
	case "Kerberos":
		return kerberos
	case "NTLM":
		return own
	}
	n, err := spnego.NewAcceptor(kerberos, own)
	require.NoError(f.t, err)
	return n
}

// begin makes the context of a first call, or finds that of a later one.
func (f *fake) begin(cred secHandle, ctx *secHandle, make func(c *fakeCred) (*fakeContext, Status)) (secHandle,
	*fakeContext, Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.creds[cred]
	if c == nil {
		f.t.Errorf("credentials %v do not exist", cred)
		return secHandle{}, nil, StatusInvalidHandle
	}
	if ctx != nil {
		x := f.contexts[*ctx]
		if x == nil || x.done {
			f.t.Errorf("context %v does not exist, or is established", *ctx)
			return secHandle{}, nil, StatusInvalidHandle
		}
		return *ctx, x, StatusOK
	}
	x, s := make(c)
	if s != StatusOK {
		return secHandle{}, nil, s
	}
	x.cred, x.pkg = cred, c.pkg
	return secHandle{}, x, StatusOK
}

// levelOf is what the flags ask for.
func levelOf(flags, integrity uint32) dcerpc.AuthLevel {
	switch {
	case flags&flagConfidentiality != 0:
		return dcerpc.LevelPrivacy
	case flags&integrity != 0:
		return dcerpc.LevelIntegrity
	}
	return dcerpc.LevelInsecureConnect
}

func (f *fake) initializeSecurityContext(cred secHandle, ctx *secHandle, target string, flags uint32, in []byte,
	out *secBuffer,
) (secHandle, uint32, Status) {
	if s, ok := f.fails("InitializeSecurityContext"); ok {
		return secHandle{}, 0, s
	}
	if (ctx == nil) != (len(in) == 0) {
		f.t.Errorf("InitializeSecurityContext with context %v and a token of %d bytes", ctx, len(in))
		return secHandle{}, 0, StatusInvalidParameter
	}
	h, x, s := f.begin(cred, ctx, func(c *fakeCred) (*fakeContext, Status) {
		if c.use != credOutbound {
			return nil, StatusNoCredentials
		}
		level := levelOf(flags, flagInitIntegrity)
		inner, err := f.initiator(c.pkg, c.id).NewContext(target, level)
		if err != nil {
			return nil, StatusTargetUnknown
		}
		return &fakeContext{inner: inner, level: level}, StatusOK
	})
	if s != StatusOK {
		return h, 0, s
	}
	return f.step(h, ctx, x, flags, in, out)
}

func (f *fake) acceptSecurityContext(cred secHandle, ctx *secHandle, flags uint32, in []byte, out *secBuffer,
) (secHandle, uint32, Status) {
	if s, ok := f.fails("AcceptSecurityContext"); ok {
		return secHandle{}, 0, s
	}
	h, x, s := f.begin(cred, ctx, func(c *fakeCred) (*fakeContext, Status) {
		if c.use != credInbound {
			return nil, StatusNoCredentials
		}
		inner, err := f.acceptor(c.pkg).NewContext(dcerpc.LevelPrivacy)
		if err != nil {
			return nil, StatusInvalidToken
		}
		return &fakeContext{inner: inner, level: levelOf(flags, flagAcceptIntegrity), accepts: true}, StatusOK
	})
	if s != StatusOK {
		return h, 0, s
	}
	return f.step(h, ctx, x, flags, in, out)
}

// step has the package take a token.
func (f *fake) step(h secHandle, old *secHandle, x *fakeContext, flags uint32, in []byte, out *secBuffer) (secHandle,
	uint32, Status) {
	f.mu.Lock()
	f.flags = flags
	block := f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	if flags&flagUseDCEStyle == 0 || out.kind != bufferToken {
		f.t.Errorf("flags %#x, a buffer of type %d", flags, out.kind)
	}
	token, done, err := x.inner.Step(context.Background(), in)
	if err != nil {
		return h, 0, statusOf(err)
	}
	if len(token) > len(out.data) {
		return h, 0, StatusBufferTooSmall
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old == nil { // a context exists once the first call has succeeded
		h = f.handle()
		f.contexts[h] = x
		f.creds[x.cred].users++
	}
	x.done = done
	out.data = out.data[:copy(out.data, token)]
	granted := flags
	if partial, ok := x.inner.(dcerpc.PartialContext); ok && done {
		if sign, seal := partial.Protection(); !sign {
			granted &^= flagInitIntegrity | flagAcceptIntegrity | flagConfidentiality
		} else if !seal {
			granted &^= flagConfidentiality
		}
	}
	for flag := range f.denied {
		granted &^= flag
	}
	switch {
	case f.complete && len(token) > 0:
		x.uncompleted = true
		flip(out.data)
		if done {
			return h, granted, StatusCompleteNeeded
		}
		return h, granted, StatusCompleteContinue
	case done:
		return h, granted, StatusOK
	}
	return h, granted, StatusContinueNeeded
}

// flip is what a token lacks that is to be completed.
func flip(b []byte) {
	for i := range b {
		b[i] ^= 0x5A
	}
}

func statusOf(err error) Status {
	switch {
	case errors.Is(err, krb5.ErrServiceUnknown):
		return StatusTargetUnknown
	case errors.Is(err, krb5.ErrSkew):
		return StatusTimeSkew
	case errors.Is(err, krb5.ErrSequence):
		return StatusOutOfSequence
	case errors.Is(err, krb5.ErrSignature), errors.Is(err, ntlm.ErrBadSignature):
		return StatusMessageAltered
	case errors.Is(err, ntlm.ErrLogonFailure):
		return StatusLogonDenied
	}
	return StatusInvalidToken
}

func (f *fake) completeAuthToken(h secHandle, token *secBuffer) Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.contexts[h]
	if x == nil || !x.uncompleted {
		f.t.Errorf("CompleteAuthToken of what is complete")
		return StatusInvalidHandle
	}
	x.uncompleted = false
	flip(token.data)
	return StatusOK
}

// established returns a context whose exchange is over.
func (f *fake) established(h secHandle, function string) (*fakeContext, Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.fails(function); ok {
		return nil, s
	}
	x := f.contexts[h]
	if x == nil || !x.done || x.uncompleted {
		f.t.Errorf("%s: context %v does not exist, or is not established", function, h)
		return nil, StatusInvalidHandle
	}
	return x, StatusOK
}

func (f *fake) sizes(h secHandle) (contextSizes, Status) {
	x, s := f.established(h, "sizes")
	if s != StatusOK {
		return contextSizes{}, s
	}
	return contextSizes{48000, uint32(x.inner.TokenSize(dcerpc.LevelIntegrity)), 1,
		uint32(x.inner.TokenSize(dcerpc.LevelPrivacy))}, s
}

func (f *fake) negotiated(h secHandle) (string, Status) {
	x, s := f.established(h, "negotiated")
	if s != StatusOK {
		return "", s
	}
	return map[string]string{"krb5": "Kerberos", "ntlm": "NTLM"}[x.inner.Identity().Mechanism], s
}

func (f *fake) names(h secHandle) (string, Status) {
	x, s := f.established(h, "names")
	if s != StatusOK {
		return "", s
	}
	domain, _, _ := strings.Cut(x.inner.Identity().Domain, ".")
	return domain + `\` + x.inner.Identity().Account, s
}

func (f *fake) nativeNames(h secHandle) (client, server string, s Status) {
	x, s := f.established(h, "nativeNames")
	if s != StatusOK {
		return "", "", s
	}
	if x.accepts {
		return x.inner.Identity().Principal, "", s
	}
	return "", x.inner.Identity().Principal, s
}

func (f *fake) token(h secHandle) (clientToken, Status) {
	x, s := f.established(h, "token")
	switch {
	case s != StatusOK:
		return clientToken{}, s
	case !x.accepts || f.noToken:
		return clientToken{}, StatusUnsupported
	case f.anonymous:
		return clientToken{user: dcerpc.SIDAnonymous}, s
	}
	sids := x.inner.Identity().SIDs
	return clientToken{user: sids[0], groups: sids[1:], privileges: dcerpc.PrivilegeBackup}, s
}

// message takes the buffers of a message apart.
func (f *fake) message(x *fakeContext, list []secBuffer) (m dcerpc.Message, token *secBuffer, s Status) {
	if f.seen != nil {
		f.seen(list)
	}
	data := 0
	for i := range list {
		switch b := &list[i]; b.kind {
		case bufferData:
			data++
			m.Body = b.data
		case bufferToken:
			if token != nil || i != len(list)-1 {
				return m, nil, StatusInvalidToken
			}
			token = b
		case bufferData | bufferReadOnlyWithChecksum:
			m.SignHeader = true
			if data == 0 {
				m.Header = b.data
			} else {
				m.Trailer = b.data
			}
		default:
			return m, nil, StatusInvalidToken
		}
	}
	if data != 1 || token == nil {
		return m, nil, StatusInvalidToken
	}
	return m, token, StatusOK
}

// protect makes a token by a function of the package.
func (f *fake) protect(h secHandle, list []secBuffer, function string, level dcerpc.AuthLevel,
	do func(dcerpc.Context, dcerpc.Message, []byte) error) Status {
	x, s := f.established(h, function)
	if s != StatusOK {
		return s
	}
	m, token, s := f.message(x, list)
	if s != StatusOK {
		return s
	}
	size := x.inner.TokenSize(level)
	if len(token.data) < size {
		return StatusBufferTooSmall
	}
	if err := do(x.inner, m, token.data[:size]); err != nil {
		return statusOf(err)
	}
	token.data = token.data[:size-f.shortBy]
	return StatusOK
}

func (f *fake) check(h secHandle, list []secBuffer, function string,
	do func(dcerpc.Context, dcerpc.Message, []byte) error) Status {
	x, s := f.established(h, function)
	if s != StatusOK {
		return s
	}
	m, token, s := f.message(x, list)
	if s != StatusOK {
		return s
	}
	if err := do(x.inner, m, token.data); err != nil {
		return statusOf(err)
	}
	return StatusOK
}

func (f *fake) encryptMessage(h secHandle, list []secBuffer) Status {
	return f.protect(h, list, "EncryptMessage", dcerpc.LevelPrivacy, dcerpc.Context.Seal)
}

func (f *fake) makeSignature(h secHandle, list []secBuffer) Status {
	return f.protect(h, list, "MakeSignature", dcerpc.LevelIntegrity, dcerpc.Context.Sign)
}

func (f *fake) decryptMessage(h secHandle, list []secBuffer) Status {
	return f.check(h, list, "DecryptMessage", dcerpc.Context.Unseal)
}

func (f *fake) verifySignature(h secHandle, list []secBuffer) Status {
	return f.check(h, list, "VerifySignature", dcerpc.Context.Verify)
}

// counts returns how many handles there are.
func (f *fake) counts() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d contexts, %d credentials", len(f.contexts), len(f.creds))
}
