package pdu

// HeaderSize is the size in bytes of the header that every PDU begins with.
const HeaderSize = 16

// MaxFragment is the largest possible frag_length.
const MaxFragment = 0xFFFF

// Header is what every PDU begins with (C706 12.6.3.1):
//
//	 0 rpc_vers | rpc_vers_minor | PTYPE | pfc_flags
//	 4 packed_drep, 4 bytes
//	 8 frag_length, 2 bytes | auth_length, 2 bytes
//	12 call_id, 4 bytes
//
// [ParseHeader] fills in all of it. The AppendBinary of a PDU uses Flags, [DataRep] and CallID
// alone; version, type and lengths are derived from the PDU.
type Header struct {
	Major, Minor uint8
	Type         Type
	Flags        Flags
	DataRep      DataRep
	FragLength   uint16 // of the whole PDU
	AuthLength   uint16 // of the token alone, without the 8-byte sec_trailer
	CallID       uint32
}

// ParseHeader reads the first 16 bytes of b. The only error is [ErrShort]; [Header.Check] checks
// the fields.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fail(ErrShort, 0, "%d bytes, a header has %d", len(b), HeaderSize)
	}
	h := Header{
		Major:   b[0],
		Minor:   b[1],
		Type:    Type(b[2]),
		Flags:   Flags(b[3]),
		DataRep: DataRepFromLabel([4]byte(b[4:8])),
	}
	be := h.DataRep.order()
	h.FragLength = be.uint16(b[8:])
	h.AuthLength = be.uint16(b[10:])
	h.CallID = be.uint32(b[12:])
	return h, nil
}

// Check reports whether the rest of the PDU can be understood: [ErrVersion], [ErrDataRep],
// [ErrFragLength] (below 16), in this order. It does not check the type, nor lengths that depend on
// the type.
func (h *Header) Check() error {
	switch {
	case h.Major != 5 || h.Minor != 0:
		return fail(ErrVersion, h.Type, "%d.%d", h.Major, h.Minor)
	case h.DataRep != LittleEndian && h.DataRep != BigEndian:
		return fail(ErrDataRep, h.Type, "% x", h.DataRep.Label())
	case h.FragLength < HeaderSize:
		return fail(ErrFragLength, h.Type, "%d bytes", h.FragLength)
	}
	return nil
}

// AuthOffset returns where the sec_trailer begins, counted from the start of the PDU, and whether
// there is one with room for it after the header. Windows requires the offset to be a multiple of
// 4; parsing does not.
func (h *Header) AuthOffset() (int, bool) {
	off := int(h.FragLength) - int(h.AuthLength) - AuthTrailerSize
	if h.AuthLength == 0 || off < HeaderSize {
		return 0, false
	}
	return off, true
}

// Put writes all fields unchanged over the first 16 bytes of b. It panics if b is shorter.
func (h *Header) Put(b []byte) {
	b = b[:HeaderSize]
	label := h.DataRep.Label()
	be := h.DataRep.order()
	b[0], b[1], b[2], b[3] = h.Major, h.Minor, byte(h.Type), byte(h.Flags)
	copy(b[4:8], label[:])
	be.putUint16(b[8:], h.FragLength)
	be.putUint16(b[10:], h.AuthLength)
	be.putUint32(b[12:], h.CallID)
}

// AppendBinary appends all fields unchanged. It does not fail.
func (h *Header) AppendBinary(dst []byte) ([]byte, error) {
	var b [HeaderSize]byte
	h.Put(b[:])
	return append(dst, b[:]...), nil
}

// Head returns the header of any PDU that embeds one.
func (h *Header) Head() *Header { return h }
