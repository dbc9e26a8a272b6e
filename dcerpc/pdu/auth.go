package pdu

// AuthTrailerSize is the size of a sec_trailer without its token.
const AuthTrailerSize = 8

// Alignments of the auth trailer: for all kinds of PDU, 4 from the start of the PDU (MS-RPCE
// 2.2.2.11); for signed ones, 16 from the start of the stub, as Windows and Samba send them.
const (
	trailerAlign = 4
	stubAlign    = 16
)

// Auth is the authentication verifier at the end of a PDU (sec_trailer, MS-RPCE 2.2.2.11),
// with the padding before it:
//
//	| padding | auth_type | auth_level | auth_pad_length | auth_reserved | auth_context_id, 4 bytes | token |
//
// The zero value means no trailer.
type Auth struct {
	Type      uint8  // the security provider, dcerpc.AuthType
	Level     uint8  // the protection level, dcerpc.AuthLevel
	PadLength uint8  // see Padding
	Reserved  uint8  // peers ignore it
	ContextID uint32 // the security context

	// Padding is the bytes between the body and the trailer, or the end of the PDU if there is no
	// trailer. Parsing a PDU with a trailer sets it to a non-nil slice. In a request, response or
	// fault it has PadLength bytes; in the other kinds it may have any length, whatever PadLength
	// says.
	//
	// AppendBinary writes Padding and PadLength unchanged. If Padding is nil and there is a
	// trailer, AppendBinary pads with zeros to the required alignment and writes the length of that
	// padding.
	Padding []byte
	// Token belongs to the security package. Its length is the header's auth_length. In a bind_ack
	// or alter_context_resp it may be empty, as in the last leg of an exchange; in other kinds a
	// trailer with an empty token looks like padding or stub, and is not parsed.
	Token []byte
}

// Present reports whether there is a trailer: whether Type or Level is not zero, or Token is not
// nil.
func (a *Auth) Present() bool { return a.Type != 0 || a.Level != 0 || a.Token != nil }

// parseTrailer reads a sec_trailer and its token, without padding, from b.
func parseTrailer(b []byte, be byteOrder) Auth {
	return Auth{
		Type:      b[0],
		Level:     b[1],
		PadLength: b[2],
		Reserved:  b[3],
		ContextID: be.uint32(b[4:]),
		Token:     b[AuthTrailerSize:],
	}
}

// splitAuth reads the trailer of b, a whole PDU whose fixed part is size bytes long, and
// returns b without it.
func splitAuth(h *Header, b []byte, size int) ([]byte, Auth, error) {
	if h.AuthLength == 0 {
		return b, Auth{}, nil
	}
	off, ok := h.AuthOffset()
	if !ok || off < size {
		return nil, Auth{}, fail(ErrAuth, h.Type, "auth_length %d in %d bytes", h.AuthLength, len(b))
	}
	return b[:off:off], parseTrailer(b[off:], h.DataRep.order()), nil
}

// splitStub reads the trailer as splitAuth does, and divides what follows the fixed part into the
// stub and its padding.
func splitStub(h *Header, b []byte, size int) ([]byte, Auth, error) {
	b, a, err := splitAuth(h, b, size)
	if err != nil {
		return nil, a, err
	}
	stub := b[size:]
	if !a.Present() {
		return stub, a, nil
	}
	n := len(stub) - int(a.PadLength)
	if n < 0 {
		return nil, a, fail(ErrAuth, h.Type, "auth_pad_length %d after %d bytes of stub", a.PadLength, len(stub))
	}
	a.Padding = stub[n:]
	return stub[:n:n], a, nil
}

// auth writes padding and trailer.
func (w *writer) auth(a *Auth, from, align int) {
	if !a.Present() {
		w.bytes(a.Padding)
		return
	}
	pad := a.PadLength
	if a.Padding != nil {
		w.bytes(a.Padding)
	} else {
		pad = uint8(-(w.size() - from) & (align - 1))
		for range pad {
			w.uint8(0)
		}
	}
	if len(a.Token) > MaxFragment {
		w.bad = ErrCount
		return
	}
	w.h.AuthLength = uint16(len(a.Token))
	w.b = append(w.b, a.Type, a.Level, pad, a.Reserved)
	w.uint32(a.ContextID)
	w.bytes(a.Token)
}
