package pdu

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFragmenterSizes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		typ   Type
		flags Flags
		max   int
		token int
		want  int
	}{
		{"Samba's pipe, no security", TypeResponse, 0, 4280, 0, 4256},
		{"Samba's pipe, Kerberos sealed", TypeResponse, 0, 4280, 76, 4160},
		{"TCP, no security", TypeRequest, 0, 5840, 0, 5808},
		{"TCP, NTLM", TypeRequest, 0, 5840, 16, 5792},
		{"object", TypeRequest, ObjectUUID, 5840, 0, 5792},
		{"an object's flag in a response", TypeResponse, ObjectUUID, 5840, 0, 5808},
		{"least", TypeRequest, 0, 24 + 8 + 16 + 16, 16, 16},
		{"nothing left", TypeRequest, 0, 24 + 8 + 16 + 15, 16, 0},
		{"more than a fragment can be", TypeRequest, 0, 1 << 20, 0, 65504},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Fragmenter{Type: tt.typ, Flags: tt.flags, MaxXmit: tt.max, TokenSize: tt.token}
			require.Equal(t, tt.want, f.StubSize())
		})
	}
}

func TestFragmenterErrors(t *testing.T) {
	f := Fragmenter{Type: TypeBind, MaxXmit: 5840}
	_, err := f.Next(nil)
	require.ErrorIs(t, err, ErrType)
	f = Fragmenter{Type: TypeRequest, MaxXmit: 39}
	_, err = f.Next(nil)
	require.ErrorIs(t, err, ErrFragLength)
}

func TestFragmenterEmptyStub(t *testing.T) {
	f := Fragmenter{Type: TypeRequest, Flags: ConcMPX, MaxXmit: 5840, CallID: 3, ContextID: 1, Opnum: 2}
	require.True(t, f.More())
	p, err := f.Next(nil)
	require.NoError(t, err)
	require.False(t, f.More())
	require.Equal(t, unhex(t, "05000013 10000000 1800 0000 03000000  00000000 0100 0200"), p.PDU)
	require.Nil(t, p.Token)
}

// TestFragments divides any stub and puts it together again.
func TestFragments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Fragmenter{
			Type:      rapid.SampledFrom([]Type{TypeRequest, TypeResponse}).Draw(t, "type"),
			DataRep:   rapid.SampledFrom([]DataRep{LittleEndian, BigEndian}).Draw(t, "drep"),
			CallID:    rapid.Uint32().Draw(t, "call"),
			ContextID: rapid.Uint16().Draw(t, "context"),
			Opnum:     rapid.Uint16().Draw(t, "opnum"),
			MaxXmit:   rapid.IntRange(160, 6000).Draw(t, "max"),
			AuthType:  rapid.Uint8().Draw(t, "auth type"), AuthLevel: 6, AuthContextID: 9,
			TokenSize: rapid.IntRange(0, 80).Draw(t, "token"),
			Stub:      rapid.SliceOfN(rapid.Byte(), 0, 20000).Draw(t, "stub"),
		}
		if f.Type == TypeRequest && rapid.Bool().Draw(t, "object") {
			f.Flags, f.Object = ObjectUUID, uuid.UUID{1, 2, 3}
		}
		stub, size := bytes.Clone(f.Stub), f.StubSize()
		var (
			r    Reassembler
			buf  []byte
			got  []byte
			done bool
		)
		for n := 0; f.More(); n++ {
			require.False(t, done)
			p, err := f.Next(buf[:0])
			require.NoError(t, err)
			buf = p.PDU
			require.LessOrEqual(t, len(p.PDU), f.MaxXmit)
			split, err := Split(p.PDU)
			require.NoError(t, err)
			require.Equal(t, p, split)

			parsed, err := Parse(p.PDU)
			require.NoError(t, err)
			out, err := parsed.AppendBinary(nil)
			require.NoError(t, err)
			require.Equal(t, p.PDU, out)
			var frag Fragment
			switch q := parsed.(type) {
			case *Request:
				require.Equal(t, f.Object, q.Object)
				require.Equal(t, f.Opnum, q.Opnum)
				require.Equal(t, f.TokenSize, len(q.Auth.Token))
				frag = q.Fragment()
			case *Response:
				require.Equal(t, f.TokenSize, len(q.Auth.Token))
				frag = q.Fragment()
			}
			require.Equal(t, uint32(len(stub)-n*size), frag.AllocHint)
			if f.More() {
				require.Len(t, frag.Stub, size)
			}
			got, done, err = r.Add(frag)
			require.NoError(t, err)
			_, busy := r.Pending()
			require.Equal(t, !done, busy)
		}
		require.True(t, done)
		require.True(t, bytes.Equal(stub, got))
	})
}

func BenchmarkFragmenter(b *testing.B) {
	stub := make([]byte, 64<<10)
	buf := make([]byte, 0, 5840)
	b.ReportAllocs()
	b.SetBytes(int64(len(stub)))
	for b.Loop() {
		f := Fragmenter{Type: TypeRequest, MaxXmit: 5840, AuthType: 16, AuthLevel: 6, TokenSize: 76, Stub: stub}
		for f.More() {
			if _, err := f.Next(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}
