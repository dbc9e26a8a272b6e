package spnego_test

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

func TestCombinations(t *testing.T) {
	w := newWorld(t)
	for _, tc := range w.combinations(t) {
		for _, level := range append(levels(), dcerpc.LevelInsecureConnect) {
			t.Run(fmt.Sprint(tc.name, "/level ", level), func(t *testing.T) {
				client, server := tc.contexts(t, level)
				require.Equal(t, tc.legs, establish(t, client, server))
				id := server.Identity()
				require.Equal(t, tc.mechanism, id.Mechanism)
				require.Equal(t, user, id.Account)
				require.True(t, id.HasSID(dcerpc.SIDBuiltinBackupOperators))
				require.Equal(t, tc.mechanism, client.Identity().Mechanism)
				if level >= dcerpc.LevelPacket {
					require.NoError(t, talk(client, server, level))
				}
				key := client.(interface{ SessionKey() []byte }).SessionKey()
				require.NotEmpty(t, key)
				require.Equal(t, key, server.(interface{ SessionKey() []byte }).SessionKey())

				for _, side := range []dcerpc.Context{client, server} {
					_, _, err := side.Step(context.Background(), nil)
					require.Error(t, err)
				}
			})
		}
	}
}

func TestConstructors(t *testing.T) {
	_, err := spnego.NewInitiator()
	require.Error(t, err)
	_, err = spnego.NewAcceptor()
	require.Error(t, err)
	w := newWorld(t)
	i, a := negInitiator(t, w.ntlmInitiator(t)), negAcceptor(t, w.ntlmAcceptor(t))
	require.Equal(t, dcerpc.AuthSPNEGO, i.AuthType())
	require.Equal(t, dcerpc.AuthSPNEGO, a.AuthType())
	require.Equal(t, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 2}, i.OID())
	require.Equal(t, i.OID(), a.OID())
}

func TestNotEstablished(t *testing.T) {
	w := newWorld(t)
	c := combination{initiator: negInitiator(t, w.ntlmInitiator(t)), acceptor: negAcceptor(t, w.ntlmAcceptor(t))}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	for _, side := range []dcerpc.Context{client, server} {
		m, token := message(16), make([]byte, 16)
		require.Error(t, side.Sign(m, token))
		require.Error(t, side.Seal(m, token))
		require.Error(t, side.Verify(m, token))
		require.Error(t, side.Unseal(m, token))
		require.Zero(t, side.TokenSize(dcerpc.LevelPrivacy))
		require.Empty(t, side.Identity())
		require.Nil(t, side.(interface{ SessionKey() []byte }).SessionKey())
	}
}

// tokensOf runs an exchange and returns its tokens.
func tokensOf(t *testing.T, client, server dcerpc.Context) [][]byte {
	t.Helper()
	var tokens [][]byte
	_, err := exchange(client, server, func(_ int, b []byte) []byte {
		tokens = append(tokens, b)
		return b
	})
	require.NoError(t, err)
	return tokens
}

func parseResp(t testing.TB, b []byte) *spnego.NegTokenResp {
	t.Helper()
	r, err := spnego.ParseNegTokenResp(b)
	require.NoError(t, err)
	return r
}

// edit changes a NegTokenResp on its way.
func edit(t testing.TB, b []byte, f func(*spnego.NegTokenResp)) []byte {
	t.Helper()
	r := parseResp(t, b)
	f(r)
	out, err := r.AppendBinary(nil)
	require.NoError(t, err)
	return out
}

var (
	oidNTLM     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}
	oidKerberos = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}
	oidWindows  = asn1.ObjectIdentifier{1, 2, 840, 48018, 1, 2, 2}
	oidUnknown  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 30}
)

// TestTokensOfKerberos pins what goes over the wire where Kerberos is the first choice: no MIC, as
// with Windows, and a raw AP-REQ, as in DCE style.
func TestTokensOfKerberos(t *testing.T) {
	w := newWorld(t)
	c := combination{
		initiator: negInitiator(t, w.realm.Initiator(user), w.ntlmInitiator(t)),
		acceptor:  negAcceptor(t, w.ntlmAcceptor(t), w.realm.Acceptor(target)),
	}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	tokens := tokensOf(t, client, server)
	require.Len(t, tokens, 4)
	offer, err := spnego.ParseNegTokenInit(tokens[0])
	require.NoError(t, err)
	require.Equal(t, []asn1.ObjectIdentifier{oidWindows, oidKerberos, oidNTLM}, offer.MechTypes)
	require.EqualValues(t, 0x6e, offer.MechToken[0])
	require.Nil(t, offer.MechListMIC)
	reply := parseResp(t, tokens[1])
	require.Equal(t, oidWindows, reply.SupportedMech, "the name under which the token came")
	require.Equal(t, spnego.AcceptIncomplete, reply.State)
	require.EqualValues(t, 0x6f, reply.ResponseToken[0])
	require.EqualValues(t, 0x6f, parseResp(t, tokens[2]).ResponseToken[0])
	require.Equal(t, &spnego.NegTokenResp{State: spnego.AcceptCompleted}, parseResp(t, tokens[3]))
	for _, b := range tokens[1:] {
		require.Nil(t, parseResp(t, b).MechListMIC)
	}
}

// TestTokensOfNTLM pins that NTLM's MICs are exchanged always.
func TestTokensOfNTLM(t *testing.T) {
	w := newWorld(t)
	c := combination{initiator: negInitiator(t, w.ntlmInitiator(t)), acceptor: negAcceptor(t, w.ntlmAcceptor(t))}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	tokens := tokensOf(t, client, server)
	require.Len(t, tokens, 4)
	reply := parseResp(t, tokens[1])
	require.Equal(t, oidNTLM, reply.SupportedMech)
	require.Equal(t, spnego.AcceptIncomplete, reply.State)
	require.Nil(t, reply.MechListMIC)
	require.Len(t, parseResp(t, tokens[2]).MechListMIC, ntlm.SignatureSize)
	last := parseResp(t, tokens[3])
	require.Equal(t, spnego.AcceptCompleted, last.State)
	require.Len(t, last.MechListMIC, ntlm.SignatureSize)
	require.Nil(t, last.ResponseToken)

	m := message(16)
	token, err := protect(client, dcerpc.LevelPrivacy, m)
	require.NoError(t, err)
	require.EqualValues(t, 1, token[12], "the sequence number after a MIC")
}

// TestOtherMechanism pins the exchange where the server lacks the client's favourite.
func TestOtherMechanism(t *testing.T) {
	w := newWorld(t)
	c := combination{
		initiator: negInitiator(t, w.realm.Initiator(user), w.ntlmInitiator(t)),
		acceptor:  negAcceptor(t, w.ntlmAcceptor(t)),
	}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	tokens := tokensOf(t, client, server)
	require.Len(t, tokens, 6)
	require.Equal(t, &spnego.NegTokenResp{State: spnego.RequestMIC, SupportedMech: oidNTLM}, parseResp(t, tokens[1]))
	require.NotNil(t, parseResp(t, tokens[4]).MechListMIC)
	require.NotNil(t, parseResp(t, tokens[5]).MechListMIC)
}

// quiet is NTLM without a word of MICs, as impacket speaks it.
type quiet struct{ *ntlm.Initiator }

type quietContext struct {
	dcerpc.Context
	spnego.MICContext
}

func (c quietContext) Step(ctx context.Context, in []byte) ([]byte, bool, error) {
	return c.Context.Step(ctx, in)
}
func (c quietContext) TokenSize(l dcerpc.AuthLevel) int            { return c.Context.TokenSize(l) }
func (c quietContext) Sign(m dcerpc.Message, token []byte) error   { return c.Context.Sign(m, token) }
func (c quietContext) Seal(m dcerpc.Message, token []byte) error   { return c.Context.Seal(m, token) }
func (c quietContext) Verify(m dcerpc.Message, token []byte) error { return c.Context.Verify(m, token) }
func (c quietContext) Unseal(m dcerpc.Message, token []byte) error { return c.Context.Unseal(m, token) }
func (c quietContext) Identity() dcerpc.Identity                   { return c.Context.Identity() }

func (q quiet) NewContext(target string, level dcerpc.AuthLevel) (dcerpc.Context, error) {
	c, err := q.Initiator.NewContext(target, level)
	return quietContext{c, c.(spnego.MICContext)}, err
}

func TestClientWithoutMIC(t *testing.T) {
	w := newWorld(t)
	c := combination{initiator: negInitiator(t, quiet{w.ntlmInitiator(t)}), acceptor: negAcceptor(t, w.ntlmAcceptor(t))}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	tokens := tokensOf(t, client, server)
	require.Nil(t, parseResp(t, tokens[2]).MechListMIC)
	require.Equal(t, &spnego.NegTokenResp{State: spnego.AcceptCompleted}, parseResp(t, tokens[3]))
	require.NoError(t, talk(client, server, dcerpc.LevelPrivacy))
}

// TestTamperedNegotiation has somebody on the way who wants another mechanism, or hides that
// he has changed something. Every line is a change to one token.
func TestTamperedNegotiation(t *testing.T) {
	w := newWorld(t)
	kerberosFirst := negInitiator(t, w.realm.Initiator(user), w.ntlmInitiator(t))
	both := negAcceptor(t, w.realm.Acceptor(target), w.ntlmAcceptor(t))
	ntlmOnly := negAcceptor(t, w.ntlmAcceptor(t))
	offer := func(mechs ...asn1.ObjectIdentifier) func([]byte) []byte {
		return func(b []byte) []byte {
			out, err := (&spnego.NegTokenInit{MechTypes: mechs}).AppendBinary(nil)
			require.NoError(t, err)
			return out
		}
	}
	resp := func(f func(*spnego.NegTokenResp)) func([]byte) []byte {
		return func(b []byte) []byte { return edit(t, b, f) }
	}
	for name, tc := range map[string]struct {
		initiator dcerpc.Initiator
		acceptor  dcerpc.Acceptor
		token     int
		change    func([]byte) []byte
		want      error
	}{
		"Kerberos taken out of the offer": {kerberosFirst, both, 1, offer(oidNTLM), spnego.ErrMechListMIC},
		"NTLM moved to the front":         {kerberosFirst, both, 1, offer(oidNTLM, oidWindows, oidKerberos), spnego.ErrMechListMIC},
		"one name of Kerberos taken out":  {kerberosFirst, ntlmOnly, 1, offer(oidWindows, oidNTLM), spnego.ErrMechListMIC},
		"something unknown in front":      {kerberosFirst, both, 1, offer(oidUnknown, oidNTLM), spnego.ErrMechListMIC},
		"nothing but the unknown":         {kerberosFirst, both, 1, offer(oidUnknown), spnego.ErrNoMechanism},
		"no offer":                        {kerberosFirst, both, 1, offer(), spnego.ErrNoMechanism},
		"the server's choice changed": {kerberosFirst, both, 2, resp(func(r *spnego.NegTokenResp) {
			*r = spnego.NegTokenResp{State: spnego.AcceptIncomplete, SupportedMech: oidNTLM}
		}), krb5.ErrToken},
		"the server's choice changed, its token kept": {kerberosFirst, both, 2, resp(func(r *spnego.NegTokenResp) {
			r.SupportedMech = oidNTLM
		}), spnego.ErrToken},
		"a choice that was not offered": {kerberosFirst, both, 2, resp(func(r *spnego.NegTokenResp) {
			r.SupportedMech = oidUnknown
		}), spnego.ErrNoMechanism},
		"rejected": {kerberosFirst, both, 2, resp(func(r *spnego.NegTokenResp) {
			*r = spnego.NegTokenResp{State: spnego.Reject}
		}), spnego.ErrRejected},
		"rejected by the client": {kerberosFirst, both, 3, resp(func(r *spnego.NegTokenResp) {
			*r = spnego.NegTokenResp{State: spnego.Reject}
		}), spnego.ErrRejected},
		"completed too early": {kerberosFirst, both, 2, resp(func(r *spnego.NegTokenResp) {
			r.State = spnego.AcceptCompleted
		}), spnego.ErrToken},
		"no answer of the mechanism": {kerberosFirst, both, 2, resp(func(r *spnego.NegTokenResp) {
			r.ResponseToken = nil
		}), spnego.ErrToken},
		"no third leg": {kerberosFirst, both, 3, resp(func(r *spnego.NegTokenResp) {
			r.ResponseToken = nil
		}), spnego.ErrToken},
		"the end as a beginning": {kerberosFirst, both, 4, resp(func(r *spnego.NegTokenResp) {
			r.State = spnego.AcceptIncomplete
		}), spnego.ErrToken},
		"a token after the mechanism's last": {kerberosFirst, both, 4, resp(func(r *spnego.NegTokenResp) {
			r.ResponseToken = []byte("more")
		}), spnego.ErrToken},
		"a MIC of nobody": {kerberosFirst, both, 4, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC = make([]byte, 28)
		}), spnego.ErrMechListMIC},
		"a MIC before its time": {kerberosFirst, ntlmOnly, 2, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC = make([]byte, 16)
		}), spnego.ErrToken},
		"a client's MIC before its time": {kerberosFirst, ntlmOnly, 3, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC = make([]byte, 16)
		}), spnego.ErrToken},
		"the client's MIC taken out": {kerberosFirst, ntlmOnly, 5, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC = nil
		}), spnego.ErrMechListMIC},
		"the client's MIC changed": {kerberosFirst, ntlmOnly, 5, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC[4] ^= 1
		}), spnego.ErrMechListMIC},
		"the server's MIC taken out": {kerberosFirst, ntlmOnly, 6, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC = nil
		}), spnego.ErrMechListMIC},
		"the server's MIC changed": {kerberosFirst, ntlmOnly, 6, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC[15] ^= 1
		}), spnego.ErrMechListMIC},
		"the server's MIC emptied": {kerberosFirst, ntlmOnly, 6, resp(func(r *spnego.NegTokenResp) {
			r.MechListMIC = []byte{}
		}), spnego.ErrMechListMIC},
		"the demand for MICs and the server's MIC taken out": {negInitiator(t, w.ntlmInitiator(t)), ntlmOnly, 4,
			resp(func(r *spnego.NegTokenResp) { r.MechListMIC = nil }), spnego.ErrMechListMIC},
	} {
		t.Run(name, func(t *testing.T) {
			c := combination{initiator: tc.initiator, acceptor: tc.acceptor}
			client, server := c.contexts(t, dcerpc.LevelPrivacy)
			seen := false
			_, err := exchange(client, server, func(n int, b []byte) []byte {
				if n == tc.token {
					seen = true
					return tc.change(b)
				}
				return b
			})
			require.True(t, seen)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// TestHarmlessChanges are deviations that peers are known for.
func TestHarmlessChanges(t *testing.T) {
	w := newWorld(t)
	both := negAcceptor(t, w.realm.Acceptor(target), w.ntlmAcceptor(t))
	kerberosFirst := negInitiator(t, w.realm.Initiator(user), w.ntlmInitiator(t))
	ntlmFirst := negInitiator(t, w.ntlmInitiator(t))
	resp := func(f func(*spnego.NegTokenResp)) func([]byte) []byte {
		return func(b []byte) []byte { return edit(t, b, f) }
	}
	for name, tc := range map[string]struct {
		initiator dcerpc.Initiator
		token     int
		change    func([]byte) []byte
	}{
		"the server's mechanism in every reply": {ntlmFirst, 4, resp(func(r *spnego.NegTokenResp) { r.SupportedMech = oidNTLM })},
		"another one in a later reply":          {ntlmFirst, 4, resp(func(r *spnego.NegTokenResp) { r.SupportedMech = oidUnknown })},
		"no mechanism in the first reply":       {ntlmFirst, 2, resp(func(r *spnego.NegTokenResp) { r.SupportedMech = nil })},
		"Kerberos by its right name":            {kerberosFirst, 2, resp(func(r *spnego.NegTokenResp) { r.SupportedMech = oidKerberos })},
		"no state in the client's tokens":       {ntlmFirst, 3, resp(func(r *spnego.NegTokenResp) { r.State = spnego.StateAbsent })},
		"no state in the first reply":           {kerberosFirst, 2, resp(func(r *spnego.NegTokenResp) { r.State = spnego.StateAbsent })},
		"no state in the last one":              {kerberosFirst, 4, resp(func(r *spnego.NegTokenResp) { r.State = spnego.StateAbsent })},
		"an empty token in the last one":        {kerberosFirst, 4, resp(func(r *spnego.NegTokenResp) { r.ResponseToken = []byte{} })},
		"Windows 2000 says everything twice":    {ntlmFirst, 2, resp(func(r *spnego.NegTokenResp) { r.MechListMIC = r.ResponseToken })},
		"bytes behind the offer":                {ntlmFirst, 1, func(b []byte) []byte { return append(b, 0, 0, 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := combination{initiator: tc.initiator, acceptor: both}
			client, server := c.contexts(t, dcerpc.LevelPrivacy)
			_, err := exchange(client, server, func(n int, b []byte) []byte {
				if n == tc.token {
					return tc.change(b)
				}
				return b
			})
			require.NoError(t, err)
			require.NoError(t, talk(client, server, dcerpc.LevelPrivacy))
		})
	}
}

// TestOfferWithoutToken is a client that asks first (RFC 4178 section 4.2.1: mechToken is
// optional).
func TestOfferWithoutToken(t *testing.T) {
	w := newWorld(t)
	server, err := negAcceptor(t, w.ntlmAcceptor(t)).NewContext(dcerpc.LevelPrivacy)
	require.NoError(t, err)
	offer, err := (&spnego.NegTokenInit{MechTypes: []asn1.ObjectIdentifier{oidNTLM}}).AppendBinary(nil)
	require.NoError(t, err)
	out, done, err := server.Step(context.Background(), offer)
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, &spnego.NegTokenResp{State: spnego.AcceptIncomplete, SupportedMech: oidNTLM}, parseResp(t, out))

	client, err := w.ntlmInitiator(t).NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	var token []byte
	for range 2 {
		token, _, err = client.Step(context.Background(), token)
		require.NoError(t, err)
		b, err := (&spnego.NegTokenResp{ResponseToken: token}).AppendBinary(nil)
		require.NoError(t, err)
		out, done, err = server.Step(context.Background(), b)
		require.NoError(t, err)
		token = parseResp(t, out).ResponseToken
	}
	require.True(t, done)
	require.NoError(t, talk(client, server, dcerpc.LevelPrivacy))
}

// TestNamesOfKerberos takes clients that know one name only, and those that put the right one
// first.
func TestNamesOfKerberos(t *testing.T) {
	w := newWorld(t)
	for _, names := range [][]asn1.ObjectIdentifier{
		{oidKerberos}, {oidWindows}, {oidKerberos, oidWindows}, {oidKerberos, oidNTLM},
	} {
		client, err := w.realm.Initiator(user).NewContext(target, dcerpc.LevelPrivacy)
		require.NoError(t, err)
		server, err := negAcceptor(t, w.ntlmAcceptor(t), w.realm.Acceptor(target)).NewContext(dcerpc.LevelPrivacy)
		require.NoError(t, err)
		token, _, err := client.Step(context.Background(), nil)
		require.NoError(t, err)
		offer, err := (&spnego.NegTokenInit{MechTypes: names, MechToken: token}).AppendBinary(nil)
		require.NoError(t, err)
		out, done, err := server.Step(context.Background(), offer)
		require.NoError(t, err)
		require.False(t, done)
		reply := parseResp(t, out)
		require.Equal(t, names[0], reply.SupportedMech)
		token, done, err = client.Step(context.Background(), reply.ResponseToken)
		require.NoError(t, err)
		require.True(t, done)
		out, err = (&spnego.NegTokenResp{ResponseToken: token}).AppendBinary(nil)
		require.NoError(t, err)
		_, done, err = server.Step(context.Background(), out)
		require.NoError(t, err)
		require.True(t, done)
		require.NoError(t, talk(client, server, dcerpc.LevelPrivacy))
	}
}

// TestServerThatKnowsOneNameOfKerberos chooses Kerberos by its right name and does not read the
// token that came under the other one: it is sent again.
func TestServerThatKnowsOneNameOfKerberos(t *testing.T) {
	w := newWorld(t)
	client, err := negInitiator(t, w.realm.Initiator(user)).NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, _, err = client.Step(context.Background(), nil)
	require.NoError(t, err)
	reply, err := (&spnego.NegTokenResp{State: spnego.AcceptIncomplete, SupportedMech: oidKerberos}).AppendBinary(nil)
	require.NoError(t, err)
	out, _, err := client.Step(context.Background(), reply)
	require.NoError(t, err)
	require.EqualValues(t, 0x6e, parseResp(t, out).ResponseToken[0])
}

// smbStyle is Kerberos as SMB speaks it: GSS frames, and done after two legs.
type smbStyle struct{ *krb5.Initiator }

func (s smbStyle) NewContext(target string, _ dcerpc.AuthLevel) (dcerpc.Context, error) {
	return s.Initiator.NewSMBContext(target)
}

func TestTwoLegs(t *testing.T) {
	w := newWorld(t)
	c := combination{
		initiator: negInitiator(t, smbStyle{w.realm.Initiator(user)}),
		acceptor:  negAcceptor(t, w.realm.Acceptor(target)),
	}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	tokens := tokensOf(t, client, server)
	require.Len(t, tokens, 2)
	offer, err := spnego.ParseNegTokenInit(tokens[0])
	require.NoError(t, err)
	require.EqualValues(t, 0x60, offer.MechToken[0])
	require.Equal(t, spnego.AcceptCompleted, parseResp(t, tokens[1]).State)

	// As the second choice, the acceptor is done first, and its MIC is the first one.
	c.initiator = negInitiator(t, newDummy(oidUnknown), smbStyle{w.realm.Initiator(user)})
	client, server = c.contexts(t, dcerpc.LevelPrivacy)
	tokens = tokensOf(t, client, server)
	require.Len(t, tokens, 6)
	require.NotNil(t, parseResp(t, tokens[3]).MechListMIC)
	require.Equal(t, spnego.AcceptIncomplete, parseResp(t, tokens[3]).State)
	require.NotNil(t, parseResp(t, tokens[4]).MechListMIC)
	require.Equal(t, &spnego.NegTokenResp{State: spnego.AcceptCompleted}, parseResp(t, tokens[5]))
	require.NoError(t, talk(client, server, dcerpc.LevelIntegrity))

	// And the client cannot keep its own to itself.
	client, server = c.contexts(t, dcerpc.LevelPrivacy)
	_, err = exchange(client, server, func(n int, b []byte) []byte {
		if n == 5 {
			return edit(t, b, func(r *spnego.NegTokenResp) { r.MechListMIC = nil })
		}
		return b
	})
	require.ErrorIs(t, err, spnego.ErrMechListMIC)
}

// TestMechanismWithoutMICs is good as the first choice, and for nothing else.
func TestMechanismWithoutMICs(t *testing.T) {
	w := newWorld(t)
	d := newDummy(oidUnknown)
	c := combination{initiator: negInitiator(t, d), acceptor: negAcceptor(t, w.ntlmAcceptor(t), dummyAcceptor{d})}
	client, server := c.contexts(t, dcerpc.LevelInsecureConnect)
	require.Equal(t, 2, establish(t, client, server))
	require.Equal(t, "dummy", server.Identity().Mechanism)
	require.Nil(t, server.(interface{ SessionKey() []byte }).SessionKey())

	c.initiator = negInitiator(t, w.realm.Initiator(user), d)
	client, server = c.contexts(t, dcerpc.LevelInsecureConnect)
	_, err := exchange(client, server, nil)
	require.ErrorIs(t, err, spnego.ErrMechListMIC)
	require.ErrorContains(t, err, "has no MICs")
}

func TestNothingCanBeStarted(t *testing.T) {
	w := newWorld(t)
	failing := newDummy(oidUnknown)
	failing.err = errors.New("out of order")
	c, err := negInitiator(t, w.realm.Initiator("nobody"), failing).NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, done, err := c.Step(context.Background(), nil)
	require.False(t, done)
	require.ErrorIs(t, err, failing.err)
	require.ErrorIs(t, err, krb5.ErrClientUnknown)
	_, _, err = c.Step(context.Background(), nil)
	require.ErrorIs(t, err, spnego.ErrToken, "an error ends the context")
}

// TestErrorTellsWhyNotTheBetterMechanism: who sees a failed NTLM log-on has to see what was wrong
// with Kerberos.
func TestErrorTellsWhyNotTheBetterMechanism(t *testing.T) {
	w := newWorld(t)
	c := combination{
		initiator: negInitiator(t, w.realm.Initiator("nobody"), w.ntlmInitiator(t)),
		acceptor:  negAcceptor(t, w.realm.Acceptor(target)),
	}
	client, server := c.contexts(t, dcerpc.LevelPrivacy)
	_, err := exchange(client, server, nil)
	require.ErrorIs(t, err, spnego.ErrNoMechanism, "of the server")

	rejected, err := (&spnego.NegTokenResp{State: spnego.Reject}).AppendBinary(nil)
	require.NoError(t, err)
	_, _, err = client.Step(context.Background(), rejected)
	require.ErrorIs(t, err, spnego.ErrRejected)
	require.ErrorIs(t, err, krb5.ErrClientUnknown)
}

func TestContextEndsTheOffer(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	failing := newDummy(oidUnknown)
	failing.err = context.Canceled
	c, err := negInitiator(t, failing, w.ntlmInitiator(t)).NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, _, err = c.Step(ctx, nil)
	require.ErrorIs(t, err, context.Canceled, "no NTLM because a caller lost patience")
}

func TestServerSpeaksFirst(t *testing.T) {
	w := newWorld(t)
	c, err := negInitiator(t, w.ntlmInitiator(t)).NewContext(target, dcerpc.LevelPrivacy)
	require.NoError(t, err)
	_, _, err = c.Step(context.Background(), []byte{0x60, 0})
	require.ErrorIs(t, err, spnego.ErrToken)
}

// TestBrokenTokens truncates every token at every length and flips a bit of every byte. What is not
// protected may change, a token of a mechanism that is not chosen above all; but nobody panics, and
// who is let in is who it was.
func TestBrokenTokens(t *testing.T) {
	w := newWorld(t)
	all := w.combinations(t)
	for _, name := range []string{"SPNEGO with NTLM", "SPNEGO with Kerberos", "SPNEGO, the server has no Kerberos",
		"SPNEGO, the server has no NTLM"} {
		c := all[slices.IndexFunc(all, func(c combination) bool { return c.name == name })]
		t.Run(name, func(t *testing.T) {
			broken, survived := 0, 0
			// try has one token changed, and reports whether it was, and how that ended.
			try := func(leg int, change func([]byte) []byte) (changed bool, err error) {
				client, server := c.contexts(t, dcerpc.LevelPrivacy)
				_, err = exchange(client, server, func(n int, b []byte) []byte {
					if n != leg {
						return b
					}
					out := change(bytes.Clone(b))
					changed = !bytes.Equal(out, b)
					return out
				})
				if err == nil {
					require.Equal(t, user, server.Identity().Account)
					require.NoError(t, talk(client, server, dcerpc.LevelPrivacy))
				}
				return changed, err
			}
			client, server := c.contexts(t, dcerpc.LevelPrivacy)
			for n, token := range tokensOf(t, client, server) {
				// Kerberos' tokens are long, and differ by a byte or two from one exchange to the
				// next.
				for i := 0; i < len(token); i += 1 + len(token)/100 {
					changed, err := try(n+1, func(b []byte) []byte { return b[:min(i, len(b))] })
					require.Equal(t, changed, err != nil, "token %d cut at %d", n+1, i)

					changed, err = try(n+1, func(b []byte) []byte {
						if i < len(b) {
							b[i] ^= 1 << (i % 8)
						}
						return b
					})
					if changed {
						broken++
						if err == nil {
							survived++
						}
					}
				}
			}
			t.Logf("%d of %d changed exchanges came to a good end", survived, broken)
		})
	}
}
