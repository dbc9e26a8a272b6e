package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// links finds the innermost TCP segment of a packet: below its link layer, and below the
// encapsulations of mirror ports, clouds and tunnels.
//
// gopacket decodes some of these headers into reusable layers, some into new ones for each packet,
// and some not at all. Only the length of each and what follows are needed; see unwrap.go.
type links struct {
	tcp       layers.TCP
	fragments fragments
}

// A packet is what the TCP stage needs of a packet; the layer itself is in links.tcp.
type packet struct {
	flow gopacket.Flow // of the innermost network layer
	cut  int           // the number of bytes of the segment's payload that were not captured
}

// The errors of decode, besides an other.
var (
	errHeaders  = errors.New("headers are malformed or truncated")
	errWaits    = errors.New("IP fragment that waits for the rest")
	errOverlap  = errors.New("IP fragments that overlap")
	errShort    = errors.New("IP fragment that is truncated")
	errFull     = errors.New("IP fragments of too many packets")
	errLinkType = errors.New("link type")
)

// An other is the kind of a packet without TCP, for people.
type other string

func (o other) Error() string { return string(o) }

// maxHeaders is the largest number of headers in a packet.
const maxHeaders = 40

// A header is the kind of the next header in a packet.
type header uint8

// The headers. The tables below map link types, Ethernet types, IP protocols and UDP ports to them.
const (
	nothing header = iota
	ethernet
	llc
	vlan
	cooked
	cooked2
	nullBSD
	rawIP
	ipv4
	ipv6
	tcp
	udp
	gre
	erspan2
	erspan3
	vxlan
	vxlanGPE
	geneve
	mpls
	pseudowire
	pppoe
	ppp
	cHDLC
	l2tp
	l2tp3IP
	l2tp3
	etherIP
	nsh
	gtp
	tzsp
	nflog
	pktap
	wifi
	wifiPadded
	wifiSwapped
	radiotap
	prism
	avs
	ppi
	pbb
	vnTag
	ciscoMeta
	trill
	hsr
	macsec
	lisp
	teredo
	capwap
)

// A layer is the next header of a packet and the bytes from it on.
type layer struct {
	header header
	data   []byte
	flow   gopacket.Flow // of the IP header above
	cut    int           // the number of bytes of the IP payload that were not captured
}

// decode finds the TCP segment. It fails with an other, with errLinkType, with an error of
// fragments, or with errHeaders. It uses data until the next call.
func (l *links) decode(data []byte, link layers.LinkType, at moment) (packet, error) {
	next := layer{header: firstHeader(link), data: data}
	if next.header == nothing {
		return packet{}, errLinkType
	}
	for range maxHeaders {
		if next.header == tcp {
			if err := l.tcp.DecodeFromBytes(next.data, gopacket.NilDecodeFeedback); err != nil {
				return packet{}, errHeaders
			}
			return packet{flow: next.flow, cut: next.cut}, nil
		}
		var err error
		if next, err = l.unwrap(next, at); err != nil {
			return packet{}, err
		}
	}
	return packet{}, errHeaders
}

// Link types without a name in gopacket.
const (
	linkPPPSerial layers.LinkType = 50  // LINKTYPE_PPP_HDLC
	linkPPPEther  layers.LinkType = 51  // LINKTYPE_PPP_ETHER
	linkCHDLC     layers.LinkType = 104 // LINKTYPE_C_HDLC
	linkNFLOG     layers.LinkType = 239
	linkPktap     layers.LinkType = 258
	linkAVS       layers.LinkType = 163
	linkPPI       layers.LinkType = 192
	rawBSD        layers.LinkType = 12 // the number of raw IP on BSD systems
	rawOpenBSD    layers.LinkType = 14
)

func firstHeader(link layers.LinkType) header {
	switch link {
	case layers.LinkTypeEthernet:
		return ethernet
	case layers.LinkTypeLinuxSLL:
		return cooked
	case layers.LinkTypeLinuxSLL2:
		return cooked2
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		return nullBSD
	case layers.LinkTypeRaw, rawBSD, rawOpenBSD:
		return rawIP
	case layers.LinkTypeIPv4:
		return ipv4
	case layers.LinkTypeIPv6:
		return ipv6
	case layers.LinkTypePPP, linkPPPSerial:
		return ppp
	case linkPPPEther:
		return pppoe
	case linkCHDLC:
		return cHDLC
	case linkNFLOG:
		return nflog
	case linkPktap:
		return pktap
	case layers.LinkTypeIEEE802_11:
		return wifi
	case layers.LinkTypeIEEE80211Radio:
		return radiotap
	case layers.LinkTypePrismHeader:
		return prism
	case linkAVS:
		return avs
	case linkPPI:
		return ppi
	}
	return nothing
}

// ofEtherType returns the header of an Ethernet type, which other protocols use, too.
func ofEtherType(t uint16) (header, error) {
	switch t {
	case 0x0800:
		return ipv4, nil
	case 0x86DD:
		return ipv6, nil
	case 0x8100, 0x88A8, 0x9100, 0x9200:
		return vlan, nil
	case 0x8847, 0x8848:
		return mpls, nil
	case 0x8864:
		return pppoe, nil
	case 0x880B:
		return ppp, nil
	case 0x6558:
		return ethernet, nil
	case 0x894F:
		return nsh, nil
	case 0x0806:
		return nothing, other("ARP")
	case 0x88CC:
		return nothing, other("LLDP")
	case 0x8863:
		return nothing, other("PPPoE discovery")
	case 0x88E5:
		return macsec, nil
	case 0x88E7:
		return pbb, nil
	case 0x8926:
		return vnTag, nil
	case 0x8909:
		return ciscoMeta, nil
	case 0x22F3:
		return trill, nil
	case 0x892F:
		return hsr, nil
	}
	return nothing, other(fmt.Sprintf("Ethernet type 0x%04X", t))
}

// ofIPProtocol returns the header of an IP protocol.
func ofIPProtocol(p byte) (header, error) {
	switch p {
	case 6:
		return tcp, nil
	case 17:
		return udp, nil
	case 4:
		return ipv4, nil
	case 41:
		return ipv6, nil
	case 47:
		return gre, nil
	case 97:
		return etherIP, nil
	case 115:
		return l2tp3IP, nil
	case 137:
		return mpls, nil
	case 1, 58:
		return nothing, other("ICMP")
	case 2:
		return nothing, other("IGMP")
	case 50:
		return nothing, other("IPsec (ESP)")
	case 132:
		return nothing, other("SCTP")
	}
	return nothing, other(fmt.Sprintf("IP protocol %d", p))
}

// ofUDPPorts returns the header of a tunnel over UDP.
func ofUDPPorts(src, dst uint16) (header, error) {
	switch dst {
	case 4789, 8472:
		return vxlan, nil
	case 4790:
		return vxlanGPE, nil
	case 6081:
		return geneve, nil
	case 6635:
		return mpls, nil
	case 4754:
		return gre, nil
	case 2152:
		return gtp, nil
	case 37008:
		return tzsp, nil
	case 4341:
		return lisp, nil
	}
	if src == 3544 || dst == 3544 {
		return teredo, nil
	}
	if src == 5247 || dst == 5247 {
		return capwap, nil
	}
	if src == 1701 || dst == 1701 {
		return l2tp, nil
	}
	switch port := min(src, dst); port {
	case 443:
		return nothing, other("UDP port 443 (QUIC, perhaps SMB over QUIC)")
	case 53, 67, 88, 123, 137, 138, 161, 389, 464, 500, 514, 1900, 4500, 5353, 5355:
		return nothing, other(fmt.Sprintf("UDP port %d", port))
	}
	return nothing, other("UDP")
}

// addresses returns the two ends of a packet.
func addresses(flow gopacket.Flow, tcp *layers.TCP) (src, dst netip.AddrPort) {
	s, d := flow.Endpoints()
	a, _ := netip.AddrFromSlice(s.Raw())
	b, _ := netip.AddrFromSlice(d.Raw())
	return netip.AddrPortFrom(a, uint16(tcp.SrcPort)), netip.AddrPortFrom(b, uint16(tcp.DstPort))
}

// be16 and be32 read the fields of headers.
func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
