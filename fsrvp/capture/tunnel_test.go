package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What tunnels are made of: each of these writes a header in front of b.

func be(values ...any) []byte {
	var b []byte
	for _, v := range values {
		switch v := v.(type) {
		case int: // a byte
			b = append(b, byte(v))
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

func inEthernet(kind uint16, b []byte) []byte {
	return be(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, kind, b)
}

func inIP4(protocol int, b []byte) []byte {
	h := be(0x45, 0, uint16(20+len(b)), uint16(1), uint16(0), 64, protocol, uint16(0), 192, 0, 2, 1, 192, 0, 2, 2)
	return be(checked(h), b)
}

// checked sets the check sum of an IPv4 header.
func checked(h []byte) []byte {
	binary.BigEndian.PutUint16(h[10:], 0)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(be16(h[i:]))
	}
	sum = sum&0xFFFF + sum>>16
	sum += sum >> 16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return h
}

var site6 = []byte{0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}

func inIP6(next int, b []byte) []byte {
	return be(uint32(6<<28), uint16(len(b)), next, 64, site6, site6, b)
}

func inUDP(port uint16, b []byte) []byte {
	return be(uint16(40000), port, uint16(8+len(b)), uint16(0), b)
}

func ip4UDP(port uint16, b []byte) []byte {
	return inEthernet(0x0800, inIP4(17, inUDP(port, b)))
}

func ip4GRE(b ...any) []byte { return inEthernet(0x0800, inIP4(47, be(b...))) }

// An encapsulation wraps an Ethernet frame e, whose IP packet is ip. It may make several packets of
// one.
type encapsulation struct {
	name   string
	link   layers.LinkType
	wrap   func(e, ip []byte) [][]byte
	tshark bool // reads it, too, without being told more
}

func one(f func(e, ip []byte) []byte) func(e, ip []byte) [][]byte {
	return func(e, ip []byte) [][]byte { return [][]byte{f(e, ip)} }
}

var encapsulations = []encapsulation{
	{"none", 1, one(func(e, _ []byte) []byte { return e }), true},
	{"VLAN", 1, one(func(_, ip []byte) []byte { return inEthernet(0x8100, be(0, 100, uint16(0x0800), ip)) }), true},
	{"QinQ", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x88A8, be(0, 100, uint16(0x8100), 0, 101, uint16(0x0800), ip))
	}), true},
	{"SNAP", 1, one(func(e, ip []byte) []byte {
		if 8+len(ip) > 1500 { // has no length that is no type
			return e
		}
		return inEthernet(uint16(8+len(ip)), be(0xAA, 0xAA, 3, 0, 0, 0, uint16(0x0800), ip))
	}), true},
	{"VXLAN", 1, one(func(e, _ []byte) []byte { return ip4UDP(4789, be(8, 0, 0, 0, 0, 0, 100, 0, e)) }), true},
	{"VXLAN over IPv6", 1, one(func(e, _ []byte) []byte {
		return inEthernet(0x86DD, inIP6(17, inUDP(4789, be(8, 0, 0, 0, 0, 0, 100, 0, e))))
	}), true},
	{"VXLAN of Linux", 1, one(func(e, _ []byte) []byte { return ip4UDP(8472, be(8, 0, 0, 0, 0, 0, 100, 0, e)) }), false},
	{"VXLAN-GPE", 1, one(func(_, ip []byte) []byte { return ip4UDP(4790, be(0xC, 0, 0, 1, 0, 0, 100, 0, ip)) }), true},
	{"GENEVE", 1, one(func(e, _ []byte) []byte { return ip4UDP(6081, be(0, 0, uint16(0x6558), 0, 0, 100, 0, e)) }), true},
	{"GENEVE with options", 1, one(func(e, _ []byte) []byte {
		return ip4UDP(6081, be(2, 0, uint16(0x6558), 0, 0, 100, 0, uint16(0x0102), 0x80, 1, uint32(7), e))
	}), true},
	{"GENEVE of IP", 1, one(func(_, ip []byte) []byte { return ip4UDP(6081, be(0, 0, uint16(0x0800), 0, 0, 100, 0, ip)) }), true},
	{"GRE of Ethernet", 1, one(func(e, _ []byte) []byte { return ip4GRE(uint16(0), uint16(0x6558), e) }), true},
	{"GRE of IP with all fields", 1, one(func(_, ip []byte) []byte {
		return ip4GRE(uint16(0xB000), uint16(0x0800), uint32(0), uint32(7), uint32(8), ip)
	}), true},
	{"ERSPAN I", 1, one(func(e, _ []byte) []byte { return ip4GRE(uint16(0), uint16(0x88BE), e) }), true},
	{"ERSPAN II", 1, one(func(e, _ []byte) []byte {
		return ip4GRE(uint16(0x1000), uint16(0x88BE), uint32(1), uint16(0x1064), uint16(0), uint32(0), e)
	}), true},
	{"ERSPAN III", 1, one(func(e, _ []byte) []byte {
		return ip4GRE(uint16(0x1000), uint16(0x22EB), uint32(1), uint16(0x2064), uint16(0), uint32(9), uint16(0),
			uint16(0), e)
	}), true},
	{"ERSPAN III with a platform's header", 1, one(func(e, _ []byte) []byte {
		return ip4GRE(uint16(0x1000), uint16(0x22EB), uint32(1), uint16(0x2064), uint16(0), uint32(9), uint16(0),
			uint16(1),
			uint32(0), uint32(0), e)
	}), false},
	{"PPTP", 1, one(func(_, ip []byte) []byte {
		return ip4GRE(uint16(0x3081), uint16(0x880B), uint16(2+len(ip)), uint16(7), uint32(1), uint32(2),
			uint16(0x0021), ip)
	}), true},
	{"MPLS", 1, one(func(_, ip []byte) []byte { return inEthernet(0x8847, be(uint32(0x00064140), ip)) }), true},
	{"MPLS of two labels", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x8847, be(uint32(0x00064040), uint32(0x00065140), ip))
	}), true},
	{"MPLS pseudowire", 1, one(func(e, _ []byte) []byte {
		return inEthernet(0x8847, be(uint32(0x00064140), uint32(0), e))
	}), false},
	{"MPLS over UDP", 1, one(func(_, ip []byte) []byte { return ip4UDP(6635, be(uint32(0x00064140), ip)) }), true},
	{"PPPoE", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x8864, be(0x11, 0, uint16(1), uint16(2+len(ip)), uint16(0x0021), ip))
	}), true},
	{"IP in IP", 1, one(func(_, ip []byte) []byte { return inEthernet(0x0800, inIP4(4, ip)) }), true},
	{"IP in IPv6", 1, one(func(_, ip []byte) []byte { return inEthernet(0x86DD, inIP6(4, ip)) }), true},
	{"IPv6 with extensions", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x86DD, inIP6(0, be(60, 0, 1, 4, uint32(0), 4, 0, 1, 4, uint32(0), ip)))
	}), true},
	{"AH", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x86DD, inIP6(51, be(4, 4, uint16(0), uint32(1), uint32(1), uint32(1), uint32(2), uint32(3),
			ip)))
	}), true},
	{"L2TP", 1, one(func(_, ip []byte) []byte {
		return ip4UDP(1701, be(uint16(0x4002), uint16(12+len(ip)), uint16(1), uint16(2), 0xFF, 3, uint16(0x0021), ip))
	}), true},
	{"L2TP with all fields", 1, one(func(_, ip []byte) []byte {
		return ip4UDP(1701, be(uint16(0x4A02), uint16(0), uint16(1), uint16(2), uint32(5), uint16(2), uint16(0),
			uint16(0x0021), ip))
	}), false},
	{"L2TPv3 over IP", 1, one(func(e, _ []byte) []byte {
		return inEthernet(0x0800, inIP4(115, be(uint32(7), uint32(0), uint32(0), e)))
	}), false},
	{"L2TPv3 over UDP", 1, one(func(e, _ []byte) []byte { return ip4UDP(1701, be(uint16(3), uint16(0), uint32(7), e)) }), false},
	{"EtherIP", 1, one(func(e, _ []byte) []byte { return inEthernet(0x0800, inIP4(97, be(0x30, 0, e))) }), true},
	{"NSH", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x894F, be(0x0F, 0xC2, 2, 1, uint32(0), ip))
	}), true},
	{"GTP-U", 1, one(func(_, ip []byte) []byte {
		return ip4UDP(2152, be(0x34, 0xFF, uint16(8+len(ip)), uint32(7), uint16(0), 0, 0x85, 1, 0, 9, 0, ip))
	}), true},
	{"TZSP", 1, one(func(e, _ []byte) []byte { return ip4UDP(37008, be(1, 0, uint16(1), 10, 1, 5, 0, 1, e)) }), true},
	{"three deep", 1, one(func(e, _ []byte) []byte {
		return ip4UDP(4789, be(8, 0, 0, 0, 0, 0, 1, 0, ip4GRE(uint16(0), uint16(0x6558),
			ip4UDP(6081, be(0, 0, uint16(0x6558), uint32(0), e)))))
	}), true},
	{"raw IP", 101, one(func(_, ip []byte) []byte { return ip }), true},
	{"cooked", 113, one(func(_, ip []byte) []byte { return be(make([]byte, 14), uint16(0x0800), ip) }), true},
	{"cooked, version 2", 276, one(func(_, ip []byte) []byte { return be(uint16(0x0800), make([]byte, 18), ip) }), true},
	{"BSD loopback", 0, one(func(_, ip []byte) []byte { return be(2, 0, 0, 0, ip) }), true},
	{"OpenBSD loopback", 108, one(func(_, ip []byte) []byte { return be(0, 0, 0, 2, ip) }), true},
	{"PPP", 9, one(func(_, ip []byte) []byte { return be(0xFF, 3, 0, 0x21, ip) }), true},
	{"PPP, short", 9, one(func(_, ip []byte) []byte { return be(0x21, ip) }), true},
	{"PPP in HDLC", 50, one(func(_, ip []byte) []byte { return be(0xFF, 3, 0, 0x21, ip) }), true},
	{"PPPoE alone", 51, one(func(_, ip []byte) []byte {
		return be(0x11, 0, uint16(1), uint16(2+len(ip)), uint16(0x0021), ip)
	}), true},
	{"Cisco HDLC", 104, one(func(_, ip []byte) []byte { return be(0x0F, 0, uint16(0x0800), ip) }), true},
	{"NFLOG", 239, one(func(_, ip []byte) []byte {
		return be(2, 0, 0, 0, 8, 0, 1, 0, 8, 0, 0, 0, byteLen(4+len(ip)), 9, 0, ip)
	}), true},
	{"802.11", 105, one(func(_, ip []byte) []byte { return be(8, 1, make([]byte, 22), snap(ip)) }), true},
	{"802.11 with QoS", 105, one(func(_, ip []byte) []byte { return be(0x88, 2, make([]byte, 24), snap(ip)) }), true},
	{"802.11 between access points", 105, one(func(_, ip []byte) []byte { return be(8, 3, make([]byte, 28), snap(ip)) }), true},
	{"radiotap", 127, one(func(_, ip []byte) []byte {
		return be(0, 0, 17, 0, 3, 0, 0, 0, make([]byte, 8), 0, 8, 1, make([]byte, 22), snap(ip))
	}), true},
	{"radiotap with padding", 127, one(func(_, ip []byte) []byte {
		return be(0, 0, 9, 0, 2, 0, 0, 0, 0x20, 0x88, 1, make([]byte, 24), 0, 0, snap(ip))
	}), true},
	{"radiotap with two bit maps", 127, one(func(_, ip []byte) []byte {
		return be(0, 0, 13, 0, 2, 0, 0, 0x80, 0, 0, 0, 0, 0, 8, 1, make([]byte, 22), snap(ip))
	}), true},
	{"PPI", 192, one(func(_, ip []byte) []byte { return be(0, 0, 8, 0, 105, 0, 0, 0, 8, 1, make([]byte, 22), snap(ip)) }), true},
	{"PPI of Ethernet", 192, one(func(e, _ []byte) []byte { return be(0, 0, 8, 0, 1, 0, 0, 0, e) }), true},
	{"Prism", 119, one(func(_, ip []byte) []byte {
		return be(0x44, 0, 0, 0, 144, 0, 0, 0, make([]byte, 136), 8, 1, make([]byte, 22), snap(ip))
	}), true},
	{"AVS", 163, one(func(_, ip []byte) []byte {
		return be(uint32(0x80211001), uint32(64), make([]byte, 56), 8, 1, make([]byte, 22), snap(ip))
	}), true},
	{"802.1ah", 1, one(func(e, _ []byte) []byte { return inEthernet(0x88E7, be(uint32(0x00001234), e)) }), true},
	{"VN-Tag", 1, one(func(_, ip []byte) []byte { return inEthernet(0x8926, be(uint32(0), uint16(0x0800), ip)) }), true},
	{"Cisco MetaData", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x8909, be(1, 1, uint16(1), uint16(7), uint16(0x0800), ip))
	}), true},
	{"TRILL", 1, one(func(e, _ []byte) []byte { return inEthernet(0x22F3, be(uint16(0x0001), uint16(1), uint16(2), e)) }), true},
	{"HSR", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x892F, be(uint16(6+len(ip))&0xFFF, uint16(1), uint16(0x0800), ip))
	}), true},
	{"MACsec without encryption", 1, one(func(_, ip []byte) []byte {
		return inEthernet(0x88E5, be(0x20, 0, uint32(1), uint32(2), uint32(3), uint16(0x0800), ip, make([]byte, 16)))
	}), true},
	{"LISP", 1, one(func(_, ip []byte) []byte { return ip4UDP(4341, be(0x80, 0, 0, 1, uint32(0), ip)) }), true},
	{"Teredo", 1, one(func(_, ip []byte) []byte {
		return ip4UDP(3544, be(0, 1, 0, 0, make([]byte, 9), uint16(0), uint16(1), uint32(2), inIP6(4, ip)))
	}), true},
	{"CAPWAP", 1, one(func(e, _ []byte) []byte { return ip4UDP(5247, be(0, 0x10, 0, 0, uint32(0), e)) }), true},
	{"CAPWAP of 802.11", 1, one(func(_, ip []byte) []byte {
		return ip4UDP(5247, be(0, 0x10, 0x43, 0, uint32(0), 8, 1, make([]byte, 22), snap(ip)))
	}), false},
	{"CAPWAP of 802.11, as Cisco's", 1, one(func(_, ip []byte) []byte {
		return ip4UDP(5247, be(0, 0x10, 0x43, 0, uint32(0), 1, 8, make([]byte, 22), snap(ip)))
	}), true},
	{"IP fragments", 1, func(_, ip []byte) [][]byte { return ethernets(0x0800, fragments4(ip, 64)) }, true},
	{"IP fragments backwards", 1, func(_, ip []byte) [][]byte {
		f := ethernets(0x0800, fragments4(ip, 48))
		slices.Reverse(f)
		return f
	}, true},
	{"IP fragments twice", 1, func(_, ip []byte) [][]byte {
		f := ethernets(0x0800, fragments4(ip, 512))
		return slices.Insert(f, 0, f[:len(f)-1]...)
	}, false},
	{"IPv6 fragments", 1, func(_, ip []byte) [][]byte { return ethernets(0x86DD, fragments6(ip, 64)) }, true},
	{"VXLAN in fragments", 1, func(e, _ []byte) [][]byte {
		return ethernets(0x0800, fragments4(inIP4(17, inUDP(4789, be(8, 0, 0, 0, 0, 0, 100, 0, e))), 128))
	}, true},
}

// snap is LLC's header with the type of IPv4.
func snap(ip []byte) []byte { return be(0xAA, 0xAA, 3, 0, 0, 0, uint16(0x0800), ip) }

func byteLen(n int) []byte { return binary.LittleEndian.AppendUint16(nil, uint16(n)) }

func ethernets(kind uint16, list [][]byte) [][]byte {
	for i := range list {
		list[i] = inEthernet(kind, list[i])
	}
	return list
}

var nextID uint16

// fragments4 cuts an IPv4 packet into pieces of n bytes.
func fragments4(ip []byte, n int) (list [][]byte) {
	nextID++
	size := int(be16(ip[2:]))
	head, body := slices.Clone(ip[:int(ip[0]&0xF)*4]), ip[int(ip[0]&0xF)*4:size]
	binary.BigEndian.PutUint16(head[4:], nextID)
	for off := 0; off < len(body); off += n {
		end := min(off+n, len(body))
		flags := uint16(off / 8)
		if end < len(body) {
			flags |= 0x2000
		}
		binary.BigEndian.PutUint16(head[2:], uint16(len(head)+end-off))
		binary.BigEndian.PutUint16(head[6:], flags)
		list = append(list, be(checked(head), body[off:end]))
	}
	return list
}

// fragments6 cuts what carries an IPv4 packet in IPv6.
func fragments6(ip []byte, n int) (list [][]byte) {
	nextID++
	for off := 0; off < len(ip); off += n {
		end := min(off+n, len(ip))
		flags := uint16(off)
		if end < len(ip) {
			flags |= 1
		}
		list = append(list, inIP6(44, be(4, 0, flags, uint32(nextID), ip[off:end])))
	}
	return list
}

// encapsulated returns a capture in an encapsulation, as a pcap file.
func (c encapsulation) file(all []rawPacket) []byte {
	b := be([]byte{0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0}, make([]byte, 8), []byte{0, 0, 4, 0}, byteLen(int(c.link)), 0, 0)
	for _, p := range all {
		if be16(p.data[12:]) != 0x0800 {
			continue
		}
		for _, w := range c.wrap(p.data, p.data[14:]) {
			b = appendRecord(b, binary.LittleEndian, p.info.Timestamp, w)
		}
	}
	return b
}

func appendRecord(b []byte, order binary.AppendByteOrder, at time.Time, data []byte) []byte {
	b = order.AppendUint32(b, uint32(at.Unix()))
	b = order.AppendUint32(b, uint32(at.Nanosecond()/1000))
	b = order.AppendUint32(b, uint32(len(data)))
	b = order.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// TestEncapsulations reads the same calls whatever they are wrapped in.
func TestEncapsulations(t *testing.T) {
	all := packets(t, find(t, "01").file)
	want, others := decodeBytes(t, encapsulations[0].file(all), nil)
	require.Len(t, want, 15)
	require.Equal(t, []Other{{"UDP port 88", 4}}, others.Others)
	for _, c := range encapsulations {
		t.Run(c.name, func(t *testing.T) {
			got, sum := decodeBytes(t, c.file(all), nil)
			require.Empty(t, sum.Problems)
			require.Equal(t, others.Others, sum.Others)
			require.Len(t, got, len(want))
			for _, call := range got {
				require.True(t, among(want, call), "%v", call)
			}
		})
	}
}

// TestEncapsulationsTshark has tshark count the calls, where it reads the encapsulation without
// being told more.
func TestEncapsulationsTshark(t *testing.T) {
	needTshark(t)
	if testing.Short() {
		t.Skip("tshark starts once for each encapsulation; -short is on")
	}
	all := packets(t, find(t, "01").file)
	for _, c := range encapsulations {
		if !c.tshark {
			continue
		}
		name := filepath.Join(t.TempDir(), "x.pcap")
		require.NoError(t, os.WriteFile(name, c.file(all), 0o600))
		out, err := exec.Command("tshark", "-r", name, "-Y", "fsrvp.opnum && dcerpc.pkt_type == 0", "-T", "fields",
			"-e", "fsrvp.opnum").Output()
		require.NoError(t, err, c.name)
		assert.Equal(t, 15, bytes.Count(out, []byte("\n")), "%s: what tshark sees", c.name)
	}
}

// TestEncapsulationsCut cuts every packet at every length: what is missing is said, and nothing
// panics.
func TestEncapsulationsCut(t *testing.T) {
	all := packets(t, find(t, "01").file)
	i := slices.IndexFunc(all, func(p rawPacket) bool { return len(p.data) > 200 })
	for _, c := range encapsulations {
		for _, w := range c.wrap(all[i].data, all[i].data[14:]) {
			for n := range w {
				l := links{fragments: fragments{budget: &budget{left: 1 << 20}, lost: func(moment) {}}}
				_, _ = l.decode(w[:n:n], c.link, moment{})
			}
		}
	}
}

// TestOthers has packets without TCP in them: each is counted by its kind.
func TestOthers(t *testing.T) {
	at := time.Unix(1e9, 0)
	file := encapsulation{link: 1}.file(nil)
	for _, data := range [][]byte{
		inEthernet(0x0806, make([]byte, 28)), inEthernet(0x88CC, make([]byte, 28)), inEthernet(0x1234, nil),
		inEthernet(0x0800, inIP4(1, make([]byte, 8))), inEthernet(0x0800,
			inIP4(50, make([]byte, 8))), inEthernet(0x0800, inIP4(200, nil)),
		ip4UDP(53, make([]byte, 20)), ip4UDP(53, make([]byte, 20)), ip4UDP(443, make([]byte, 20)), ip4UDP(9999,
			make([]byte, 20)),
		ip4UDP(4789, make([]byte, 20)), ip4GRE(uint16(0), uint16(0x2000), uint32(0)), inEthernet(0x86DD,
			inIP6(59, nil)),
	} {
		file = appendRecord(file, binary.LittleEndian, at, data)
	}
	calls, sum := decodeBytes(t, file, nil)
	require.Empty(t, calls)
	require.Empty(t, sum.Problems)
	require.Equal(t, []Other{
		{"ARP", 1}, {"LLDP", 1}, {"Ethernet type 0x1234", 1}, {"ICMP", 1}, {"IPsec (ESP)", 1}, {"IP protocol 200", 1},
		{"UDP port 53", 2}, {"UDP port 443 (QUIC, perhaps SMB over QUIC)", 1}, {"UDP", 2}, {"Ethernet type 0x2000", 1},
		{"IPv6 without a payload", 1},
	}, sum.Others)

	var s Summary
	for i := range 3 * maxOthers {
		s.other(strings.Repeat("x", i))
	}
	require.Len(t, s.Others, maxOthers)
	require.Equal(t, Other{"further kinds", 2*maxOthers + 1}, s.Others[maxOthers-1])
}

// TestFragments is about packets that cannot be put together.
func TestFragments(t *testing.T) {
	part := func(off, n int) fragment { return fragment{off, bytes.Repeat([]byte{byte(off)}, n)} }
	type step struct {
		part fragment
		more bool
		want error
	}
	for name, steps := range map[string][]step{
		"whole":                   {{part(8, 4), false, errWaits}, {part(0, 8), true, nil}},
		"overlap at the start":    {{part(0, 16), true, errWaits}, {part(8, 16), true, errOverlap}},
		"overlap at the end":      {{part(16, 16), true, errWaits}, {part(8, 16), true, errOverlap}},
		"other length":            {{part(0, 16), true, errWaits}, {part(0, 8), true, errOverlap}},
		"too large":               {{part(65528, 8), false, errHeaders}},
		"empty":                   {{part(8, 0), true, errHeaders}},
		"odd length":              {{part(0, 9), true, errHeaders}},
		"two ends":                {{part(16, 8), false, errWaits}, {part(32, 8), false, errHeaders}},
		"behind the end":          {{part(16, 8), false, errWaits}, {part(24, 8), true, errHeaders}},
		"the end before the rest": {{part(24, 8), true, errWaits}, {part(8, 8), false, errHeaders}},
		"no room":                 {{part(0, 4096), true, errFull}},
	} {
		t.Run(name, func(t *testing.T) {
			b := budget{left: 4096}
			f := fragments{budget: &b, lost: func(moment) {}}
			for i, s := range steps {
				_, err := f.add(fragmentKey{id: 1}, s.part, s.more, 0, moment{})
				require.Equal(t, s.want, err, i)
			}
			f.close()
			require.Equal(t, 4096, b.left, "all is given back")
			require.Empty(t, f.packets)
		})
	}

	b := budget{left: 1 << 20}
	lost := 0
	f := fragments{budget: &b, lost: func(moment) { lost++ }}
	_, err := f.add(fragmentKey{}, part(0, 8), true, 3, moment{})
	require.Equal(t, errShort, err)
	for i := range 2 * maxFragmented {
		_, err := f.add(fragmentKey{id: uint32(i)}, part(0, 8), true, 0, moment{})
		require.Equal(t, errWaits, err)
	}
	require.Equal(t, maxFragmented, lost, "the oldest are given up")
	_, _ = f.add(fragmentKey{id: 1 << 30}, part(0, 8), true, 0, moment{time: time.Time{}.Add(2 * fragmentTimeout)})
	require.Equal(t, 2*maxFragmented, lost, "and those that are too old")
}

// TestPcapForms reads the same packets from all forms of pcap files.
func TestPcapForms(t *testing.T) {
	data := encapsulations[0].wrap
	all := packets(t, find(t, "01").file)
	want, _ := decodeBytes(t, encapsulations[0].file(all), nil)
	type form struct {
		order        binary.AppendByteOrder
		magic        uint32
		major, minor uint16
		swap         bool
		extra        int // bytes at the end of a record's header
		header       int // bytes at the end of the file's header
		nano         bool
	}
	le, beo := binary.AppendByteOrder(binary.LittleEndian), binary.AppendByteOrder(binary.BigEndian)
	for name, f := range map[string]form{
		"2.4":                {le, pcapMicro, 2, 4, false, 0, 0, false},
		"2.4 big-endian":     {beo, pcapMicro, 2, 4, false, 0, 0, false},
		"nanoseconds":        {le, pcapNano, 2, 4, false, 0, 0, true},
		"nanoseconds, big":   {beo, pcapNano, 2, 4, false, 0, 0, true},
		"modified":           {le, pcapModified, 2, 4, false, 8, 0, false},
		"modified, big":      {beo, pcapModified, 2, 4, false, 8, 0, false},
		"2.0":                {le, pcapMicro, 2, 0, true, 0, 0, false},
		"2.1":                {le, pcapMicro, 2, 1, true, 0, 0, false},
		"2.2 big-endian":     {beo, pcapMicro, 2, 2, true, 0, 0, false},
		"2.3":                {le, pcapMicro, 2, 3, false, 0, 0, false},
		"2.3 the other way":  {le, pcapMicro, 2, 3, true, 0, 0, false},
		"DEC":                {le, pcapMicro, 543, 0, true, 0, 0, false},
		"IXIA, nanoseconds":  {le, pcapIXIAHard, 2, 4, false, 0, 4, true},
		"IXIA, microseconds": {le, pcapIXIASoft, 2, 4, false, 0, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := f.order.AppendUint32(nil, f.magic)
			b = f.order.AppendUint16(f.order.AppendUint16(b, f.major), f.minor)
			b = f.order.AppendUint32(append(b, make([]byte, 8)...), 65535)
			b = append(f.order.AppendUint32(b, 1|2<<28), make([]byte, f.header)...) // of frames with a check sum
			for _, p := range all {
				if be16(p.data[12:]) != 0x0800 {
					continue
				}
				d := data(p.data, p.data[14:])[0]
				fraction := p.info.Timestamp.Nanosecond() / 1000
				if f.nano {
					fraction *= 1000
				}
				b = f.order.AppendUint32(f.order.AppendUint32(b, uint32(p.info.Timestamp.Unix())), uint32(fraction))
				captured, length := uint32(len(d)), uint32(len(d))
				if f.minor == 3 {
					length += 4 // so that the order can be told
					d = append(slices.Clone(d), 0, 0, 0, 0)[:len(d)]
				}
				if f.swap {
					captured, length = length, captured
				}
				b = f.order.AppendUint32(f.order.AppendUint32(b, captured), length)
				b = append(append(b, make([]byte, f.extra)...), d...)
			}
			got, sum := decodeBytes(t, b, nil)
			require.Empty(t, sum.Problems)
			require.Len(t, got, len(want))
			for _, c := range got {
				require.True(t, among(want, c))
			}
		})
	}
	for name, b := range map[string][]byte{
		"version 3":   be(uint32(pcapMicro), uint16(3), uint16(0), make([]byte, 16)),
		"version 2.5": be(uint32(pcapMicro), uint16(2), uint16(5), make([]byte, 16)),
		"short":       be(uint32(pcapMicro), uint16(2), uint16(4), make([]byte, 15)),
		"other":       make([]byte, 24),
	} {
		_, err := openFile(bytes.NewReader(b))
		require.ErrorIs(t, err, ErrNotCapture, name)
	}
}

// TestCompressed reads files as gzip, zstd and lz4 write them.
func TestCompressed(t *testing.T) {
	file := encapsulations[0].file(packets(t, find(t, "01").file))
	var gz, zs, l4 bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, err := z.Write(file)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	s, err := zstd.NewWriter(&zs)
	require.NoError(t, err)
	_, err = s.Write(file)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	l := lz4.NewWriter(&l4)
	_, err = l.Write(file)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	for name, b := range map[string][]byte{"gzip": gz.Bytes(), "zstd": zs.Bytes(), "lz4": l4.Bytes()} {
		t.Run(name, func(t *testing.T) {
			calls, _ := decodeBytes(t, b, nil)
			require.Len(t, calls, 15)
			var last error // of a file that is cut off
			for _, err := range Calls(bytes.NewReader(b[:len(b)/2]), nil) {
				last = err
			}
			require.Error(t, last)
		})
	}
}
