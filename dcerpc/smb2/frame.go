package smb2

import "encoding/binary"

// framePrefix is what a frame has before its message: its length, and room for the header of an
// encrypted one.
const framePrefix = 4 + TransformSize

// maxCompound is the most messages of a frame.
const maxCompound = 3

// A frame is messages that are to be sent in one piece.
type frame struct {
	c      *conn
	buf    *buffer
	b      []byte // the prefix, and the messages so far
	n      int    // messages
	starts [maxCompound]int
	rs     [maxCompound]*request
}

// begin makes an empty frame, which takes size bytes without growing.
func (f *frame) begin(c *conn, size int) {
	f.c = c
	f.buf = getBuffer(framePrefix + size)
	f.b = f.buf.b[:framePrefix]
	f.n = 0
}

// add appends the header of one more message; its body is to be appended to f.b.
func (f *frame) add(command Command, charge int) {
	f.append(f.c.requests.Get().(*request), command, charge)
}

// append is add with a request of the caller's.
func (f *frame) append(r *request, command Command, charge int) {
	if f.n > 0 {
		f.pad()
	}
	f.starts[f.n] = len(f.b)
	r.command, r.charge = command, charge
	f.rs[f.n] = r
	f.n++
	h := Header{Command: command}
	f.b, _ = h.AppendBinary(f.b) // has no errors
}

// pad ends a message of a compound at a multiple of 8 bytes.
func (f *frame) pad() {
	start := f.starts[f.n-1]
	for (len(f.b)-start)%8 != 0 {
		f.b = append(f.b, 0)
	}
	le.PutUint32(f.b[start+20:], uint32(len(f.b)-start))
}

// finish numbers the messages and protects them, and returns what is to be written.
func (f *frame) finish(s *Session, tree uint32, res reservation, protect protection, ask int) []byte {
	for i := range f.n {
		start, end := f.starts[i], len(f.b)
		if i < f.n-1 {
			end = f.starts[i+1]
		}
		msg, r := f.b[start:end], f.rs[i]
		r.id, r.protect = res.id, protect
		res.id += uint64(r.charge)
		if s.largeMTU {
			le.PutUint16(msg[6:], uint16(r.charge))
		}
		le.PutUint16(msg[14:], uint16(r.charge+ask))
		if i > 0 {
			le.PutUint32(msg[16:], FlagRelated)
		}
		le.PutUint64(msg[24:], r.id)
		le.PutUint32(msg[36:], tree)
		le.PutUint64(msg[40:], s.id)
		if protect == signed {
			s.signer.Sign(msg)
		}
		ask = 0
	}
	return f.wire(s, protect)
}

// wire returns the frame with its length, encrypted where it must be.
func (f *frame) wire(s *Session, protect protection) []byte {
	b := f.b[TransformSize:]
	if protect == sealed {
		b = f.b
		if cap(b)-len(b) < slack {
			b = append(b, make([]byte, slack)...)[:len(b)]
		}
		text := seal(s.keys.toServer, b[4:], s.id, s.nonce.Add(1))
		b = b[:4+len(text)]
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// end gives the memory back, after the frame was written.
func (f *frame) end() {
	f.buf.release()
	f.buf, f.b = nil, nil
}

// drop gives a frame back that is not sent.
func (f *frame) drop() {
	for _, r := range f.rs[:f.n] {
		f.c.recycle(r)
	}
	f.end()
}
