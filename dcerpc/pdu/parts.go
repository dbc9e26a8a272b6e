package pdu

// Parts are the ranges of a request or response that a security context works on
// (MS-RPCE 2.2.2.11). All but PDU are adjacent and alias it:
//
//	| header (with object UUID) | stub + auth padding | 8-byte sec_trailer | token |
//	| Header                    | Body                | Trailer            | Token |
type Parts struct {
	PDU                          []byte
	Header, Body, Trailer, Token []byte
}

// Split finds the parts of a request, response or fault. Without an auth trailer, Trailer and Token
// are nil. It fails as [ParseRequest] does, except that it does not look at auth_pad_length.
func Split(b []byte) (Parts, error) {
	h, b, err := open(b)
	if err != nil {
		return Parts{}, err
	}
	var size int
	switch h.Type {
	case TypeRequest:
		size = h.Flags.stubOffset()
	case TypeResponse:
		size = responseSize
	case TypeFault:
		size = faultSize
	default:
		return Parts{}, fail(ErrType, h.Type, "has no stub")
	}
	if len(b) < size {
		return Parts{}, fail(ErrBody, h.Type, "%d bytes, %d needed", len(b), size)
	}
	p := Parts{PDU: b, Header: b[:size:size], Body: b[size:]}
	if h.AuthLength == 0 {
		return p, nil
	}
	off, ok := h.AuthOffset()
	if !ok || off < size {
		return Parts{}, fail(ErrAuth, h.Type, "auth_length %d in %d bytes", h.AuthLength, len(b))
	}
	p.cut(size, off)
	return p, nil
}

// cut sets the ranges between the offsets of body and trailer.
func (p *Parts) cut(body, trailer int) {
	token := trailer + AuthTrailerSize
	p.Header = p.PDU[:body:body]
	p.Body = p.PDU[body:trailer:trailer]
	p.Trailer = p.PDU[trailer:token:token]
	p.Token = p.PDU[token:]
}
