package pdu

import "github.com/google/uuid"

// open reads and checks the header and cuts b off at frag_length.
func open(b []byte) (Header, []byte, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return h, nil, err
	}
	if err := h.Check(); err != nil {
		return h, nil, err
	}
	if len(b) < int(h.FragLength) {
		return h, nil, fail(ErrShort, h.Type, "%d bytes of %d", len(b), h.FragLength)
	}
	return h, b[:h.FragLength:h.FragLength], nil
}

// openType is open for one type, whose body needs at least size bytes, header included.
func openType(b []byte, t Type, size int) (Header, []byte, error) {
	h, b, err := open(b)
	if err != nil {
		return h, nil, err
	}
	if h.Type != t {
		return h, nil, fail(ErrType, h.Type, "not %v", t)
	}
	if len(b) < size {
		return h, nil, fail(ErrBody, h.Type, "%d bytes, %d needed", len(b), size)
	}
	return h, b, nil
}

// reader reads the body of a PDU. Past the end of its bytes it returns zeros, and remembers that it
// did.
type reader struct {
	b     []byte
	off   int
	be    byteOrder
	short bool
}

// take returns the next n bytes, or nil.
func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b)-r.off {
		r.short = true
		return nil
	}
	b := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

func (r *reader) uint8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return r.be.uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return r.be.uint32(b)
	}
	return 0
}

func (r *reader) uuid() uuid.UUID {
	if b := r.take(16); b != nil {
		return getUUID(b, r.be)
	}
	return uuid.UUID{}
}

// rest returns what is left, never nil.
func (r *reader) rest() []byte { return r.b[r.off:] }

func (r *reader) left() int { return len(r.b) - r.off }

// getUUID reads a UUID, whose first three fields follow the byte order (C706 appendix A).
func getUUID(b []byte, be byteOrder) uuid.UUID {
	u := uuid.UUID(b[:16])
	if !be {
		swapUUID(&u)
	}
	return u
}

func appendUUID(dst []byte, u uuid.UUID, be byteOrder) []byte {
	if !be {
		swapUUID(&u)
	}
	return append(dst, u[:]...)
}

func swapUUID(u *uuid.UUID) {
	u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
	u[4], u[5] = u[5], u[4]
	u[6], u[7] = u[7], u[6]
}

// writer appends one PDU to b: begin, the body, finish.
type writer struct {
	b     []byte
	start int // of the PDU in b
	be    byteOrder
	h     Header
	bad   Problem // the first one met
}

func begin(dst []byte, h *Header, t Type) writer {
	w := writer{b: dst, start: len(dst), be: h.DataRep.order(), h: *h}
	w.h.Major, w.h.Minor, w.h.Type, w.h.AuthLength = 5, 0, t, 0
	w.b = append(w.b, make([]byte, HeaderSize)...)
	return w
}

func (w *writer) uint8(v uint8)    { w.b = append(w.b, v) }
func (w *writer) uint16(v uint16)  { w.b = w.be.appendUint16(w.b, v) }
func (w *writer) uint32(v uint32)  { w.b = w.be.appendUint32(w.b, v) }
func (w *writer) bytes(v []byte)   { w.b = append(w.b, v...) }
func (w *writer) uuid(u uuid.UUID) { w.b = appendUUID(w.b, u, w.be) }

// count8 writes the length of a list in one byte.
func (w *writer) count8(n int) {
	if n > 0xFF {
		w.bad = ErrCount
	}
	w.uint8(uint8(n))
}

// count16 writes the length of a string in two bytes.
func (w *writer) count16(n int) {
	if n > 0xFFFF {
		w.bad = ErrCount
	}
	w.uint16(uint16(n))
}

// size returns the number of bytes written of the PDU.
func (w *writer) size() int { return len(w.b) - w.start }

// finish writes the auth trailer, padded so that the distance between from (an offset in the PDU)
// and the trailer is a multiple of align, and the header with the resulting lengths.
func (w *writer) finish(a *Auth, from, align int) ([]byte, error) {
	w.auth(a, from, align)
	if w.size() > MaxFragment && w.bad == 0 {
		w.bad = ErrFragLength
	}
	if w.bad != 0 {
		return w.b[:w.start], fail(w.bad, w.h.Type, "%d bytes", w.size())
	}
	w.h.FragLength = uint16(w.size())
	w.h.Put(w.b[w.start:])
	return w.b, nil
}
