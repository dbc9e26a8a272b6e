package pdu

// Response is one fragment of the answer to a call (C706 12.6.4.10):
//
//	16 alloc_hint, 4 bytes
//	20 p_cont_id, 2 bytes | cancel_count | reserved
//	24 stub | auth padding | sec_trailer
type Response struct {
	Header
	AllocHint   uint32
	ContextID   uint16
	CancelCount uint8
	Reserved    uint8
	Stub        []byte // without auth padding; encrypted until it is unsealed
	Auth        Auth
}

// ParseResponse reads a response. It does not allocate unless it fails; Stub, Auth.Padding
// and Auth.Token alias b.
func ParseResponse(b []byte) (Response, error) {
	h, b, err := openType(b, TypeResponse, responseSize)
	if err != nil {
		return Response{}, err
	}
	be := h.DataRep.order()
	p := Response{
		Header:      h,
		AllocHint:   be.uint32(b[16:]),
		ContextID:   be.uint16(b[20:]),
		CancelCount: b[22],
		Reserved:    b[23],
	}
	p.Stub, p.Auth, err = splitStub(&h, b, responseSize)
	if err != nil {
		return Response{}, err
	}
	return p, nil
}

// AppendBinary appends the response. It fails as [Request.AppendBinary] does.
func (p *Response) AppendBinary(dst []byte) ([]byte, error) {
	w := begin(dst, &p.Header, TypeResponse)
	w.uint32(p.AllocHint)
	w.uint16(p.ContextID)
	w.uint8(p.CancelCount)
	w.uint8(p.Reserved)
	w.bytes(p.Stub)
	return w.finish(&p.Auth, responseSize, stubAlign)
}
