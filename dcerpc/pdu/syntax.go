package pdu

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// SyntaxID names an interface or a transfer syntax (p_syntax_id_t, C706 12.6.3.1): 20 bytes. It is
// comparable.
type SyntaxID struct {
	UUID  uuid.UUID
	Major uint16
	Minor uint16
}

const syntaxIDSize = 20

// NDR20 returns the transfer syntax NDR 2.0, 8a885d04-1ceb-11c9-9fe8-08002b104860 v2.0.
func NDR20() SyntaxID {
	return SyntaxID{
		UUID: uuid.UUID{
			0x8a, 0x88, 0x5d, 0x04, 0x1c, 0xeb, 0x11, 0xc9,
			0x9f, 0xe8, 0x08, 0x00, 0x2b, 0x10, 0x48, 0x60,
		},
		Major: 2,
	}
}

// NDR64 returns the transfer syntax NDR64, 71710533-beba-4937-8319-b5dbef9ccc36 v1.0 (MS-RPCE
// 3.3.1.1).
func NDR64() SyntaxID {
	return SyntaxID{
		UUID: uuid.UUID{
			0x71, 0x71, 0x05, 0x33, 0xbe, 0xba, 0x49, 0x37,
			0x83, 0x19, 0xb5, 0xdb, 0xef, 0x9c, 0xcc, 0x36,
		},
		Major: 1,
	}
}

// NDR returns the layout of stubs in this transfer syntax, given the data representation of their
// PDU. It returns false if s is neither NDR20 nor NDR64.
func (s SyntaxID) NDR(d DataRep) (ndr.Syntax, bool) {
	switch {
	case s == NDR64():
		return ndr.NDR64, true
	case s != NDR20():
		return 0, false
	case d.IsBigEndian():
		return ndr.NDR20BE, true
	}
	return ndr.NDR20, true
}

// String returns "8a885d04-1ceb-11c9-9fe8-08002b104860 v2.0".
func (s SyntaxID) String() string {
	return fmt.Sprintf("%v v%d.%d", s.UUID, s.Major, s.Minor)
}

func (r *reader) syntaxID() SyntaxID {
	u, version := r.uuid(), r.uint32()
	return SyntaxID{UUID: u, Major: uint16(version), Minor: uint16(version >> 16)}
}

func (w *writer) syntaxID(s SyntaxID) {
	w.uuid(s.UUID)
	w.uint32(uint32(s.Major) | uint32(s.Minor)<<16)
}

// Features is the bitmask of bind-time feature negotiation (MS-RPCE 3.3.1.5.3): a client offers
// features in the transfer syntax of a separate context, and a server grants them in the reason of
// a [NegotiateAck].
type Features uint64

// The features.
const (
	SecurityContextMultiplexing Features = 0x1
	KeepConnectionOnOrphan      Features = 0x2
)

// featurePrefix is the first half of the UUID, 6cb71c2c-9812-4540; the bitmask is the second.
func featurePrefix() [8]byte { return [8]byte{0x6c, 0xb7, 0x1c, 0x2c, 0x98, 0x12, 0x45, 0x40} }

// FeatureSyntax returns the transfer syntax that offers f.
func FeatureSyntax(f Features) SyntaxID {
	s := SyntaxID{Major: 1}
	prefix := featurePrefix()
	copy(s.UUID[:], prefix[:])
	binary.LittleEndian.PutUint64(s.UUID[8:], uint64(f))
	return s
}

// Features returns the features that s offers, and reports whether s is the transfer syntax of a
// feature negotiation.
func (s SyntaxID) Features() (Features, bool) {
	if [8]byte(s.UUID[:8]) != featurePrefix() || s.Major != 1 || s.Minor != 0 {
		return 0, false
	}
	return Features(binary.LittleEndian.Uint64(s.UUID[8:])), true
}
