package pdu

import (
	"testing"

	"pgregory.net/rapid"
)

const faultOpRange = "05000323 10000000 2000 0000 02000000  20000000 0000 00 00  0200011c 00000000"

func faultSamples() []sample {
	return []sample{
		{"operation out of range", &Fault{
			Header: Header{Major: 5, Type: TypeFault, Flags: FirstFrag | LastFrag | DidNotExecute, FragLength: 32,
				CallID: 2},
			AllocHint: 32, Status: FaultOpRange, Stub: []byte{},
		}, faultOpRange},
		{"extended error, big-endian", &Fault{
			Header:    Header{Major: 5, Type: TypeFault, DataRep: BigEndian, FragLength: 34, CallID: 2},
			AllocHint: 34, ContextID: 1, CancelCount: 2, FaultFlags: 1, Status: FaultAccessDenied, Reserved: [4]byte{1,
				2, 3, 4}, Stub: []byte{5, 6},
		}, "05000300 00000000 0022 0000 00000002  00000022 0001 02 01  00000005 01020304 0506"},
	}
}

func TestFault(t *testing.T) {
	testSamples(t, faultSamples())
	testTruncated(t, faultOpRange, 32)
}

func TestFaultRandom(t *testing.T) {
	testRandom(t, func(t *rapid.T) PDU {
		return &Fault{
			Header:     genHeader(t),
			AllocHint:  rapid.Uint32().Draw(t, "hint"),
			ContextID:  rapid.Uint16().Draw(t, "context"),
			FaultFlags: rapid.Uint8().Draw(t, "fault flags"),
			Status:     FaultStatus(rapid.Uint32().Draw(t, "status")),
			Stub:       genBytes(t, "stub"),
			Auth:       genAuth(t),
		}
	})
}

func FuzzFault(f *testing.F) { fuzzType(f, TypeFault, faultSamples()) }
