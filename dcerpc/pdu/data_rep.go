package pdu

import "encoding/binary"

// DataRep is the data representation format label (C706 14.1): byte order, character set and
// floating point of a PDU, its header included. The bit of the byte order is kept inverted, so that
// the zero value is what nearly every peer sends.
type DataRep uint32

// The two labels that a peer may use; see Header.Check for the rest.
const (
	LittleEndian DataRep = 0x00 // little-endian, ASCII, IEEE: 10 00 00 00 on the wire
	BigEndian    DataRep = 0x10 // big-endian, ASCII, IEEE: 00 00 00 00 on the wire
)

const byteOrderBit = 0x10

// DataRepFromLabel returns the [DataRep] of a label as it is on the wire.
func DataRepFromLabel(label [4]byte) DataRep {
	return DataRep(binary.LittleEndian.Uint32(label[:]) ^ byteOrderBit)
}

// Label returns the label as it is on the wire.
func (d DataRep) Label() (label [4]byte) {
	binary.LittleEndian.PutUint32(label[:], uint32(d)^byteOrderBit)
	return label
}

// IsBigEndian reports whether integers are big-endian. An unknown integer representation counts as
// little-endian.
func (d DataRep) IsBigEndian() bool { return d&0xF0 == BigEndian }

func (d DataRep) order() byteOrder {
	return byteOrder(d.IsBigEndian())
}

// byteOrder is true for big-endian. It spares the hot path an interface.
type byteOrder bool

func (be byteOrder) uint16(b []byte) uint16 {
	if be {
		return binary.BigEndian.Uint16(b)
	}
	return binary.LittleEndian.Uint16(b)
}

func (be byteOrder) uint32(b []byte) uint32 {
	if be {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

func (be byteOrder) putUint16(b []byte, v uint16) {
	if be {
		binary.BigEndian.PutUint16(b, v)
	} else {
		binary.LittleEndian.PutUint16(b, v)
	}
}

func (be byteOrder) putUint32(b []byte, v uint32) {
	if be {
		binary.BigEndian.PutUint32(b, v)
	} else {
		binary.LittleEndian.PutUint32(b, v)
	}
}

func (be byteOrder) appendUint16(b []byte, v uint16) []byte {
	if be {
		return binary.BigEndian.AppendUint16(b, v)
	}
	return binary.LittleEndian.AppendUint16(b, v)
}

func (be byteOrder) appendUint32(b []byte, v uint32) []byte {
	if be {
		return binary.BigEndian.AppendUint32(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, v)
}
