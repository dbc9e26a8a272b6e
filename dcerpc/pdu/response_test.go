package pdu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const responsePlain = "05000203 10000000 1c00 0000 16000000  04000000 0000 00 00  00000000"

func responseSamples() []sample {
	return []sample{
		{"plain", &Response{
			Header:    Header{Major: 5, Type: TypeResponse, Flags: FirstFrag | LastFrag, FragLength: 28, CallID: 22},
			AllocHint: 4, Stub: make([]byte, 4),
		}, responsePlain},
		{"big-endian, trailer", &Response{
			Header: Header{Major: 5, Type: TypeResponse, Flags: LastFrag, DataRep: BigEndian, FragLength: 56,
				AuthLength: 8, CallID: 22},
			AllocHint: 15, ContextID: 3, CancelCount: 4, Reserved: 5, Stub: []byte("fifteen bytes.."),
			Auth: Auth{Type: 16, Level: 6, PadLength: 1, ContextID: 6, Padding: []byte{0}, Token: []byte("8 bytes.")},
		}, `05000202 00000000 0038 0008 00000016  0000000f 0003 04 05
			6669667465656e2062797465732e2e 00
			10 06 01 00 00000006 382062797465732e`},
	}
}

func TestResponse(t *testing.T) {
	testSamples(t, responseSamples())
	testTruncated(t, responsePlain, 24)
}

func TestResponseRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU {
		return &Response{
			Header:      genHeader(t),
			AllocHint:   rapid.Uint32().Draw(t, "hint"),
			ContextID:   rapid.Uint16().Draw(t, "context"),
			CancelCount: rapid.Uint8().Draw(t, "cancels"),
			Reserved:    rapid.Uint8().Draw(t, "reserved"),
			Stub:        genBytes(t, "stub"),
			Auth:        genAuth(t),
		}
	})
}

func FuzzResponse(f *testing.F) { fuzzType(f, TypeResponse, responseSamples()) }

func BenchmarkParseResponse(b *testing.B) {
	p := Response{Stub: make([]byte, 200), Auth: Auth{Type: 16, Level: 6, Token: make([]byte, 76)}}
	buf, err := p.AppendBinary(nil)
	require.NoError(b, err)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := ParseResponse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	p := Response{Stub: make([]byte, 200), Auth: Auth{Type: 16, Level: 6, Token: make([]byte, 76)}}
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
