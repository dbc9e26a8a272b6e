package pdu

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const requestPlain = "05000003 10000000 1c00 0000 0e000000  04000000 0100 0800  01020304"

func requestSamples() []sample {
	return []sample{
		{"plain", &Request{
			Header:    Header{Major: 5, Flags: FirstFrag | LastFrag, FragLength: 28, CallID: 14},
			AllocHint: 4, ContextID: 1, Opnum: 8, Stub: []byte{1, 2, 3, 4},
		}, requestPlain},
		{"big-endian, object", &Request{
			Header:    Header{Major: 5, Flags: FirstFrag | ObjectUUID, DataRep: BigEndian, FragLength: 42, CallID: 14},
			AllocHint: 2, ContextID: 1, Opnum: 8, Object: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Stub: []byte{1, 2},
		}, "05000081 00000000 002a 0000 0000000e  00000002 0001 0008  00112233 4455 6677 8899aabbccddeeff 0102"},
		{"object, padding, trailer", &Request{
			Header:    Header{Major: 5, Flags: LastFrag | ObjectUUID, FragLength: 66, AuthLength: 2, CallID: 14},
			AllocHint: 5, Opnum: 12, Object: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Stub: []byte{1, 2,
				3, 4, 5},
			Auth: Auth{Type: 10, Level: 5, PadLength: 11, ContextID: 7, Padding: make([]byte, 11),
				Token: []byte{0xfe, 0xff}},
		}, `05000082 10000000 4200 0200 0e000000  05000000 0000 0c00  33221100 5544 7766 8899aabbccddeeff
			0102030405 0000000000000000000000
			0a 05 0b 00 07000000 feff`},
		{"empty, all of it padding, misaligned trailer", &Request{
			Header: Header{Major: 5, FragLength: 36, AuthLength: 1},
			Stub:   []byte{},
			Auth:   Auth{Type: 9, Level: 6, PadLength: 3, Reserved: 1, Padding: []byte{7, 8, 9}, Token: []byte{0xff}},
		}, "05000000 10000000 2400 0100 00000000  00000000 0000 0000  070809  09 06 03 01 00000000 ff"},
		{"no stub", &Request{
			Header: Header{Major: 5, Flags: FirstFrag | LastFrag, FragLength: 24, CallID: 14},
			Stub:   []byte{},
		}, "05000003 10000000 1800 0000 0e000000  00000000 0000 0000"},
	}
}

func TestRequest(t *testing.T) {
	testSamples(t, requestSamples())
	testTruncated(t, requestPlain, 24)
}

func TestRequestRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU {
		p := Request{
			Header:    genHeader(t),
			AllocHint: rapid.Uint32().Draw(t, "hint"),
			ContextID: rapid.Uint16().Draw(t, "context"),
			Opnum:     rapid.Uint16().Draw(t, "opnum"),
			Stub:      genBytes(t, "stub"),
			Auth:      genAuth(t),
		}
		if p.Flags.Has(ObjectUUID) {
			p.Object = genUUID(t)
		}
		return &p
	})
}

func TestRequestPadding(t *testing.T) {
	for n := range 40 {
		p := Request{Stub: make([]byte, n), Auth: Auth{Type: 10, Level: 5, Token: make([]byte, 16)}}
		b, err := p.AppendBinary(nil)
		require.NoError(t, err)
		require.Zero(t, (len(b)-24-8-16)%16)
		q, err := ParseRequest(b)
		require.NoError(t, err)
		require.Len(t, q.Stub, n)
		require.Less(t, int(q.Auth.PadLength), 16)
		parts, err := Split(b)
		require.NoError(t, err)
		require.Len(t, parts.Body, n+int(q.Auth.PadLength))
	}
}

func TestRequestTooLong(t *testing.T) {
	p := Request{Stub: make([]byte, MaxFragment-24)}
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	require.Len(t, b, MaxFragment)
	p.Stub = make([]byte, MaxFragment-23)
	_, err = p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrFragLength)
}

// TestAliases pins down that a parsed PDU is a view: what is unsealed in place is there to be read,
// and appending to one of its slices spoils nothing after it.
func TestAliases(t *testing.T) {
	b := unhex(t, requestSamples()[2].hex)
	p, err := ParseRequest(b)
	require.NoError(t, err)
	parts, err := Split(b)
	require.NoError(t, err)
	copy(parts.Body, "plain")
	require.Equal(t, "plain", string(p.Stub))
	_ = append(p.Stub, 0xaa)
	_ = append(parts.Header, 0xaa)
	_ = append(parts.Body, 0xaa)
	_ = append(parts.Trailer, 0xaa)
	require.Equal(t, make([]byte, 11), p.Auth.Padding)
	require.Equal(t, []byte{0xfe, 0xff}, p.Auth.Token)
	require.Equal(t, "plain", string(p.Stub))
}

func FuzzRequest(f *testing.F) { fuzzType(f, TypeRequest, requestSamples()) }

func BenchmarkParseRequest(b *testing.B) {
	p := Request{Stub: make([]byte, 104), Auth: Auth{Type: 16, Level: 6, Token: make([]byte, 76)}}
	buf, err := p.AppendBinary(nil)
	require.NoError(b, err)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := ParseRequest(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	p := Request{Stub: make([]byte, 104), Auth: Auth{Type: 16, Level: 6, Token: make([]byte, 76)}}
	buf, err := p.AppendBinary(nil)
	require.NoError(b, err)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if buf, err = p.AppendBinary(buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	for _, s := range requestSamples() {
		b := unhex(t, s.hex)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			p, err := ParseRequest(b)
			if err != nil {
				t.Fatal(err)
			}
			if b, err = p.AppendBinary(b[:0]); err != nil {
				t.Fatal(err)
			}
		}), s.name)
	}
	for _, s := range responseSamples() {
		b := unhex(t, s.hex)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			p, err := ParseResponse(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Split(b); err != nil {
				t.Fatal(err)
			}
			if b, err = p.AppendBinary(b[:0]); err != nil {
				t.Fatal(err)
			}
		}), s.name)
	}
}
