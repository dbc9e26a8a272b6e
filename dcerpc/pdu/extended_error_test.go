package pdu

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func extendedHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// writtenExtended is the example of MS-EERR 3.1, with a short string, by the layout of NDR, field
// by field.
const writtenExtended = `
	01 10 0800 cccccccc
	48000000 00000000
	00000200
	01000000
	00000000 0200 0200 2a000000 00000000
	00803ed5deb19d01
	49000000 02000000 f00b 0000 0100 0000
	0200 0200 0300 0000 04000200
	03000000 4100 4200 0000 0000`

func extendedSample() []ExtendedError {
	return []ExtendedError{{
		ProcessID: 42, Time: time.Unix(0, 0).UTC(), Component: 0x49, Status: 2, Location: 0x0BF0, Params: []any{"AB"},
	}}
}

func extendedChain() []ExtendedError {
	return []ExtendedError{
		{Computer: "NAS", Component: ComponentSecurity, Status: 0x80090324, Params: []any{int32(-5), "skew", nil, []byte{1, 2, 3}}},
		{Component: ComponentRuntime, Status: 5, Flags: 2, Time: time.Date(2026, 11, 27, 1, 2, 3, 456700, time.UTC), Params: []any{int64(-1), int16(-2), ANSIString("abc")}},
		{Computer: "ü\U0001F4BE", Component: ComponentApplication},
	}
}

func TestExtendedErrorLayout(t *testing.T) {
	b, err := AppendExtendedErrors(nil, extendedSample())
	require.NoError(t, err)
	require.Equal(t, extendedHex(t, writtenExtended), b)
	got, err := ParseExtendedErrors(b)
	require.NoError(t, err)
	require.Equal(t, extendedSample(), got)
}

func TestExtendedErrors(t *testing.T) {
	for _, records := range [][]ExtendedError{extendedSample(), extendedChain(), extendedChain()[1:],
		extendedChain()[2:]} {
		b, err := AppendExtendedErrors([]byte("prefix..."), records)
		require.NoError(t, err)
		got, err := ParseExtendedErrors(b[9:])
		require.NoError(t, err)
		require.Equal(t, records, got)
		for n := range len(b) - 9 {
			if _, err := ParseExtendedErrors(b[9 : 9+n]); n < len(b)-9-8 {
				require.ErrorIs(t, err, ErrExtended, n)
			}
		}
	}
}

func TestExtendedErrorLimits(t *testing.T) {
	for _, records := range [][]ExtendedError{
		nil, make([]ExtendedError, MaxExtendedErrors+1), {{Params: make([]any,
			MaxExtendedParams+1)}}, {{Params: []any{1}}},
		{{Computer: strings.Repeat("x", 1<<15)}}, {{Params: []any{make([]byte, 1<<15)}}}, {{}, {Params: []any{1}}},
	} {
		b, err := AppendExtendedErrors([]byte("as it was"), records)
		require.Error(t, err)
		require.Equal(t, "as it was", string(b))
	}
	b, err := AppendExtendedErrors(nil, make([]ExtendedError, MaxExtendedErrors))
	require.NoError(t, err)
	got, err := ParseExtendedErrors(b)
	require.NoError(t, err)
	require.Len(t, got, MaxExtendedErrors)
}

func FuzzParseExtendedErrors(f *testing.F) {
	for _, records := range [][]ExtendedError{extendedSample(), extendedChain()} {
		b, err := AppendExtendedErrors(nil, records)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := ParseExtendedErrors(b)
		if err != nil {
			return
		}
		again, err := AppendExtendedErrors(nil, records)
		if err != nil { // a lone surrogate may take more units than it had
			return
		}
		got, err := ParseExtendedErrors(again)
		require.NoError(t, err)
		require.Len(t, got, len(records))
	})
}
