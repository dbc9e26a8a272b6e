package ndr

// A Syntax is one way of laying out data on the wire: the transfer syntax and, for NDR 2.0, the
// byte order (the integer representation of the data representation label, C706 14.1). NDR64 is
// always little-endian (MS-RPCE 2.2.5).
//
// The zero value is NDR20, which every peer knows.
type Syntax uint8

// The syntaxes.
const (
	NDR20   Syntax = iota // NDR 2.0, 8a885d04-1ceb-11c9-9fe8-08002b104860, little-endian
	NDR64                 // NDR64 1.0, 71710533-beba-4937-8319-b5dbef9ccc36
	NDR20BE               // NDR 2.0, big-endian: requests may use it
)

// String returns "ndr20", "ndr64" or "ndr20be".
func (s Syntax) String() string {
	switch s {
	case NDR20:
		return "ndr20"
	case NDR64:
		return "ndr64"
	case NDR20BE:
		return "ndr20be"
	}
	return "unknown syntax"
}
