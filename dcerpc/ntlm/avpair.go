package ntlm

import (
	"encoding/binary"
	"errors"
)

var errAVPairs = errors.New("ntlm: AV pairs run past their end")

// An avPair is one AV_PAIR (MS-NLMP 2.2.2.1); value aliases the message.
type avPair struct {
	id    avID
	value []byte
}

// parseAVPairs reads the pairs up to MsvAvEOL, which must be there. Bytes after it are ignored.
//
//	| AvId, uint16 | AvLen, uint16 | value, AvLen bytes |
func parseAVPairs(b []byte) ([]avPair, error) {
	var pairs []avPair
	for {
		if len(b) < 4 {
			return nil, errAVPairs
		}
		id := avID(binary.LittleEndian.Uint16(b))
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if id == msvAvEOL {
			return pairs, nil
		}
		if len(b) < 4+n {
			return nil, errAVPairs
		}
		pairs = append(pairs, avPair{id, b[4 : 4+n]})
		b = b[4+n:]
	}
}

// findAV returns the value of the first pair of that id.
func findAV(pairs []avPair, id avID) ([]byte, bool) {
	for _, p := range pairs {
		if p.id == id {
			return p.value, true
		}
	}
	return nil, false
}

// avFlags returns the bits of MsvAvFlags, zero where it is absent.
func avFlags(pairs []avPair) (avFlag, error) {
	v, ok := findAV(pairs, msvAvFlags)
	if !ok {
		return 0, nil
	}
	if len(v) != 4 {
		return 0, errors.New("ntlm: MsvAvFlags is not 4 bytes long")
	}
	return avFlag(binary.LittleEndian.Uint32(v)), nil
}

// appendAV appends one pair; the value must be shorter than 64 KiB.
func appendAV(b []byte, id avID, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(id))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}
