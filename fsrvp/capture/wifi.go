package capture

import "encoding/binary"

// wifiHeader reads the header of an IEEE 802.11 frame (IEEE 802.11 9.3.2): frame control 2,
// duration 2, three addresses, sequence 2, a fourth address between access points, QoS control 2,
// HT control 4. LLC follows. If padded, it is filled up to a multiple of four bytes.
func wifiHeader(b []byte, padded bool) (int, header, error) {
	return wifiFrame(b[0], b[1], b, padded)
}

// wifiFrame is wifiHeader with the two bytes of the frame control.
func wifiFrame(control, flags byte, b []byte, padded bool) (int, header, error) {
	const (
		data      = 2
		toDS      = 0x01
		fromDS    = 0x02
		protected = 0x40
		order     = 0x80
		null      = 0x4 // of the subtype: nothing follows
		qos       = 0x8
		aMSDU     = 0x80 // of the QoS control
	)
	kind, subtype := control>>2&3, control>>4
	switch {
	case kind != data, subtype&null != 0:
		return 0, nothing, other("IEEE 802.11 without data")
	case flags&protected != 0:
		return 0, nothing, other("IEEE 802.11, encrypted")
	}
	n, several := 24, false
	if flags&(toDS|fromDS) == toDS|fromDS {
		n += 6
	}
	if subtype&qos != 0 {
		if len(b) < n+2 {
			return 0, nothing, errHeaders
		}
		several = b[n]&aMSDU != 0
		n += 2
		if flags&order != 0 {
			n += 4
		}
	}
	if padded {
		n = (n + 3) &^ 3
	}
	if several {
		n += 14 // the addresses and the length of the first of several frames
	}
	return n, llc, nil
}

// radiotapHeader reads what wireless cards report about a frame (radiotap.org): version 0, pad,
// length 2, bit maps of what follows, each of which says by its highest bit that another one comes.
// The first fields are a time, 8 bytes, and flags.
func radiotapHeader(b []byte) (int, header, error) {
	const (
		hasTime, hasFlags, another = 1, 2, 1 << 31
		padded                     = 0x20 // of the flags
	)
	n := int(binary.LittleEndian.Uint16(b[2:]))
	present := binary.LittleEndian.Uint32(b[4:])
	at := 8
	for last := present; last&another != 0; at += 4 {
		if len(b) < at+4 {
			return 0, nothing, errHeaders
		}
		last = binary.LittleEndian.Uint32(b[at:])
	}
	if present&hasTime != 0 {
		at = (at+7)&^7 + 8
	}
	if present&hasFlags != 0 && at < min(n, len(b)) && b[at]&padded != 0 {
		return n, wifiPadded, nil
	}
	return n, wifi, nil
}

// capwapHeader reads CAPWAP's header of data (RFC 5415 4.3), between an access point and its
// controller:
//
//	0 version and type 1 | 1 length in words 5 bits, radio 5, binding 5, T, F, L, W, M, K, reserved 3 | 4 fragment 8
func capwapHeader(b []byte) (int, header, error) {
	const (
		native   = 0x01 // of byte 2: T, an IEEE 802.11 frame
		fragment = 0x80 // of byte 3: F
	)
	switch {
	case b[0] != 0:
		return 0, nothing, other("CAPWAP, encrypted")
	case b[3]&fragment != 0:
		return 0, nothing, other("CAPWAP in fragments")
	}
	n := int(b[1]>>3) * 4
	if b[2]&native == 0 {
		return n, ethernet, nil
	}
	const dataFrame = 0x08 // of version 0, in the first byte; access points of Cisco's have it in the second
	if len(b) >= n+2 && b[n]&0xF != dataFrame && b[n+1]&0xF == dataFrame {
		return n, wifiSwapped, nil
	}
	return n, wifi, nil
}

// macsecHeader reads a SecTAG (IEEE 802.1AE 9.3) behind its Ethernet type: flags 1, short length 1,
// packet number 4, perhaps a channel 8. If it is not encrypted, the type of the next header
// follows.
func macsecHeader(b []byte) (int, header, error) {
	const hasChannel, encrypted, changed = 0x20, 0x08, 0x04
	if b[0]&(encrypted|changed) != 0 {
		return 0, nothing, other("MACsec, encrypted")
	}
	n := 6
	if b[0]&hasChannel != 0 {
		n += 8
	}
	if len(b) < n+2 {
		return 0, nothing, errHeaders
	}
	return typed(n+2, be16(b[n:]))
}

// teredoHeader reads what may precede IPv6 in Teredo (RFC 4380 5.1.1): an authentication, and the
// origin of the packet.
func teredoHeader(b []byte) (int, header, error) {
	n := 0
	if be16(b) == 1 { // the lengths of an identifier and of a value, these, a nonce of 8 and a byte
		n = 4 + int(b[2]) + int(b[3]) + 9
	}
	if len(b) >= n+8 && be16(b[n:]) == 0 { // a port and an address
		n += 8
	}
	if n >= len(b) || b[n]>>4 != 6 {
		return 0, nothing, other("UDP")
	}
	return n, ipv6, nil
}
