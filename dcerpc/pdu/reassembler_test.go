package pdu

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func frag(call uint32, flags Flags, stub string) Fragment {
	return Fragment{Header: Header{Major: 5, Flags: flags, CallID: call}, Stub: []byte(stub)}
}

func TestReassembler(t *testing.T) {
	var r Reassembler
	add := func(f Fragment) string {
		t.Helper()
		stub, done, err := r.Add(f)
		require.NoError(t, err)
		require.Equal(t, f.Flags.Has(LastFrag), done)
		return string(stub)
	}
	refuse := func(want Problem, f Fragment) {
		t.Helper()
		stub, done, err := r.Add(f)
		require.ErrorIs(t, err, want)
		require.False(t, done)
		require.Nil(t, stub)
	}
	refuse(ErrSequence, frag(1, 0, "no first"))
	refuse(ErrSequence, frag(1, LastFrag, "no first"))
	require.Equal(t, "alone", add(frag(1, FirstFrag|LastFrag, "alone")))

	add(frag(2, FirstFrag, "one "))
	first, busy := r.Pending()
	require.True(t, busy)
	require.Equal(t, frag(2, FirstFrag, "").Header, first.Header)
	refuse(ErrSequence, frag(2, FirstFrag, "again"))
	refuse(ErrSequence, frag(3, FirstFrag|LastFrag, "another"))
	refuse(ErrSequence, frag(3, 0, "another"))
	big := frag(2, LastFrag, "big-endian")
	big.DataRep = BigEndian
	refuse(ErrChanged, big)
	response := frag(2, LastFrag, "response")
	response.Type = TypeResponse
	refuse(ErrChanged, response)
	add(frag(2, 0, "two "))
	require.Equal(t, "one two three", add(frag(2, LastFrag, "three")))
	_, busy = r.Pending()
	require.False(t, busy)

	add(frag(4, FirstFrag, "forgotten"))
	r.Reset(nil)
	add(frag(5, FirstFrag, "a"))
	require.Equal(t, "ab", add(frag(5, LastFrag, "b")))
}

func TestReassemblerKeeps(t *testing.T) {
	var r Reassembler
	_, _, err := r.Add(frag(1, FirstFrag, "ke"))
	require.NoError(t, err)
	kept, done, err := r.Add(frag(1, LastFrag, "pt"))
	require.NoError(t, err)
	require.True(t, done)
	r.Reset(nil)
	_, _, err = r.Add(frag(2, FirstFrag, "other"))
	require.NoError(t, err)
	require.Equal(t, "kept", string(kept))
}

func TestReassemblerLimits(t *testing.T) {
	hint := func(f Fragment, n uint32) Fragment { f.AllocHint = n; return f }
	for _, tt := range []struct {
		name  string
		frags []Fragment
		ok    bool
	}{
		{"exactly full", []Fragment{frag(1, FirstFrag, "12345"), frag(1, LastFrag, "67890")}, true},
		{"one byte over", []Fragment{frag(1, FirstFrag, "12345"), frag(1, LastFrag, "678901")}, false},
		{"one fragment, full", []Fragment{frag(1, FirstFrag|LastFrag, "1234567890")}, true},
		{"one fragment, over", []Fragment{frag(1, FirstFrag|LastFrag, "12345678901")}, false},
		{"hint of a single fragment", []Fragment{hint(frag(1, FirstFrag|LastFrag, "1"), 0xffffffff)}, true},
		{"hint of the last", []Fragment{frag(1, FirstFrag, "1"), hint(frag(1, LastFrag, "2"), 0xffffffff)}, true},
		{"hint of the first, full", []Fragment{hint(frag(1, FirstFrag, "1"), 10)}, true},
		{"hint of the first, over", []Fragment{hint(frag(1, FirstFrag, "1"), 11)}, false},
		{"hint of a middle one", []Fragment{hint(frag(1, FirstFrag, "12"), 10), hint(frag(1, 0, "34"), 9)}, false},
		{"hint too small", []Fragment{hint(frag(1, FirstFrag, "12"), 1), hint(frag(1, 0, "34"), 1)}, true},
		{"as many fragments as may be", []Fragment{frag(1, FirstFrag, ""), frag(1, 0, ""), frag(1, LastFrag, "")}, true},
		{"too many fragments", []Fragment{frag(1, FirstFrag, ""), frag(1, 0, ""), frag(1, 0, ""), frag(1, LastFrag, "")}, false},
		{"a second call", []Fragment{frag(1, FirstFrag, "12345"), frag(1, LastFrag, "67890"), frag(2, FirstFrag|LastFrag, "1234567890")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Reassembler{MaxStub: 10, MaxFragments: 3}
			var err error
			for _, f := range tt.frags {
				require.NoError(t, err)
				_, _, err = r.Add(f)
			}
			if tt.ok {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrTooLarge)
			}
		})
	}
}

// TestReassemblerMemory sends few bytes with hints of 4 MiB.
func TestReassemblerMemory(t *testing.T) {
	got := allocated(func() {
		var r Reassembler
		for i := range 1000 {
			f := frag(1, 0, "0123456789")
			if i == 0 {
				f.Flags, f.AllocHint = FirstFrag, DefaultMaxStub
			}
			_, _, err := r.Add(f)
			require.NoError(t, err)
		}
	})
	require.LessOrEqual(t, got, uint64(8*10000+100*1000), "require itself allocates a little")
}

// FuzzReassembler plays a program of fragments, five bytes each, against a model that keeps every
// stub.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{1, 3, 5, 0, 0, 1, 1, 9, 0, 0, 1, 2, 9, 0, 0})
	f.Add([]byte{1, 1, 5, 0, 0, 2, 1, 9, 0, 0, 1, 0, 90, 0, 0, 1, 2, 3, 0, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		r := Reassembler{MaxStub: 300, MaxFragments: 5}
		var (
			call  byte
			model []byte
			count int
			busy  bool
		)
		for ; len(program) >= 5; program = program[5:] {
			f := Fragment{
				Header: Header{CallID: uint32(program[0]), Flags: Flags(program[1] & 3),
					DataRep: DataRep(program[4] & 1 << 4)},
				AllocHint: uint32(program[3]) << 2,
				Stub:      bytes.Repeat([]byte{program[0]}, int(program[2])),
			}
			stub, done, err := r.Add(f)
			pending, underway := r.Pending()
			if err != nil {
				require.Equal(t, busy, underway)
				continue
			}
			first, last := f.Flags.Has(FirstFrag), f.Flags.Has(LastFrag)
			require.Equal(t, !busy, first)
			if first {
				call, model, count = program[0], nil, 0
			}
			require.Equal(t, call, program[0])
			model = append(model, f.Stub...)
			count++
			busy = !last
			require.Equal(t, last, done)
			require.Equal(t, busy, underway)
			require.LessOrEqual(t, len(model), r.MaxStub)
			require.LessOrEqual(t, count, r.MaxFragments)
			if done {
				require.True(t, bytes.Equal(model, stub))
			} else {
				require.Equal(t, uint32(call), pending.CallID)
			}
		}
	})
}

func BenchmarkReassembler(b *testing.B) {
	var r Reassembler
	one, two, three := frag(1, FirstFrag, "0123456789"), frag(1, 0, "0123456789"), frag(1, LastFrag, "0123456789")
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range []Fragment{one, two, three} {
			if _, _, err := r.Add(f); err != nil {
				b.Fatal(err)
			}
		}
	}
}
