package epm

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A tower names an interface at an endpoint, as the endpoint mapper's protocol does (C706 appendix
// L). This package handles only towers of ncacn_ip_tcp. On the wire, each floor has two sides, each
// with its length before it. Everything but the port and the address is little-endian:
//
//	floors, 2 bytes = 5
//	19 | 0d, interface UUID, major 2 | 2 | minor 2
//	19 | 0d, transfer syntax UUID, major 2 | 2 | minor 2
//	1 | 0b connection-oriented RPC | 2 | minor version 2 = 0
//	1 | 07 TCP | 2 | port 2, big-endian
//	1 | 09 IP | 4 | address
type tower struct {
	iface    dcerpc.SyntaxID
	transfer dcerpc.SyntaxID
	port     uint16
	addr     [4]byte
}

// The identifiers of floors (C706 appendix I).
const (
	floorUUID = 0x0D
	floorCORP = 0x0B
	floorTCP  = 0x07
	floorIP   = 0x09
)

var errTower = errors.New("epm: not a tower of ncacn_ip_tcp")

// parseTower reads a tower. Bytes after it are ignored.
func parseTower(b []byte) (tower, error) {
	var t tower
	if len(b) < 2 || binary.LittleEndian.Uint16(b) != 5 {
		return t, errTower
	}
	b = b[2:]
	var left, right [5][]byte
	for i := range left {
		var ok bool
		if left[i], b, ok = cutSide(b); !ok {
			return t, errTower
		}
		if right[i], b, ok = cutSide(b); !ok {
			return t, errTower
		}
	}
	for i, id := range []*dcerpc.SyntaxID{&t.iface, &t.transfer} {
		l, r := left[i], right[i]
		if len(l) != 19 || l[0] != floorUUID || len(r) != 2 {
			return t, errTower
		}
		*id = dcerpc.SyntaxID{Major: binary.LittleEndian.Uint16(l[17:]), Minor: binary.LittleEndian.Uint16(r)}
		id.UUID = littleEndianUUID([16]byte(l[1:17]))
	}
	for i, id := range []byte{floorCORP, floorTCP, floorIP} {
		if len(left[2+i]) != 1 || left[2+i][0] != id {
			return t, errTower
		}
	}
	if len(right[3]) != 2 || len(right[4]) != 4 {
		return t, errTower
	}
	t.port, t.addr = binary.BigEndian.Uint16(right[3]), [4]byte(right[4])
	return t, nil
}

func cutSide(b []byte) (side, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

func (t *tower) append(b []byte) []byte {
	b = append(b, 5, 0)
	for _, id := range []dcerpc.SyntaxID{t.iface, t.transfer} {
		u := littleEndianUUID(id.UUID)
		b = append(b, 19, 0, floorUUID)
		b = append(b, u[:]...)
		b = binary.LittleEndian.AppendUint16(b, id.Major)
		b = append(b, 2, 0)
		b = binary.LittleEndian.AppendUint16(b, id.Minor)
	}
	b = append(b, 1, 0, floorCORP, 2, 0, 0, 0)
	b = append(b, 1, 0, floorTCP, 2, 0)
	b = binary.BigEndian.AppendUint16(b, t.port)
	b = append(b, 1, 0, floorIP, 4, 0)
	return append(b, t.addr[:]...)
}

// littleEndianUUID converts a UUID between the byte order of uuid.UUID and that of the wire.
func littleEndianUUID(u [16]byte) [16]byte {
	u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
	u[4], u[5] = u[5], u[4]
	u[6], u[7] = u[7], u[6]
	return u
}

// ipv4 returns the four bytes of an IPv4 address, and zeros for one of IPv6. Clients replace zeros
// by the address that they asked.
func ipv4(a netip.Addr) [4]byte {
	if a = a.Unmap(); a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}
