package dcerpc_test

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

func TestConversationsSecurity(t *testing.T) {
	// A request in a security context of the integrity level, with a changed trailer.
	changed := func(rule string, status pdu.FaultStatus, change func(*pdu.Request)) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.sendProtected(sec, request(2, opEcho, []byte("x")), change)
			r.fatal(2, 0, status, 0)
		}}
	}
	// Two fragments in a security context, the second one with a changed trailer.
	later := func(rule string, change func(*pdu.Request), talk func(*raw, *rawSecurity)) conversation {
		return conversation{rule: rule, talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity, multiplexed())
			r.further(2, dcerpc.LevelIntegrity)
			r.sendProtected(sec, fragment(2, pdu.FirstFrag, "ab"))
			r.sendProtected(sec, fragment(2, pdu.LastFrag, "cd"), change)
			talk(r, sec)
		}}
	}
	converse(t, []conversation{
		{rule: "MS-RPCE 3.3.1.5.4: a request before the end of the exchange: nca_s_proto_error, DNE, context 0, end (Windows)", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			r.bound(withAuth(sec.auth(token)))
			r.send(request(2, opEcho, nil))
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "MS-RPCE 3.3.1.5.4: a request in a context whose exchange is not over: nca_s_proto_error, DNE, context 0, end", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			r.bound(withAuth(sec.auth(token)), offer(element(6, echoInterface())))
			r.sendProtected(sec, request(2, opEcho, nil, onContext(6)))
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "MS-RPCE 3.3.1.5.2: a trailer where there is no security context: access denied, end (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opEcho, nil, func(p *pdu.Request) { p.Auth = pdu.Auth{Type: 10, Level: 5, Token: zeros(16)} }))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		changed("MS-RPCE 3.3.1.5.4: unknown security context: access denied, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.Request) { p.Auth.ContextID = 99 }),
		changed("MS-RPCE 3.3.1.5.4: another auth type than the context's: access denied, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.Request) { p.Auth.Type = 9 }),
		changed("MS-RPCE 3.3.1.5.4: another auth level than the context's: access denied, end (Windows)", pdu.FaultAccessDenied,
			func(p *pdu.Request) { p.Auth.Level = 6 }),
		changed("MS-RPCE 2.2.2.11: auth_pad_length over the stub's length: nca_s_proto_error, end", pdu.FaultProtocolError,
			func(p *pdu.Request) { p.Auth.Padding, p.Auth.PadLength = zeros(3), 17 }),
		{rule: "C706 13.2.6.1: auth_reserved is ignored", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.sendProtected(sec, request(2, opEcho, []byte("x")), func(p *pdu.Request) { p.Auth.Reserved = 0xAA })
			require.Equal(r.t, "x", string(r.unprotected(sec, 2)))
		}},
		{rule: "MS-RPCE 2.2.2.11: any auth_pad_length that fits is accepted and cut off", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy)
			for pad := range 60 {
				n := 255 - pad
				stub := bytes.Repeat([]byte("s"), n)
				r.sendProtected(sec, request(2, opEcho, stub), func(p *pdu.Request) {
					p.Auth.Padding, p.Auth.PadLength = zeros(pad+1), uint8(pad+1)
				})
				require.Equal(r.t, stub, r.unprotected(sec, 2))
			}
		}},
		{rule: "MS-RPCE 3.3.1.5.2: a wrong signature: sec_pkg_error, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			b := r.protected(sec, request(2, opEcho, []byte("x")))
			b[24] ^= 1
			require.NoError(r.t, r.SendBytes(b))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
		{rule: "MS-RPCE 3.3.1.5.2: a wrong seal: sec_pkg_error, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy)
			b := r.protected(sec, request(2, opEcho, []byte("x")))
			b[24] ^= 1
			require.NoError(r.t, r.SendBytes(b))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
		{rule: "MS-RPCE 3.3.1.5.2: a repeated PDU has a wrong sequence number: sec_pkg_error, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			b := r.protected(sec, request(2, opEcho, []byte("x")))
			require.NoError(r.t, r.SendBytes(b))
			require.Equal(r.t, "x", string(r.unprotected(sec, 2)))
			require.NoError(r.t, r.SendBytes(b))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
		{rule: "MS-RPCE 3.3.1.5.2.2: with header signing a changed header shows: sec_pkg_error, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity, flags(pdu.SupportHeaderSign))
			b := r.protected(sec, request(2, opEcho, []byte("x")))
			b[22] = opPeer
			require.NoError(r.t, r.SendBytes(b))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
		{rule: "MS-RPCE 3.3.1.5.2.2: with header signing a changed trailer shows: sec_pkg_error, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy, flags(pdu.SupportHeaderSign))
			b := r.protected(sec, request(2, opEcho, []byte("x")))
			b[len(b)-24-5] ^= 1 // auth_reserved
			require.NoError(r.t, r.SendBytes(b))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
		{rule: "MS-RPCE 3.3.1.5.2.2: the object UUID belongs to the header that is signed", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy, flags(pdu.SupportHeaderSign))
			r.sendProtected(sec, request(2, opEcho, []byte("x"), func(p *pdu.Request) {
				p.Flags |= pdu.ObjectUUID
				p.Object = echoInterface().UUID
			}))
			require.Equal(r.t, "x", string(r.unprotected(sec, 2)))
		}},
		{rule: "MS-RPCE 3.3.1.5.2.2: header signing in an auth3 alone has no effect (Windows)", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			ack := r.bound(withAuth(sec.auth(token)))
			p := auth3(sec.auth(r.step(sec, ack.Auth.Token)))
			p.Flags |= pdu.SupportHeaderSign
			r.send(p)
			r.aliveSecurely(sec)
		}},

		// Calls without a trailer.
		{rule: "MS-RPCE 3.3.1.5.4: a request without a trailer has no identity, even beside a security context (Windows)", talk: func(r *raw) {
			r.securely(dcerpc.LevelPrivacy)
			r.send(request(2, opPeer, nil))
			require.Equal(r.t, " type 0 level 1", string(r.response(2)))
		}},
		{
			rule: "MS-RPCE 3.3.1.5.4: a request without a trailer has the identity of the pipe's session",
			setup: func(s *setup) {
				s.session = &dcerpc.Session{Authenticated: true, Identity: dcerpc.Identity{Account: "smbuser"}}
			},
			talk: func(r *raw) {
				r.securely(dcerpc.LevelPrivacy)
				r.send(request(2, opPeer, nil))
				require.Equal(r.t, "smbuser type 0 level 1", string(r.response(2)))
			},
		},
		{rule: "MS-RPCE 3.3.1.5.4: the only context, of the connect level, counts for requests without a trailer (Windows)", talk: func(r *raw) {
			r.securely(dcerpc.LevelInsecureConnect)
			r.send(request(2, opPeer, nil))
			require.Equal(r.t, "backup type 10 level 2", string(r.response(2)))
		}},
		{rule: "MS-RPCE 3.3.1.5.4: the connect level: a token in a request is ignored, the response has no trailer", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelInsecureConnect)
			r.sendProtected(sec, request(2, opPeer, nil))
			require.Equal(r.t, "backup type 10 level 2", string(r.response(2)))
		}},
		{rule: "MS-RPCE 3.3.1.5.4: once a request has named its context, one without a trailer has none (Windows)", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelInsecureConnect)
			r.sendProtected(sec, request(2, opPeer, nil))
			r.response(2)
			r.send(request(3, opPeer, nil))
			require.Equal(r.t, " type 0 level 1", string(r.response(3)))
		}},
		{rule: "MS-RPCE 3.3.1.5.4: of several contexts none counts for requests without a trailer", talk: func(r *raw) {
			r.securely(dcerpc.LevelInsecureConnect, multiplexed())
			r.further(2, dcerpc.LevelInsecureConnect)
			r.send(request(2, opPeer, nil))
			require.Equal(r.t, " type 0 level 1", string(r.response(2)))
		}},

		// Levels.
		{rule: "MS-RPCE 2.2.1.1.8: the packet level is signed as integrity is, and answered as packet (Windows)", talk: func(r *raw) {
			r.aliveSecurely(r.securely(dcerpc.LevelPacket))
		}},
		{rule: "MS-RPCE 3.3.3.4.3: a call below the interface's level: access denied; the end too, on a connection that knows no better (Windows)", talk: func(r *raw) {
			r.bound(offer(element(0, otherInterface())))
			r.send(request(2, opEcho, nil))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "MS-RPCE 3.3.3.4.3: the connect level is below an interface's level: access denied, end (Windows)", talk: func(r *raw) {
			r.securely(dcerpc.LevelInsecureConnect, offer(element(0, otherInterface())))
			r.send(request(2, opEcho, nil))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "MS-RPCE 3.3.3.4.3: a call below the interface's level beside a context of that level: access denied, alive (Windows)", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity, offer(element(0, otherInterface())))
			r.send(request(2, opEcho, nil))
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.aliveSecurely(sec)
		}},
		{rule: "MS-RPCE 3.3.3.4.3: the answer to a call below the interface's level comes after its last fragment", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity, offer(element(0, otherInterface())))
			r.send(fragment(2, pdu.FirstFrag, "ab"), fragment(2, 0, "cd"), fragment(2, pdu.LastFrag, "ef"))
			r.fault(2, 0, pdu.FaultAccessDenied, 0)
			r.aliveSecurely(sec)
		}},
		{rule: "MS-RPCE 2.2.2.12: faults are never signed, whatever the level (Windows)", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy)
			r.sendProtected(sec, request(2, opFault, nil))
			r.fault(2, 0, pdu.FaultContextMismatch, 0)
			r.aliveSecurely(sec)
		}},
		{rule: "a call on an unknown presentation context uses its sequence number all the same", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy)
			r.sendProtected(sec, request(2, opEcho, nil, onContext(5)))
			r.fault(2, 0, pdu.FaultUnknownInterface, dne)
			r.aliveSecurely(sec)
		}},

		// Fragments.
		{rule: "MS-RPCE 3.3.1.5.2: each fragment is protected by itself", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy)
			r.sendProtected(sec, fragment(2, pdu.FirstFrag, "ab"))
			r.sendProtected(sec, fragment(2, 0, "cd"))
			r.sendProtected(sec, fragment(2, pdu.LastFrag, "ef"))
			require.Equal(r.t, "abcdef", string(r.unprotected(sec, 2)))
		}},
		later("Windows: opnum, context, auth type and level of later fragments are ignored",
			func(p *pdu.Request) {
				p.ContextID, p.Opnum, p.Auth.Type, p.Auth.Level, p.Auth.ContextID = 111, 111, 111, 111, 111
			},
			func(r *raw, sec *rawSecurity) { require.Equal(r.t, "abcd", string(r.unprotected(sec, 2))) }),
		later("Windows: a later fragment in another security context: sec_pkg_error, end",
			func(p *pdu.Request) { p.Auth.ContextID = 2 },
			func(r *raw, sec *rawSecurity) { r.fatal(2, 0, pdu.FaultSecPkgError, 0) }),
		{rule: "Windows: a later fragment without a trailer in a secured call: nca_s_proto_error, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.sendProtected(sec, fragment(2, pdu.FirstFrag, "ab"))
			r.send(fragment(2, pdu.LastFrag, "cd"))
			r.fatal(2, 0, pdu.FaultProtocolError, 0)
		}},
		{rule: "a later fragment with a trailer in a call without: access denied, end", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelIntegrity)
			r.send(fragment(2, pdu.FirstFrag, "ab"))
			r.sendProtected(sec, fragment(2, pdu.LastFrag, "cd"))
			r.fatal(2, 0, pdu.FaultAccessDenied, 0)
		}},
		{rule: "Windows: the first fragment again, in another security context: sec_pkg_error, end", talk: func(r *raw) {
			one := r.securely(dcerpc.LevelIntegrity, multiplexed())
			two := r.further(2, dcerpc.LevelIntegrity)
			r.sendProtected(one, fragment(2, pdu.FirstFrag, "ab"))
			r.sendProtected(two, fragment(2, pdu.FirstFrag, "ab"))
			r.fatal(2, 0, pdu.FaultSecPkgError, 0)
		}},
		{rule: "MS-RPCE 2.2.2.11: the response is divided so that each fragment has room for its trailer", talk: func(r *raw) {
			sec := r.securely(dcerpc.LevelPrivacy, func(p *pdu.Bind) { p.MaxRecv = 2048 })
			stub := bytes.Repeat([]byte("0123456789"), 450)
			r.sendProtected(sec, request(2, opEcho, stub))
			var sizes []int
			var got []byte
			for len(got) < len(stub) {
				part := r.unprotected(sec, 2)
				sizes = append(sizes, len(part))
				got = append(got, part...)
			}
			require.Equal(r.t, stub, got)
			// 2048 - 24 - 8 - 24 = 1992, rounded down to a multiple of 16
			require.Equal(r.t, []int{1984, 1984, 532}, sizes)
		}},
	})
}

// TestProtectedBytes checks which bytes of a PDU the server and the client sign and seal at each level
// (MS-RPCE 3.3.1.5.2).
func TestProtectedBytes(t *testing.T) {
	type seen struct {
		op                    string
		header, body, trailer []byte
		token                 int
		sign                  bool
	}
	for _, test := range []struct {
		name    string
		level   dcerpc.AuthLevel
		signing bool
		token   int
	}{
		{"packet", dcerpc.LevelPacket, true, 16},
		{"integrity", dcerpc.LevelIntegrity, true, 16},
		{"privacy", dcerpc.LevelPrivacy, true, 24},
		{"integrity without header signing", dcerpc.LevelIntegrity, false, 16},
		{"privacy without header signing", dcerpc.LevelPrivacy, false, 24},
	} {
		t.Run(test.name, func(t *testing.T) {
			var mu sync.Mutex
			var all []seen
			s := new(setup)
			s.mech.Account = "backup"
			s.mech.Observe = func(op string, m dcerpc.Message, token []byte) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, seen{op, bytes.Clone(m.Header), bytes.Clone(m.Body), bytes.Clone(m.Trailer), len(token), m.SignHeader})
			}
			var wire [][]byte
			s.server.Trace = func(p dcerpc.TracedPDU) {
				mu.Lock()
				defer mu.Unlock()
				wire = append(wire, bytes.Clone(p.PDU))
			}
			r := newRaw(t, s)
			cfg := &dcerpc.Config{Auth: s.mech.Initiator(), Level: test.level, NoHeaderSigning: !test.signing}
			cc, err := dcerpc.NewClientConn(t.Context(), r.Conn, otherInterface(), cfg)
			require.NoError(t, err)
			defer cc.Close()
			_, err = invoke(t.Context(), cc, opEcho, []byte("seventeen bytes.."))
			require.NoError(t, err)
			all, wire = nil, nil
			got, err := invoke(t.Context(), cc, opEcho, []byte("seventeen bytes.."))
			require.NoError(t, err)
			require.Equal(t, "seventeen bytes..", string(got[:17]))
			require.NoError(t, cc.Close())

			mu.Lock()
			defer mu.Unlock()
			require.Len(t, wire, 2)
			require.Len(t, all, 4, "two messages, each protected and checked")
			for i, sides := range [][]seen{{all[0], all[1]}, {all[2], all[3]}} {
				require.Equal(t, "protect", sides[0].op)
				require.Equal(t, "check", sides[1].op)
				b := wire[i]
				n := len(b) - 8 - test.token
				for _, m := range sides {
					require.Equal(t, b[:24], m.header)
					require.Equal(t, b[24:n], m.body, "in clear")
					require.Equal(t, b[n:n+8], m.trailer)
					require.Equal(t, test.token, m.token)
					require.Equal(t, test.signing, m.sign)
				}
				m := sides[0]
				require.EqualValues(t, len(b), binary.LittleEndian.Uint16(m.header[8:]), "frag_length is final")
				require.EqualValues(t, test.token, binary.LittleEndian.Uint16(m.header[10:]), "auth_length is final")
				require.Zero(t, len(m.body)%16, "padded to 16 from the start of the stub")
				require.Equal(t, []byte{10, byte(test.level)}, m.trailer[:2])
			}
		})
	}
}
