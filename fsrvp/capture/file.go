package capture

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// ErrNotCapture says that the input is neither pcap nor pcapng.
var ErrNotCapture = errors.New("capture: neither pcap nor pcapng")

// A packetReader reads the packets of a file. The bytes are valid until the next call.
type packetReader interface {
	next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)
}

// pcapngMagic is the type of the block that every pcapng file begins with.
const pcapngMagic = 0x0A0D0D0A

// openFile recognises the format, gzip-compressed or not.
func openFile(r io.Reader) (packetReader, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(4)
	if err != nil {
		return nil, notCapture(err)
	}
	if magic[0] == 0x1F && magic[1] == 0x8B {
		gz, err := gzip.NewReader(br)
		if err != nil {
			return nil, notCapture(err)
		}
		br = bufio.NewReaderSize(gz, 256<<10)
		if magic, err = br.Peek(4); err != nil {
			return nil, notCapture(err)
		}
	}
	if binary.LittleEndian.Uint32(magic) == pcapngMagic {
		options := pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true}
		ng, err := pcapgo.NewNgReader(newBlockFilter(br), options)
		if err != nil {
			return nil, notCapture(err)
		}
		return ngReader{ng}, nil
	}
	p, err := pcapgo.NewReader(br)
	if err != nil {
		return nil, notCapture(err)
	}
	return pcapReader{p}, nil
}

func notCapture(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after its first bytes", ErrNotCapture)
	}
	return fmt.Errorf("%w: %w", ErrNotCapture, err)
}

type pcapReader struct{ r *pcapgo.Reader }

func (p pcapReader) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	data, ci, err := p.r.ZeroCopyReadPacketData()
	return data, ci, p.r.LinkType(), err
}

type ngReader struct{ r *pcapgo.NgReader }

func (p ngReader) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	data, ci, err := p.r.ZeroCopyReadPacketData()
	if err != nil {
		return nil, ci, 0, err
	}
	link, ok := ci.AncillaryData[0].(layers.LinkType)
	if !ok {
		return nil, ci, 0, errors.New("packet without an interface")
	}
	return data, ci, link, nil
}
