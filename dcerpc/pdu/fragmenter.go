package pdu

import (
	"math"

	"github.com/google/uuid"
)

// A Fragmenter divides the stub of one request or response into fragments:
//
//	f := pdu.Fragmenter{Type: pdu.TypeRequest, ...}
//	for f.More() {
//		p, err := f.Next(buf[:0])
//		// sign or seal p in place, write p.PDU with one Write
//		buf = p.PDU
//	}
//
// Every fragment but the last carries as many bytes of stub as fit into MaxXmit with the
// trailer, rounded down to a multiple of 16.
type Fragmenter struct {
	Type      Type    // TypeRequest or TypeResponse
	Flags     Flags   // FirstFrag and LastFrag are set as needed
	DataRep   DataRep // of the stub, too
	CallID    uint32
	ContextID uint16
	Opnum     uint16    // of a request
	Object    uuid.UUID // of a request whose Flags have ObjectUUID
	MaxXmit   int       // the largest fragment that the peer accepts, in bytes

	// AuthType, AuthLevel and AuthContextID make the sec_trailer, and TokenSize is the length of
	// the token that follows it in each fragment. TokenSize zero means no trailer.
	AuthType      uint8
	AuthLevel     uint8
	AuthContextID uint32
	TokenSize     int

	// Stub is the rest of the stub. Next shortens it, and never changes its bytes.
	Stub []byte

	started bool
}

// More reports whether there is another fragment. An empty stub makes one fragment.
func (f *Fragmenter) More() bool { return !f.started || len(f.Stub) > 0 }

// StubSize returns the largest number of bytes of stub in a fragment; zero or less if MaxXmit
// leaves no room.
func (f *Fragmenter) StubSize() int {
	n := min(f.MaxXmit, MaxFragment) - f.Flags.fixed(f.Type)
	if f.TokenSize > 0 {
		n -= AuthTrailerSize + f.TokenSize
	}
	return n &^ (stubAlign - 1)
}

// fixed returns the size of all that comes before the stub.
func (fl Flags) fixed(t Type) int {
	if t == TypeRequest {
		return fl.stubOffset()
	}
	return responseSize
}

// Next appends the next fragment to dst, with its lengths final and its token zero, and returns its
// parts, which alias dst. It does not allocate if dst has room for MaxXmit bytes. It fails with
// [ErrFragLength] if MaxXmit is too small for any stub, and with [ErrType] if Type is neither
// [TypeRequest] nor [TypeResponse].
func (f *Fragmenter) Next(dst []byte) (Parts, error) {
	if f.Type != TypeRequest && f.Type != TypeResponse {
		return Parts{}, fail(ErrType, f.Type, "has no fragments")
	}
	size := f.StubSize()
	if size <= 0 {
		return Parts{}, fail(ErrFragLength, f.Type, "no room for a stub in %d bytes", f.MaxXmit)
	}
	h := Header{Flags: f.Flags &^ (FirstFrag | LastFrag), DataRep: f.DataRep, CallID: f.CallID}
	if !f.started {
		h.Flags |= FirstFrag
		f.started = true
	}
	left := uint32(min(uint64(len(f.Stub)), math.MaxUint32))
	stub := f.Stub
	if len(stub) > size {
		stub = stub[:size]
	} else {
		h.Flags |= LastFrag
	}
	f.Stub = f.Stub[len(stub):]

	w := begin(dst, &h, f.Type)
	w.uint32(left)
	w.uint16(f.ContextID)
	if f.Type == TypeRequest {
		w.uint16(f.Opnum)
		if f.Flags.Has(ObjectUUID) {
			w.uuid(f.Object)
		}
	} else {
		w.uint16(0) // cancel_count, reserved
	}
	body := w.size()
	w.bytes(stub)
	if f.TokenSize == 0 {
		pdu, err := w.finish(&Auth{}, body, stubAlign)
		return Parts{PDU: pdu[w.start:], Header: pdu[w.start : w.start+body], Body: pdu[w.start+body:]}, err
	}
	for -(w.size()-body)&(stubAlign-1) != 0 {
		w.uint8(0)
	}
	trailer := w.size()
	w.h.AuthLength = uint16(f.TokenSize)
	w.b = append(w.b, f.AuthType, f.AuthLevel, uint8(trailer-body-len(stub)), 0)
	w.uint32(f.AuthContextID)
	w.b = append(w.b, make([]byte, f.TokenSize)...)
	pdu, err := w.finish(&Auth{}, body, stubAlign)
	if err != nil {
		return Parts{}, err
	}
	p := Parts{PDU: pdu[w.start:]}
	p.cut(body, trailer)
	return p, nil
}
