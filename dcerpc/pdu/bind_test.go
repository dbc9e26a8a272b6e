package pdu

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func fssagent() SyntaxID {
	return SyntaxID{UUID: uuid.MustParse("a8e0653c-2744-4389-a61d-7373df8b2292"), Major: 1}
}

const bindNDR = `05000b03 10000000 4800 0000 15000000
	b810 b810 00000000 01 000000
	0000 01 00  3c65e0a8 4427 8943 a61d7373df8b2292 0100 0000
	            045d888a eb1c c911 9fe808002b104860 0200 0000`

func bindSamples() []sample {
	return []sample{
		{"rpcclient", &Bind{
			Header:  Header{Major: 5, Type: TypeBind, Flags: FirstFrag | LastFrag, FragLength: 0x48, CallID: 0x15},
			MaxXmit: 4280, MaxRecv: 4280,
			Contexts: []ContextElement{{Abstract: fssagent(), Transfer: []SyntaxID{NDR20()}}},
			Auth:     Auth{Padding: []byte{}},
		}, bindNDR},
		{"big-endian, feature negotiation", &Bind{
			Header:  Header{Major: 5, Type: TypeBind, DataRep: BigEndian, FragLength: 0x74, CallID: 1},
			MaxXmit: 4280, MaxRecv: 4280,
			Contexts: []ContextElement{
				{Abstract: fssagent(), Transfer: []SyntaxID{NDR20()}},
				{ID: 1, Abstract: fssagent(), Transfer: []SyntaxID{FeatureSyntax(SecurityContextMultiplexing | KeepConnectionOnOrphan)}},
			},
			Auth: Auth{Padding: []byte{}},
		}, `05000b00 00000000 0074 0000 00000001
			10b8 10b8 00000000 02 000000
			0000 01 00  a8e0653c 2744 4389 a61d7373df8b2292 0000 0001
			            8a885d04 1ceb 11c9 9fe808002b104860 0000 0002
			0001 01 00  a8e0653c 2744 4389 a61d7373df8b2292 0000 0001
			            6cb71c2c 9812 4540 0300000000000000 0000 0001`},
		{"trailer, stray bytes, reserved fields", &Bind{
			Header: Header{Major: 5, Type: TypeBind, Flags: SupportHeaderSign, FragLength: 0x3f, AuthLength: 3,
				CallID: 7},
			MaxXmit: 1, MaxRecv: 2,
			AssocGroup: 3, Reserved: [3]byte{4, 5, 6},
			Contexts: []ContextElement{{ID: 8, Reserved: 9, Abstract: fssagent()}},
			Auth: Auth{Type: 10, Level: 5, PadLength: 0, Reserved: 1, ContextID: 2, Padding: []byte{},
				Token: []byte("abc")},
		}, `05000b04 10000000 3f00 0300 07000000
			0100 0200 03000000 01 040506
			0800 00 09  3c65e0a8 4427 8943 a61d7373df8b2292 0100 0000
			0a 05 00 01 02000000 616263`},
		{"no contexts", &Bind{
			Header: Header{Major: 5, Type: TypeBind, FragLength: 0x1c},
			Auth:   Auth{Padding: []byte{}},
		}, "05000b00 10000000 1c00 0000 00000000  0000 0000 00000000 00 000000"},
		{"no contexts, no reserved bytes", &Bind{
			Header: Header{Major: 5, Type: TypeBind, FragLength: 0x19}, ReservedCut: 3,
			Auth: Auth{Padding: []byte{}},
		}, "05000b00 10000000 1900 0000 00000000  0000 0000 00000000 00"},
		{"no contexts, two reserved bytes", &Bind{
			Header: Header{Major: 5, Type: TypeBind, FragLength: 0x1b}, Reserved: [3]byte{'0', '1'}, ReservedCut: 1,
			Auth: Auth{Padding: []byte{}},
		}, "05000b00 10000000 1b00 0000 00000000  0000 0000 00000000 00 3031"},
	}
}

func TestBind(t *testing.T) {
	testSamples(t, bindSamples())
	testTruncated(t, bindNDR, 0x48)
}

func TestBindRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU { p := genBind(t); return &p })
}

func genBind(t *rapid.T) Bind {
	return Bind{
		Header:     genHeader(t),
		MaxXmit:    rapid.Uint16().Draw(t, "xmit"),
		MaxRecv:    rapid.Uint16().Draw(t, "recv"),
		AssocGroup: rapid.Uint32().Draw(t, "group"),
		Contexts: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ContextElement {
			e := ContextElement{ID: rapid.Uint16().Draw(t, "id"), Abstract: genSyntax(t)}
			for range rapid.IntRange(0, 5).Draw(t, "syntaxes") {
				e.Transfer = append(e.Transfer, genSyntax(t))
			}
			return e
		}), 1, 20).Draw(t, "contexts"),
		Auth: genAuth(t),
	}
}

func TestBindLimits(t *testing.T) {
	p := Bind{Contexts: make([]ContextElement, 255)}
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	q, err := ParseBind(b)
	require.NoError(t, err)
	require.Len(t, q.Contexts, 255)

	p.Contexts = make([]ContextElement, 256)
	b, err = p.AppendBinary([]byte("kept"))
	require.ErrorIs(t, err, ErrCount)
	require.Equal(t, "kept", string(b))

	p.Contexts = []ContextElement{{Transfer: make([]SyntaxID, 256)}}
	_, err = p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrCount)

	p.Contexts = make([]ContextElement, 255)
	for i := range p.Contexts {
		p.Contexts[i].Transfer = make([]SyntaxID, 255)
	}
	_, err = p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrFragLength)

	p = Bind{Auth: Auth{Type: 9, Token: make([]byte, MaxFragment+1)}}
	_, err = p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrCount)
}

// TestBindCounts lies about the numbers of contexts and syntaxes.
func TestBindCounts(t *testing.T) {
	for _, off := range []int{24, 30} {
		b := unhex(t, bindNDR)
		b[off] = 2
		_, err := Parse(b)
		require.ErrorIs(t, err, ErrBody)
		b[off] = 0
		_, err = Parse(b)
		require.NoError(t, err) // the rest counts as padding
	}
}

// TestBindStrayBytes keeps what impacket leaves between the contexts and the trailer, with
// auth_pad_length 0.
func TestBindStrayBytes(t *testing.T) {
	p := Bind{Contexts: []ContextElement{{Abstract: fssagent(), Transfer: []SyntaxID{NDR20()}}}}
	p.Auth = Auth{Type: 10, Level: 6, Padding: make([]byte, 44), Token: []byte("NTLMSSP\x00")}
	p.Auth.Padding[7] = 7
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	require.Len(t, b, 0x48+44+8+8)
	q, err := ParseBind(b)
	require.NoError(t, err)
	require.Equal(t, p.Auth, q.Auth)
	require.Zero(t, q.Auth.PadLength)
}

func TestFeatures(t *testing.T) {
	f, ok := FeatureSyntax(KeepConnectionOnOrphan).Features()
	require.True(t, ok)
	require.Equal(t, KeepConnectionOnOrphan, f)
	f, ok = FeatureSyntax(0xFFFFFFFFFFFFFFFF).Features()
	require.True(t, ok)
	require.Equal(t, ^Features(0), f)
	_, ok = NDR20().Features()
	require.False(t, ok)
	other := FeatureSyntax(1)
	other.Major = 2
	_, ok = other.Features()
	require.False(t, ok)
	require.Equal(t, "6cb71c2c-9812-4540-0300-000000000000 v1.0", FeatureSyntax(3).String())
}

func TestSyntaxNDR(t *testing.T) {
	for _, tt := range []struct {
		s    SyntaxID
		d    DataRep
		want string
		ok   bool
	}{
		{NDR20(), LittleEndian, "ndr20", true},
		{NDR20(), BigEndian, "ndr20be", true},
		{NDR64(), LittleEndian, "ndr64", true},
		{NDR64(), BigEndian, "ndr64", true},
		{fssagent(), LittleEndian, "ndr20", false},
		{SyntaxID{UUID: NDR20().UUID, Major: 1}, LittleEndian, "ndr20", false},
	} {
		got, ok := tt.s.NDR(tt.d)
		require.Equal(t, tt.ok, ok)
		require.Equal(t, tt.want, got.String())
	}
}

func FuzzBind(f *testing.F) { fuzzType(f, TypeBind, bindSamples()) }
