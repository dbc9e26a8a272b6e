package epm_test

import (
	"context"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/dcerpctest"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

func mapper() *epm.Mapper {
	return &epm.Mapper{Entries: []epm.Entry{
		{Interface: fsrvpInterface(), Port: 5555, Addr: netip.MustParseAddr("10.99.0.4"), Annotation: "File Server VSS Agent"},
		{Interface: otherInterface(), Object: otherInterface().UUID, Port: 49152},
		{Interface: epm.Interface(), Port: 5555, Annotation: strings.Repeat("too long ", 20)},
	}}
}

// serveMapper registers m with a server that asks for integrity otherwise.
func serveMapper(m *epm.Mapper) *dcerpc.Server {
	srv := &dcerpc.Server{}
	srv.Handle(epm.Interface(), m, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	return srv
}

// fsrvpInterface is what rpcclient asks for in the request below.
func fsrvpInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("a8e0653c-2744-4389-a61d-7373df8b2292"), Major: 1}
}

func otherInterface() dcerpc.SyntaxID {
	return dcerpc.SyntaxID{UUID: uuid.MustParse("0e0c0a08-0604-0201-8899-aabbccddeeff"), Major: 1}
}

func serve(t testing.TB, srv *dcerpc.Server) *dcerpctest.Listener {
	l := dcerpctest.Listen()
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-done, dcerpc.ErrServerClosed)
	})
	return l
}

func invoke(ctx context.Context, cc *dcerpc.ClientConn, opnum uint16, stub []byte) ([]byte, error) {
	call := dcerpc.Call{Opnum: opnum, Syntax: cc.Syntax(), Stub: stub}
	err := cc.Call(ctx, &call)
	return call.Response, err
}

func mapperClient(t *testing.T, m *epm.Mapper, syntaxes ...ndr.Syntax) *dcerpc.ClientConn {
	conn, err := serve(t, serveMapper(m)).Dial(t.Context())
	require.NoError(t, err)
	cc, err := dcerpc.NewClientConn(t.Context(), conn, epm.Interface(),
		&dcerpc.Config{Level: dcerpc.LevelInsecureNone, Syntaxes: syntaxes})
	require.NoError(t, err)
	t.Cleanup(func() { cc.Close() })
	return cc
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// What Samba 4.17.12's rpcclient asks for FSRVP before it connects over TCP
// (testdata/captures/11_rpcclient_tcp_epm_norpcauth_dummy.pcapng), without and with the port and
// address.
const (
	sambaMapRequest = `
		00000000 01000000 4b000000 4b000000 0500
		1300 0d 3c65e0a8 4427 8943 a61d7373df8b2292 0100 0200 0000
		1300 0d 045d888a eb1c c911 9fe808002b104860 0200 0200 0000
		0100 0b 0200 0000 0100 07 0200 0000 0100 09 0400 00000000 00
		00000000 00000000 00000000 00000000 00000000 01000000`
	sambaMapResponse = `
		00000000 00000000 00000000 00000000 00000000
		01000000 01000000 00000000 01000000 00000200 4b000000 4b000000 0500
		1300 0d 3c65e0a8 4427 8943 a61d7373df8b2292 0100 0200 0000
		1300 0d 045d888a eb1c c911 9fe808002b104860 0200 0200 0000
		0100 0b 0200 0000 0100 07 0200 15b3 0100 09 0400 0a630004 00
		00000000`
)

func TestMapperSamba(t *testing.T) {
	got, err := invoke(t.Context(), mapperClient(t, mapper(), ndr.NDR20), 3, unhex(t, sambaMapRequest))
	require.NoError(t, err)
	require.Equal(t, unhex(t, sambaMapResponse), got)
}

// TestMapperErrors changes the bytes of a request that rpcclient made.
func TestMapperErrors(t *testing.T) {
	cc := mapperClient(t, mapper(), ndr.NDR20)
	const notRegistered = "\xd6\xa0\xc9\x16"
	for _, test := range []struct {
		name   string
		opnum  uint16
		edit   func([]byte) []byte
		fault  pdu.FaultStatus
		status string
	}{
		{"no such opnum", 0, nil, pdu.FaultOpRange, ""},
		{"empty stub", 3, func(b []byte) []byte { return nil }, pdu.FaultNDR, ""},
		{"cut off", 3, func(b []byte) []byte { return b[:len(b)-1] }, pdu.FaultNDR, ""},
		{"tower longer than the stub", 3, func(b []byte) []byte { b[11] = 0x7F; return b }, pdu.FaultNDR, ""},
		{"tower_length is not max_count", 3, func(b []byte) []byte { b[12]++; return b }, pdu.FaultNDR, ""},
		{"over 500 towers", 3, func(b []byte) []byte { b[len(b)-3] = 2; return b }, pdu.FaultNDR, ""},
		{"stale handle", 3, func(b []byte) []byte { b[len(b)-17] = 9; return b }, pdu.FaultContextMismatch, ""},
		{"unknown interface", 3, func(b []byte) []byte { b[25] ^= 1; return b }, 0, notRegistered},
		{"later minor version", 3, func(b []byte) []byte { b[16+2+21+2] = 1; return b }, 0, notRegistered},
		{"another transfer syntax", 3, func(b []byte) []byte { b[16+2+25+5] ^= 1; return b }, 0, notRegistered},
		{"named pipe", 3, func(b []byte) []byte { b[16+2+50+7+2] = 0x0F; return b }, 0, notRegistered},
		{"tower of 9 floors", 3, func(b []byte) []byte { b[16] = 9; return b }, 0, notRegistered},
		{"floor longer than the tower", 3, func(b []byte) []byte { b[18] = 200; return b }, 0, notRegistered},
		{"no towers wanted", 3, func(b []byte) []byte { b[len(b)-4] = 0; return b }, 0, notRegistered},
	} {
		t.Run(test.name, func(t *testing.T) {
			stub := unhex(t, sambaMapRequest)
			if test.edit != nil {
				stub = test.edit(stub)
			}
			got, err := invoke(t.Context(), cc, test.opnum, stub)
			if test.fault != 0 {
				require.ErrorIs(t, err, &dcerpc.Fault{Status: test.fault})
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.status, string(got[len(got)-4:]))
		})
	}
}

// lookupStub is a request of ept_lookup for entries from next on.
func lookupStub(s ndr.Syntax, inquiry, versions uint32, iface dcerpc.SyntaxID, next uint32, limit uint32) []byte {
	e := ndr.NewEncoder(nil, s)
	e.Uint32(inquiry)
	e.Pointer(true)
	e.GUID(iface.UUID) // as the object, too
	e.Pointer(true)
	e.GUID(iface.UUID)
	e.Uint16(iface.Major)
	e.Uint16(iface.Minor)
	e.Uint32(versions)
	e.Uint32(0)
	e.GUID([16]byte{3: byte(next)})
	e.Uint32(limit)
	b, _ := e.Bytes()
	return b
}

// TestMapperLookup lists entries in pages of one, in both syntaxes, until there are no more, which
// a call of its own tells.
func TestMapperLookup(t *testing.T) {
	for _, syntax := range []ndr.Syntax{ndr.NDR20, ndr.NDR64} {
		t.Run(syntax.String(), func(t *testing.T) {
			cc := mapperClient(t, mapper(), syntax)
			var annotations []string
			for next := uint32(0); ; {
				got, err := invoke(t.Context(), cc, 2, lookupStub(syntax, 0, 1, fsrvpInterface(), next, 1))
				require.NoError(t, err)
				d := ndr.NewDecoder(got, syntax)
				require.Zero(t, d.Uint32())
				handle := d.GUID()
				found := d.Uint32()
				require.EqualValues(t, 1, d.Uint3264(), "max_count")
				require.EqualValues(t, found, d.Variance(1, 20))
				if found == 0 {
					require.Zero(t, handle)
					require.EqualValues(t, 0x16C9A0D6, d.Uint32(), "ept_s_not_registered")
					break
				}
				next = uint32(handle[3])
				require.EqualValues(t, len(annotations)+1, next)
				d.Align3264()
				d.GUID()
				require.True(t, d.Pointer())
				annotation := d.Raw(d.Variance(64, 1))
				require.Zero(t, annotation[len(annotation)-1])
				annotations = append(annotations, string(annotation[:len(annotation)-1]))
				require.EqualValues(t, 75, d.Count(1))
				require.EqualValues(t, 75, d.Uint32())
				d.Raw(75)
				require.Zero(t, d.Uint32(), "status")
				require.Zero(t, d.Remaining())
				require.NoError(t, d.Err())
			}
			require.Equal(t, []string{"File Server VSS Agent", "", strings.Repeat("too long ", 7)}, annotations)
		})
	}
}

// TestMapperInquiries counts what the inquiry types and version options of ept_lookup find (C706
// appendix O).
func TestMapperInquiries(t *testing.T) {
	version := func(major, minor uint16) dcerpc.SyntaxID {
		id := otherInterface()
		id.Major, id.Minor = major, minor
		return id
	}
	m := &epm.Mapper{Entries: []epm.Entry{
		{Interface: version(1, 0)},
		{Interface: version(1, 2), Object: otherInterface().UUID},
		{Interface: version(2, 0)},
		{Interface: fsrvpInterface()},
	}}
	cc := mapperClient(t, m, ndr.NDR20)
	for _, test := range []struct {
		name              string
		inquiry, versions uint32
		iface             dcerpc.SyntaxID
		want              byte
	}{
		{"all", 0, 0, version(9, 9), 4},
		{"interface, all versions", 1, 1, version(9, 9), 3},
		{"interface, compatible", 1, 2, version(1, 1), 1},
		{"interface, exactly", 1, 3, version(1, 0), 1},
		{"interface, exactly what is not there", 1, 3, version(1, 1), 0},
		{"interface, major version", 1, 4, version(1, 7), 2},
		{"interface, up to", 1, 5, version(1, 2), 2},
		{"interface, unknown version option", 1, 6, version(1, 2), 0},
		{"object", 2, 1, version(1, 0), 1},
		{"object and interface", 3, 3, version(1, 2), 1},
		{"object and another version", 3, 3, version(1, 0), 0},
		{"unknown inquiry", 4, 1, version(1, 0), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := invoke(t.Context(), cc, 2, lookupStub(ndr.NDR20, test.inquiry, test.versions, test.iface, 0,
				500))
			require.NoError(t, err)
			require.Equal(t, test.want, got[20])
		})
	}
}

func TestMapperFreesHandles(t *testing.T) {
	got, err := invoke(t.Context(), mapperClient(t, mapper(), ndr.NDR20), 4, []byte("\x00\x00\x00\x00 sixteen bytes.."))
	require.NoError(t, err)
	require.Equal(t, make([]byte, 24), got)
}

// FuzzMapper gives any stub to the endpoint mapper, in all syntaxes. What it answers must not
// depend on numbers that the stub only announces.
func FuzzMapper(f *testing.F) {
	request, err := hex.DecodeString(strings.Join(strings.Fields(sambaMapRequest), ""))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(3), byte(0), request)
	f.Add(byte(2), byte(0), lookupStub(ndr.NDR20, 0, 1, fsrvpInterface(), 0, 500))
	f.Add(byte(2), byte(1), lookupStub(ndr.NDR64, 3, 2, otherInterface(), 1, 1))
	f.Add(byte(4), byte(2), make([]byte, 20))
	m := mapper()
	f.Fuzz(func(t *testing.T, opnum, syntax byte, stub []byte) {
		call := dcerpc.Call{Opnum: uint16(opnum % 8), Syntax: ndr.Syntax(syntax % 3), Stub: stub}
		if call.ResponseSyntax = call.Syntax; call.Syntax == ndr.NDR20BE {
			call.ResponseSyntax = ndr.NDR20
		}
		if err := m.ServeRPC(t.Context(), &call); err == nil && len(call.Response) > 1024 {
			t.Errorf("answer of %d bytes from %d entries", len(call.Response), len(m.Entries))
		}
	})
}
