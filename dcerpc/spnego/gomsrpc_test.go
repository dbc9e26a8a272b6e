package spnego_test

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"testing"

	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-msrpc/ssp/name"
	gospnego "github.com/oiweiwei/go-msrpc/ssp/spnego"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
)

// A gssContext is go-msrpc's side of an exchange as a dcerpc.Context.
type gssContext struct {
	dcerpc.Context // nil: the tests call none of its other methods
	ctx            context.Context
	step           func(context.Context, *gssapi.Token, ...gssapi.Option) (*gssapi.Token, error)
	opts           []gssapi.Option
	server         bool
}

// gssOptions ask for what our levels are.
func gssOptions(level dcerpc.AuthLevel) []gssapi.Option {
	caps := gssapi.Integrity | gssapi.ReplayDetection | gssapi.Sequencing
	if level == dcerpc.LevelPrivacy {
		caps |= gssapi.Confidentiality
	}
	return []gssapi.Option{gssapi.WithRequest(caps), gssapi.WithTargetName(target)}
}

// gssInitiator is go-msrpc as a client with one or more mechanisms, the first of which is used.
func gssInitiator(level dcerpc.AuthLevel, mechs ...gssapi.ContextOption) *gssContext {
	cred := gssapi.WithCredential(credential.NewFromPassword(`FSRVP\`+user, password))
	return &gssContext{
		ctx:  gssapi.NewSecurityContext(context.Background(), append(mechs, cred)...),
		step: gssapi.InitSecurityContext,
		opts: gssOptions(level),
	}
}

// gssAcceptor is go-msrpc as a server.
func gssAcceptor(level dcerpc.AuthLevel, mechs ...gssapi.ContextOption) *gssContext {
	db := credential.NewLocalDatabase()
	db.Add(credential.NewFromPassword(`FSRVP\`+user, password))
	return &gssContext{
		ctx:  gssapi.NewSecurityContext(context.Background(), mechs...),
		step: gssapi.AcceptSecurityContext,
		opts: append(gssOptions(level),
			gssapi.WithCredentialDatabase(gssapi.NewCredentialDatabase(db)),
			gssapi.WithServerNames(name.NetBIOS(`FSRVP\FS`))),
		server: true,
	}
}

func (c *gssContext) Step(_ context.Context, in []byte) ([]byte, bool, error) {
	token, err := c.step(c.ctx, &gssapi.Token{Payload: in}, c.opts...)
	if err != nil {
		return nil, false, err
	}
	out := token.Payload
	if c.server && len(out) > 0 && out[0] == 0xa1 {
		out, err = unwrapMech(out)
	}
	return out, gssapi.IsComplete(c.ctx), err
}

// unwrapMech takes supportedMech out of the SEQUENCE that go-msrpc's server puts around it, against
// RFC 4178 and every other implementation.
func unwrapMech(b []byte) ([]byte, error) {
	var t gospnego.NegTokenResp
	if err := t.Unmarshal(context.Background(), b); err != nil {
		return nil, err
	}
	resp := spnego.NegTokenResp{SupportedMech: t.SupportedMech, ResponseToken: t.ResponseToken,
		MechListMIC: t.MechListMIC}
	if t.State != 0 { // it leaves accept-completed, 0, out
		resp.State = spnego.NegState(t.State) + spnego.AcceptCompleted
	}
	return resp.AppendBinary(nil)
}

func (c *gssContext) TokenSize(dcerpc.AuthLevel) int { return ntlm.SignatureSize }

// parts are a message as go-msrpc takes it.
func parts(m dcerpc.Message, seal bool) *gssapi.MessageTokenEx {
	body := gssapi.Integrity
	if seal {
		body |= gssapi.Confidentiality
	}
	return &gssapi.MessageTokenEx{Payloads: []*gssapi.PayloadEx{
		{Payload: m.Header, Capabilities: gssapi.Integrity},
		{Payload: m.Body, Capabilities: body},
		{Payload: m.Trailer, Capabilities: gssapi.Integrity},
	}}
}

func (c *gssContext) Sign(m dcerpc.Message, token []byte) error {
	t, err := gssapi.MakeSignatureEx(c.ctx, parts(m, false))
	if err == nil {
		copy(token, t.Signature)
	}
	return err
}

func (c *gssContext) Seal(m dcerpc.Message, token []byte) error {
	t, err := gssapi.WrapEx(c.ctx, parts(m, true))
	if err == nil {
		copy(token, t.Signature)
	}
	return err
}

func (c *gssContext) Verify(m dcerpc.Message, token []byte) error {
	p := parts(m, false)
	p.Signature = token
	return gssapi.VerifySignatureEx(c.ctx, p)
}

func (c *gssContext) Unseal(m dcerpc.Message, token []byte) error {
	// It returns the signature that it expects, and leaves the comparison to the caller.
	t, err := gssapi.UnwrapEx(c.ctx, parts(m, true))
	if err == nil && subtle.ConstantTimeCompare(t.Signature, token) != 1 {
		err = errors.New("go-msrpc: bad signature")
	}
	return err
}

// TestGoMSRPC has go-msrpc's NTLM and SPNEGO as either side of ours.
func TestGoMSRPC(t *testing.T) {
	w := newWorld(t)
	ntlmInitiator, ntlmAcceptor := w.ntlmInitiator(t), w.ntlmAcceptor(t)
	ours := map[string]combination{
		"NTLM":   {initiator: ntlmInitiator, acceptor: ntlmAcceptor},
		"SPNEGO": {initiator: negInitiator(t, ntlmInitiator), acceptor: negAcceptor(t, w.realm.Acceptor(target), ntlmAcceptor)},
	}
	theirs := map[string][]gssapi.ContextOption{"NTLM": {ssp.NTLM}, "SPNEGO": {ssp.SPNEGO, ssp.NTLM}}
	for mechanism, c := range ours {
		for _, level := range levels() {
			t.Run(fmt.Sprint(mechanism, "/their client/level ", level), func(t *testing.T) {
				_, server := c.contexts(t, level)
				client := gssInitiator(level, theirs[mechanism]...)
				establish(t, client, server)
				require.Equal(t, user, server.Identity().Account)
				require.NoError(t, talk(client, server, level))
			})
			t.Run(fmt.Sprint(mechanism, "/their server/level ", level), func(t *testing.T) {
				client, _ := c.contexts(t, level)
				server := gssAcceptor(level, theirs[mechanism]...)
				establish(t, client, server)
				require.NoError(t, talk(client, server, level))
			})
		}
	}
}

// BenchmarkSeal seals and unseals one message with NTLM, ours and go-msrpc's.
func BenchmarkSeal(b *testing.B) {
	w := newWorld(b)
	ours := combination{initiator: w.ntlmInitiator(b), acceptor: w.ntlmAcceptor(b)}
	for _, size := range []int{200, 4000} {
		client, server := ours.contexts(b, dcerpc.LevelPrivacy)
		theirClient, theirServer := gssInitiator(dcerpc.LevelPrivacy, ssp.NTLM), gssAcceptor(dcerpc.LevelPrivacy,
			ssp.NTLM)
		for name, sides := range map[string][2]dcerpc.Context{"ours": {client, server},
			"go-msrpc": {theirClient, theirServer}} {
			establish(b, sides[0], sides[1])
			b.Run(fmt.Sprint(name, "/", size), func(b *testing.B) {
				m, token := message(size), make([]byte, ntlm.SignatureSize)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := sides[0].Seal(m, token); err != nil {
						b.Fatal(err)
					}
					if err := sides[1].Unseal(m, token); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
