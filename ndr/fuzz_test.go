package ndr

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

// A program is bytes that tell which primitives to call, and with what: one byte for the primitive,
// then its value.
type program []byte

func (p *program) byte() byte {
	if len(*p) == 0 {
		return 0
	}
	b := (*p)[0]
	*p = (*p)[1:]
	return b
}

func (p *program) uint64() (v uint64) {
	for range 1 + p.byte()%8 {
		v = v<<8 | uint64(p.byte())
	}
	return v
}

func (p *program) text() string {
	n := min(int(p.byte()), len(*p))
	s := string((*p)[:n])
	*p = (*p)[n:]
	return s
}

const primitives = 16

// FuzzEncodeDecode runs a program on an Encoder, and the same one on a Decoder of what came out:
// the same values must come back.
func FuzzEncodeDecode(f *testing.F) {
	f.Add(byte(NDR20), []byte("\x00\x01\x01\x01\x02\x02\x03\x01\x02\x03\x07\x05hello\x04\x01\x06\x05\x01"))
	f.Add(byte(NDR64), []byte("\x00\x01\x07\x04\xf0\x9f\x92\xbe\x08\x03abc\x0a\x01\x0b\x09\x0c"))
	f.Add(byte(NDR20BE), []byte("\x03\x07\xff\xff\xff\xff\xff\xff\xff\xff\x07\x03\xed\xa0\xbd\x0d\x0e\x0f"))
	f.Fuzz(func(t *testing.T, syntax byte, prog []byte) {
		s := Syntax(syntax % 3)
		e := NewEncoder([]byte("abc"), s)
		for p := program(prog); len(p) > 0; {
			switch p.byte() % primitives {
			case 0:
				e.Uint8(p.byte())
			case 1:
				e.Uint16(uint16(p.uint64()))
			case 2:
				e.Uint32(uint32(p.uint64()))
			case 3:
				e.Uint64(p.uint64())
			case 4:
				e.Pointer(p.byte()&1 != 0)
			case 5:
				e.Uint3264(p.uint64())
			case 6:
				e.Discriminant(uint32(p.uint64()), 8)
			case 7:
				e.WString(p.text())
			case 8:
				e.CString(p.text())
			case 9:
				e.Align(4)
			case 10:
				e.Int64(int64(p.uint64()))
			case 11:
				e.Align3264()
			case 12:
				b := p.text()
				e.Uint3264(uint64(len(b)))
				e.Raw([]byte(b))
			case 13:
				var g [16]byte
				copy(g[:], p.text())
				e.GUID(g)
			case 14:
				v := p.uint64()
				e.Uint32(uint32(v))
				e.Uint32(uint32(v >> 32))
			case 15:
				b := p.text()
				e.Uint3264(0)
				e.Uint3264(uint64(len(b)))
				e.Raw([]byte(b))
			}
		}
		b, err := e.Bytes()
		if err != nil {
			if !bytes.Equal(b, []byte("abc")) {
				t.Fatalf("a failed Encoder left %q", b)
			}
			return
		}
		d := NewDecoder(b[3:], s)
		same := func(ok bool) {
			t.Helper()
			if !ok || d.Err() != nil {
				t.Fatalf("came back different before offset %d, error %v", d.Offset(), d.Err())
			}
		}
		for p := program(prog); len(p) > 0; {
			switch p.byte() % primitives {
			case 0:
				same(d.Uint8() == p.byte())
			case 1:
				same(d.Uint16() == uint16(p.uint64()))
			case 2:
				same(d.Uint32() == uint32(p.uint64()))
			case 3:
				same(d.Uint64() == p.uint64())
			case 4:
				same(d.Pointer() == (p.byte()&1 != 0))
			case 5:
				same(d.Uint3264() == p.uint64())
			case 6:
				same(d.Discriminant(8) == uint32(p.uint64()))
			case 7:
				same(d.WString() == p.text())
			case 8:
				same(d.CString() == p.text())
			case 9:
				d.Align(4)
			case 10:
				same(d.Int64() == int64(p.uint64()))
			case 11:
				d.Align3264()
			case 12:
				same(string(d.Raw(d.Count(1))) == p.text())
			case 13:
				var g [16]byte
				copy(g[:], p.text())
				same(d.GUID() == g)
			case 14:
				same(uint64(d.Filetime()) == p.uint64())
			case 15:
				same(string(d.Raw(d.Variance(255, 1))) == p.text())
			}
		}
		same(d.Remaining() == 0 && d.Offset() == e.Offset())
	})
}

// FuzzDecode runs a program on a Decoder of any bytes: no panic, no reading past the end, and
// strings that an Encoder takes.
func FuzzDecode(f *testing.F) {
	f.Add(byte(NDR20), []byte{7, 4, 2},
		[]byte("\x02\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00a\x00\x00\x00\x00\x00\x02\x00\x01\x00\x00\x00"))
	f.Add(byte(NDR64), []byte{5, 6, 8, 12, 15}, bytes.Repeat([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 8))
	f.Add(byte(NDR20BE), []byte{7}, bytes.Repeat([]byte{0xff}, 16))
	f.Fuzz(func(t *testing.T, syntax byte, prog, stub []byte) {
		s := Syntax(syntax % 3)
		d := NewDecoder(stub, s)
		last := 0
		for _, op := range prog {
			switch op % primitives {
			case 0:
				d.Uint8()
			case 1:
				d.Uint16()
			case 2:
				d.Uint32()
			case 3:
				d.Uint64()
			case 4:
				d.Pointer()
			case 5:
				d.Uint3264()
			case 6:
				d.Discriminant(8)
			case 7:
				str := d.WString()
				e := NewEncoder(nil, s)
				if e.WString(str); e.Err() != nil {
					t.Fatalf("%q: %v", str, e.Err())
				}
			case 8:
				if str := d.CString(); utf8.ValidString(str) {
					e := NewEncoder(nil, s)
					if e.CString(str); e.Err() != nil {
						t.Fatalf("%q: %v", str, e.Err())
					}
				}
			case 9:
				d.Align(4)
			case 10:
				d.Int64()
			case 11:
				d.Align3264()
			case 12:
				if n := d.Count(3); 3*n > d.Remaining() {
					t.Fatalf("%d elements in %d bytes", n, d.Remaining())
				}
			case 13:
				d.GUID()
			case 14:
				d.Filetime()
			case 15:
				if n := d.Variance(100, 2); n > 100 || 2*n > d.Remaining() {
					t.Fatalf("%d elements in %d bytes", n, d.Remaining())
				}
			}
			if d.Offset() < last || d.Offset() > len(stub) {
				t.Fatalf("offset went from %d to %d of %d", last, d.Offset(), len(stub))
			}
			last = d.Offset()
		}
	})
}

// FuzzWTF8JSON: what a WTF8 reads from JSON it writes so that it reads the same again.
func FuzzWTF8JSON(f *testing.F) {
	f.Add([]byte(`"\ud83d\udcbe\ud83d"`))
	f.Add([]byte(`"a\"\\\u00e9"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s, again WTF8
		if s.UnmarshalJSON(text) != nil {
			return
		}
		out, err := s.MarshalJSON()
		if err != nil {
			return // the input was not UTF-8
		}
		if err := again.UnmarshalJSON(out); err != nil || again != s {
			e := NewEncoder(nil, NDR20)
			if e.WString(string(s)); e.Err() == nil {
				t.Fatalf("%q became %q became %q: %v", text, out, again, err)
			}
		}
	})
}
