package ndr

import (
	"encoding/hex"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return b
}

func TestDecoderSticky(t *testing.T) {
	d := NewDecoder([]byte{1, 2, 3, 4, 5, 6}, NDR20)
	require.EqualValues(t, 0x04030201, d.Uint32())
	require.Zero(t, d.Uint32())
	require.EqualError(t, d.Err(), "ndr: bad stub data: uint32 at offset 4: 2 bytes remain")
	first := d.Err()
	require.Zero(t, d.Uint8(), "though bytes are left")
	require.Zero(t, d.Uint16())
	require.Zero(t, d.Uint64())
	require.Zero(t, d.GUID())
	require.Zero(t, d.Count(1))
	require.Zero(t, d.Variance(1, 1))
	require.Zero(t, d.Discriminant(8))
	require.False(t, d.Pointer())
	require.Empty(t, d.WString())
	require.Empty(t, d.CString())
	require.Nil(t, d.Raw(0))
	require.Zero(t, d.Remaining())
	d.Align(8)
	d.Fail("x", "y")
	require.Same(t, first, d.Err())
	require.ErrorIs(t, first, ErrBadStub)
	require.Equal(t, 4, d.Offset())
}

func TestDecoderAlignPastEnd(t *testing.T) {
	d := NewDecoder([]byte{1}, NDR20)
	d.Uint8()
	d.Align(1)
	require.NoError(t, d.Err())
	d.Align(4)
	require.ErrorIs(t, d.Err(), ErrBadStub)
}

func TestDecoderRaw(t *testing.T) {
	b := []byte{1, 2, 3}
	d := NewDecoder(b, NDR20)
	got := d.Raw(2)
	b[0] = 9
	require.Equal(t, []byte{9, 2}, got, "aliases the stub")
	_ = append(got, 7)
	require.EqualValues(t, 3, b[2], "appending to it does not reach the stub")
	d.Raw(-1)
	require.ErrorIs(t, d.Err(), ErrBadStub)
}

func TestDecoderFiletime(t *testing.T) {
	// Two 32-bit halves, aligned to 4, the lower one first in either byte order.
	d := NewDecoder(unhex(t, "ffffffff 67452301 efcdab89"), NDR20)
	d.Uint32()
	require.Equal(t, uint64(0x89abcdef01234567), uint64(d.Filetime()))
	d = NewDecoder(unhex(t, "01234567 89abcdef"), NDR20BE)
	require.Equal(t, uint64(0x89abcdef01234567), uint64(d.Filetime()))
	require.NoError(t, d.Err())
}

func TestDecoderCount(t *testing.T) {
	for _, tt := range []struct {
		stub   string
		syntax Syntax
		size   int
		want   int
		ok     bool
	}{
		{"02000000 0000", NDR20, 1, 2, true},
		{"03000000 0000", NDR20, 1, 0, false},
		{"02000000 0000", NDR20, 2, 0, false},
		{"01000000 0000", NDR20, 2, 1, true},
		{"00000000", NDR20, 8, 0, true},
		{"ffffffff 0000", NDR20, 1, 0, false},
		{"ffffffff 0000", NDR20BE, 1, 0, false},
		{"00000000 01000000 0000", NDR64, 1, 0, false},
		{"ffffffff ffffffff 0000", NDR64, 16, 0, false},
		{"02000000 00000000 0000", NDR64, 1, 2, true},
		{"0200", NDR20, 1, 0, false},
	} {
		d := NewDecoder(unhex(t, tt.stub), tt.syntax)
		require.Equal(t, tt.want, d.Count(tt.size), tt.stub)
		if tt.ok {
			require.NoError(t, d.Err())
		} else {
			require.ErrorIs(t, d.Err(), ErrBadStub)
			require.Zero(t, d.Err().(*Error).Offset, "where the count starts")
		}
	}
}

func TestDecoderVariance(t *testing.T) {
	for _, tt := range []struct {
		stub string
		max  uint64
		want int
		err  string
	}{
		{"00000000 02000000 0000", 2, 2, ""},
		{"00000000 02000000 0000", math.MaxUint64, 2, ""},
		{"00000000 02000000 0000", 1, 0, "offset 4: 2 is more than the maximum, 1"},
		{"01000000 02000000 0000", 3, 0, "offset 0: is 1, not 0"},
		{"00000000 03000000 0000", 3, 0, "offset 4: 3 elements in 2 bytes"},
	} {
		d := NewDecoder(unhex(t, tt.stub), NDR20)
		got := d.Variance(tt.max, 1)
		if tt.err == "" {
			require.NoError(t, d.Err())
			require.Equal(t, tt.want, got)
		} else {
			require.ErrorContains(t, d.Err(), tt.err)
		}
	}
}

// What Windows and Samba accept and refuse in a string.
func TestDecoderStrings(t *testing.T) {
	for _, tt := range []struct {
		name, stub, want, err string
	}{
		{"plain", "03000000 00000000 03000000 6100 6200 0000", "ab", ""},
		{"empty", "01000000 00000000 01000000 0000", "", ""},
		{"max_count above actual_count", "ff000000 00000000 02000000 6100 0000", "a", ""},
		{"NUL inside", "04000000 00000000 04000000 6100 0000 6200 0000", "a", ""},
		{"NUL first", "03000000 00000000 03000000 0000 6200 0000", "", ""},
		{"beyond the BMP", "03000000 00000000 03000000 3dd8 bedc 0000", "\U0001F4BE", ""},
		{"high surrogate alone", "02000000 00000000 02000000 3dd8 0000", "\xed\xa0\xbd", ""},
		{"low surrogate alone", "02000000 00000000 02000000 bedc 0000", "\xed\xb2\xbe", ""},
		{"surrogates the wrong way round", "03000000 00000000 03000000 bedc 3dd8 0000", "\xed\xb2\xbe\xed\xa0\xbd", ""},
		{"high surrogate before a letter", "03000000 00000000 03000000 3dd8 6100 0000", "\xed\xa0\xbda", ""},
		{"replacement character", "02000000 00000000 02000000 fdff 0000", "\uFFFD", ""},
		{"actual_count above max_count", "02000000 00000000 03000000 6100 6200 0000", "", "actual count at offset 8"},
		{"offset", "03000000 01000000 02000000 6200 0000", "", "varying offset at offset 4"},
		{"no NUL", "02000000 00000000 02000000 6100 6200", "", "does not end with a NUL"},
		{"half a NUL", "02000000 00000000 02000000 6100 0001", "", "does not end with a NUL"},
		{"no units", "01000000 00000000 00000000", "", "has no room for its NUL"},
		{"one byte short", "02000000 00000000 02000000 6100 00", "", "count at offset 8"},
		{"hostile counts", "ffffffff 00000000 ffffffff 6100 0000", "", "count at offset 8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDecoder(unhex(t, tt.stub), NDR20)
			got := d.WString()
			require.Equal(t, tt.want, got)
			if tt.err == "" {
				require.NoError(t, d.Err())
				require.Zero(t, d.Remaining())
			} else {
				require.ErrorIs(t, d.Err(), ErrBadStub)
				require.ErrorContains(t, d.Err(), tt.err)
			}
		})
	}
	for _, tt := range []struct {
		name, stub, want, err string
	}{
		{"plain", "03000000 00000000 03000000 616200", "ab", ""},
		{"not UTF-8", "03000000 00000000 03000000 61ff00", "a\xff", ""},
		{"max_count above actual_count", "40000000 00000000 02000000 6100", "a", ""},
		{"NUL inside", "04000000 00000000 04000000 61006200", "a", ""},
		{"no NUL", "02000000 00000000 02000000 6162", "", "does not end with a NUL"},
		{"no bytes", "00000000 00000000 00000000", "", "has no room for its NUL"},
	} {
		t.Run("CString "+tt.name, func(t *testing.T) {
			d := NewDecoder(unhex(t, tt.stub), NDR20)
			require.Equal(t, tt.want, d.CString())
			if tt.err == "" {
				require.NoError(t, d.Err())
			} else {
				require.ErrorContains(t, d.Err(), tt.err)
			}
		})
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A string of N bytes makes the decoder allocate its UTF-8 form and little else, at most 3 bytes
// for 2; hostile counts nothing but the error.
func TestDecoderAllocation(t *testing.T) {
	const n = 1 << 20
	for name, unit := range map[string]string{"ASCII": "6100", "three bytes": "aa30", "lone surrogates": "00d8",
		"pairs": "3dd8bedc"} {
		e := NewEncoder(nil, NDR20)
		e.Uint32(n/2 + 1)
		e.Uint32(0)
		e.Uint32(n/2 + 1)
		e.Raw(unhex(t, strings.Repeat(unit, n/2/(len(unit)/4))))
		e.Uint16(0)
		b, err := e.Bytes()
		require.NoError(t, err)
		var s string
		got := allocated(func() {
			d := NewDecoder(b, NDR20)
			s = d.WString()
		})
		require.NotEmpty(t, s)
		require.LessOrEqual(t, got, uint64(len(b))*3/2+16<<10, name) // large objects are rounded to pages
	}
	for _, s := range syntaxes {
		for _, count := range []uint32{math.MaxUint32, math.MaxInt32, 1 << 31, 1 << 24} {
			e := NewEncoder(nil, s)
			e.Uint3264(uint64(count))
			e.Uint3264(0)
			e.Uint3264(uint64(count))
			e.Raw(make([]byte, 8))
			b, err := e.Bytes()
			require.NoError(t, err)
			require.LessOrEqual(t, allocated(func() {
				d := NewDecoder(b, s)
				d.WString()
				require.ErrorIs(t, d.Err(), ErrBadStub)
				d = NewDecoder(b, s)
				d.CString()
				require.ErrorIs(t, d.Err(), ErrBadStub)
				d = NewDecoder(b, s)
				require.Zero(t, d.Count(1))
			}), uint64(64<<10))
		}
	}
}

// Decoding a string is one allocation.
func TestDecoderAllocs(t *testing.T) {
	b := unhex(t, "03000000 00000000 03000000 6100 fc00 0000")
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() {
		d := NewDecoder(b, NDR20)
		if d.WString() != "aü" {
			t.Fatal(d.Err())
		}
	}))
}
