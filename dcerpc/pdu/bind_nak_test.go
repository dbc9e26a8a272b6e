package pdu

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const bindNak = "05000d03 10000000 1800 0000 05000000  0400 01 0500 000000"

func bindNakSamples() []sample {
	return []sample{
		{"Windows", &BindNak{
			Header:   Header{Major: 5, Type: TypeBindNak, Flags: FirstFrag | LastFrag, FragLength: 24, CallID: 5},
			Reason:   NakProtocolVersionNotSupported,
			Versions: []Version{{5, 0}},
			Auth:     Auth{Padding: []byte{0, 0, 0}},
		}, bindNak},
		{"two versions, big-endian, nothing after", &BindNak{
			Header:   Header{Major: 5, Type: TypeBindNak, DataRep: BigEndian, FragLength: 23, CallID: 5},
			Reason:   NakInvalidChecksum,
			Versions: []Version{{4, 0}, {5, 1}},
			Auth:     Auth{Padding: []byte{}},
		}, "05000d00 00000000 0017 0000 00000005  0009 02 0400 0501"},
	}
}

func TestBindNak(t *testing.T) {
	testSamples(t, bindNakSamples())
	testTruncated(t, bindNak, 21)
	p := NewBindNak(5, NakProtocolVersionNotSupported)
	b, err := p.AppendBinary(nil)
	require.NoError(t, err)
	require.Equal(t, unhex(t, bindNak), b)
	p.Versions = make([]Version, 256)
	_, err = p.AppendBinary(nil)
	require.ErrorIs(t, err, ErrCount)
}

func TestBindNakRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU {
		return &BindNak{
			Header: genHeader(t),
			Reason: NakReason(rapid.Uint16().Draw(t, "reason")),
			Versions: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Version {
				return Version{rapid.Uint8().Draw(t, "major"), rapid.Uint8().Draw(t, "minor")}
			}), 1, 255).Draw(t, "versions"),
		}
	})
}

func FuzzBindNak(f *testing.F) { fuzzType(f, TypeBindNak, bindNakSamples()) }
