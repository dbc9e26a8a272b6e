package dcerpc_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5/krb5test"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// TestWindows2022 has what Windows Server 2022 answers on the raw level, where the standards leave a choice or say
// otherwise; its authority is Samba's raw protocol tests, which were run against Windows.
func TestWindows2022(t *testing.T) {
	const service = "host/fs1.example.test"
	realm := krb5test.NewRealm("EXAMPLE.TEST", 0)
	realm.AddService(service)
	realm.AddUser("backup")
	// cut makes a PDU end after its count of contexts, and says how long its token is.
	cut := func(r *raw, p pdu.PDU, authLength byte) {
		r.sendEditedTo(p, 25, func(b []byte) { b[8], b[9], b[10] = 25, 0, authLength })
	}
	// An auth3 in due time, with a changed trailer.
	third := func(rule string, status pdu.FaultStatus, change func(*pdu.Auth3)) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			ack := r.bound(withAuth(sec.auth(token)))
			p := auth3(sec.auth(r.step(sec, ack.Auth.Token)))
			change(p)
			r.send(p)
			r.fatal(1, 0, status, dne)
		}}
	}
	converse(t, []conversation{
		{rule: "1a a bind of 25 bytes, without contexts: bind_nak 4, end", talk: func(r *raw) {
			cut(r, bind(offer()), 0)
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "1b the same with an auth_length that does not fit: bind_nak 4, end", talk: func(r *raw) {
			cut(r, bind(offer()), 8)
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "1c an alter_context of 25 bytes, without contexts: nca_s_proto_error, DNE, context 0, end", talk: func(r *raw) {
			r.bound()
			p := alter(element(0, echoInterface()))
			p.Contexts = nil
			cut(r, p, 0)
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "2 level call of an unknown auth type: bind_nak 8", talk: func(r *raw) {
			r.send(bind(withAuth(pdu.Auth{Type: 1, Level: 3, Token: []byte("none")})))
			r.nak(pdu.NakAuthTypeNotRecognized)
		}},
		{rule: "3a CONC_MPX in an alter_context, not in the bind: not in the alter_context_resp", talk: func(r *raw) {
			r.bound()
			p := alter(element(0, echoInterface()))
			p.Flags = pdu.ConcMPX
			r.send(p)
			require.Equal(r.t, both, r.alterResp().Flags)
			r.alive()
		}},
		{rule: "3b all flags in an alter_context: first, last, header signing", talk: func(r *raw) {
			r.bound()
			p := alter(element(0, echoInterface()))
			p.Flags = 0xFF
			r.send(p)
			require.Equal(r.t, both|pdu.SupportHeaderSign, r.alterResp().Flags)
		}},
		third("4a auth_pad_length in an auth3: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth.Padding, p.Auth.PadLength = []byte{}, 1 }),
		third("4b an auth3 token of more than 4096 bytes: nca_s_proto_error, DNE, end", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.Token = zeros(5812) }),
		third("4c an auth3 for an unknown security context: nca_s_proto_error, DNE, end", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.ContextID = 2 }),
		third("4d an auth3 without a token: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth = pdu.Auth{} }),
		third("4e an auth3 of another auth type: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth.Type = 9 }),
		third("4f an auth3 of another auth level: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth.Level = 6 }),
		third("4g an auth3 larger than the transport's fragment: nca_s_proto_error, DNE, end", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.Padding = zeros(5840) }),
		{rule: "5 an auth3 for a mechanism that would answer: silence, then access denied without DNE, end", setup: legs(4), talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelInsecureConnect)
			ack := r.bound(withAuth(sec.auth(token)), offer(element(3, echoInterface())))
			r.send(auth3(sec.auth(r.step(sec, ack.Auth.Token))))
			r.send(request(2, opEcho, nil, onContext(3)))
			r.fatal(2, 3, pdu.FaultAccessDenied, 0)
		}},
		{rule: "6 auth type 0 in an alter_context that also changes its syntax: access denied, DNE, end", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			ack := r.bound(withAuth(sec.auth(token)))
			a := sec.auth(r.step(sec, ack.Auth.Token))
			a.Type = 0
			r.send(alterAuth(a, element(0, echoInterface(), pdu.NDR20(), pdu.NDR64())))
			r.fatal(2, 0, pdu.FaultAccessDenied, dne)
		}},
		{rule: "7 trailer of a request not at a multiple of 4: nca_s_proto_error, the request's context, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity, offer(element(0x1001, echoInterface())))
			r.sendProtected(sec, request(2, opEcho, []byte("x"), onContext(0x1001)), func(p *pdu.Request) {
				p.Auth.Padding, p.Auth.PadLength = zeros(1), 1
			})
			r.fatal(2, 0x1001, pdu.FaultProtocolError, 0)
		}},
		{rule: "8 NTLM without sealing at the privacy level: bind_ack, then 0x721, DNE, end", setup: func(s *setup) { realNTLM(t, s) }, talk: func(r *raw) {
			i, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "D", User: "u", Password: "secret"})
			require.NoError(r.t, err)
			ctx, err := i.NewContext("", dcerpc.LevelIntegrity) // does not offer to seal
			require.NoError(r.t, err)
			token, _, err := ctx.Step(context.Background(), nil)
			require.NoError(r.t, err)
			sec := &rawSecurity{ctx, 1, dcerpc.AuthNTLM, dcerpc.LevelPrivacy}
			ack := r.bound(withAuth(sec.auth(token)))
			r.send(alterAuth(sec.auth(r.step(sec, ack.Auth.Token))))
			r.fatal(2, 0, pdu.FaultSecPkgError, dne)
		}},
		{rule: "8 Kerberos without GSS_C_CONF at the privacy level: bind_ack, then 0x721, DNE, end", setup: func(s *setup) {
			s.server.Acceptors = append(s.server.Acceptors, realm.Acceptor())
		}, talk: func(r *raw) {
			ctx, err := realm.Initiator("backup").NewContext(service, dcerpc.LevelIntegrity) // does not ask for CONF
			require.NoError(r.t, err)
			token, _, err := ctx.Step(context.Background(), nil)
			require.NoError(r.t, err)
			sec := &rawSecurity{ctx, 1, dcerpc.AuthKerberos, dcerpc.LevelPrivacy}
			ack := r.bound(withAuth(sec.auth(token)))
			r.send(alterAuth(sec.auth(r.step(sec, ack.Auth.Token))))
			r.fatal(2, 0, pdu.FaultSecPkgError, dne)
		}},
		{rule: "8 the same, with an auth3: 0x721 for the first protected request, end", setup: func(s *setup) {
			s.server.Acceptors = append(s.server.Acceptors, realm.Acceptor())
		}, talk: func(r *raw) {
			ctx, err := realm.Initiator("backup").NewContext(service, dcerpc.LevelIntegrity)
			require.NoError(r.t, err)
			token, _, err := ctx.Step(context.Background(), nil)
			require.NoError(r.t, err)
			sec := &rawSecurity{ctx, 1, dcerpc.AuthKerberos, dcerpc.LevelPrivacy}
			ack := r.bound(withAuth(sec.auth(token)))
			r.send(auth3(sec.auth(r.step(sec, ack.Auth.Token))))
			r.sendProtected(sec, request(2, opEcho, []byte("secret")))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
	})
}

// sendEditedTo writes the first n bytes of a PDU, changed.
func (r *raw) sendEditedTo(p pdu.PDU, n int, edit func([]byte)) {
	r.t.Helper()
	b, err := p.AppendBinary(nil)
	require.NoError(r.t, err)
	b = b[:n]
	edit(b)
	require.NoError(r.t, r.SendBytes(b))
}

func realNTLM(t *testing.T, s *setup) {
	hash := ntlm.NTHash("secret")
	file := filepath.Join(t.TempDir(), "hashes")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "D\\u\t%s\n", hex.EncodeToString(hash[:])), 0o600))
	accounts, err := ntlm.OpenHashFile(file)
	require.NoError(t, err)
	a, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts})
	require.NoError(t, err)
	s.server.Acceptors = append(s.server.Acceptors, a)
}
