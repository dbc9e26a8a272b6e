package capture

import (
	"errors"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// links decodes packets down to TCP.
type links struct {
	parsers map[layers.LinkType]*gopacket.DecodingLayerParser
	found   []gopacket.LayerType

	ethernet layers.Ethernet
	vlan     layers.Dot1Q
	cooked   layers.LinuxSLL
	cooked2  layers.LinuxSLL2
	loopback layers.Loopback
	ip4      layers.IPv4
	ip6      layers.IPv6
	ip6ext   layers.IPv6ExtensionSkipper
	tcp      layers.TCP
}

// A packet is what the TCP stage needs of one: the layer itself is in links.tcp.
type packet struct {
	flow gopacket.Flow // of the network layer
	cut  int           // how many bytes of the segment's payload were not captured
}

var (
	errNotTCP   = errors.New("not TCP")
	errFragment = errors.New("IP fragment")
	errLinkType = errors.New("link type")
)

// decode returns errNotTCP for other packets, errFragment, errLinkType, or the reason why the headers
// make no sense.
func (l *links) decode(data []byte, link layers.LinkType) (packet, error) {
	parser := l.parser(data, link)
	if parser == nil {
		return packet{}, errLinkType
	}
	err := parser.DecodeLayers(data, &l.found)
	p := packet{}
	ok := false
	for _, t := range l.found {
		switch t {
		case layers.LayerTypeIPv4:
			if l.ip4.FragOffset != 0 || l.ip4.Flags&layers.IPv4MoreFragments != 0 {
				return p, errFragment
			}
			p.flow = l.ip4.NetworkFlow()
			p.cut = int(l.ip4.Length) - len(l.ip4.Contents) - len(l.ip4.Payload)
		case layers.LayerTypeIPv6:
			p.flow = l.ip6.NetworkFlow()
			p.cut = int(l.ip6.Length) - len(l.ip6.Payload)
		case layers.LayerTypeTCP:
			ok = true
		}
	}
	p.cut = max(p.cut, 0)
	switch {
	case ok:
		return p, nil
	case err != nil:
		return p, err
	}
	return p, errNotTCP
}

// parser returns the one for a link type, or nil.
func (l *links) parser(data []byte, link layers.LinkType) *gopacket.DecodingLayerParser {
	if link == layers.LinkTypeRaw || link == rawBSD || link == rawOpenBSD {
		link = layers.LinkTypeIPv4
		if len(data) > 0 && data[0]>>4 == 6 {
			link = layers.LinkTypeIPv6
		}
	}
	if p, ok := l.parsers[link]; ok {
		return p
	}
	if l.parsers == nil {
		l.parsers = make(map[layers.LinkType]*gopacket.DecodingLayerParser)
	}
	var p *gopacket.DecodingLayerParser
	if first := firstLayer(link); first != gopacket.LayerTypeZero {
		p = gopacket.NewDecodingLayerParser(first, &l.ethernet, &l.vlan, &l.cooked, &l.cooked2, &l.loopback,
			&l.ip4, &l.ip6, &l.ip6ext, &l.tcp)
		p.IgnoreUnsupported = true
		l.parsers[link] = p
	}
	return p
}

// Numbers under which BSD systems write raw IP.
const (
	rawBSD     layers.LinkType = 12
	rawOpenBSD layers.LinkType = 14
)

func firstLayer(link layers.LinkType) gopacket.LayerType {
	switch link {
	case layers.LinkTypeEthernet:
		return layers.LayerTypeEthernet
	case layers.LinkTypeLinuxSLL:
		return layers.LayerTypeLinuxSLL
	case layers.LinkTypeLinuxSLL2:
		return layers.LayerTypeLinuxSLL2
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		return layers.LayerTypeLoopback
	case layers.LinkTypeIPv4:
		return layers.LayerTypeIPv4
	case layers.LinkTypeIPv6:
		return layers.LayerTypeIPv6
	}
	return gopacket.LayerTypeZero
}

// addresses returns the two ends of a packet.
func addresses(flow gopacket.Flow, tcp *layers.TCP) (src, dst netip.AddrPort) {
	s, d := flow.Endpoints()
	a, _ := netip.AddrFromSlice(s.Raw())
	b, _ := netip.AddrFromSlice(d.Raw())
	return netip.AddrPortFrom(a, uint16(tcp.SrcPort)), netip.AddrPortFrom(b, uint16(tcp.DstPort))
}
