package pdu

import (
	"testing"

	"pgregory.net/rapid"
)

const auth3NTLM = "05001003 10000000 2000 0400 0f000000  20202020  0a 05 00 00 01000000 4e544c4d"

func auth3Samples() []sample {
	return []sample{
		{"NTLM", &Auth3{
			Header: Header{Major: 5, Type: TypeAuth3, Flags: FirstFrag | LastFrag, FragLength: 32, AuthLength: 4,
				CallID: 15},
			Pad:  [4]byte{0x20, 0x20, 0x20, 0x20},
			Auth: Auth{Type: 10, Level: 5, ContextID: 1, Padding: []byte{}, Token: []byte("NTLM")},
		}, auth3NTLM},
		{"no trailer", &Auth3{
			Header: Header{Major: 5, Type: TypeAuth3, FragLength: 22, CallID: 15},
			Auth:   Auth{Padding: []byte{1, 2}},
		}, "05001000 10000000 1600 0000 0f000000  00000000 0102"},
	}
}

func TestAuth3(t *testing.T) {
	testSamples(t, auth3Samples())
	testTruncated(t, auth3NTLM, 20)
}

func TestAuth3Random(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU {
		return &Auth3{Header: genHeader(t), Pad: [4]byte{1, rapid.Byte().Draw(t, "pad"), 3, 4}, Auth: genAuth(t)}
	})
}

func FuzzAuth3(f *testing.F) { fuzzType(f, TypeAuth3, auth3Samples()) }
