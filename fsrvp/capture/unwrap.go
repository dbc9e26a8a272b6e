package capture

import (
	"encoding/binary"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// unwrap removes one header and returns the next layer. It fails as decode does.
func (l *links) unwrap(p layer, at moment) (layer, error) {
	switch p.header {
	case ipv4:
		return l.ipv4(p.data, at)
	case ipv6:
		return l.ipv6(p.data, at)
	}
	n, next, err := headerOf(p.header, p.data)
	if err != nil {
		return layer{}, err
	}
	return layer{header: next, data: p.data[n:], flow: p.flow, cut: p.cut}, nil
}

// headerOf returns the length of a header, at most len(b), and the header that follows it.
func headerOf(h header, b []byte) (n int, next header, err error) {
	if len(b) < leastLength[h] {
		return 0, nothing, errHeaders
	}
	switch h {
	case ethernet:
		if t := be16(b[12:]); t >= 0x600 {
			n, next, err = typed(14, t)
		} else {
			n, next = 14, llc // IEEE 802.3, with a length
		}
	case llc: // IEEE 802.2 with SNAP: AA AA 03, organisation, type
		if b[0] != 0xAA || b[1] != 0xAA || b[2] != 3 {
			return 0, nothing, other("IEEE 802.2")
		}
		n, next, err = typed(8, be16(b[6:]))
	case vlan: // IEEE 802.1Q
		n, next, err = typed(4, be16(b[2:]))
	case cooked: // LINKTYPE_LINUX_SLL
		n, next, err = typed(16, be16(b[14:]))
	case cooked2: // LINKTYPE_LINUX_SLL2
		n, next, err = typed(20, be16(b))
	case cHDLC:
		n, next, err = typed(4, be16(b[2:]))
	case nullBSD: // the address family, in the byte order of the capturing machine
		n, next = 4, rawIP
	case rawIP:
		switch b[0] >> 4 {
		case 4:
			next = ipv4
		case 6:
			next = ipv6
		default:
			return 0, nothing, other("neither IPv4 nor IPv6")
		}
	case udp:
		n = 8
		next, err = ofUDPPorts(be16(b), be16(b[2:]))
	case gre:
		n, next, err = greHeader(b)
	case erspan2: // draft-foschiano-erspan 4.2
		n, next = 8, ethernet
	case erspan3: // draft-foschiano-erspan 4.3: 12 bytes, and 8 of the platform's with the O bit
		if n, next = 12, ethernet; b[11]&1 != 0 {
			n += 8
		}
		if b[10]>>2&0x1F == 2 { // frame type: IP, without a link layer
			next = rawIP
		}
	case vxlan: // RFC 7348 5; without the I bit it is something else
		if b[0]&8 == 0 {
			return 0, nothing, other("UDP")
		}
		n, next = 8, ethernet
	case vxlanGPE: // draft-ietf-nvo3-vxlan-gpe 3
		n = 8
		switch b[3] {
		case 1:
			next = ipv4
		case 2:
			next = ipv6
		case 3:
			next = ethernet
		case 4:
			next = nsh
		default:
			return 0, nothing, other("VXLAN-GPE")
		}
	case geneve: // RFC 8926 3.4
		n, next, err = typed(8+int(b[0]&0x3F)*4, be16(b[2:]))
	case nsh: // RFC 8300 2
		n = int(b[1]&0x3F) * 4
		switch b[3] {
		case 1:
			next = ipv4
		case 2:
			next = ipv6
		case 3:
			next = ethernet
		case 5:
			next = mpls
		default:
			return 0, nothing, other("NSH")
		}
	case mpls: // RFC 3032 2.1: one label at a time, the last with the S bit
		n, next = 4, mpls
		if b[2]&1 != 0 {
			next = pseudowire
		}
	case pseudowire: // IP, or Ethernet, with (RFC 4448 4.6) or without a control word
		switch next = ethernet; b[0] >> 4 {
		case 4:
			next = ipv4
		case 6:
			next = ipv6
		case 0:
			if !plausibleEthernet(b) {
				n = 4
			}
		}
	case pppoe: // RFC 2516 4
		if b[0] != 0x11 || b[1] != 0 {
			return 0, nothing, other("PPPoE discovery")
		}
		n, next = 6, ppp
	case ppp:
		n, next, err = pppHeader(b)
	case l2tp:
		n, next, err = l2tpHeader(b)
	case l2tp3IP: // RFC 3931 4.1.1: the session id, 0 for control messages
		if be32(b) == 0 {
			return 0, nothing, other("L2TP control")
		}
		n, next = 4, l2tp3
	case l2tp3:
		// RFC 3931 4.1: a cookie of 0, 4 or 8 bytes and a sublayer of 0 or 4, both configured
		// elsewhere.
		for _, n := range []int{0, 4, 8, 12} {
			if len(b) > n && plausibleEthernet(b[n:]) {
				return n, ethernet, nil
			}
		}
		return 0, nothing, other("L2TPv3")
	case etherIP: // RFC 3378
		n, next = 2, ethernet
	case gtp:
		n, next, err = gtpHeader(b)
	case tzsp:
		n, next, err = tzspHeader(b)
	case nflog:
		n, next, err = nflogHeader(b)
	case pktap: // the length of the header at 0, the link type at 8
		n = int(min(binary.LittleEndian.Uint32(b), 1<<16))
		if next = firstHeader(layers.LinkType(min(binary.LittleEndian.Uint32(b[8:]), 255))); next == nothing {
			return 0, nothing, errLinkType
		}
	case wifi, wifiPadded:
		n, next, err = wifiHeader(b, h == wifiPadded)
	case wifiSwapped:
		n, next, err = wifiFrame(b[1], b[0], b, false)
	case radiotap:
		n, next, err = radiotapHeader(b)
	case prism: // the length at 4, in the byte order of the capturing machine
		if n, next = int(binary.LittleEndian.Uint32(b[4:])&0xFFFF), wifi; n == 0 {
			n = int(be32(b[4:]) & 0xFFFF)
		}
	case avs:
		n, next = int(be32(b[4:])&0xFFFF), wifi
	case ppi: // the length at 2, the link type at 4
		n = int(binary.LittleEndian.Uint16(b[2:]))
		if next = firstHeader(layers.LinkType(min(binary.LittleEndian.Uint32(b[4:]), 255))); next == nothing {
			return 0, nothing, errLinkType
		}
	case pbb: // IEEE 802.1ah: the instance, 4 bytes
		n, next = 4, ethernet
	case vnTag: // IEEE 802.1BR: 4 bytes
		n, next, err = typed(6, be16(b[4:]))
	case ciscoMeta: // a length in units of 4 bytes, with the type of what follows at its end
		n, next, err = typed(8, be16(b[6:]))
	case trill: // RFC 6325 3: options in units of 4 bytes, two nicknames
		n, next = 6+int((be16(b)>>6)&0x1F)*4, ethernet
	case hsr: // IEC 62439-3: path and size 2, sequence number 2
		n, next, err = typed(6, be16(b[4:]))
	case macsec:
		n, next, err = macsecHeader(b)
	case lisp: // RFC 9300 5.1
		n, next = 8, rawIP
	case teredo:
		n, next, err = teredoHeader(b)
	case capwap:
		n, next, err = capwapHeader(b)
	default:
		return 0, nothing, errHeaders
	}
	if err == nil && n > len(b) {
		err = errHeaders
	}
	return n, next, err
}

// leastLength is the minimum length of each header.
var leastLength = [...]int{
	ethernet: 14, llc: 8, vlan: 4, cooked: 16, cooked2: 20, nullBSD: 4, rawIP: 1, udp: 8, gre: 4, erspan2: 8, erspan3: 12,
	vxlan: 8, vxlanGPE: 8, geneve: 8, mpls: 4, pseudowire: 1, pppoe: 6, ppp: 4, cHDLC: 4, l2tp: 8, l2tp3IP: 4,
	l2tp3: 1, etherIP: 2, nsh: 8, gtp: 8, tzsp: 5, nflog: 4, pktap: 12, wifi: 24, wifiPadded: 24, wifiSwapped: 24, radiotap: 8, prism: 8, avs: 8,
	ppi: 8, pbb: 4, vnTag: 6, ciscoMeta: 8, trill: 6, hsr: 6, macsec: 8, lisp: 8, teredo: 40, capwap: 8,
}

// typed returns a header of n bytes with an Ethernet type.
func typed(n int, t uint16) (int, header, error) {
	next, err := ofEtherType(t)
	return n, next, err
}

// plausibleEthernet reports whether b looks like an Ethernet header in front of IP.
func plausibleEthernet(b []byte) bool {
	if len(b) < 15 {
		return false
	}
	switch be16(b[12:]) {
	case 0x0800:
		return b[14]>>4 == 4
	case 0x86DD:
		return b[14]>>4 == 6
	case 0x8100, 0x88A8:
		return true
	}
	return false
}

// greHeader reads GRE (RFC 2784, RFC 2890; version 1 is RFC 2637's):
//
//	| C R K S .... version 2 | type 2 | checksum, offset 4 | key 4 | sequence 4 | acknowledgement 4 |
func greHeader(b []byte) (int, header, error) {
	flags, t := be16(b), be16(b[2:])
	n := 4
	for _, bit := range []uint16{0x8000, 0x2000, 0x1000} {
		if flags&bit != 0 {
			n += 4
		}
	}
	switch {
	case flags&0x4000 != 0:
		return 0, nothing, other("GRE with source routing")
	case flags&7 == 1:
		if flags&0x80 != 0 {
			n += 4
		}
		return n, ppp, nil
	case flags&7 != 0:
		return 0, nothing, other("GRE")
	case t == 0x88BE && flags&0x1000 == 0: // ERSPAN type I has no header of its own
		return n, ethernet, nil
	case t == 0x88BE:
		return n, erspan2, nil
	case t == 0x22EB:
		return n, erspan3, nil
	}
	return typed(n, t)
}

// pppHeader reads PPP (RFC 1661 2, RFC 1662 3.1), address and control or none, a protocol of one
// byte or two.
func pppHeader(b []byte) (int, header, error) {
	n := 0
	if b[0] == 0xFF && b[1] == 3 {
		n = 2
	}
	protocol := be16(b[n:])
	if b[n]&1 != 0 {
		protocol = uint16(b[n])
		n--
	}
	switch n += 2; protocol {
	case 0x0021:
		return n, ipv4, nil
	case 0x0057:
		return n, ipv6, nil
	case 0x0281, 0x0283:
		return n, mpls, nil
	}
	return 0, nothing, other("PPP")
}

// l2tpHeader reads L2TP over UDP, version 2 (RFC 2661 3.1) or 3 (RFC 3931 4.1.2):
//
//	| T L .. S . O P ... version 2 | length 2 | tunnel 2 | session 2 | Ns, Nr 4 | offset 2, padding |
func l2tpHeader(b []byte) (int, header, error) {
	flags := be16(b)
	switch {
	case flags&0x8000 != 0:
		return 0, nothing, other("L2TP control")
	case flags&0xF == 3:
		return 8, l2tp3, nil
	case flags&0xF != 2:
		return 0, nothing, other("UDP")
	}
	n := 6
	if flags&0x4000 != 0 {
		n += 2
	}
	if flags&0x0800 != 0 {
		n += 4
	}
	if flags&0x0200 != 0 {
		if len(b) < n+2 {
			return 0, nothing, errHeaders
		}
		n += 2 + int(be16(b[n:]))
	}
	return n, ppp, nil
}

// gtpHeader reads GTP-U, version 1 (3GPP TS 29.281 5.1): 8 bytes, 4 more with a flag, then
// extensions.
func gtpHeader(b []byte) (int, header, error) {
	if b[0]&0xF0 != 0x30 || b[1] != 0xFF {
		return 0, nothing, other("UDP")
	}
	n := 8
	if b[0]&7 != 0 {
		if len(b) < 12 {
			return 0, nothing, errHeaders
		}
		n = 12
		for next := b[11]; b[0]&4 != 0 && next != 0; {
			if len(b) < n+1 || b[n] == 0 || len(b) < n+int(b[n])*4 {
				return 0, nothing, errHeaders
			}
			n += int(b[n]) * 4
			next = b[n-1]
		}
	}
	return n, rawIP, nil
}

// tzspHeader reads TZSP, with which routers stream captured packets: version 1, type, protocol 2,
// then tags.
func tzspHeader(b []byte) (int, header, error) {
	if b[0] != 1 || be16(b[2:]) != 1 {
		return 0, nothing, other("UDP")
	}
	for n := 4; n < len(b); {
		switch tag := b[n]; {
		case tag == 1:
			return n + 1, ethernet, nil
		case tag == 0:
			n++
		case n+1 < len(b):
			n += 2 + int(b[n+1])
		default:
			return 0, nothing, errHeaders
		}
	}
	return 0, nothing, errHeaders
}

// nflogHeader reads LINKTYPE_NFLOG: the family, the version, the resource, then values up to that
// of the packet.
func nflogHeader(b []byte) (int, header, error) {
	for n := 4; n+4 <= len(b); {
		size, kind := int(binary.LittleEndian.Uint16(b[n:])), binary.LittleEndian.Uint16(b[n+2:])
		switch {
		case size < 4:
			return 0, nothing, errHeaders
		case kind == 9:
			return n + 4, rawIP, nil
		}
		n += (size + 3) &^ 3
	}
	return 0, nothing, errHeaders
}

// ipv4 removes an IPv4 header (RFC 791 3.1).
func (l *links) ipv4(b []byte, at moment) (layer, error) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return layer{}, errHeaders
	}
	size, total := int(b[0]&0xF)*4, int(be16(b[2:]))
	if total == 0 {
		total = len(b) // a packet for segmentation by the network card
	}
	if size < 20 || size > len(b) || total < size {
		return layer{}, errHeaders
	}
	p := layer{flow: gopacket.NewFlow(layers.EndpointIPv4, b[12:16], b[16:20]), cut: max(total-len(b), 0)}
	p.data = b[size:min(total, len(b))]
	if frag := be16(b[6:]); frag&0x3FFF != 0 {
		key := fragmentKey{flow: p.flow, id: uint32(be16(b[4:])), protocol: b[9]}
		data, err := l.fragments.add(key, fragment{int(frag&0x1FFF) * 8, p.data}, frag&0x2000 != 0, p.cut, at)
		if err != nil {
			return layer{}, err
		}
		p.data, p.cut = data, 0
	}
	var err error
	p.header, err = ofIPProtocol(b[9])
	return p, err
}

// ipv6 removes an IPv6 header and its extensions (RFC 8200 3, 4).
func (l *links) ipv6(b []byte, at moment) (layer, error) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return layer{}, errHeaders
	}
	size := int(be16(b[4:]))
	if size == 0 {
		size = len(b) - 40
	}
	p := layer{flow: gopacket.NewFlow(layers.EndpointIPv6, b[8:24], b[24:40]), cut: max(size-(len(b)-40), 0)}
	next := b[6]
	for rest := b[40:min(40+size, len(b))]; ; {
		n := 0
		switch next {
		case 0, 43, 60, 135, 139, 140: // options, routing, mobility, HIP, shim6
			if len(rest) >= 8 {
				n = 8 + int(rest[1])*8
			}
		case 51: // authentication (RFC 4302 2)
			if len(rest) >= 8 {
				n = 8 + int(rest[1])*4
			}
		case 44: // fragment
			if len(rest) < 8 {
				return layer{}, errHeaders
			}
			n = 8
			if frag := be16(rest[2:]); frag&0xFFF9 != 0 {
				key := fragmentKey{flow: p.flow, id: be32(rest[4:]), protocol: rest[0]}
				data, err := l.fragments.add(key, fragment{int(frag &^ 7), rest[8:]}, frag&1 != 0, p.cut, at)
				if err != nil {
					return layer{}, err
				}
				next, rest, p.cut = rest[0], data, 0
				continue
			}
		default:
			var err error
			p.data = rest
			if next == 59 {
				return p, other("IPv6 without a payload")
			}
			p.header, err = ofIPProtocol(next)
			return p, err
		}
		if n == 0 || n > len(rest) {
			return layer{}, errHeaders
		}
		next, rest = rest[0], rest[n:]
	}
}
