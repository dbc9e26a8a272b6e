package pdu

import (
	"testing"

	"pgregory.net/rapid"
)

const alterNTLM = `05000e03 10000000 5100 0100 02000000
	d016 d016 01000000 01 000000
	0100 01 00  3c65e0a8 4427 8943 a61d7373df8b2292 0100 0000
	            33057171 babe 3749 8319b5dbef9ccc36 0100 0000
	0a 06 00 00 01000000 aa`

func alterContextSamples() []sample {
	return []sample{
		{"token", &AlterContext{
			Header: Header{Major: 5, Type: TypeAlterContext, Flags: FirstFrag | LastFrag, FragLength: 0x51,
				AuthLength: 1, CallID: 2},
			MaxXmit: 5840, MaxRecv: 5840, AssocGroup: 1,
			Contexts: []ContextElement{{ID: 1, Abstract: fssagent(), Transfer: []SyntaxID{NDR64()}}},
			Auth:     Auth{Type: 10, Level: 6, ContextID: 1, Padding: []byte{}, Token: []byte{0xaa}},
		}, alterNTLM},
	}
}

func TestAlterContext(t *testing.T) {
	testSamples(t, alterContextSamples())
	testTruncated(t, alterNTLM, 0x48)
}

func TestAlterContextRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU { p := AlterContext(genBind(t)); return &p })
}

func FuzzAlterContext(f *testing.F) { fuzzType(f, TypeAlterContext, alterContextSamples()) }
