package pdu

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const bindAckTCP = `05000c03 10000000 3c00 0000 03000000
	b810 b810 34120000
	0500 3535353500 00
	01 000000
	0000 0000 045d888a eb1c c911 9fe808002b104860 0200 0000`

func bindAckSamples() []sample {
	return []sample{
		{"Samba, TCP", &BindAck{
			Header:  Header{Major: 5, Type: TypeBindAck, Flags: FirstFrag | LastFrag, FragLength: 60, CallID: 3},
			MaxXmit: 4280, MaxRecv: 4280, AssocGroup: 0x1234, SecondaryAddress: "5555\x00",
			Results: []ContextResult{{Acceptance, 0, NDR20()}},
			Auth:    Auth{Padding: []byte{}},
		}, bindAckTCP},
		{"features, rejection, big-endian, every alignment byte", &BindAck{
			Header:  Header{Major: 5, Type: TypeBindAck, DataRep: BigEndian, FragLength: 88, AuthLength: 0, CallID: 3},
			MaxXmit: 4280, MaxRecv: 4280, AssocGroup: 1, SecondaryAddress: "1234\x00\x00\x00",
			Alignment: [3]byte{9, 8, 7}, Reserved: [3]byte{1, 2, 3},
			Results: []ContextResult{
				{ProviderRejection, ProposedTransferSyntaxesUnsupported, SyntaxID{}},
				{NegotiateAck, Reason(KeepConnectionOnOrphan), SyntaxID{}},
			},
			Auth: Auth{Padding: []byte{}},
		}, `05000c00 00000000 0058 0000 00000003
			10b8 10b8 00000001
			0007 31323334000000 090807
			02 010203
			0002 0002 00000000000000000000000000000000 00000000
			0003 0002 00000000000000000000000000000000 00000000`},
		{"no address, padding, token", &BindAck{
			Header: Header{Major: 5, Type: TypeBindAck, FragLength: 47, AuthLength: 3},
			Auth: Auth{Type: 16, Level: 6, PadLength: 4, ContextID: 1, Padding: []byte{0, 0, 0, 1},
				Token: []byte("tok")},
		}, `05000c00 10000000 2f00 0300 00000000
			0000 0000 00000000
			0000 0000
			00 000000
			00000001
			10 06 04 00 01000000 746f6b`},
	}
}

func TestBindAck(t *testing.T) {
	samples := bindAckSamples()
	testSamples(t, samples)
	testTruncated(t, bindAckTCP, 60)
}

func TestBindAckRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU { p := genBindAck(t); return &p })
}

func genBindAck(t *rapid.T) BindAck {
	return BindAck{
		Header:           genHeader(t),
		MaxXmit:          rapid.Uint16().Draw(t, "xmit"),
		MaxRecv:          rapid.Uint16().Draw(t, "recv"),
		AssocGroup:       rapid.Uint32().Draw(t, "group"),
		SecondaryAddress: string(genBytes(t, "address")),
		Results: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ContextResult {
			return ContextResult{Result(rapid.Uint16().Draw(t, "result")), Reason(rapid.Uint16().Draw(t, "reason")),
				genSyntax(t)}
		}), 1, 20).Draw(t, "results"),
		Auth: genAuth(t),
	}
}

func TestBindAckLimits(t *testing.T) {
	p := BindAck{Results: make([]ContextResult, 256)}
	_, err := p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrCount)
	p = BindAck{SecondaryAddress: strings.Repeat("x", 0x10000)}
	_, err = p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrCount)
}

// TestBindAckCounts lies about the length of the address and the number of results.
func TestBindAckCounts(t *testing.T) {
	for _, off := range []int{24, 25, 32} {
		b := unhex(t, bindAckTCP)
		b[off] = 0xff
		_, err := Parse(b)
		require.ErrorIs(t, err, ErrBody, "byte %d", off)
	}
}

func FuzzBindAck(f *testing.F) { fuzzType(f, TypeBindAck, bindAckSamples()) }
