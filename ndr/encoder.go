package ndr

import (
	"encoding/binary"
	"math"
)

// An Encoder appends values to a buffer in one Syntax. Offsets, and so alignment, count from
// where the buffer ended when the Encoder was made: the start of the stub. Padding is zero.
//
// The first error sticks: later writes have no effect on the result, and [Encoder.Bytes] returns
// it. Only values that cannot be encoded fail (a string with a NUL in it, a count too large for the
// syntax). Methods allocate only to grow the buffer. An Encoder is for one goroutine.
type Encoder struct {
	buf    []byte
	base   int // where the stub starts in buf
	syntax Syntax
	refs   uint32 // non-NULL pointers written so far
	err    error
}

// NewEncoder returns an Encoder that appends to dst, which may be nil.
func NewEncoder(dst []byte, s Syntax) Encoder {
	return Encoder{buf: dst, base: len(dst), syntax: s}
}

// Bytes returns the extended buffer, or the buffer as it was given to [NewEncoder] and the first
// error.
func (e *Encoder) Bytes() ([]byte, error) {
	if e.err != nil {
		return e.buf[:e.base], e.err
	}
	return e.buf, nil
}

// Err returns the first error.
func (e *Encoder) Err() error { return e.err }

// Offset returns the number of bytes of stub written so far.
func (e *Encoder) Offset() int { return len(e.buf) - e.base }

// Syntax returns the syntax that the Encoder writes.
func (e *Encoder) Syntax() Syntax { return e.syntax }

// Fail makes reason the Encoder's error, an [ErrBadValue], unless there is one already.
func (e *Encoder) Fail(op, reason string) {
	if e.err == nil {
		e.err = &Error{Offset: e.Offset(), Op: op, Reason: reason, Err: ErrBadValue}
	}
}

// Align pads with zeros until the offset is a multiple of n, which is 1, 2, 4 or 8.
func (e *Encoder) Align(n int) {
	if pad := (e.base - len(e.buf)) & (n - 1); pad != 0 {
		var zeros [8]byte
		e.buf = append(e.buf, zeros[:pad]...)
	}
}

// Align3264 aligns to a count or referent of the syntax: 4 bytes in NDR 2.0, 8 in NDR64. A
// structure that holds pointers begins and, within an array of NDR64, ends with it.
func (e *Encoder) Align3264() {
	if e.syntax == NDR64 {
		e.Align(8)
	} else {
		e.Align(4)
	}
}

// Uint8 appends one byte.
func (e *Encoder) Uint8(v uint8) { e.buf = append(e.buf, v) }

// Uint16 appends 2 bytes, aligned to 2.
func (e *Encoder) Uint16(v uint16) {
	e.Align(2)
	if e.syntax == NDR20BE {
		e.buf = binary.BigEndian.AppendUint16(e.buf, v)
	} else {
		e.buf = binary.LittleEndian.AppendUint16(e.buf, v)
	}
}

// Uint32 appends 4 bytes, aligned to 4.
func (e *Encoder) Uint32(v uint32) {
	e.Align(4)
	if e.syntax == NDR20BE {
		e.buf = binary.BigEndian.AppendUint32(e.buf, v)
	} else {
		e.buf = binary.LittleEndian.AppendUint32(e.buf, v)
	}
}

// Uint64 appends 8 bytes, aligned to 8: a hyper.
func (e *Encoder) Uint64(v uint64) {
	e.Align(8)
	if e.syntax == NDR20BE {
		e.buf = binary.BigEndian.AppendUint64(e.buf, v)
	} else {
		e.buf = binary.LittleEndian.AppendUint64(e.buf, v)
	}
}

// Int64 appends 8 bytes, aligned to 8: a hyper.
func (e *Encoder) Int64(v int64) { e.Uint64(uint64(v)) }

// Uint3264 appends a __int3264, such as a count: 4 bytes in NDR 2.0, 8 in NDR64 (MS-RPCE 2.2.5.2).
func (e *Encoder) Uint3264(v uint64) {
	switch {
	case e.syntax == NDR64:
		e.Uint64(v)
	case v > math.MaxUint32:
		e.Fail("count", "does not fit in 32 bits")
	default:
		e.Uint32(uint32(v))
	}
}

// GUID appends a GUID that is given in the order of RFC 4122, as uuid.UUID holds it. On the wire it
// is a structure aligned to 4, whose first three members have the syntax's byte order (C706 A.1).
//
//	| time_low 4 | time_mid 2 | time_hi_and_version 2 | clock_seq and node, 8 single bytes |
func (e *Encoder) GUID(g [16]byte) {
	e.Align(4)
	if e.syntax != NDR20BE {
		g[0], g[1], g[2], g[3] = g[3], g[2], g[1], g[0]
		g[4], g[5] = g[5], g[4]
		g[6], g[7] = g[7], g[6]
	}
	e.buf = append(e.buf, g[:]...)
}

// Pointer appends the referent of a unique pointer: zero for NULL, else 0x00020000 and 4 more for
// every pointer after the first (C706 14.3.10, the values that MIDL and Samba use). The caller
// appends what it points to after the structure or array that holds the pointer.
func (e *Encoder) Pointer(present bool) {
	if !present {
		e.Uint3264(0)
		return
	}
	e.Uint3264(uint64(0x00020000 + 4*e.refs))
	e.refs++
}

// Discriminant appends a union's 32-bit discriminant. In NDR64 padding to the union's alignment
// follows, whatever the arm: armAlign is the largest alignment among the arms, 8 where one is a
// pointer (MS-RPCE 2.2.5.3.4.4).
func (e *Encoder) Discriminant(v uint32, armAlign int) {
	e.Uint32(v)
	if e.syntax == NDR64 {
		e.Align(armAlign)
	}
}

// Raw appends b as it is, without alignment or count.
func (e *Encoder) Raw(b []byte) { e.buf = append(e.buf, b...) }
