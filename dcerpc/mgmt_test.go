package dcerpc_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

func mgmtInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("afa8bd80-7d8a-11c9-bef4-08002b102989"), Major: 1}
}

// fsrvpInterface is the one that the vectors of mgmt name.
func fsrvpInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("a8e0653c-2744-4389-a61d-7373df8b2292"), Major: 1}
}

// mgmtVectors returns the stubs of testdata/vectors/fsrvp.json by id and syntax.
func mgmtVectors(t *testing.T) map[string][]byte {
	text, err := os.ReadFile("../testdata/vectors/fsrvp.json")
	require.NoError(t, err)
	var all []struct{ ID, Syntax, Hex string }
	require.NoError(t, json.Unmarshal(text, &all))
	vectors := map[string][]byte{}
	for _, v := range all {
		if strings.HasPrefix(v.ID, "mgmt.") {
			vectors[v.ID+" "+v.Syntax], err = hex.DecodeString(v.Hex)
			require.NoError(t, err)
		}
	}
	require.Len(t, vectors, 11)
	return vectors
}

func mgmtClient(t *testing.T, srv *dcerpc.Server, syntax ndr.Syntax) *dcerpc.ClientConn {
	conn, err := serve(t, srv).Dial(t.Context())
	require.NoError(t, err)
	cc, err := dcerpc.NewClientConn(t.Context(), conn, mgmtInterface(),
		&dcerpc.Config{Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{syntax}})
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

// TestMgmtVectors checks mgmt against bytes of other marshallers, on a server that asks for
// integrity otherwise.
func TestMgmtVectors(t *testing.T) {
	vectors := mgmtVectors(t)
	mech := &dcerpctest.Mechanism{}
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{mech.Acceptor()}, Principal: "FS1$@H4.TEST"}
	srv.Handle(fsrvpInterface(), &echo{}, nil)
	cc := mgmtClient(t, srv, ndr.NDR20)

	for _, test := range []struct {
		name  string
		opnum uint16
	}{{"inq_if_ids", 0}, {"is_server_listening", 2}, {"stop_server_listening", 3}, {"inq_princ_name", 4}} {
		t.Run(test.name, func(t *testing.T) {
			got, err := invoke(t.Context(), cc, test.opnum, vectors["mgmt."+test.name+".req ndr20"])
			require.NoError(t, err)
			want := vectors["mgmt."+test.name+".resp ndr20"]
			if test.name == "inq_princ_name" {
				// Hand-made, it has three bytes of padding more before the status than NDR asks
				// for.
				want = append(append([]byte{}, want[:25]...), zeros(3+4)...)
			}
			require.Equal(t, want, got)
		})
	}
	t.Run("inq_stats", func(t *testing.T) {
		got, err := invoke(t.Context(), cc, 1, vectors["mgmt.inq_stats.req ndr20"])
		require.NoError(t, err)
		want := vectors["mgmt.inq_stats.resp ndr20"]
		require.Len(t, got, len(want))
		require.Equal(t, want[:8], got[:8], "counts")
		require.Equal(t, want[24:], got[24:], "status")
		d := ndr.NewDecoder(got[8:24], ndr.NDR20)
		callsIn, callsOut, in, out := d.Uint32(), d.Uint32(), d.Uint32(), d.Uint32()
		require.GreaterOrEqual(t, callsIn, uint32(5))
		require.Equal(t, callsIn, callsOut+1, "all calls but this one")
		require.Equal(t, in, out+1, "all PDUs but this one: the bind and the calls are answered with one each")
	})
	t.Run("ndr64", func(t *testing.T) {
		srv := &dcerpc.Server{}
		srv.Handle(fsrvpInterface(), &echo{}, nil)
		got, err := invoke(t.Context(), mgmtClient(t, srv, ndr.NDR64), 0, nil)
		require.NoError(t, err)
		require.Equal(t, vectors["mgmt.inq_if_ids.resp ndr64"], got)
	})
}

// TestMgmtErrors checks what mgmt refuses (C706 appendix Q, Windows).
func TestMgmtErrors(t *testing.T) {
	mech := &dcerpctest.Mechanism{}
	srv := &dcerpc.Server{Acceptors: []dcerpc.Acceptor{mech.Acceptor()}, Principal: "FS1$@H4.TEST"}
	cc := mgmtClient(t, srv, ndr.NDR20)
	princName := func(service, size byte) []byte { return []byte{service, 0, 0, 0, size, 0, 0, 0} }
	for _, test := range []struct {
		name   string
		opnum  uint16
		stub   []byte
		fault  pdu.FaultStatus
		status uint32 // the last four bytes
	}{
		{"opnum 5", 5, nil, pdu.FaultOpRange, 0},
		{"inq_stats without a count", 1, nil, pdu.FaultNDR, 0},
		{"inq_stats of 51", 1, []byte{51, 0, 0, 0}, pdu.FaultNDR, 0},
		{"inq_stats of 50", 1, []byte{50, 0, 0, 0}, 0, 0},
		{"inq_princ_name of an unknown service", 4, princName(77, 64), 0, 0x6D3},
		{"inq_princ_name, 12 bytes for 12 and a NUL", 4, princName(10, 12), 0, 0x7A},
		{"inq_princ_name, 13 bytes", 4, princName(10, 13), 0, 0},
		{"inq_princ_name of no bytes", 4, princName(10, 0), pdu.FaultNDR, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := invoke(t.Context(), cc, test.opnum, test.stub)
			if test.fault != 0 {
				require.ErrorIs(t, err, &dcerpc.Fault{Status: test.fault})
				return
			}
			require.NoError(t, err)
			d := ndr.NewDecoder(got[len(got)-4:], ndr.NDR20)
			require.Equal(t, test.status, d.Uint32())
		})
	}
}
