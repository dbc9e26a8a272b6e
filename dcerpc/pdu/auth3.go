package pdu

// Auth3 carries the last leg of a security exchange of three; it has no answer (MS-RPCE 2.2.2.10):
//
//	16 pad, 4 bytes, ignored
//	20 sec_trailer
type Auth3 struct {
	Header
	Pad  [4]byte
	Auth Auth
}

// ParseAuth3 reads an auth3. The caller must refuse one without a trailer.
func ParseAuth3(b []byte) (Auth3, error) {
	const size = HeaderSize + 4
	h, b, err := openType(b, TypeAuth3, size)
	if err != nil {
		return Auth3{}, err
	}
	p := Auth3{Header: h}
	b, p.Auth, err = splitAuth(&h, b, size)
	if err != nil {
		return Auth3{}, err
	}
	p.Pad = [4]byte(b[HeaderSize:])
	p.Auth.Padding = b[size:]
	return p, nil
}

// AppendBinary appends the auth3.
func (p *Auth3) AppendBinary(dst []byte) ([]byte, error) {
	w := begin(dst, &p.Header, TypeAuth3)
	w.bytes(p.Pad[:])
	return w.finish(&p.Auth, 0, trailerAlign)
}
