package ndr

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// WString appends s as a conformant-varying string of UTF-16 with its terminator, what
// [string] LPWSTR points to (C706 14.3.4.2). No alignment follows.
//
//	| max_count | offset 0 | actual_count = max_count | UTF-16 code units, then NUL |
//
// Counts are code units with the NUL. S is WTF-8: UTF-8, in which a lone surrogate stands as the three bytes that
// UTF-8 would have for it. A NUL in s, other bytes, and a surrogate pair that is written as two surrogates fail.
func (e *Encoder) WString(s string) {
	units, ok := utf16Len(s)
	if !ok {
		e.Fail("wide string", "is not WTF-8, or contains a NUL")
		return
	}
	e.Uint3264(uint64(units) + 1)
	e.Uint3264(0)
	e.Uint3264(uint64(units) + 1)
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		i += n
		if r > math.MaxUint16 {
			hi, lo := utf16.EncodeRune(r)
			e.unit(uint16(hi))
			r = lo
		}
		e.unit(uint16(r))
	}
	e.unit(0)
}

// unit appends a code unit; there is nothing to align.
func (e *Encoder) unit(u uint16) {
	if e.syntax == NDR20BE {
		e.buf = append(e.buf, byte(u>>8), byte(u))
	} else {
		e.buf = append(e.buf, byte(u), byte(u>>8))
	}
}

// CString appends s as a conformant-varying string of single bytes with its terminator, what
// [string] char* points to. Counts are bytes with the NUL. A NUL in s fails.
func (e *Encoder) CString(s string) {
	if strings.IndexByte(s, 0) >= 0 {
		e.Fail("string", "contains a NUL")
		return
	}
	n := uint64(len(s)) + 1
	e.Uint3264(n)
	e.Uint3264(0)
	e.Uint3264(n)
	e.buf = append(append(e.buf, s...), 0)
}

// utf16Len counts the code units of WTF-8 s, and tells whether it is that and free of NUL.
func utf16Len(s string) (units int, ok bool) {
	afterHigh := false
	for i := 0; i < len(s); {
		r, n := decodeRune(s[i:])
		if r <= 0 {
			return 0, false
		}
		low := 0xDC00 <= r && r <= 0xDFFF
		if low && afterHigh {
			return 0, false
		}
		afterHigh = 0xD800 <= r && r <= 0xDBFF
		units++
		if r > math.MaxUint16 {
			units++
		}
		i += n
	}
	return units, true
}

// WString reads a conformant-varying string of UTF-16 and returns it as WTF-8, cut at its first
// NUL. Lone surrogates are kept (see Encoder.WString), so that the name reaches whoever judges names unchanged;
// Samba refuses them here.
//
// As Windows and Samba do, it fails where the offset is not zero, actual_count is zero or larger than max_count, the last
// unit is not NUL, or the bytes are missing; a max_count above actual_count is accepted.
func (d *Decoder) WString() string {
	b := d.stringBytes("wide string", 2)
	if b == nil {
		return ""
	}
	be := d.syntax == NDR20BE
	lo, hi := 0, 1
	if be {
		lo, hi = 1, 0
	}
	if b[len(b)-1]|b[len(b)-2] != 0 {
		d.Fail("wide string", "does not end with a NUL")
		return ""
	}
	unit := func(i int) rune { return rune(b[i+hi])<<8 | rune(b[i+lo]) }

	// Measure first, so that the string is the one allocation.
	size, end := 0, 0
	for ; unit(end) != 0; end += 2 {
		switch r := unit(end); {
		case r < 0x80:
			size++
		case r < 0x800:
			size += 2
		default:
			size += 3 // half of a pair takes 2; the difference is not worth a second look
		}
	}
	var out strings.Builder
	out.Grow(size)
	for i := 0; i < end; i += 2 {
		r := unit(i)
		if r < 0x80 {
			out.WriteByte(byte(r))
			continue
		}
		if utf16.IsSurrogate(r) {
			if pair := utf16.DecodeRune(r, unit(i+2)); pair != utf8.RuneError {
				out.WriteRune(pair)
				i += 2
				continue
			}
			out.Write([]byte{0xE0 | byte(r>>12), 0x80 | byte(r>>6)&0x3F, 0x80 | byte(r)&0x3F})
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

// CString reads a conformant-varying string of single bytes and returns it, cut at its first NUL. It
// fails as WString does.
func (d *Decoder) CString() string {
	b := d.stringBytes("string", 1)
	if b == nil {
		return ""
	}
	if b[len(b)-1] != 0 {
		d.Fail("string", "does not end with a NUL")
		return ""
	}
	return string(b[:bytes.IndexByte(b, 0)])
}

// stringBytes reads the counts of a string and returns its bytes, at least one unit of size
// bytes; nil after an error.
func (d *Decoder) stringBytes(op string, size int) []byte {
	start := d.off
	max := d.Uint3264()
	n := d.Variance(max, size)
	if d.err == nil && n == 0 {
		d.failAt(start, op, "has no room for its NUL: "+strconv.FormatUint(max, 10)+" units, 0 of them here")
	}
	return d.take(op, 1, n*size)
}
