package dcerpc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
)

func TestConversationsHeader(t *testing.T) {
	table := []conversation{
		{rule: "C706 12.6.3.1: frag_length below 16 is no PDU; Samba: no answer", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, nil), func(b []byte) { b[8] = 15 })
			r.end()
		}},
		{rule: "C706 12.6.4: an unknown ptype is not answered (Samba), ping of the connectionless protocol", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, nil), func(b []byte) { b[2] = 1 })
			r.end()
		}},
		{rule: "C706 12.6.4: an unknown ptype is not answered (Samba), 200, before the bind", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[2] = 200 })
			r.end()
		}},
		{rule: "C706 12.6.4.3: a bind that is too short for its body is not answered (Samba)", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[8] = 27 })
			r.end()
		}},
		{rule: "C706 12.6.4.3: a bind whose context list ends early is not answered (Samba)", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[24] = 9 })
			r.end()
		}},
		{rule: "C706 12.6.4.9: a request that is too short for its body is not answered (Samba)", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, nil), func(b []byte) { b[8] = 20 })
			r.end()
		}},
		{rule: "C706 12.6.4.9: a request that is too short for its object UUID is not answered (Samba)", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, nil), func(b []byte) { b[3] |= byte(pdu.ObjectUUID) })
			r.end()
		}},
		{rule: "C706 12.6.4.3: rpc_vers other than 5: bind_nak 4", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[0] = 4 })
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "MS-RPCE 3.3.1.5.1: rpc_vers_minor other than 0 in a bind: bind_nak 4 (Samba, Windows)", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[1] = 1 })
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "C706 12.6.3.1: another version in a request: nca_s_proto_error, DNE, end", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, nil), func(b []byte) { b[1] = 1 })
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "C706 14.1: EBCDIC in a bind: bind_nak 4 (Samba)", talk: func(r *raw) {
			r.sendEdited(bind(), func(b []byte) { b[4] = 0x11 })
			r.nak(pdu.NakProtocolVersionNotSupported)
		}},
		{rule: "C706 14.1: VAX floats in a request: nca_s_proto_error, DNE, end (Samba)", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, nil), func(b []byte) { b[5] = 1 })
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "C706 12.6.3.1: PFC_RESERVED_1 and PFC_MAYBE are ignored", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opEcho, []byte("x"), func(p *pdu.Request) { p.Flags |= 0x08 | pdu.Maybe }))
			require.Equal(r.t, "x", string(r.response(2)))
		}},
		{rule: "C706 13.2.6.1: auth_length over frag_length in a request: nca_s_proto_error, DNE, end", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, zeros(16)), func(b []byte) { b[10], b[11] = 0xFF, 0x7F })
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "C706 13.2.6.1: no room for the auth trailer in a request: nca_s_proto_error, DNE, end", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, zeros(16)), func(b []byte) { b[10] = 9 })
			r.fatal(2, 0, pdu.FaultProtocolError, dne)
		}},
		{rule: "MS-RPCE 2.2.2.11: auth trailer of a request not at a multiple of 4: nca_s_proto_error without DNE, end (Windows)", talk: func(r *raw) {
			r.bound()
			r.sendEdited(request(2, opEcho, zeros(33)), func(b []byte) { b[10] = 16 })
			r.fatal(2, 0, pdu.FaultProtocolError, 0)
		}},
		{rule: "MS-RPCE 3.3.3.5: a request larger than the transport's fragment: nca_s_proto_error without DNE, end (Windows)", talk: func(r *raw) {
			r.bound()
			r.send(request(2, opEcho, zeros(5840-24+1)))
			r.fatal(2, 0, pdu.FaultProtocolError, 0)
		}},
		{rule: "MS-RPCE 3.3.3.5: the limit of requests is the transport's, not the negotiated one (Windows)", talk: func(r *raw) {
			require.EqualValues(r.t, 2048, r.bound(func(p *pdu.Bind) { p.MaxXmit = 2048 }).MaxRecv)
			r.send(request(2, opFault, zeros(5840-24)))
			r.fault(2, 0, pdu.FaultContextMismatch, 0)
			r.alive()
		}},
		{
			rule: "MS-RPCE 2.1.1.2: on a named pipe the limit is 4280 (Windows)",
			setup: func(s *setup) {
				s.session = &dcerpc.Session{Endpoint: `\pipe\FssagentRpc`, MaxFragment: 4280}
			},
			talk: func(r *raw) {
				require.EqualValues(r.t, 4280, r.bound().MaxRecv)
				r.send(request(2, opFault, zeros(4280-24)))
				r.fault(2, 0, pdu.FaultContextMismatch, 0)
				r.send(request(3, opEcho, zeros(4280-23)))
				r.fatal(3, 0, pdu.FaultProtocolError, 0)
			},
		},
		{rule: "Windows: a bind may be as large as a PDU can be", talk: func(r *raw) {
			sec, token := r.initiate(1, dcerpc.LevelIntegrity)
			a := sec.auth(token)
			a.Padding = zeros(60000)
			ack := r.bound(withAuth(a))
			require.NotEmpty(r.t, ack.Auth.Token)
		}},
		{rule: "C706 12.6.1: the server reads PDUs from a stream of bytes", talk: func(r *raw) {
			one, err := bind().AppendBinary(nil)
			require.NoError(r.t, err)
			two, err := request(2, opEcho, []byte("x")).AppendBinary(nil)
			require.NoError(r.t, err)
			all := append(one, two...)
			for _, c := range all[:60] {
				require.NoError(r.t, r.SendBytes([]byte{c}))
			}
			require.NoError(r.t, r.SendBytes(all[60:]))
			r.ack()
			require.Equal(r.t, "x", string(r.response(2)))
		}},
		{rule: "C706 12.6.4.7: the bytes of a fault", talk: func(r *raw) {
			r.bound()
			r.send(request(0x01020304, opFault, nil))
			got, err := r.ReceiveBytes()
			require.NoError(r.t, err)
			require.Equal(r.t, []byte{
				5, 0, 3, 3, 0x10, 0, 0, 0, 32, 0, 0, 0, 4, 3, 2, 1,
				32, 0, 0, 0, 0, 0, 0, 0, 0x1A, 0, 0, 0x1C, 0, 0, 0, 0,
			}, got)
		}},
		{rule: "MS-RPCE 3.3.1.5.1: after a fatal fault the peer reads the end, no reset, even with unread data", talk: func(r *raw) {
			r.bound()
			b, err := request(2, opEcho, zeros(6000)).AppendBinary(nil)
			require.NoError(r.t, err)
			for range 4 {
				b = append(b, b...)
			}
			require.NoError(r.t, r.SendBytes(b[:60000]))
			r.fatal(2, 0, pdu.FaultProtocolError, 0)
		}},
	}
	for _, typ := range []pdu.Type{
		pdu.TypeResponse, pdu.TypeFault, pdu.TypeBindAck, pdu.TypeBindNak, pdu.TypeAlterContextResp, pdu.TypeShutdown, pdu.TypeRTS,
	} {
		table = append(table, conversation{
			rule: "C706 12.6.4: " + typ.String() + " is not for a client to send: nca_s_proto_error, DNE, end (Samba)",
			talk: func(r *raw) {
				r.bound()
				r.send(&pdu.Raw{
					Header: pdu.Header{Major: 5, Type: typ, Flags: both, FragLength: 48, CallID: 2},
					Body:   zeros(32),
				})
				r.fatal(2, 0, pdu.FaultProtocolError, dne)
			},
		})
	}
	converse(t, table)
}
