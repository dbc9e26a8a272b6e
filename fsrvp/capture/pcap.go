package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The first four bytes of pcap files (draft-ietf-opsawg-pcap 4, and libpcap's savefile.c), as they
// are read in the byte order of the machine that wrote them.
const (
	pcapMicro    = 0xA1B2C3D4
	pcapNano     = 0xA1B23C4D
	pcapModified = 0xA1B2CD34 // by an old patch of libpcap for Linux, with longer records
	pcapIXIAHard = 0x1C0001AC // nanoseconds; the header ends with the size of all records
	pcapIXIASoft = 0x1C0001AB // microseconds
)

// maxRecord is the largest packet of a pcap file, in bytes: libpcap's MAXIMUM_SNAPLEN. If the
// header of the file allows for more, packets may be larger, up to maxSnapLen.
const (
	maxRecord  = 256 << 10
	maxSnapLen = 1 << 20
)

// A pcapReader reads a pcap file:
//
//	| magic 4 | major 2 | minor 2 | 8 | snapshot length 4 | link type 4 |
//
// and then, for each packet,
//
//	| seconds 4 | fraction 4 | captured length 4 | length 4 | bytes |
type pcapReader struct {
	r      *bufio.Reader
	order  binary.ByteOrder
	link   layers.LinkType
	unit   time.Duration // of the fraction
	head   int           // bytes before each packet
	most   uint32        // bytes of a record
	minor  uint16
	swap   bool   // the lengths are swapped
	packet []byte // a packet that does not fit into the reader's buffer
}

func newPcapReader(r *bufio.Reader) (*pcapReader, error) {
	var b [24]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	p := &pcapReader{r: r, order: binary.LittleEndian, unit: time.Microsecond, head: 16, most: maxRecord}
	magic := p.order.Uint32(b[:])
	switch magic {
	case pcapMicro, pcapNano, pcapModified, pcapIXIAHard, pcapIXIASoft:
	default:
		p.order = binary.BigEndian
		magic = p.order.Uint32(b[:])
	}
	switch magic {
	case pcapMicro:
	case pcapNano:
		p.unit = time.Nanosecond
	case pcapModified:
		p.head = 24
	case pcapIXIAHard, pcapIXIASoft:
		if magic == pcapIXIAHard {
			p.unit = time.Nanosecond
		}
		if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("the first bytes are % x", b[:4])
	}
	major := p.order.Uint16(b[4:])
	p.minor = p.order.Uint16(b[6:])
	switch {
	case major == 543: // DEC OSF/1
		p.swap = true
	case major != 2 || p.minor > 4:
		return nil, fmt.Errorf("unknown version %d.%d", major, p.minor)
	default:
		p.swap = p.minor < 3
	}
	if snap := p.order.Uint32(b[16:]); snap > p.most {
		p.most = min(snap, maxSnapLen)
	}
	p.link = layers.LinkType(p.order.Uint32(b[20:]) & 0xFFFF) // above: length of the checksum, flags
	return p, nil
}

// next implements packetReader.
func (p *pcapReader) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	ci := gopacket.CaptureInfo{}
	head, err := p.take(p.head)
	if err != nil {
		return nil, ci, 0, err
	}
	captured, length := p.order.Uint32(head[8:]), p.order.Uint32(head[12:])
	if p.swap || p.minor == 3 && captured > length {
		captured, length = length, captured
	}
	if captured > p.most {
		return nil, ci, 0, fmt.Errorf("a packet of %d bytes: more than the file allows, it is damaged", captured)
	}
	seconds, fraction := p.order.Uint32(head), p.order.Uint32(head[4:])
	ci.Timestamp = time.Unix(int64(seconds), int64(fraction)*int64(p.unit)).UTC()
	ci.CaptureLength, ci.Length = int(captured), int(max(length, captured))
	packet, err := p.take(int(captured))
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return packet, ci, p.link, err
}

// take returns the next n bytes, from the reader's buffer if they fit into it. They are valid until
// the next call.
func (p *pcapReader) take(n int) ([]byte, error) {
	if n > p.r.Size() {
		if cap(p.packet) < n {
			p.packet = make([]byte, n)
		}
		p.packet = p.packet[:n]
		_, err := io.ReadFull(p.r, p.packet)
		return p.packet, err
	}
	b, err := p.r.Peek(n)
	switch {
	case len(b) == n:
		_, err = p.r.Discard(n)
		return b[:n:n], err
	case errors.Is(err, io.EOF) && len(b) > 0:
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}
