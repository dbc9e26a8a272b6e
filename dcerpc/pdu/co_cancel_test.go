package pdu

import (
	"testing"

	"pgregory.net/rapid"
)

func coCancelSamples() []sample {
	return []sample{
		{"bare", &CoCancel{
			Header: Header{Major: 5, Type: TypeCoCancel, Flags: FirstFrag | LastFrag, FragLength: 16, CallID: 2},
			Auth:   Auth{Padding: []byte{}},
		}, "05001203 10000000 1000 0000 02000000"},
		{"big-endian, padding, trailer", &CoCancel{
			Header: Header{Major: 5, Type: TypeCoCancel, DataRep: BigEndian, FragLength: 27, AuthLength: 1, CallID: 2},
			Auth:   Auth{Type: 10, Level: 5, PadLength: 2, ContextID: 1, Padding: []byte{1, 2}, Token: []byte{3}},
		}, "05001200 00000000 001b 0001 00000002  0102  0a 05 02 00 00000001 03"},
	}
}

func TestCoCancel(t *testing.T) { testSamples(t, coCancelSamples()) }

func TestCoCancelRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU { return &CoCancel{genHeader(t), genAuth(t)} })
}

func FuzzCoCancel(f *testing.F) { fuzzType(f, TypeCoCancel, coCancelSamples()) }
