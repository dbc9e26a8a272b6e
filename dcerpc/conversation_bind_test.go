package dcerpc_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

func TestConversationsBind(t *testing.T) {
	unsupported := rejected(pdu.ProviderRejection, pdu.ProposedTransferSyntaxesUnsupported)
	unknown := rejected(pdu.ProviderRejection, pdu.AbstractSyntaxNotSupported)
	wrongVersion := echoInterface()
	wrongVersion.Minor = 7
	foreign := dcerpc.SyntaxID{UUID: unknownInterface().UUID, Major: 9}

	offers := func(rule string, e []pdu.ContextElement, want ...pdu.ContextResult) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			require.Equal(r.t, want, r.bound(offer(e...)).Results)
		}}
	}
	sizes := func(rule string, xmit, recv, want uint16) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			ack := r.bound(func(p *pdu.Bind) { p.MaxXmit, p.MaxRecv = xmit, recv })
			require.Equal(r.t, want, ack.MaxXmit)
			require.Equal(r.t, want, ack.MaxRecv)
		}}
	}
	refuses := func(rule string, reason pdu.NakReason, change ...func(*pdu.Bind)) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			r.send(bind(change...))
			r.nak(reason)
		}}
	}
	level := func(l uint8, typ uint8) func(*pdu.Bind) {
		return withAuth(pdu.Auth{Type: typ, Level: l, Token: []byte("none")})
	}

	converse(t, []conversation{
		{rule: "C706 9.3.2: a request before the bind: bind_nak 4 (Windows)", talk: func(r *raw) {
			r.send(request(1, opEcho, nil))
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "C706 9.3.2: an alter_context before the bind: bind_nak 4 (Windows)", talk: func(r *raw) {
			r.send(alter(element(0, echoInterface())))
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "C706 9.3.2: an auth3 before the bind: bind_nak 4 (Windows)", talk: func(r *raw) {
			r.send(auth3(pdu.Auth{Type: 10, Level: 6, Token: []byte("x")}))
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "C706 9.3.2: a co_cancel before the bind: bind_nak 4 (Windows)", talk: func(r *raw) {
			r.send(&pdu.CoCancel{Header: pdu.Header{Flags: both, CallID: 1}})
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "C706 9.3.2: there is one bind on a connection: bind_nak 0 (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(bind())
			r.nak(pdu.NakReasonNotSpecified)
		}},
		{rule: "C706 12.6.3.1: the flags of a bind do not matter", talk: func(r *raw) {
			r.bound(func(p *pdu.Bind) { p.Flags = 0 })
			r.alive()
		}},
		{rule: "C706 12.6.4.5: the bytes of a bind_nak", talk: func(r *raw) {
			r.send(bind(offer()))
			got, err := r.ReceiveBytes()
			require.NoError(r.t, err)
			require.Equal(r.t, []byte{5, 0, 13, 3, 0x10, 0, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0, 4, 0, 1, 5, 0, 0, 0, 0}, got)
			r.end()
		}},
		{rule: "C706 12.6.4.4: the bytes of a bind_ack", talk: func(r *raw) {
			r.send(bind())
			got, err := r.ReceiveBytes()
			require.NoError(r.t, err)
			copy(got[20:24], "****") // the association group
			require.Equal(r.t, "\x05\x00\x0c\x03\x10\x00\x00\x00\x40\x00\x00\x00\x01\x00\x00\x00"+
				"\xd0\x16\xd0\x16****\x07\x00server\x00\x00\x00\x00"+
				"\x01\x00\x00\x00\x00\x00\x00\x00\x04\x5d\x88\x8a\xeb\x1c\xc9\x11\x9f\xe8\x08\x00\x2b\x10\x48\x60\x02\x00\x00\x00", string(got))
		}},

		// Sizes of fragments.
		sizes("MS-RPCE 3.3.3.5: the smaller of the client's sizes counts for both directions (Windows): xmit", 4280, 5840, 4280),
		sizes("MS-RPCE 3.3.3.5: the smaller of the client's sizes counts for both directions (Windows): recv", 5840, 4280, 4280),
		sizes("MS-RPCE 3.3.3.5: at least 2048 (Windows), MustRecvFragSize of C706 notwithstanding", 100, 1432, 2048),
		sizes("MS-RPCE 3.3.3.5: at most what the transport carries (Windows)", 65535, 65535, 5840),
		sizes("MS-RPCE 3.3.3.5: a multiple of 8 (Windows)", 3007, 3007, 3000),

		// Association groups.
		{rule: "C706 9.3.1: association group 0 makes a new one, another one joins it", talk: func(r *raw) {
			id := r.bound().AssocGroup
			require.NotZero(r.t, id)
			first := r.Peer
			r.connect()
			require.Equal(r.t, id, r.bound(func(p *pdu.Bind) { p.AssocGroup = id }).AssocGroup)
			r.alive()
			r.Peer = first
			r.alive()
		}},
		{rule: "C706 9.3.1: an unknown association group: bind_nak 0", talk: func(r *raw) {
			r.send(bind(func(p *pdu.Bind) { p.AssocGroup = 0x1234 }))
			r.nak(pdu.NakReasonNotSpecified)
		}},
		{rule: "C706 9.3.1: an association group dies with its last connection", talk: func(r *raw) {
			id := r.bound().AssocGroup
			r.sendEdited(request(1, opEcho, nil), func(b []byte) { b[8] = 0 })
			r.end()
			for {
				r.connect()
				r.send(bind(func(p *pdu.Bind) { p.AssocGroup = id }))
				if p, err := r.Receive(); err == nil && p.Head().Type == pdu.TypeBindNak {
					return
				}
				r.Close() // the server had not noticed the end yet
			}
		}},
		{rule: "MS-RPCE 3.3.3.5: an association group belongs to one client host: bind_nak 0", talk: func(r *raw) {
			id := r.bound().AssocGroup
			r.connectFrom("elsewhere")
			r.send(bind(func(p *pdu.Bind) { p.AssocGroup = id }))
			r.nak(pdu.NakReasonNotSpecified)
		}},
		{rule: "MS-RPCE 3.3.3.5: an association group belongs to one endpoint: bind_nak 0 (Windows)", talk: func(r *raw) {
			id := r.bound().AssocGroup
			r.setup.session = &dcerpc.Session{Endpoint: "another"}
			r.connect()
			r.send(bind(func(p *pdu.Bind) { p.AssocGroup = id }))
			r.nak(pdu.NakReasonNotSpecified)
		}},

		// Presentation contexts.
		refuses("C706 12.6.4.3: no presentation context: bind_nak 4 (Windows)", pdu.NakProtocolVersionNotSupported, offer()),
		refuses("C706 12.6.3.1: a context without a transfer syntax: bind_nak 0 (Windows)", pdu.NakReasonNotSpecified,
			offer(element(0, echoInterface(), []dcerpc.SyntaxID{}...), element(1, otherInterface()))),
		offers("C706 12.6.3.1: an unknown interface: provider_rejection, abstract_syntax_not_supported, syntax zero",
			[]pdu.ContextElement{element(0, unknownInterface())}, unknown),
		offers("C706 12.6.3.1: another version of the interface is another interface (Windows)",
			[]pdu.ContextElement{element(0, wrongVersion)}, unknown),
		offers("C706 12.6.3.1: no common transfer syntax: proposed_transfer_syntaxes_not_supported",
			[]pdu.ContextElement{element(0, echoInterface(), foreign)}, unsupported),
		offers("C706 12.6.3.1: an unknown transfer syntax beside a known one does not matter",
			[]pdu.ContextElement{element(0, echoInterface(), foreign, pdu.NDR20())}, accepted(pdu.NDR20())),
		offers("C706 12.6.3.1: transfer syntaxes may be repeated",
			[]pdu.ContextElement{element(0, echoInterface(), pdu.NDR20(), pdu.NDR20())}, accepted(pdu.NDR20())),
		offers("MS-RPCE 3.3.1.5.6: NDR64 goes before NDR 2.0, wherever in the list (Windows)",
			[]pdu.ContextElement{element(0, echoInterface()), element(1, echoInterface(), pdu.NDR64())},
			unsupported, accepted(pdu.NDR64())),
		offers("MS-RPCE 3.3.1.5.6: NDR64 goes before NDR 2.0 within a context",
			[]pdu.ContextElement{element(0, echoInterface(), pdu.NDR20(), pdu.NDR64())}, accepted(pdu.NDR64())),
		offers("Windows: at most one context of a bind is accepted",
			[]pdu.ContextElement{element(0, echoInterface()), element(1, otherInterface())}, accepted(pdu.NDR20()), unsupported),
		offers("C706 12.6.3.1: one result for each context, in their order",
			[]pdu.ContextElement{element(7, unknownInterface()), element(3, otherInterface()), element(5, echoInterface(), foreign)},
			unknown, accepted(pdu.NDR20()), unsupported),
		{rule: "C706 12.6.3.1: the id of an accepted context is the client's to choose", talk: func(r *raw) {
			r.bound(offer(element(0x1234, echoInterface())))
			r.send(request(2, opFault, nil, onContext(0x1234)))
			r.fault(2, 0x1234, pdu.FaultContextMismatch, 0)
		}},
		{rule: "C706 9.3.2: a bind of which nothing was accepted opens the association all the same", talk: func(r *raw) {
			r.bound(offer(element(0, unknownInterface())))
			r.send(alter(element(0, echoInterface())))
			require.Equal(r.t, []pdu.ContextResult{accepted(pdu.NDR20())}, r.alterResp().Results)
			r.alive()
		}},

		// Bind-time feature negotiation.
		offers("MS-RPCE 3.3.1.5.3: known features are granted, unknown bits are not, in the reason of negotiate_ack",
			[]pdu.ContextElement{element(0, echoInterface()), element(1, echoInterface(), pdu.FeatureSyntax(0xFF))},
			accepted(pdu.NDR20()), rejected(pdu.NegotiateAck, 3)),
		offers("MS-RPCE 3.3.1.5.3: the abstract syntax of a feature negotiation is irrelevant (Windows)",
			[]pdu.ContextElement{element(1, unknownInterface(), pdu.FeatureSyntax(1)), element(0, echoInterface())},
			rejected(pdu.NegotiateAck, 1), accepted(pdu.NDR20())),
		offers("MS-RPCE 3.3.1.5.3: a feature syntax that is not the first of its context is an unknown one (Windows)",
			[]pdu.ContextElement{element(0, echoInterface(), pdu.NDR20(), pdu.FeatureSyntax(3)), element(1, echoInterface(), foreign, pdu.FeatureSyntax(3))},
			accepted(pdu.NDR20()), unsupported),
		refuses("MS-RPCE 3.3.1.5.3: two feature negotiations: bind_nak 0 (Windows)", pdu.NakReasonNotSpecified,
			offer(element(0, echoInterface(), pdu.FeatureSyntax(3)), element(1, echoInterface(), pdu.FeatureSyntax(3)))),

		// What else an ack says.
		{
			rule:  "C706 12.6.4.4: the secondary address is the endpoint with its NUL",
			setup: func(s *setup) { s.session = &dcerpc.Session{Endpoint: `\pipe\FssagentRpc`} },
			talk: func(r *raw) {
				require.Equal(r.t, "\\pipe\\FssagentRpc\x00", r.bound().SecondaryAddress)
			},
		},
		{rule: "C706 12.6.3.1: concurrent multiplexing is granted to who asks", talk: func(r *raw) {
			require.Equal(r.t, both|pdu.ConcMPX, r.bound(flags(pdu.ConcMPX)).Flags)
		}},
		{rule: "C706 12.6.3.1: concurrent multiplexing is not granted to who does not ask", talk: func(r *raw) {
			require.Equal(r.t, both, r.bound().Flags)
		}},
		{rule: "MS-RPCE 3.3.1.5.2.2: header signing is granted to who asks, even without security (Windows)", talk: func(r *raw) {
			require.Equal(r.t, both|pdu.SupportHeaderSign, r.bound(flags(pdu.SupportHeaderSign)).Flags)
		}},
		{rule: "C706 12.6.3.1: answers to a big-endian bind are little-endian", talk: func(r *raw) {
			ack := r.bound(func(p *pdu.Bind) { p.DataRep = pdu.BigEndian })
			require.Equal(r.t, pdu.LittleEndian, ack.DataRep)
			require.Equal(r.t, []pdu.ContextResult{accepted(pdu.NDR20())}, ack.Results)
		}},

		// Security.
		refuses("MS-RPCE 3.3.1.5.4: auth level 0: bind_nak 0, before the type is looked at (Windows)", pdu.NakReasonNotSpecified, level(0, 77)),
		refuses("MS-RPCE 3.3.1.5.4: auth level none: bind_nak 0 (Windows)", pdu.NakReasonNotSpecified, level(1, 10)),
		refuses("MS-RPCE 3.3.1.5.4: auth level 7: bind_nak 0 (Windows)", pdu.NakReasonNotSpecified, level(7, 10)),
		refuses("MS-RPCE 2.2.1.1.8: auth level call: bind_nak 9 (Windows, against the text)", pdu.NakInvalidChecksum, level(3, 10)),
		refuses("MS-RPCE 3.3.1.5.4: unknown auth type: bind_nak 8", pdu.NakAuthTypeNotRecognized, level(5, 77)),
		refuses("MS-RPCE 3.3.1.5.4: the mechanism refuses the first token: bind_nak 9 (Windows)", pdu.NakInvalidChecksum, level(5, 10)),
		refuses("Windows: an NTLM token of more than 2888 bytes: bind_nak 9", pdu.NakInvalidChecksum,
			withAuth(pdu.Auth{Type: 10, Level: 5, Token: zeros(2892)})),
		refuses("MS-RPCE 2.2.2.11: the auth trailer of a bind not at a multiple of 4: bind_nak 0 (Windows)", pdu.NakReasonNotSpecified,
			withAuth(pdu.Auth{Type: 10, Level: 5, Token: []byte("toy"), Padding: zeros(2)})),
		refuses("MS-RPCE 2.2.2.11: auth padding in a bind: bind_nak 4 (Windows)", pdu.NakProtocolVersionNotSupported,
			withAuth(pdu.Auth{Type: 10, Level: 5, Token: []byte("toy"), Padding: zeros(4), PadLength: 4})),
		{rule: "C706 13.2.6.1: no room for the auth trailer of a bind: bind_nak 4 (Windows)", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[10] = 60 })
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "Windows: bytes between the contexts and the trailer are ignored where auth_pad_length is 0 (reused buffers)", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelPrivacy)
			a := sec.auth(token)
			a.Padding = []byte("44 bytes, which impacket 0.10 leaves here...")
			r.send(auth3(sec.auth(r.step(sec, r.bound(withAuth(a)).Auth.Token))))
			r.aliveSecurely(sec)
		}},
		{rule: "MS-RPCE 2.2.2.11: the trailer of a bind_ack repeats type, level and context id", talk: func(r *raw) {
			sec, token := r.initiate(0x01020304, dcerpc.LevelPacket)
			a := r.bound(withAuth(sec.auth(token))).Auth
			require.Equal(r.t, sec.auth(a.Token), pdu.Auth{Type: a.Type, Level: a.Level, ContextID: a.ContextID, Token: a.Token})
		}},
		{
			rule: "a transport that could not vouch for its peer has every bind refused: bind_nak 0",
			setup: func(s *setup) {
				s.session = &dcerpc.Session{Refuse: errors.New("no token")}
			},
			talk: func(r *raw) {
				r.send(bind())
				r.nak(pdu.NakReasonNotSpecified)
			},
		},
		{
			rule:  "a bind that opens more contexts than Limits allow: bind_nak 2 (MS-RPCE 2.2.2.5, local_limit_exceeded)",
			setup: func(s *setup) { s.server.Limits.PresentationContexts = 1 },
			talk: func(r *raw) {
				r.bound()
				r.send(alter(element(1, otherInterface())))
				r.nak(pdu.NakLocalLimitExceeded)
			},
		},
	})
}
