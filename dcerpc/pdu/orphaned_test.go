package pdu

import (
	"testing"

	"pgregory.net/rapid"
)

func orphanedSamples() []sample {
	return []sample{
		{"bare", &Orphaned{
			Header: Header{Major: 5, Type: TypeOrphaned, Flags: FirstFrag | LastFrag, FragLength: 16, CallID: 2},
			Auth:   Auth{Padding: []byte{}},
		}, "05001303 10000000 1000 0000 02000000"},
		{"big-endian, padding, trailer", &Orphaned{
			Header: Header{Major: 5, Type: TypeOrphaned, DataRep: BigEndian, FragLength: 27, AuthLength: 1, CallID: 2},
			Auth:   Auth{Type: 10, Level: 5, PadLength: 2, ContextID: 1, Padding: []byte{1, 2}, Token: []byte{3}},
		}, "05001300 00000000 001b 0001 00000002  0102  0a 05 02 00 00000001 03"},
	}
}

func TestOrphaned(t *testing.T) { testSamples(t, orphanedSamples()) }

func TestOrphanedRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU { return &Orphaned{genHeader(t), genAuth(t)} })
}

func FuzzOrphaned(f *testing.F) { fuzzType(f, TypeOrphaned, orphanedSamples()) }
