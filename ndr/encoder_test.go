package ndr

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var syntaxes = []Syntax{NDR20, NDR64, NDR20BE}

func TestSyntax(t *testing.T) {
	require.Equal(t, "ndr20", Syntax(0).String(), "the zero value is what every peer knows")
	require.Equal(t, "unknown syntax", Syntax(3).String())
}

// Each primitive in each syntax, after one byte, so that alignment shows.
func TestPrimitives(t *testing.T) {
	guid := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	for _, tt := range []struct {
		name                 string
		encode               func(*Encoder)
		decode               func(*testing.T, *Decoder)
		ndr20, ndr64, ndr20b string
	}{
		{
			"Uint8", func(e *Encoder) { e.Uint8(0x12) },
			func(t *testing.T, d *Decoder) { require.EqualValues(t, 0x12, d.Uint8()) },
			"ff12", "ff12", "ff12",
		},
		{
			"Uint16", func(e *Encoder) { e.Uint16(0x1234) },
			func(t *testing.T, d *Decoder) { require.EqualValues(t, 0x1234, d.Uint16()) },
			"ff003412", "ff003412", "ff001234",
		},
		{
			"Uint32", func(e *Encoder) { e.Uint32(0x12345678) },
			func(t *testing.T, d *Decoder) { require.EqualValues(t, 0x12345678, d.Uint32()) },
			"ff00000078563412", "ff00000078563412", "ff00000012345678",
		},
		{
			"Uint64", func(e *Encoder) { e.Uint64(0x0123456789abcdef) },
			func(t *testing.T, d *Decoder) { require.EqualValues(t, int64(0x0123456789abcdef), d.Uint64()) },
			"ff00000000000000efcdab8967452301", "ff00000000000000efcdab8967452301", "ff000000000000000123456789abcdef",
		},
		{
			"Int64", func(e *Encoder) { e.Int64(-2) },
			func(t *testing.T, d *Decoder) { require.EqualValues(t, -2, d.Int64()) },
			"ff00000000000000feffffffffffffff", "ff00000000000000feffffffffffffff", "ff00000000000000fffffffffffffffe",
		},
		{
			"Uint3264", func(e *Encoder) { e.Uint3264(0x12345678) },
			func(t *testing.T, d *Decoder) { require.EqualValues(t, 0x12345678, d.Uint3264()) },
			"ff00000078563412", "ff000000000000007856341200000000", "ff00000012345678",
		},
		{
			"GUID", func(e *Encoder) { e.GUID(guid) },
			func(t *testing.T, d *Decoder) { require.Equal(t, guid, d.GUID()) },
			"ff00000003020100050407060809" + "0a0b0c0d0e0f", "ff00000003020100050407060809" + "0a0b0c0d0e0f", "ff00000000010203040506070809" + "0a0b0c0d0e0f",
		},
		{
			"Pointer", func(e *Encoder) { e.Pointer(true); e.Pointer(false); e.Pointer(true) },
			func(t *testing.T, d *Decoder) {
				require.True(t, d.Pointer())
				require.False(t, d.Pointer())
				require.True(t, d.Pointer())
			},
			"ff000000" + "00000200" + "00000000" + "04000200",
			"ff00000000000000" + "0000020000000000" + "0000000000000000" + "0400020000000000",
			"ff000000" + "00020000" + "00000000" + "00020004",
		},
		{
			"Discriminant", func(e *Encoder) { e.Discriminant(1, 8); e.Uint8(0xee) },
			func(t *testing.T, d *Decoder) {
				require.EqualValues(t, 1, d.Discriminant(8))
				require.EqualValues(t, 0xee, d.Uint8())
			},
			"ff00000001000000ee", "ff00000001000000ee", "ff00000000000001ee",
		},
		{
			"Discriminant padded", func(e *Encoder) { e.Uint32(7); e.Discriminant(1, 8); e.Uint8(0xee) },
			func(t *testing.T, d *Decoder) {
				require.EqualValues(t, 7, d.Uint32())
				require.EqualValues(t, 1, d.Discriminant(8))
				require.EqualValues(t, 0xee, d.Uint8())
			},
			"ff0000000700000001000000ee", "ff000000070000000100000000000000ee", "ff0000000000000700000001ee",
		},
		{
			"Align3264", func(e *Encoder) { e.Align3264(); e.Uint8(0xee) },
			func(t *testing.T, d *Decoder) { d.Align3264(); require.EqualValues(t, 0xee, d.Uint8()) },
			"ff000000ee", "ff00000000000000ee", "ff000000ee",
		},
		{
			"Raw", func(e *Encoder) { e.Raw([]byte{1, 2}) },
			func(t *testing.T, d *Decoder) { require.Equal(t, []byte{1, 2}, d.Raw(2)) },
			"ff0102", "ff0102", "ff0102",
		},
		{
			"WString", func(e *Encoder) { e.WString("aü") },
			func(t *testing.T, d *Decoder) { require.Equal(t, "aü", d.WString()) },
			"ff000000" + "03000000" + "00000000" + "03000000" + "6100fc000000",
			"ff00000000000000" + "0300000000000000" + "0000000000000000" + "0300000000000000" + "6100fc000000",
			"ff000000" + "00000003" + "00000000" + "00000003" + "006100fc0000",
		},
		{
			"CString", func(e *Encoder) { e.CString("ab") },
			func(t *testing.T, d *Decoder) { require.Equal(t, "ab", d.CString()) },
			"ff000000" + "03000000" + "00000000" + "03000000" + "616200",
			"ff00000000000000" + "0300000000000000" + "0000000000000000" + "0300000000000000" + "616200",
			"ff000000" + "00000003" + "00000000" + "00000003" + "616200",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for s, want := range map[Syntax]string{NDR20: tt.ndr20, NDR64: tt.ndr64, NDR20BE: tt.ndr20b} {
				// What stands in the buffer before the stub does not matter to alignment.
				e := NewEncoder([]byte("abc"), s)
				e.Uint8(0xff)
				tt.encode(&e)
				b, err := e.Bytes()
				require.NoError(t, err)
				require.Equal(t, want, hex.EncodeToString(b[3:]), s)
				require.Equal(t, len(b)-3, e.Offset())
				require.Equal(t, s, e.Syntax())

				d := NewDecoder(b[3:], s)
				require.EqualValues(t, 0xff, d.Uint8())
				tt.decode(t, &d)
				require.NoError(t, d.Err())
				require.Zero(t, d.Remaining())
				require.Equal(t, len(b)-3, d.Offset())
				require.Equal(t, s, d.Syntax())
			}
		})
	}
}

func TestEncoderErrors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		encode func(*Encoder)
	}{
		{"NUL in a wide string", func(e *Encoder) { e.WString("a\x00b") }},
		{"invalid UTF-8", func(e *Encoder) { e.WString("a\xffb") }},
		{"cut off UTF-8", func(e *Encoder) { e.WString("\xe2\x82") }},
		{"overlong UTF-8", func(e *Encoder) { e.WString("\xc0\x80") }},
		{"a pair written as two surrogates", func(e *Encoder) { e.WString("\xed\xa0\xbd\xed\xb2\xbe") }},
		{"NUL in a string", func(e *Encoder) { e.CString("a\x00b") }},
		{"a count that does not fit", func(e *Encoder) { e.Uint3264(1 << 32) }},
		{"the caller's own", func(e *Encoder) { e.Fail("level", "unknown") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := NewEncoder([]byte("abc"), NDR20)
			e.Uint32(1)
			tt.encode(&e)
			require.ErrorIs(t, e.Err(), ErrBadValue)
			require.NotErrorIs(t, e.Err(), ErrBadStub)
			first := e.Err()
			e.Uint32(2)
			e.WString("\xff")
			b, err := e.Bytes()
			require.Same(t, first, err, "the first error sticks")
			require.Equal(t, 4, err.(*Error).Offset)
			require.Equal(t, []byte("abc"), b, "the buffer is as it was")
		})
	}
	e := NewEncoder(nil, NDR64)
	e.Uint3264(1 << 32)
	require.NoError(t, e.Err())
}

// Encoding into a buffer that is large enough allocates nothing.
func TestEncoderAllocs(t *testing.T) {
	buf := make([]byte, 0, 256)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		e := NewEncoder(buf, NDR64)
		e.GUID([16]byte{})
		e.Pointer(true)
		e.WString("a\U0001F4BE")
		if _, err := e.Bytes(); err != nil {
			t.Fatal(err)
		}
	}))
}

// Short and long strings take different paths through the codec.
func TestWStringLengths(t *testing.T) {
	for _, s := range syntaxes {
		for _, n := range []int{0, 1, 126, 127, 128, 129, 1000} {
			for _, tail := range []string{"", "\u00fc", "\u30aa", "\U0001F4BE"} {
				want := strings.Repeat("x", n) + tail
				e := NewEncoder(nil, s)
				e.WString(want)
				b, err := e.Bytes()
				require.NoError(t, err)
				d := NewDecoder(b, s)
				require.Equal(t, want, d.WString(), "%v %d", s, n)
				require.NoError(t, d.Err())
				require.Zero(t, d.Remaining())
			}
		}
	}
}

// Strings of random code units, lone surrogates among them, survive the round trip from the wire
// and back.
func TestWStringRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(syntaxes).Draw(t, "syntax")
		units := rapid.SliceOf(rapid.OneOf(
			rapid.Uint16Range(1, 0x7F), rapid.Uint16Min(1), rapid.Uint16Range(0xD7FF, 0xE000),
		)).Draw(t, "units")
		e := NewEncoder(nil, s)
		e.Uint3264(uint64(len(units)) + 1)
		e.Uint3264(0)
		e.Uint3264(uint64(len(units)) + 1)
		for _, u := range append(units, 0) {
			e.Uint16(u)
		}
		wire, err := e.Bytes()
		require.NoError(t, err)

		d := NewDecoder(wire, s)
		str := d.WString()
		require.NoError(t, d.Err())
		e = NewEncoder(nil, s)
		e.WString(str)
		again, err := e.Bytes()
		require.NoError(t, err)
		require.Equal(t, wire, again)

		text, err := WTF8(str).MarshalJSON()
		require.NoError(t, err)
		var back WTF8
		require.NoError(t, back.UnmarshalJSON(text))
		require.Equal(t, str, string(back))
	})
}
