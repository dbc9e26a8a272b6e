package pdu

// Orphaned tells a server that the client has lost interest in the call of its CallID (C706
// 12.6.4.8).
type Orphaned struct {
	Header
	Auth Auth // whatever follows the header, in Padding if it is not a trailer
}

// ParseOrphaned reads an orphaned.
func ParseOrphaned(b []byte) (Orphaned, error) {
	h, a, err := parseBare(b, TypeOrphaned)
	return Orphaned{h, a}, err
}

// AppendBinary appends the orphaned.
func (p *Orphaned) AppendBinary(dst []byte) ([]byte, error) {
	return appendBare(dst, &p.Header, &p.Auth, TypeOrphaned)
}
