package pdu

import "github.com/google/uuid"

// Request is one fragment of a call (C706 12.6.4.9):
//
//	16 alloc_hint, 4 bytes
//	20 p_cont_id, 2 bytes | opnum, 2 bytes
//	24 object UUID, 16 bytes, where the flags have ObjectUUID
//	   stub | auth padding | sec_trailer
type Request struct {
	Header
	AllocHint uint32 // the sender's guess at the size of the whole stub: do not rely on it
	ContextID uint16
	Opnum     uint16
	Object    uuid.UUID // read and written if Flags has ObjectUUID
	Stub      []byte    // without auth padding; encrypted until it is unsealed
	Auth      Auth
}

// Sizes of the part before the stub. Those of response and fault are fixed.
const (
	requestSize       = HeaderSize + 8
	requestObjectSize = requestSize + 16
	responseSize      = HeaderSize + 8
	faultSize         = HeaderSize + 16
)

// stubOffset is where the stub of a request begins.
func (fl Flags) stubOffset() int {
	if fl.Has(ObjectUUID) {
		return requestObjectSize
	}
	return requestSize
}

// ParseRequest reads a request. It does not allocate unless it fails; Stub, Auth.Padding
// and Auth.Token alias b.
func ParseRequest(b []byte) (Request, error) {
	h, b, err := openType(b, TypeRequest, requestSize)
	if err != nil {
		return Request{}, err
	}
	be := h.DataRep.order()
	p := Request{
		Header:    h,
		AllocHint: be.uint32(b[16:]),
		ContextID: be.uint16(b[20:]),
		Opnum:     be.uint16(b[22:]),
	}
	size := h.Flags.stubOffset()
	if size > requestSize {
		if len(b) < size {
			return Request{}, fail(ErrBody, h.Type, "%d bytes, %d needed with an object", len(b), size)
		}
		p.Object = getUUID(b[requestSize:], be)
	}
	p.Stub, p.Auth, err = splitStub(&h, b, size)
	if err != nil {
		return Request{}, err
	}
	return p, nil
}

// AppendBinary appends the request. It fails with [ErrFragLength] if the request is longer than a
// fragment can be; a [Fragmenter] divides a longer stub.
func (p *Request) AppendBinary(dst []byte) ([]byte, error) {
	w := begin(dst, &p.Header, TypeRequest)
	w.uint32(p.AllocHint)
	w.uint16(p.ContextID)
	w.uint16(p.Opnum)
	if p.Flags.Has(ObjectUUID) {
		w.uuid(p.Object)
	}
	w.bytes(p.Stub)
	return w.finish(&p.Auth, p.Flags.stubOffset(), stubAlign)
}
