package pdu

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// pduOf returns a PDU of n bytes that differ from each other.
func pduOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	h := Header{Major: 5, FragLength: uint16(n), CallID: uint32(n)}
	h.Put(b)
	return b
}

func TestFramer(t *testing.T) {
	sizes := []int{16, 17, 5840, 24, 8191, 8192, 8193, 4280, MaxFragment, 16, 40000, 5840}
	var stream []byte
	for _, n := range sizes {
		stream = append(stream, pduOf(n)...)
	}
	for name, r := range map[string]io.Reader{
		"whole":    bytes.NewReader(stream),
		"one byte": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves":   iotest.HalfReader(bytes.NewReader(stream)),
		"data EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			f := NewFramer(r, 0)
			for _, n := range sizes {
				h, b, err := f.Next()
				require.NoError(t, err)
				require.Equal(t, n, int(h.FragLength))
				require.True(t, bytes.Equal(pduOf(n), b))
				clear(b) // the caller may do as it likes with it
			}
			for range 2 {
				_, b, err := f.Next()
				require.ErrorIs(t, err, io.EOF)
				require.Nil(t, b)
			}
			require.Zero(t, f.Buffered())
		})
	}
}

func TestFramerEnds(t *testing.T) {
	b := pduOf(40)
	for n := 1; n < 80; n++ {
		f := NewFramer(bytes.NewReader(append(b[:40:40], b...)[:n]), 0)
		var err error
		for err == nil {
			_, _, err = f.Next()
		}
		if n == 40 {
			require.Equal(t, io.EOF, err)
		} else {
			require.Equal(t, io.ErrUnexpectedEOF, err)
		}
		require.Equal(t, n%40, f.Buffered())
	}
	boom := errors.New("boom")
	f := NewFramer(io.MultiReader(bytes.NewReader(b[:20]), iotest.ErrReader(boom)), 0)
	for range 2 {
		_, _, err := f.Next()
		require.Equal(t, boom, err)
	}
	f = NewFramer(noReader{}, 0)
	_, _, err := f.Next()
	require.Equal(t, io.ErrNoProgress, err)
}

// noReader gives nothing and says nothing.
type noReader struct{}

func (noReader) Read([]byte) (int, error) { return 0, nil }

func TestFramerLength(t *testing.T) {
	for _, tt := range []struct{ frag, max int }{{15, 0}, {0, 0}, {5841, 5840}, {17, 16}} {
		b := pduOf(max(tt.frag, 16))
		h := Header{Major: 5, Type: TypeBind, FragLength: uint16(tt.frag)}
		h.Put(b)
		f := NewFramer(bytes.NewReader(b), tt.max)
		for range 2 {
			got, pdu, err := f.Next()
			require.ErrorIs(t, err, ErrFragLength)
			require.Nil(t, pdu)
			require.Equal(t, h, got, "the header tells what to answer")
		}
	}
}

// TestFramerMemory announces 65535 bytes and sends few.
func TestFramerMemory(t *testing.T) {
	b := pduOf(MaxFragment)
	for _, n := range []int{16, 100, 10000, 60000} {
		got := allocated(func() {
			_, _, err := NewFramer(iotest.HalfReader(bytes.NewReader(b[:n])), 0).Next()
			require.Equal(t, io.ErrUnexpectedEOF, err)
		})
		require.LessOrEqual(t, got, uint64(4*n+framerSize+2048), "%d bytes", n)
	}
}

func TestFramerShrink(t *testing.T) {
	stream := append(pduOf(30000), pduOf(20)...)
	f := NewFramer(&steps{append(stream, pduOf(9000)...), 29999}, 0)
	_, first, err := f.Next()
	require.NoError(t, err)
	f.Shrink() // nothing more has been read
	_, second, err := f.Next()
	require.NoError(t, err)
	require.Equal(t, pduOf(20), second)
	f.Shrink() // part of the next one has been read
	_, third, err := f.Next()
	require.NoError(t, err)
	require.Equal(t, pduOf(30000), first, "the caller's from Shrink on")
	require.Equal(t, pduOf(9000), third)
}

// TestFramerReads counts what a PDU costs: one Read, which on a pipe is a round trip.
func TestFramerReads(t *testing.T) {
	w := &messages{}
	f := NewFramer(w, 0)
	for range 10 {
		w.next = pduOf(5840)
		_, _, err := f.Next()
		require.NoError(t, err)
	}
	require.Equal(t, 10, w.reads)
}

// messages gives one whole message with each Read.
type messages struct {
	next  []byte
	reads int
}

func (m *messages) Read(b []byte) (int, error) {
	m.reads++
	return copy(b, m.next), nil
}

func FuzzFramer(f *testing.F) {
	f.Add(append(pduOf(16), pduOf(30)...), 0, 1)
	f.Add(pduOf(9000), 5840, 100)
	f.Add(append(pduOf(9000), pduOf(16)[:9]...), 9000, 4000)
	f.Fuzz(func(t *testing.T, stream []byte, max, step int) {
		input := bytes.Clone(stream)
		fr := NewFramer(&steps{stream, step}, max)
		for len(input) > 0 {
			h, b, err := fr.Next()
			if err != nil {
				if len(input) >= HeaderSize && !errors.Is(err, ErrFragLength) {
					require.Equal(t, io.ErrUnexpectedEOF, err)
					require.Less(t, len(input), int(h.FragLength))
				}
				return
			}
			require.Equal(t, int(h.FragLength), len(b))
			require.Equal(t, input[:len(b)], b)
			input = input[len(b):]
			clear(b)
		}
		_, _, err := fr.Next()
		require.Equal(t, io.EOF, err)
	})
}

// steps gives a stream in pieces of n bytes at most.
type steps struct {
	b []byte
	n int
}

func (s *steps) Read(b []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.b[:min(len(s.b), 1+(s.n&0x3FFF))])
	s.b = s.b[n:]
	return n, nil
}

func BenchmarkFramer(b *testing.B) {
	w := &messages{next: pduOf(600)}
	f := NewFramer(w, 0)
	b.ReportAllocs()
	b.SetBytes(600)
	for b.Loop() {
		if _, _, err := f.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
