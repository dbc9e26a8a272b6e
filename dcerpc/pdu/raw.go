package pdu

// Raw is a PDU that is written exactly as it stands: a header with any version, type, flags and
// lengths, true or not, and any bytes after it.
type Raw struct {
	Header
	Body []byte // all that follows the 16 bytes of the header
}

// ParseRaw reads a PDU of any type. It fails as [Header.Check] does, and with [ErrShort].
func ParseRaw(b []byte) (Raw, error) {
	h, b, err := open(b)
	if err != nil {
		return Raw{}, err
	}
	return Raw{Header: h, Body: b[HeaderSize:]}, nil
}

// AppendBinary appends the header and the body as they are. It does not fail.
func (p *Raw) AppendBinary(dst []byte) ([]byte, error) {
	dst, _ = p.Header.AppendBinary(dst)
	return append(dst, p.Body...), nil
}
