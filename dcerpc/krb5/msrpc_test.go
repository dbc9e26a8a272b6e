package krb5_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	msrpckrb5 "github.com/oiweiwei/go-msrpc/ssp/krb5"
	msrpcconfig "github.com/oiweiwei/gokrb5.fork/v9/config"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/flags"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

var msrpcEtypes = []krb5.Etype{krb5.AES128SHA1, krb5.AES256SHA1, krb5.RC4HMAC}

// Tokens of ours and go-msrpc's are the same, in both directions, signed and sealed, with header
// signing and without.
func TestTokensOfGoMSRPC(t *testing.T) {
	t.Parallel()
	for _, etype := range msrpcEtypes {
		p := newPair(t, etype)
		ends := []*krb5.Context{p.initiator, p.acceptor}
		for d, ours := range ends {
			fromInitiator := d == 0
			theirs := msrpcCipher(t, etype, ours.SessionKey(), fromInitiator)
			reader := ends[1-d]
			for _, signHeader := range []bool{false, true} {
				for _, size := range []int{16, 32, 208, 4000, 13} {
					body := bytes.Repeat([]byte{0x37}, size)
					parts := func(f *frame) ([][]byte, [][]byte) {
						if signHeader {
							return [][]byte{f.header, f.body, f.trailer}, [][]byte{f.body}
						}
						return [][]byte{f.body}, [][]byte{f.body}
					}
					// Ours, read by theirs.
					seq := ours.SendSequence()
					f := protect(t, ours, body, true, signHeader)
					require.NoError(t, f.clone().check(reader))
					forSign, forSeal := parts(f)
					ok, err := theirs.UnwrapEx(t.Context(), seq, forSign, forSeal, f.token)
					require.NoError(t, err)
					require.True(t, ok)
					require.Equal(t, body, f.body)

					seq = ours.SendSequence()
					f = protect(t, ours, body, false, signHeader)
					require.NoError(t, f.clone().check(reader))
					forSign, _ = parts(f)
					mic, err := theirs.MakeSignature(t.Context(), seq, forSign)
					require.NoError(t, err)
					require.Equal(t, mic, f.token)

					// Theirs, read by ours.
					f = &frame{header: []byte("header"), body: bytes.Clone(body), trailer: []byte("trailer."),
						signHeader: signHeader, sealed: true}
					forSign, forSeal = parts(f)
					f.token, err = theirs.WrapEx(t.Context(), ours.SendSequence(), forSign, forSeal)
					require.NoError(t, err)
					reader.SetRecvSequence(ours.SendSequence())
					require.NoError(t, f.check(reader))
					require.Equal(t, body, f.body)
					reader.SetRecvSequence(ours.SendSequence())
				}
			}
		}
	}
}

// go-msrpc's initiator and our acceptor: the whole exchange, then messages in both directions.
func TestGoMSRPCInitiator(t *testing.T) {
	t.Parallel()
	for _, etype := range msrpcEtypes {
		t.Run(etype.String(), func(t *testing.T) {
			t.Parallel()
			r := newRealm(etype)
			ticket, err := r.Ticket(testUser, testService, nil)
			require.NoError(t, err)
			var cc credentials.CCache
			require.NoError(t, cc.Unmarshal(appendCCache(ticket.Client, ticket)))
			theirs := &msrpckrb5.Authentifier{Config: &msrpckrb5.Config{
				KRB5Config: msrpckrb5.ParsedLibDefaults(msrpcconfig.New()),
				Credential: credential.NewFromCCache(testUser, &cc),
				SName:      testService,
				DCEStyle:   true,
				Flags: []int{int(gssapi.MutualAuthn), int(gssapi.ReplayDetection), int(gssapi.Sequencing),
					int(gssapi.Integrity), int(gssapi.Confidentiality), int(gssapi.DCEStyle)},
				APOptions: []int{flags.APOptionMutualRequired},
			}}
			ctx := context.Background()
			req, err := theirs.APRequest(ctx)
			require.NoError(t, err)
			c, err := r.Acceptor().NewContext(dcerpc.LevelPrivacy)
			require.NoError(t, err)
			rep, _, err := c.Step(ctx, req)
			require.NoError(t, err)
			third, err := theirs.APReply(ctx, rep)
			require.NoError(t, err)
			_, done, err := c.Step(ctx, third)
			require.NoError(t, err)
			require.True(t, done)
			ours := c.(*krb5.Context)
			require.Equal(t, theirs.ExportedSessionKey, ours.SessionKey())
			require.Equal(t, testUser, ours.Identity().Account)

			for range 3 {
				f := &frame{header: []byte("header"), body: []byte("sixteen bytes..."), trailer: []byte("trailer."),
					signHeader: true, sealed: true}
				f.token, err = theirs.WrapExOutboundPayload(ctx, [][]byte{f.header, f.body, f.trailer},
					[][]byte{f.body})
				require.NoError(t, err)
				require.NoError(t, f.check(ours))
				f = protect(t, ours, []byte("sixteen bytes..."), true, true)
				ok, err := theirs.UnwrapExInboundPayload(ctx, [][]byte{f.header, f.body, f.trailer}, [][]byte{f.body},
					f.token)
				require.NoError(t, err)
				require.True(t, ok)
			}
		})
	}
}
