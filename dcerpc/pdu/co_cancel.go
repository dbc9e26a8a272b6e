package pdu

// CoCancel asks a server to cancel the call of its CallID (C706 12.6.4.6).
type CoCancel struct {
	Header
	Auth Auth // whatever follows the header, in Padding if it is not a trailer
}

// ParseCoCancel reads a co_cancel.
func ParseCoCancel(b []byte) (CoCancel, error) {
	h, a, err := parseBare(b, TypeCoCancel)
	return CoCancel{h, a}, err
}

// AppendBinary appends the co_cancel.
func (p *CoCancel) AppendBinary(dst []byte) ([]byte, error) {
	return appendBare(dst, &p.Header, &p.Auth, TypeCoCancel)
}
