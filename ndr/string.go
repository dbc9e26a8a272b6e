package ndr

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// WString appends s as a conformant-varying string of UTF-16 with its terminator: what a [string]
// LPWSTR points to (C706 14.3.4.2). No alignment follows.
//
//	| max_count | offset 0 | actual_count = max_count | UTF-16 code units, then NUL |
//
// The counts are in code units and include the NUL. The string s must be WTF-8: UTF-8 in which a
// lone surrogate is written as the three bytes that UTF-8's scheme gives for it. WString fails if s
// contains a NUL, is not WTF-8, or has a surrogate pair written as two surrogates.
func (e *Encoder) WString(s string) {
	units, ok := utf16Len(s)
	if !ok {
		e.Fail("wide string", "is not WTF-8, or contains a NUL")
		return
	}
	e.Uint3264(uint64(units) + 1)
	e.Uint3264(0)
	e.Uint3264(uint64(units) + 1)
	start := len(e.buf)
	end := start + 2*units
	e.buf = slices.Grow(e.buf, 2*units+2)[:end+2]
	out := e.buf[start:end]
	if units == len(s) { // ASCII: a rune of several bytes has fewer units
		for i := range len(s) {
			out[2*i], out[2*i+1] = s[i], 0
		}
	} else {
		out = out[:0]
		for i := 0; i < len(s); {
			r, n := decodeRune(s[i:])
			i += n
			if r > math.MaxUint16 {
				hi, lo := utf16.EncodeRune(r)
				out = binary.LittleEndian.AppendUint16(out, uint16(hi))
				r = lo
			}
			out = binary.LittleEndian.AppendUint16(out, uint16(r))
		}
	}
	if e.syntax == NDR20BE {
		for i := 0; i < len(out); i += 2 {
			out[i], out[i+1] = out[i+1], out[i]
		}
	}
	e.buf[end], e.buf[end+1] = 0, 0
}

// CString appends s as a conformant-varying string of single bytes with its terminator: what a
// [string] char* points to. The counts are in bytes and include the NUL. CString fails if s
// contains a NUL.
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

// utf16Len returns the number of code units of s, and reports whether s is WTF-8 without a NUL.
func utf16Len(s string) (units int, ok bool) {
	for units < len(s) && s[units]-1 < utf8.RuneSelf-1 { // ASCII, and not NUL
		units++
	}
	afterHigh := false
	for i := units; i < len(s); {
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
// NUL. Lone surrogates are kept (see [Encoder.WString]), so that the code that checks names sees
// them unchanged; Samba refuses them while decoding.
//
// As Windows and Samba do, it fails if the offset is not zero, if actual_count is zero or larger
// than max_count, if the last unit is not NUL, or if bytes are missing. It accepts a max_count
// above actual_count.
func (d *Decoder) WString() string {
	b := d.stringBytes("wide string", 2)
	if b == nil {
		return ""
	}
	if b[len(b)-1]|b[len(b)-2] != 0 {
		d.Fail("wide string", "does not end with a NUL")
		return ""
	}
	if d.syntax == NDR20BE {
		return decodeUTF16(b, binary.BigEndian.Uint16)
	}
	if str, ok := shortASCII(b); ok {
		return str
	}
	return decodeUTF16(b, binary.LittleEndian.Uint16)
}

// shortASCII converts little-endian units up to the first NUL if they are few and all ASCII, as in
// nearly every string. The last unit of b is a NUL.
func shortASCII(b []byte) (string, bool) {
	var out [128]byte
	for i := range min(len(out), len(b)/2) {
		c := b[2*i]
		if c >= utf8.RuneSelf || b[2*i+1] != 0 {
			return "", false
		}
		if c == 0 {
			return string(out[:i]), true
		}
		out[i] = c
	}
	return "", false
}

// decodeUTF16 converts the units of b, which ends with a NUL, up to its first NUL.
func decodeUTF16(b []byte, unit func([]byte) uint16) string {
	// Measure first, so that the string is the one allocation.
	size, end := 0, 0
	for ; unit(b[end:]) != 0; end += 2 {
		switch u := unit(b[end:]); {
		case u < 0x80:
			size++
		case u < 0x800:
			size += 2
		default:
			size += 3 // half of a pair takes 2; the spare byte does not matter
		}
	}
	var out strings.Builder
	out.Grow(size)
	for i := 0; i < end; i += 2 {
		r := rune(unit(b[i:]))
		if utf16.IsSurrogate(r) {
			if pair := utf16.DecodeRune(r, rune(unit(b[i+2:]))); pair != utf8.RuneError {
				out.WriteRune(pair)
				i += 2
				continue
			}
			var lone [3]byte
			out.Write(appendRune(lone[:0], r))
			continue
		}
		out.WriteRune(r)
	}
	return out.String()
}

// CString reads a conformant-varying string of single bytes and returns it, cut at its first NUL.
// It fails as [Decoder.WString] does.
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
	maxCount := d.Uint3264()
	n := d.Variance(maxCount, size)
	if d.err == nil && n == 0 {
		d.failAt(start, op, "has no room for its NUL: "+strconv.FormatUint(maxCount, 10)+" units, 0 of them here")
	}
	return d.take(op, 1, n*size)
}
