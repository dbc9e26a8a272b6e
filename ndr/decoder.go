package ndr

import (
	"encoding/binary"
	"strconv"
)

// A Decoder reads values in one Syntax from a stub. Offsets, and so alignment, count from the start
// of the bytes passed to [NewDecoder]. Padding may have any value.
//
// The first error sticks: from then on every method returns zero, and Err says what and where. No
// count leads to an allocation before the bytes that it counts are known to be there. Results are
// copies; only those of [Decoder.Raw] alias the stub. A Decoder is for one goroutine.
type Decoder struct {
	b      []byte
	off    int // at most len(b)
	syntax Syntax
	err    error
}

// NewDecoder returns a Decoder that reads b, which must not change while the Decoder is in use.
func NewDecoder(b []byte, s Syntax) Decoder { return Decoder{b: b, syntax: s} }

// Err returns the first error, an *Error that wraps [ErrBadStub].
func (d *Decoder) Err() error { return d.err }

// Offset returns the number of bytes read so far, padding included.
func (d *Decoder) Offset() int { return d.off }

// Remaining returns the number of bytes not read yet; zero after an error.
func (d *Decoder) Remaining() int {
	if d.err != nil {
		return 0
	}
	return len(d.b) - d.off
}

// Syntax returns the syntax that the Decoder reads.
func (d *Decoder) Syntax() Syntax { return d.syntax }

// Fail makes reason the Decoder's error, an [ErrBadStub], unless there is one already. It is for
// violations of the protocol's own rules: two counts that differ, an unknown discriminant.
func (d *Decoder) Fail(op, reason string) {
	if d.err == nil {
		d.err = &Error{Offset: d.off, Op: op, Reason: reason, Err: ErrBadStub}
	}
}

// take returns the next n bytes after alignment; nil after an error.
func (d *Decoder) take(op string, align, n int) []byte {
	if d.err != nil {
		return nil
	}
	start := (d.off + align - 1) &^ (align - 1)
	if start > len(d.b) || n > len(d.b)-start {
		d.Fail(op, strconv.Itoa(len(d.b)-d.off)+" bytes remain")
		return nil
	}
	d.off = start + n
	return d.b[start:d.off:d.off]
}

// Align skips padding until the offset is a multiple of n, which is 1, 2, 4 or 8.
func (d *Decoder) Align(n int) { d.take("padding", n, 0) }

// Align3264 aligns to a count or referent of the syntax: 4 bytes in NDR 2.0, 8 in NDR64. A
// structure that holds pointers begins and, within an array of NDR64, ends with it.
func (d *Decoder) Align3264() {
	if d.syntax == NDR64 {
		d.Align(8)
	} else {
		d.Align(4)
	}
}

// Uint8 reads one byte.
func (d *Decoder) Uint8() uint8 {
	b := d.take("uint8", 1, 1)
	if b == nil {
		return 0
	}
	return b[0]
}

// Uint16 reads 2 bytes, aligned to 2.
func (d *Decoder) Uint16() uint16 {
	b := d.take("uint16", 2, 2)
	if b == nil {
		return 0
	}
	if d.syntax == NDR20BE {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

// Uint32 reads 4 bytes, aligned to 4.
func (d *Decoder) Uint32() uint32 {
	b := d.take("uint32", 4, 4)
	if b == nil {
		return 0
	}
	if d.syntax == NDR20BE {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// Uint64 reads 8 bytes, aligned to 8: a hyper.
func (d *Decoder) Uint64() uint64 {
	b := d.take("uint64", 8, 8)
	if b == nil {
		return 0
	}
	if d.syntax == NDR20BE {
		return binary.BigEndian.Uint64(b)
	}
	return binary.LittleEndian.Uint64(b)
}

// Int64 reads 8 bytes, aligned to 8: a hyper.
func (d *Decoder) Int64() int64 { return int64(d.Uint64()) }

// Filetime reads a FILETIME structure, two 32-bit halves with the lower one first, aligned to 4
// (MS-DTYP 2.3.3): 100 ns since 1601-01-01 UTC.
func (d *Decoder) Filetime() int64 {
	low := d.Uint32()
	return int64(uint64(d.Uint32())<<32 | uint64(low))
}

// Uint3264 reads a __int3264: 4 bytes in NDR 2.0, 8 in NDR64 (MS-RPCE 2.2.5.2). For the number of
// elements that follow, use [Decoder.Count], which bounds it.
func (d *Decoder) Uint3264() uint64 {
	if d.syntax == NDR64 {
		return d.Uint64()
	}
	return uint64(d.Uint32())
}

// Count reads the number of elements that follow, each of which takes at least size bytes (1 or
// more), and fails if the bytes that remain cannot hold them. So it is safe to allocate that many
// elements.
func (d *Decoder) Count(size int) int {
	start := d.off
	n := d.Uint3264()
	if n > uint64(d.Remaining()/size) {
		d.failAt(start, "count", strconv.FormatUint(n, 10)+" elements in "+strconv.Itoa(d.Remaining())+" bytes")
		return 0
	}
	return int(n)
}

// failAt is Fail for an item that started at off.
func (d *Decoder) failAt(off int, op, reason string) {
	if d.err == nil {
		d.err = &Error{Offset: off, Op: op, Reason: reason, Err: ErrBadStub}
	}
}

// Variance reads the offset and the number of elements of a varying array (C706 14.3.3.4), each of
// which takes at least size bytes, and returns the number. It fails if the offset is not zero
// (every known peer sends zero), if the number is larger than limit, or if the bytes that remain
// cannot hold the elements.
func (d *Decoder) Variance(limit uint64, size int) int {
	start := d.off
	if off := d.Uint3264(); off != 0 {
		d.failAt(start, "varying offset", "is "+strconv.FormatUint(off, 10)+", not 0")
	}
	start = d.off
	n := d.Count(size)
	if uint64(n) > limit {
		d.failAt(start, "actual count", strconv.Itoa(n)+" is more than the maximum, "+strconv.FormatUint(limit, 10))
		return 0
	}
	return n
}

// GUID reads a GUID and returns it in the order of RFC 4122, as uuid.UUID holds it.
func (d *Decoder) GUID() (g [16]byte) {
	b := d.take("GUID", 4, 16)
	if b == nil {
		return g
	}
	copy(g[:], b)
	if d.syntax != NDR20BE {
		g[0], g[1], g[2], g[3] = b[3], b[2], b[1], b[0]
		g[4], g[5] = b[5], b[4]
		g[6], g[7] = b[7], b[6]
	}
	return g
}

// Pointer reads the referent of a unique pointer and reports whether it is not NULL. The caller
// reads what it points to after the structure or array that holds the pointer.
func (d *Decoder) Pointer() bool { return d.Uint3264() != 0 }

// Discriminant reads a union's 32-bit discriminant, and in NDR64 the padding to the union's
// alignment: armAlign is the largest alignment among the arms, 8 where one is a pointer (MS-RPCE
// 2.2.5.3.4.4).
func (d *Decoder) Discriminant(armAlign int) uint32 {
	v := d.Uint32()
	if d.syntax == NDR64 {
		d.Align(armAlign)
	}
	return v
}

// Raw reads n bytes as they are, without alignment. The slice aliases the stub; it is
// nil after an error.
func (d *Decoder) Raw(n int) []byte {
	if n < 0 {
		d.Fail("bytes", "negative length")
		return nil
	}
	return d.take("bytes", 1, n)
}
