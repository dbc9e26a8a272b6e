package dcerpc_test

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// TestProtectedBytes checks which bytes of a PDU the server and the client sign and seal at each
// level (MS-RPCE 3.3.1.5.2).
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
				all = append(all, seen{op, bytes.Clone(m.Header), bytes.Clone(m.Body), bytes.Clone(m.Trailer),
					len(token), m.SignHeader})
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
