package pdu

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// unhex reads hexadecimal digits with any white space between them.
func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	require.NoError(t, err)
	return b
}

// captured returns the PDUs of the captures in testdata/captures, by the name of the file.
func captured(t testing.TB) map[string][][]byte {
	files, err := filepath.Glob("testdata/captures/*.hex")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	pdus := make(map[string][][]byte)
	for _, name := range files {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		lines := bufio.NewScanner(bytes.NewReader(data))
		for lines.Scan() {
			if line := lines.Text(); !strings.HasPrefix(line, "#") {
				_, digits, _ := strings.Cut(line, " ")
				pdus[filepath.Base(name)] = append(pdus[filepath.Base(name)], unhex(t, digits))
			}
		}
		require.NoError(t, lines.Err())
	}
	return pdus
}

func TestCapturedPDUs(t *testing.T) {
	seen := make(map[Type]int)
	bigEndian := 0
	for name, pdus := range captured(t) {
		for i, b := range pdus {
			p, err := Parse(b)
			require.NoError(t, err, "%s, PDU %d", name, i)
			require.Len(t, b, int(p.Head().FragLength))
			got, err := p.AppendBinary(nil)
			require.NoError(t, err)
			require.Equal(t, b, got, "%s, PDU %d", name, i)
			seen[p.Head().Type]++
			if p.Head().DataRep.IsBigEndian() {
				bigEndian++
			}
		}
	}
	// As tshark counts them.
	require.Equal(t, map[Type]int{
		TypeBind: 42, TypeBindAck: 42, TypeAuth3: 21,
		TypeRequest: 222, TypeResponse: 222,
	}, seen)
	require.Equal(t, 37, bigEndian)
}

// A sample is one PDU with its bytes. Every kind has a table of them, which also seeds its fuzz
// target.
type sample struct {
	name string
	pdu  PDU // as Parse gives it
	hex  string
}

func testSamples(t *testing.T, samples []sample) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			b := unhex(t, s.hex)
			got, err := Parse(b)
			require.NoError(t, err)
			require.Equal(t, s.pdu, got)

			out, err := got.AppendBinary([]byte("before"))
			require.NoError(t, err)
			require.Equal(t, "before", string(out[:6]))
			require.Equal(t, b, out[6:])

			// What follows a PDU is not part of it; what is missing makes it short, wherever that
			// is.
			got, err = Parse(append(b[:len(b):len(b)], "after"...))
			require.NoError(t, err)
			require.Equal(t, s.pdu, got)
			for n := range b {
				_, err := Parse(b[:n:n])
				require.ErrorIs(t, err, ErrShort, "%d bytes", n)
			}
		})
	}
}

// testTruncated cuts the PDU off at every length and corrects frag_length: all lengths below body
// must be refused with ErrBody, or with ErrAuth where there is a trailer.
func testTruncated(t *testing.T, s string, body int) {
	b := unhex(t, s)
	for n := HeaderSize; n < body; n++ {
		c := bytes.Clone(b[:n])
		h, err := ParseHeader(c)
		require.NoError(t, err)
		h.FragLength, h.AuthLength = uint16(n), 0
		h.Put(c)
		_, err = Parse(c)
		require.ErrorIs(t, err, ErrBody, "%d bytes", n)
	}
}

// fuzzType fuzzes the PDUs of one type, whose byte in the header is given and not found.
func fuzzType(f *testing.F, typ Type, samples []sample) {
	for _, s := range samples {
		f.Add(unhex(f, s.hex))
	}
	for _, pdus := range captured(f) {
		for _, b := range pdus {
			if Type(b[2]) == typ {
				f.Add(b)
				break
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2 {
			b[2] = byte(typ)
		}
		input := bytes.Clone(b)
		p, err := Parse(b)
		if err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
			return
		}
		require.Equal(t, typ, p.Head().Type)
		out, err := p.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, input[:p.Head().FragLength], out)
		again, err := Parse(out)
		require.NoError(t, err)
		require.Equal(t, p, again)
		require.Equal(t, input, b, "input changed")
	})
}

// testRandom makes PDUs of one type, and checks that they survive being written and read.
func testRandom(t *testing.T, gen func(*rapid.T) PDU) {
	rapid.Check(t, func(t *rapid.T) {
		p := gen(t)
		b, err := p.AppendBinary(nil)
		require.NoError(t, err)
		q, err := Parse(b)
		require.NoError(t, err)
		out, err := q.AppendBinary(nil)
		require.NoError(t, err)
		require.Equal(t, b, out)
		require.Equal(t, canonical(p), canonical(q))
	})
}

// canonical returns p without what AppendBinary computes and without the difference of nil and
// empty.
func canonical(p PDU) any {
	v := reflect.New(reflect.TypeOf(p).Elem()).Elem()
	v.Set(reflect.ValueOf(p).Elem())
	h := v.FieldByName("Header").Addr().Interface().(*Header)
	*h = Header{Flags: h.Flags, DataRep: h.DataRep, CallID: h.CallID}
	if f := v.FieldByName("Auth"); f.IsValid() {
		a := f.Addr().Interface().(*Auth)
		a.PadLength = 0
		if len(bytes.Trim(a.Padding, "\x00")) == 0 {
			a.Padding = nil
		}
		a.Token = append([]byte(nil), a.Token...)
	}
	if f := v.FieldByName("Stub"); f.IsValid() {
		f.SetBytes(append([]byte(nil), f.Bytes()...))
	}
	return v.Interface()
}

func genHeader(t *rapid.T) Header {
	return Header{
		Flags:   Flags(rapid.Uint8().Draw(t, "flags")),
		DataRep: rapid.SampledFrom([]DataRep{LittleEndian, BigEndian}).Draw(t, "drep"),
		CallID:  rapid.Uint32().Draw(t, "call"),
	}
}

// genAuth makes no trailer, or one with a token that is not empty.
func genAuth(t *rapid.T) Auth {
	if rapid.Bool().Draw(t, "no trailer") {
		return Auth{}
	}
	return Auth{
		Type:      rapid.Uint8().Draw(t, "type"),
		Level:     rapid.Uint8().Draw(t, "level"),
		Reserved:  rapid.Uint8().Draw(t, "reserved"),
		ContextID: rapid.Uint32().Draw(t, "context"),
		Token:     rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "token"),
	}
}

func genBytes(t *rapid.T, label string) []byte {
	return rapid.SliceOfN(rapid.Byte(), 0, 3000).Draw(t, label)
}

func genSyntax(t *rapid.T) SyntaxID {
	return SyntaxID{
		UUID:  genUUID(t),
		Major: rapid.Uint16().Draw(t, "major"),
		Minor: rapid.Uint16().Draw(t, "minor"),
	}
}

func genUUID(t *rapid.T) uuid.UUID {
	return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
}

func TestParseProblems(t *testing.T) {
	const request = "05000003 10000000 1800 0000 01000000 00000000 0000 0000"
	for _, tt := range []struct {
		name string
		hex  string
		want Problem
	}{
		{"empty", "", ErrShort},
		{"header cut", request[:20], ErrShort},
		{"minor version", "05010003 10000000 1800 0000 01000000 00000000 0000 0000", ErrVersion},
		{"major version", "04000003 10000000 1800 0000 01000000 00000000 0000 0000", ErrVersion},
		{"version before drep", "04000003 20000000 1800 0000 01000000 00000000 0000 0000", ErrVersion},
		{"EBCDIC", "05000003 11000000 1800 0000 01000000 00000000 0000 0000", ErrDataRep},
		{"integers of no order", "05000003 20000000 0018 0000 01000000 00000000 0000 0000", ErrDataRep},
		{"VAX floats", "05000003 10010000 1800 0000 01000000 00000000 0000 0000", ErrDataRep},
		{"reserved drep", "05000003 10000001 1800 0000 01000000 00000000 0000 0000", ErrDataRep},
		{"frag_length 15", "05000003 10000000 0f00 0000 01000000 00000000 0000 0000", ErrFragLength},
		{"frag_length in the other order", "05000003 00000000 1800 0000 01000000 00000000 0000 0000", ErrShort},
		{"connectionless", "05000403 10000000 1800 0000 01000000 00000000 0000 0000", ErrType},
		{"no type at all", "0500ff03 10000000 1800 0000 01000000 00000000 0000 0000", ErrType},
		{"no body", "05000003 10000000 1000 0000 01000000", ErrBody},
		{"object missing", "05000083 10000000 1800 0000 01000000 00000000 0000 0000", ErrBody},
		{"token over the header", "05000003 10000000 1800 1000 01000000 00000000 0000 0000", ErrAuth},
		{"token over everything", "05000003 10000000 1800 ffff 01000000 00000000 0000 0000", ErrAuth},
		{"padding over the stub", "05000003 10000000 2500 0100 01000000 00000000 0000 0000 00000000 0a050500 00000000 ff", ErrAuth},
		{"fault without status", "05000303 10000000 1c00 0000 01000000 00000000 0000 0000 00000000", ErrBody},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse(unhex(t, tt.hex))
			require.ErrorIs(t, err, tt.want)
			require.Nil(t, p)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, tt.want, e.Problem)
			require.NotContains(t, err.Error(), "unknown problem")
		})
	}
}

// TestMemory checks that hostile bytes cost no more than a small constant times their number.
func TestMemory(t *testing.T) {
	full := bytes.Repeat([]byte{0xFF}, MaxFragment)
	for typ := range Type(21) {
		for _, n := range []int{16, 24, 28, 32, 64, 1000, MaxFragment} {
			for _, auth := range []uint16{0, 1, 8, 0xFFFF} {
				b := bytes.Clone(full[:n])
				h := Header{Major: 5, Type: typ, Flags: 0xFF, FragLength: uint16(n), AuthLength: auth}
				h.Put(b)
				got := allocated(func() { sink, _ = Parse(b) })
				require.LessOrEqual(t, got, uint64(4*n+1024), "%v, %d bytes, auth_length %d", typ, n, auth)
			}
		}
	}
	t.Run("contexts", func(t *testing.T) {
		p := Bind{Contexts: make([]ContextElement, 255)}
		for i := range p.Contexts {
			p.Contexts[i].Transfer = make([]SyntaxID, i%12)
		}
		b, err := p.AppendBinary(nil)
		require.NoError(t, err)
		got := allocated(func() { sink, err = Parse(b) })
		require.NoError(t, err)
		require.LessOrEqual(t, got, uint64(4*len(b)+1024))
	})
	t.Run("verification trailer", func(t *testing.T) {
		// Many signatures that all claim the same many commands.
		var stub []byte
		for range 40 {
			stub = append(stub, verifySignature()...)
			stub = append(stub, 0x10, 0, byte(4), 0, 0, 0, 0, 0)
		}
		stub = append(stub, make([]byte, 380)...)
		got := allocated(func() { CutVerificationTrailer(stub) })
		require.LessOrEqual(t, got, uint64(4*len(stub)+1024))
		ends := append(append(verifySignature(), make([]byte, 800)...), 0x10, 0x40, 0, 0)
		for i := 8; i < 808; i += 4 {
			ends[i] = 0x10
		}
		var v VerificationTrailer
		got = allocated(func() { _, v, _ = CutVerificationTrailer(ends) })
		require.Len(t, v, 201)
		require.LessOrEqual(t, got, uint64(16*len(ends)))
	})
}

var sink any

// allocated returns how many bytes f allocates; the least of some runs, because others may allocate
// too.
func allocated(f func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

func TestStrings(t *testing.T) {
	require.Equal(t, "alter_context_resp", TypeAlterContextResp.String())
	require.Equal(t, "ptype 4", Type(4).String())
	require.Equal(t, "provider_rejection", ProviderRejection.String())
	require.Equal(t, "result 9", Result(9).String())
	require.Equal(t, "abstract_syntax_not_supported", AbstractSyntaxNotSupported.String())
	require.Equal(t, "reason 9", Reason(9).String())
	require.Equal(t, "authentication_type_not_recognized", NakAuthTypeNotRecognized.String())
	require.Equal(t, "reason 77", NakReason(77).String())
	require.Equal(t, "nca_s_op_rng_error", FaultOpRange.String())
	require.Equal(t, "0x0000beef", FaultStatus(0xbeef).String())
	require.Equal(t, "8a885d04-1ceb-11c9-9fe8-08002b104860 v2.0", NDR20().String())
	require.Equal(t, "71710533-beba-4937-8319-b5dbef9ccc36 v1.0", fmt.Sprint(NDR64()))
	for typ := range Type(255) {
		require.Equal(t, !strings.HasPrefix(typ.String(), "ptype"), typ.Known())
	}
}
