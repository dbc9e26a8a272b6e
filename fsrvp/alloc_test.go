package fsrvp

import (
	"encoding/binary"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// What a message of N bytes may allocate: its strings in UTF-8 take at most 3 bytes for 2 of the
// stub; the message itself and an error are of a fixed size.
func allocationLimit(n int) uint64 { return uint64(n)*3/2 + 2048 }

// allocations returns the bytes that f allocates on average.
func allocations(f func()) uint64 {
	const runs = 4
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

// Every vector, with each aligned 32-bit word of it replaced by hostile counts, and with 64 KiB
// after it that such a count could claim.
func TestParseAllocation(t *testing.T) {
	for _, v := range vectors(t) {
		s := v.syntax(t)
		for _, tail := range []int{0, 64 << 10} {
			for off := 0; off+4 <= len(v.stub(t)); off += 4 {
				for _, count := range []uint32{math.MaxUint32, 1 << 24, 0x8000} {
					stub := append(v.stub(t), make([]byte, tail)...)
					binary.LittleEndian.PutUint32(stub[off:], count)
					got := allocations(func() {
						if v.Direction == "request" {
							_, _ = ParseRequest(v.Opnum, s, stub)
						} else {
							_, _ = ParseResponse(v.Opnum, s, stub)
						}
					})
					require.LessOrEqual(t, got, allocationLimit(len(stub)), "%s/%s at %d: %#x", v.ID, s, off, count)
				}
			}
		}
	}
}

// The longest strings that fit, of characters that grow most.
func TestParseAllocationLongStrings(t *testing.T) {
	long := make([]rune, 1<<15)
	for i := range long {
		long[i] = 0x30AA
	}
	for _, s := range syntaxes {
		m := &GetShareMappingResponse{Level: 1, ShareMapping1: &ShareMapping1{
			ShareNameUNC: ndr.StringOf(string(long)), ShadowCopyShareName: ndr.StringOf(string(long)),
		}}
		stub, err := m.Append(nil, s)
		require.NoError(t, err)
		var back GetShareMappingResponse
		got := allocations(func() { require.NoError(t, back.Parse(s, stub)) })
		require.LessOrEqual(t, got, allocationLimit(len(stub)))
		require.Equal(t, m, &back)
	}
}

// Encoding into a buffer that is large enough allocates nothing; decoding the fullest messages at
// most 3 times.
func TestMessageAllocs(t *testing.T) {
	buf := make([]byte, 0, 1024)
	for _, v := range vectors(t) {
		s, stub, m := v.syntax(t), v.stub(t), v.parse(t)
		require.Zero(t, testing.AllocsPerRun(10, func() {
			if _, err := m.Append(buf, s); err != nil {
				t.Fatal(err)
			}
		}), "%s/%s encode", v.ID, v.Syntax)
		require.LessOrEqual(t, testing.AllocsPerRun(10, func() {
			if err := m.Parse(s, stub); err != nil {
				t.Fatal(err)
			}
		}), 3.0, "%s/%s decode", v.ID, v.Syntax)
	}
}
