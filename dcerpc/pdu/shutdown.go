package pdu

// Shutdown asks a client to end the association (C706 12.6.4.11). Windows never sends it.
type Shutdown struct {
	Header
	Auth Auth // whatever follows the header, in Padding if it is not a trailer
}

// ParseShutdown reads a shutdown.
func ParseShutdown(b []byte) (Shutdown, error) {
	h, a, err := parseBare(b, TypeShutdown)
	return Shutdown{h, a}, err
}

// AppendBinary appends the shutdown.
func (p *Shutdown) AppendBinary(dst []byte) ([]byte, error) {
	return appendBare(dst, &p.Header, &p.Auth, TypeShutdown)
}
