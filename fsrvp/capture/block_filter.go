package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Types of pcapng blocks that a decoder needs (pcapng 4).
const (
	blockSection        = 0x0A0D0D0A
	blockInterface      = 1
	blockPacket         = 2
	blockSimplePacket   = 3
	blockEnhancedPacket = 6
)

// maxInterfaces is the number of interfaces that a section may describe, since the reader keeps
// them all.
const maxInterfaces = 4096

// A blockFilter passes on the blocks of a pcapng file that hold packets or are needed to read them.
// The reader would collect others, such as names and secrets, in memory without limit.
//
//	| type 4 | length 4, of the whole block | body | length 4 |
type blockFilter struct {
	r          *bufio.Reader
	order      binary.ByteOrder
	left       int64 // bytes of the current block still to pass on
	interfaces int
}

func newBlockFilter(r *bufio.Reader) *blockFilter {
	return &blockFilter{r: r, order: binary.LittleEndian}
}

func (f *blockFilter) Read(b []byte) (int, error) {
	for f.left == 0 {
		if err := f.nextBlock(); err != nil {
			return 0, err
		}
	}
	if int64(len(b)) > f.left {
		b = b[:f.left]
	}
	n, err := f.r.Read(b)
	f.left -= int64(n)
	if err == io.EOF && f.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// nextBlock finds the next block to pass on. At the end of the file, or if a length is impossible,
// it passes on the rest, so that the reader reports the error.
func (f *blockFilter) nextBlock() error {
	for {
		head, err := f.r.Peek(12)
		if len(head) < 8 {
			if len(head) == 0 {
				return err
			}
			f.left = int64(len(head))
			return nil
		}
		kind := f.order.Uint32(head)
		if kind == blockSection {
			if len(head) == 12 {
				f.order = binary.LittleEndian
				if binary.BigEndian.Uint32(head[8:]) == 0x1A2B3C4D {
					f.order = binary.BigEndian
				}
			}
			f.interfaces = 0
		}
		size := int64(f.order.Uint32(head[4:]))
		if size < 12 {
			return errors.New("pcapng block of less than 12 bytes")
		}
		switch kind {
		case blockInterface:
			if f.interfaces++; f.interfaces > maxInterfaces {
				return errors.New("pcapng section of more than 4096 interfaces")
			}
			f.left = size
			return nil
		case blockSection, blockPacket, blockSimplePacket, blockEnhancedPacket:
			f.left = size
			return nil
		}
		if _, err := io.CopyN(io.Discard, f.r, size); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}
