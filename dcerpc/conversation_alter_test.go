package dcerpc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

// multiplexed offers security context multiplexing beside the echo interface.
func multiplexed() func(*pdu.Bind) {
	return offer(element(0, echoInterface()), element(9, echoInterface(), pdu.FeatureSyntax(pdu.SecurityContextMultiplexing)))
}

func legs(n int) func(*setup) {
	return func(s *setup) { s.mech.Legs = n }
}

func TestConversationsAlter(t *testing.T) {
	unsupported := rejected(pdu.ProviderRejection, pdu.ProposedTransferSyntaxesUnsupported)
	foreign := unknownInterface()

	// An alter_context of these contexts, after a bind of context 0 to echo with NDR 2.0 (or 64).
	answers := func(rule string, first dcerpc.SyntaxID, e []pdu.ContextElement, want ...pdu.ContextResult) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			r.bound(offer(element(0, echoInterface(), first)))
			r.send(alter(e...))
			require.Equal(r.t, want, r.alterResp().Results)
			r.alive()
		}}
	}
	breaks := func(rule string, first dcerpc.SyntaxID, e ...pdu.ContextElement) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			r.bound(offer(element(0, echoInterface(), first)))
			r.send(alter(e...))
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}}
	}
	// An alter_context in the middle of an exchange, with a changed trailer.
	changed := func(rule string, status pdu.FaultStatus, change func(*pdu.AlterContext)) conversation {
		return conversation{rule: rule, setup: legs(4), talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			ack := r.bound(withAuth(sec.auth(token)))
			p := alterAuth(sec.auth(r.step(sec, ack.Auth.Token)))
			change(p)
			r.send(p)
			r.fatal(2, 0, status, dne)
		}}
	}

	converse(t, []conversation{
		// Presentation contexts.
		breaks("C706 12.6.4.1: alter_context without a context: nca_s_proto_error, DNE, end (Windows)", pdu.NDR20()),
		breaks("C706 12.6.4.1: a context without a transfer syntax: nca_s_proto_error, DNE, end (Windows)", pdu.NDR20(),
			element(1, otherInterface(), []dcerpc.SyntaxID{}...)),
		answers("MS-RPCE 3.3.1.5.6: a new id may have any interface and syntax", pdu.NDR20(),
			[]pdu.ContextElement{element(1, otherInterface(), pdu.NDR64())}, accepted(pdu.NDR64())),
		answers("MS-RPCE 3.3.1.5.6: a context that is offered as it is is accepted again", pdu.NDR20(),
			[]pdu.ContextElement{element(0, echoInterface())}, accepted(pdu.NDR20())),
		breaks("MS-RPCE 3.3.1.5.6: a context cannot change its interface: nca_s_proto_error, DNE, end", pdu.NDR20(),
			element(0, otherInterface())),
		breaks("Windows: a context of NDR 2.0 that offers NDR64 too: nca_s_proto_error, as NDR64 would be chosen", pdu.NDR20(),
			element(0, echoInterface(), pdu.NDR20(), pdu.NDR64())),
		breaks("Windows: a context of NDR64 that offers NDR 2.0 alone: nca_s_proto_error, DNE, end", pdu.NDR64(),
			element(0, echoInterface())),
		answers("Windows: a context that offers unsupported syntaxes only: rejected, the connection lives", pdu.NDR20(),
			[]pdu.ContextElement{element(0, echoInterface(), foreign)}, unsupported),
		answers("Windows: at most one context of an alter_context is accepted, new ones and existing ones alike", pdu.NDR20(),
			[]pdu.ContextElement{element(4, otherInterface()), element(0, echoInterface())}, accepted(pdu.NDR20()), unsupported),
		answers("Windows: at most one context of an alter_context is accepted, the existing one first", pdu.NDR20(),
			[]pdu.ContextElement{element(0, echoInterface()), element(4, otherInterface())}, accepted(pdu.NDR20()), unsupported),
		answers("MS-RPCE 3.3.1.5.3: features are negotiated in the bind alone", pdu.NDR20(),
			[]pdu.ContextElement{element(1, echoInterface(), pdu.FeatureSyntax(1))}, unsupported),
		answers("C706 12.6.3.1: an unknown interface: abstract_syntax_not_supported", pdu.NDR20(),
			[]pdu.ContextElement{element(1, unknownInterface())}, rejected(pdu.ProviderRejection, pdu.AbstractSyntaxNotSupported)),
		{rule: "C706 12.6.4.1: calls name the context that they belong to", talk: func(r *raw) {
			r.bound()
			r.send(alter(element(7, otherInterface())))
			r.alterResp()
			r.send(request(3, opEcho, nil, onContext(7)))
			r.fatal(3, 7, pdu.FaultAccessDenied, 0) // this interface wants signatures
		}},
		{rule: "C706 12.6.4.2: the bytes of an alter_context_resp; sizes and group of the alter_context are ignored", talk: func(r *raw) {
			group := r.bound().AssocGroup
			p := alter(element(0, echoInterface()))
			p.MaxXmit, p.MaxRecv, p.AssocGroup = 1, 2, 3
			r.send(p)
			got, err := r.ReceiveBytes()
			require.NoError(r.t, err)
			resp, err := pdu.ParseAlterContextResp(got)
			require.NoError(r.t, err)
			require.Equal(r.t, group, resp.AssocGroup)
			copy(got[20:24], "****")
			require.Equal(r.t, "\x05\x00\x0f\x03\x10\x00\x00\x00\x38\x00\x00\x00\x02\x00\x00\x00"+
				"\xd0\x16\xd0\x16****\x00\x00\x00\x00"+
				"\x01\x00\x00\x00\x00\x00\x00\x00\x04\x5d\x88\x8a\xeb\x1c\xc9\x11\x9f\xe8\x08\x00\x2b\x10\x48\x60\x02\x00\x00\x00", string(got))
		}},
		{rule: "MS-RPCE 3.3.1.5.2.2: header signing is granted by an alter_context too, for the whole connection at once (Windows)", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.aliveSecurely(sec)
			p := alter(element(0, echoInterface()))
			p.Flags |= pdu.SupportHeaderSign
			r.send(p)
			require.Equal(r.t, both|pdu.SupportHeaderSign, r.alterResp().Flags)
			r.sign = true
			r.aliveSecurely(sec)
		}},

		// Security legs.
		{rule: "MS-RPCE 3.3.1.5.4: an exchange of four legs; the last answer has an empty token and its trailer all the same (Windows)",
			setup: legs(3), talk: func(r *raw) {
				sec, token := r.initiate(1, dcerpc.LevelPrivacy)
				ack := r.bound(withAuth(sec.auth(token)))
				r.send(alterAuth(sec.auth(r.step(sec, ack.Auth.Token))))
				b, err := r.ReceiveBytes()
				require.NoError(r.t, err)
				require.Equal(r.t, []byte{10, 6, 0, 0, 1, 0, 0, 0}, b[len(b)-8:])
				resp, err := pdu.ParseAlterContextResp(b)
				require.NoError(r.t, err)
				require.Zero(r.t, resp.AuthLength)
				require.Equal(r.t, sec.auth([]byte{}).Type, resp.Auth.Type)
				r.aliveSecurely(sec)
			}},
		{rule: "C706 12.6.4.2: an alter_context without security is answered without a trailer", talk: func(r *raw) {
			r.bound()
			r.send(alter(element(0, echoInterface())))
			resp := r.alterResp()
			require.False(r.t, resp.Auth.Present())
			require.EqualValues(r.t, 56, resp.FragLength)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: a security context may be opened by an alter_context after a bind without", talk: func(r *raw) {
			r.bound()
			r.aliveSecurely(r.further(5, dcerpc.LevelPrivacy))
			r.alive()
		}},
		{rule: "MS-RPCE 3.3.1.5.4: several security contexts on a connection", talk: func(r *raw) {
			one := r.securely(dcerpc.LevelPrivacy, multiplexed())
			two := r.further(2, dcerpc.LevelIntegrity)
			three := r.further(0xFFFFFFFF, dcerpc.LevelPacket)
			for range 3 {
				r.aliveSecurely(one)
				r.aliveSecurely(two)
				r.aliveSecurely(three)
			}
		}},
		{rule: "MS-RPCE 3.3.1.5.3: with multiplexing another exchange may begin before the end of the first", talk: func(r *raw) {
			one, token := r.initiate(1, dcerpc.LevelPrivacy)
			ack := r.bound(multiplexed(), withAuth(one.auth(token)))
			two := r.further(2, dcerpc.LevelIntegrity)
			r.aliveSecurely(two)
			r.send(auth3(one.auth(r.step(one, ack.Auth.Token))))
			r.aliveSecurely(one)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: an exchange that is over cannot go on: access denied, DNE, end (Windows)", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.send(alterAuth(sec.auth([]byte("more"))))
			r.fatal(2, 0, pdu.FaultAccessDenied, dne)
		}},
		changed("MS-RPCE 3.3.1.5.4: another auth type in the middle: sec_pkg_error, DNE, end (Windows)", pdu.FaultSecPkgError,
			func(p *pdu.AlterContext) { p.Auth.Type = 9 }),
		changed("MS-RPCE 3.3.1.5.4: another auth level in the middle: access denied, DNE, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.AlterContext) { p.Auth.Level = 6 }),
		changed("MS-RPCE 3.3.1.5.4: another auth type goes before another level (Windows)", pdu.FaultSecPkgError,
			func(p *pdu.AlterContext) { p.Auth.Type, p.Auth.Level = 9, 6 }),
		changed("MS-RPCE 3.3.1.5.4: another context id in the middle, without multiplexing: access denied, DNE, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.AlterContext) { p.Auth.ContextID = 2 }),
		changed("MS-RPCE 3.3.1.5.4: auth type 0 in the middle: access denied, DNE, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.AlterContext) { p.Auth.Type = 0 }),
		changed("Windows: what is wrong with the contexts goes before what is wrong with the trailer", pdu.FaultProtocolError,
			func(p *pdu.AlterContext) {
				p.Auth.Type, p.Contexts = 9, []pdu.ContextElement{element(0, otherInterface())}
			}),
		changed("MS-RPCE 3.3.1.5.4: the mechanism refuses a token: access denied, DNE, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.AlterContext) { p.Auth.Token = []byte("junk") }),
		changed("MS-RPCE 2.2.2.11: auth padding in an alter_context: nca_s_proto_error, DNE, end (Windows)", pdu.FaultProtocolError,
			func(p *pdu.AlterContext) { p.Auth.Padding, p.Auth.PadLength = zeros(4), 4 }),
		changed("MS-RPCE 2.2.2.11: trailer not at a multiple of 4: nca_s_proto_error, DNE, end (Windows)", pdu.FaultProtocolError,
			func(p *pdu.AlterContext) { p.Auth.Padding = zeros(3) }),
		{rule: "C706 13.2.6.1: no room for the trailer of an alter_context: nca_s_proto_error, DNE, end", talk: func(r *raw) {
			r.bound()
			r.sendEdited(alter(element(0, echoInterface())), func(b []byte) { b[10] = 60 })
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "C706 12.6.4.1: an alter_context that is too short for its body is not answered (Samba)", talk: func(r *raw) {
			r.bound()
			r.sendEdited(alter(element(0, echoInterface())), func(b []byte) { b[24] = 9 })
			r.end()
		}},
		{rule: "Windows: bytes between contexts and trailer of an alter_context are ignored where auth_pad_length is 0", setup: legs(4), talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelPrivacy)
			a := sec.auth(r.step(sec, r.bound(withAuth(sec.auth(token))).Auth.Token))
			a.Padding = zeros(44)
			r.send(alterAuth(a))
			r.step(sec, r.alterResp().Auth.Token)
			r.aliveSecurely(sec)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: unknown auth type for a further context: access denied, DNE, end", talk: func(r *raw) {
			r.bound()
			r.send(alterAuth(pdu.Auth{Type: 77, Level: 5, Token: []byte("none")}))
			r.fatal(2, 0, pdu.FaultAccessDenied, dne)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: level none for a further context: access denied, DNE, end", talk: func(r *raw) {
			r.bound()
			r.send(alterAuth(pdu.Auth{Type: 10, Level: 1, Token: []byte("none")}))
			r.fatal(2, 0, pdu.FaultAccessDenied, dne)
		}},
		{
			rule:  "Windows: too many security contexts (2048 there, Limits here): nca_s_proto_error, DNE, end",
			setup: func(s *setup) { s.server.Limits.SecurityContexts = 2 },
			talk: func(r *raw) {
				r.bound()
				r.further(1, dcerpc.LevelIntegrity)
				r.further(2, dcerpc.LevelIntegrity)
				_, token := r.initiate(3, dcerpc.LevelIntegrity)
				r.send(alterAuth(pdu.Auth{Type: 10, Level: 5, ContextID: 3, Token: token}))
				r.fatal(2, 0, pdu.FaultProtocolError, dne)
			},
		},
	})
}

func TestConversationsAuth3(t *testing.T) {
	// An auth3 in due time, with a changed trailer.
	changed := func(rule string, status pdu.FaultStatus, change func(*pdu.Auth3)) conversation {
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
		{rule: "MS-RPCE 3.3.1.5.4: an auth3 ends an exchange of three legs and is not answered", talk: func(r *raw) {
			r.aliveSecurely(r.securely(dcerpc.LevelPrivacy))
		}},
		{rule: "MS-RPCE 3.3.1.5.4: an auth3 without an exchange: nca_s_proto_error, DNE, end (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(auth3(pdu.Auth{Type: 10, Level: 5, ContextID: 1, Token: []byte("x")}))
			r.fatal(1, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: an auth3 after the end of the exchange: nca_s_proto_error, DNE, end (Windows)", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.send(auth3(sec.auth([]byte("x"))))
			r.fatal(1, 0, pdu.FaultProtocolError, dne)
		}},
		changed("MS-RPCE 3.3.1.5.4: an auth3 for an unknown context: nca_s_proto_error, DNE, end (Windows)", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.ContextID = 2 }),
		changed("Windows: an auth3 token of more than 4096 bytes: nca_s_proto_error, DNE, end", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.Token = zeros(4100) }),
		changed("Windows: an auth3 without a token: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth = pdu.Auth{} }),
		changed("Windows: an auth3 of another type: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth.Type = 9 }),
		changed("Windows: an auth3 of another level: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth.Level = 6 }),
		changed("Windows: auth padding in an auth3: 0x1C00001B, DNE, end", pdu.FaultRemoteNoMemory,
			func(p *pdu.Auth3) { p.Auth.Padding, p.Auth.PadLength = zeros(4), 4 }),
		changed("Windows: trailer of an auth3 not at a multiple of 4: nca_s_proto_error, DNE, end", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.Padding = zeros(1) }),
		changed("Windows: an auth3 larger than the transport's fragment: nca_s_proto_error, DNE, end", pdu.FaultProtocolError,
			func(p *pdu.Auth3) { p.Auth.Padding = zeros(5840) }),
		{rule: "Windows: a token that the mechanism refuses in an auth3 is not answered; the next request is: access denied, end", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			r.bound(withAuth(sec.auth(token)))
			r.send(auth3(sec.auth([]byte("junk"))))
			r.send(request(2, opEcho, nil))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: an exchange that failed in an auth3 cannot go on: access denied, DNE, end", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			r.bound(withAuth(sec.auth(token)))
			r.send(auth3(sec.auth([]byte("junk"))))
			r.send(alterAuth(sec.auth([]byte("more"))))
			r.fatal(2, 0, pdu.FaultAccessDenied, dne)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: an auth3 for an exchange that needs more legs has failed", setup: legs(5), talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			ack := r.bound(withAuth(sec.auth(token)))
			r.send(auth3(sec.auth(r.step(sec, ack.Auth.Token))))
			r.send(request(2, opEcho, nil))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
	})
}
