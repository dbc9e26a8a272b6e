package pdu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		hex  string
		want Header
	}{
		{"little-endian", "05000b07 10000000 cd05 7d05 01000000",
			Header{Major: 5, Type: TypeBind, Flags: FirstFrag | LastFrag | SupportHeaderSign, FragLength: 0x5cd,
				AuthLength: 0x57d, CallID: 1}},
		{"big-endian", "05000003 00000000 005c 0000 00000002",
			Header{Major: 5, Flags: FirstFrag | LastFrag, DataRep: BigEndian, FragLength: 0x5c, CallID: 2}},
		{"nothing that there is", "0701ff80 32010203 0100 ffff 04030201",
			Header{Major: 7, Minor: 1, Type: 255, Flags: ObjectUUID, DataRep: 0x03020122, FragLength: 1,
				AuthLength: 0xffff, CallID: 0x01020304}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := unhex(t, tt.hex)
			h, err := ParseHeader(b)
			require.NoError(t, err)
			require.Equal(t, tt.want, h)
			out, err := h.AppendBinary([]byte{1})
			require.NoError(t, err)
			require.Equal(t, b, out[1:])
		})
	}
	_, err := ParseHeader(make([]byte, 15))
	require.ErrorIs(t, err, ErrShort)
	require.Panics(t, func() { new(Header).Put(make([]byte, 15)) })
}

func TestHeaderBytesSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "header")
		h, err := ParseHeader(b)
		require.NoError(t, err)
		out, err := h.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, out)
	})
}

func TestAuthOffset(t *testing.T) {
	for _, tt := range []struct {
		frag, auth uint16
		off        int
		ok         bool
	}{
		{100, 28, 64, true},
		{100, 0, 0, false},
		{25, 1, 16, true},
		{24, 1, 0, false},
		{24, 0xffff, 0, false},
	} {
		h := Header{FragLength: tt.frag, AuthLength: tt.auth}
		off, ok := h.AuthOffset()
		require.Equal(t, tt.ok, ok, "%+v", tt)
		require.Equal(t, tt.off, off, "%+v", tt)
	}
}

func TestDataRep(t *testing.T) {
	require.Equal(t, [4]byte{0x10, 0, 0, 0}, LittleEndian.Label())
	require.Equal(t, [4]byte{0, 0, 0, 0}, BigEndian.Label())
	require.False(t, LittleEndian.IsBigEndian())
	require.True(t, BigEndian.IsBigEndian())
	require.True(t, DataRepFromLabel([4]byte{0x01, 1, 0, 0}).IsBigEndian())
	require.False(t, DataRepFromLabel([4]byte{0x20, 0, 0, 0}).IsBigEndian())
}
