package pdu

import "io"

// framerSize is the first size of a Framer's buffer: room for a fragment of any usual transport
// (5840 bytes on TCP, 4280 on pipes).
const framerSize = 8 << 10

// A Framer reads PDUs from a stream of bytes. It reads ahead, so that a whole PDU usually costs one
// Read; nothing else may use the reader.
type Framer struct {
	r          io.Reader
	buf        []byte
	start, end int   // buf[start:end] has been read but not yet returned
	err        error // from r; returned once the bytes before it are used up
	max        int
	grow       func(by int) error
}

// OnGrow makes the Framer call grow with the number of additional bytes before its buffer grows. If
// grow returns an error, the buffer does not grow, and Next returns the error.
func (f *Framer) OnGrow(grow func(by int) error) { f.grow = grow }

// Size returns the size of the buffer in bytes.
func (f *Framer) Size() int { return len(f.buf) }

// NewFramer returns a Framer for PDUs of at most limit bytes; zero means 65535, the largest
// possible size.
func NewFramer(r io.Reader, limit int) *Framer {
	if limit <= 0 || limit > MaxFragment {
		limit = MaxFragment
	}
	return &Framer{r: r, buf: make([]byte, min(framerSize, limit+HeaderSize)), max: limit}
}

// Next returns the next PDU: its header, not checked, and all of its bytes, header included. The
// bytes may be changed in place and are valid until the next call.
//
// At the end of the stream it returns io.EOF between two PDUs, and io.ErrUnexpectedEOF inside one.
// If frag_length is below 16 or over the limit, it returns the header and an *Error with
// [ErrFragLength]; the stream cannot be read further, and later calls return the same error. Errors
// of the reader are returned unchanged.
//
// The buffer grows with the bytes that come, not with the length that a header announces: at most
// to twice their number or 8 KiB.
func (f *Framer) Next() (Header, []byte, error) {
	if err := f.fill(HeaderSize); err != nil {
		return Header{}, nil, err
	}
	h, err := ParseHeader(f.buf[f.start:f.end])
	if err != nil {
		return Header{}, nil, err
	}
	n := int(h.FragLength)
	if n < HeaderSize || n > f.max {
		return h, nil, fail(ErrFragLength, h.Type, "%d bytes, limit %d", n, f.max)
	}
	if err := f.fill(n); err != nil {
		return h, nil, err
	}
	b := f.buf[f.start : f.start+n : f.start+n]
	f.start += n
	return h, b, nil
}

// Buffered returns the number of bytes that have been read but not yet returned.
func (f *Framer) Buffered() int { return f.end - f.start }

// fill reads until n bytes are there.
func (f *Framer) fill(n int) error {
	if f.start == f.end {
		f.start, f.end = 0, 0
	}
	for empty := 0; f.end-f.start < n; {
		if f.err != nil {
			if f.err == io.EOF && f.end > f.start {
				return io.ErrUnexpectedEOF
			}
			return f.err
		}
		if err := f.room(n); err != nil {
			return err
		}
		got, err := f.r.Read(f.buf[f.end:])
		f.end += got
		f.err = err
		if got > 0 {
			empty = 0
		} else if empty++; empty == 100 && err == nil {
			f.err = io.ErrNoProgress
		}
	}
	return nil
}

// room makes room to read more, towards n bytes in all. The buffer grows only when at least half of
// its new size has been read.
func (f *Framer) room(n int) error {
	if f.end < len(f.buf) && f.start+n <= len(f.buf) {
		return nil
	}
	if f.start > 0 {
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	if f.end < len(f.buf) {
		return nil
	}
	by := max(min(len(f.buf), HeaderSize+f.max-len(f.buf)), HeaderSize)
	if f.grow != nil {
		if err := f.grow(by); err != nil {
			return err
		}
	}
	buf := make([]byte, len(f.buf)+by)
	copy(buf, f.buf)
	f.buf = buf
	return nil
}
