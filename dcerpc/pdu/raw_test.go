package pdu

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRaw writes what no other type can: a PDU all of whose header is wrong.
func TestRaw(t *testing.T) {
	p := Raw{
		Header: Header{Major: 4, Minor: 9, Type: 77, Flags: 0x08, DataRep: 0x11, FragLength: 3, AuthLength: 0xffff,
			CallID: 1},
		Body: []byte("body"),
	}
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	require.Equal(t, unhex(t, "04094d08 01000000 0003 ffff 00000001 626f6479"), b)
}

func TestPatchedHeader(t *testing.T) {
	p := Request{Header: Header{Flags: FirstFrag, CallID: 1}, Stub: []byte{1, 2, 3, 4}}
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	h, err := ParseHeader(b)
	require.NoError(t, err)
	h.FragLength = 10
	h.Put(b)
	_, err = Parse(b)
	require.ErrorIs(t, err, ErrFragLength)
}

func TestRTS(t *testing.T) {
	b := unhex(t, "05001403 10000000 1400 0000 00000000 00000100")
	p, err := Parse(b)
	require.NoError(t, err)
	require.Equal(t, &Raw{Header: Header{Major: 5, Type: TypeRTS, Flags: 3, FragLength: 20}, Body: []byte{0, 0, 1, 0}},
		p)
	out, err := p.AppendBinary(nil)
	require.NoError(t, err)
	require.Equal(t, b, out)
}
