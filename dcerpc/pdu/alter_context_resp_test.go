package pdu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const alterRespLast = `05000f03 10000000 4000 0000 03000000
	d016 d016 01000000
	0000 0000
	01 000000
	0000 0000 045d888a eb1c c911 9fe808002b104860 0200 0000
	09 06 00 00 02000000`

func alterContextRespSamples() []sample {
	return []sample{
		{"last leg: trailer with an empty token", &AlterContextResp{
			Header: Header{Major: 5, Type: TypeAlterContextResp, Flags: FirstFrag | LastFrag, FragLength: 64,
				CallID: 3},
			MaxXmit: 5840, MaxRecv: 5840, AssocGroup: 1,
			Results: []ContextResult{{Acceptance, 0, NDR20()}},
			Auth:    Auth{Type: 9, Level: 6, ContextID: 2, Padding: []byte{}, Token: []byte{}},
		}, alterRespLast},
		{"eight bytes that are no trailer", &AlterContextResp{
			Header: Header{Major: 5, Type: TypeAlterContextResp, FragLength: 40, CallID: 3},
			Auth:   Auth{Padding: []byte{0, 1, 2, 3, 4, 5, 6, 7}},
		}, `05000f00 10000000 2800 0000 03000000  0000 0000 00000000 0000 0000 00 000000  0001020304050607`},
	}
}

func TestAlterContextResp(t *testing.T) {
	testSamples(t, alterContextRespSamples())
	testTruncated(t, alterRespLast, 56)
}

// TestAlterContextRespEmptyToken writes the last leg of an exchange whose security package had no
// token left.
func TestAlterContextRespEmptyToken(t *testing.T) {
	p := AlterContextResp{
		Header:  Header{Flags: FirstFrag | LastFrag, CallID: 3},
		MaxXmit: 5840, MaxRecv: 5840, AssocGroup: 1,
		Results: []ContextResult{{Acceptance, 0, NDR20()}},
		Auth:    Auth{Type: 9, Level: 6, ContextID: 2},
	}
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	require.Equal(t, unhex(t, alterRespLast), b)
}

func TestAlterContextRespRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU { p := AlterContextResp(genBindAck(t)); return &p })
}

func FuzzAlterContextResp(f *testing.F) {
	fuzzType(f, TypeAlterContextResp, alterContextRespSamples())
}
