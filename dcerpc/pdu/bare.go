package pdu

// parseBare reads a PDU of a header and perhaps a trailer, with nothing between them.
func parseBare(b []byte, t Type) (Header, Auth, error) {
	h, b, err := openType(b, t, HeaderSize)
	if err != nil {
		return Header{}, Auth{}, err
	}
	b, a, err := splitAuth(&h, b, HeaderSize)
	if err != nil {
		return Header{}, Auth{}, err
	}
	a.Padding = b[HeaderSize:]
	return h, a, nil
}

func appendBare(dst []byte, h *Header, a *Auth, t Type) ([]byte, error) {
	w := begin(dst, h, t)
	return w.finish(a, 0, trailerAlign)
}
