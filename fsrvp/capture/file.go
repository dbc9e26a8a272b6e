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
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// ErrNotCapture means that the input is neither pcap nor pcapng.
var ErrNotCapture = errors.New("capture: neither pcap nor pcapng")

// A packetReader reads the packets of a file. The bytes are valid until the next call.
type packetReader interface {
	next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)
}

// pcapngMagic is the type of the block that every pcapng file begins with.
const pcapngMagic = 0x0A0D0D0A

// bufferSize is the size of the read-ahead buffer. Reading a pipe returns what it has.
const bufferSize = 256 << 10

// openFile recognizes the format, compressed or not.
func openFile(r io.Reader) (packetReader, error) {
	br := bufio.NewReaderSize(r, bufferSize)
	magic, err := br.Peek(4)
	if err != nil {
		return nil, notCapture(err)
	}
	plain, err := decompress(br, magic)
	if err != nil {
		return nil, notCapture(err)
	}
	if plain != nil {
		br = bufio.NewReaderSize(plain, bufferSize)
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
	p, err := newPcapReader(br)
	if err != nil {
		return nil, notCapture(err)
	}
	return p, nil
}

// maxWindow is the largest accepted window of a zstd file, in bytes: zstd's --ultra -22 uses 128
// MiB, and its levels up to 19 use 8 MiB.
const maxWindow = 128 << 20

// decompress returns the contents of a compressed file, which it recognizes by its first bytes, and
// nil if the file is not compressed.
func decompress(r io.Reader, magic []byte) (io.Reader, error) {
	switch {
	case magic[0] == 0x1F && magic[1] == 0x8B:
		return gzip.NewReader(r)
	case binary.LittleEndian.Uint32(magic) == 0xFD2FB528:
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow),
			zstd.WithDecoderLowmem(true))
	case binary.LittleEndian.Uint32(magic) == 0x184D2204:
		return lz4.NewReader(r), nil
	}
	return nil, nil
}

func notCapture(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends after its first bytes", ErrNotCapture)
	}
	return fmt.Errorf("%w: %w", ErrNotCapture, err)
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
