package capture

import (
	"encoding/binary"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// A framing divides a stream into messages.
type framing interface {
	// headerSize returns the number of bytes that length needs.
	headerSize() int
	// length returns the size of the message that begins at b, header included, or false if b shows
	// that no message begins there.
	length(b []byte) (int, bool)
	// probeSize returns the number of bytes that probe needs, and that length needs for its best
	// answer.
	probeSize() int
	// probe reports whether b almost certainly is the beginning of a message.
	probe(b []byte) bool
}

// A framer divides one direction into messages. After a hole that does not end within a known
// message, it searches for the next header.
type framer struct {
	framing
	limit   int // the bytes of a message to keep
	buffers *account
	// wanted reports, by its first headSize bytes, whether a message of some size is wanted as a
	// whole. Of other messages the framer keeps and hands out only these bytes. Nil means that all
	// are wanted.
	wanted func(head []byte, size int) bool
	// message takes a message. Its first good bytes are present; missing bytes are zero, and why
	// says why. size is its full size; nothing is kept beyond limit.
	message func(b []byte, good, size int, why Reason, at moment)
	// broken is called when a message is skipped: it is malformed (ErrProtocol), or there is no
	// room for it (ErrLimit).
	broken func(why Reason)

	buf  []byte
	keep int // of the current message, as far as known: bytes to hand out
	good int // of buf
	why  Reason
	skip int // bytes of the last message still to skip
	lost bool
}

// headSize is the number of bytes that show whether a message is wanted.
const headSize = 160

func newFramer(f framing, limit int, buffers *account) framer {
	return framer{framing: f, limit: limit, buffers: buffers}
}

func (f *framer) data(b []byte, at moment) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip -= n
			b = b[n:]
			continue
		}
		if f.lost {
			i := f.find(b)
			if i < 0 {
				return
			}
			f.lost = false
			b = b[i:]
		}
		if len(f.buf) > 0 || !f.whole(&b, at) {
			b = f.collect(b, at)
		}
	}
}

// whole takes a message that is completely in b. It returns false if there is none.
func (f *framer) whole(b *[]byte, at moment) bool {
	if len(*b) < f.headerSize() {
		return false
	}
	n, ok := f.length(*b)
	if !ok {
		f.resync(ErrProtocol)
		*b = (*b)[1:]
		return true
	}
	keep := min(n, f.limit)
	if f.wanted != nil && keep > headSize && len(*b) >= headSize && !f.wanted((*b)[:headSize], n) {
		keep = headSize
	}
	if keep > len(*b) {
		return false
	}
	f.message((*b)[:keep:keep], keep, n, 0, at)
	f.skip = n - keep
	*b = (*b)[keep:]
	return true
}

// collect adds to the current message, and returns the rest of b.
func (f *framer) collect(b []byte, at moment) []byte {
	b = f.add(b, f.headerSize())
	if len(f.buf) < f.headerSize() {
		return b
	}
	n, ok := f.length(f.buf)
	if ok {
		b = f.add(b, min(n, f.probeSize()))
		n, ok = f.length(f.buf)
	}
	if !ok {
		f.resync(ErrProtocol)
		return b
	}
	if f.keep == 0 {
		b = f.add(b, min(n, f.limit, headSize))
		if len(f.buf) < min(n, f.limit, headSize) {
			return b
		}
		if f.keep = min(n, f.limit); f.wanted != nil && f.keep > headSize && f.good >= headSize &&
			!f.wanted(f.buf[:headSize], n) {
			f.keep = headSize
		}
	}
	b = f.add(b, f.keep)
	f.finish(n, at)
	return b
}

// add appends from b until buf has n bytes.
func (f *framer) add(b []byte, n int) []byte {
	n = min(n-len(f.buf), len(b))
	if n <= 0 {
		return b
	}
	if !f.buffers.take(n) {
		f.resync(ErrLimit)
		return nil
	}
	if f.buf == nil {
		f.buf = f.buffers.budget.buffer()
	}
	f.buf = append(f.buf, b[:n]...)
	if f.why == 0 {
		f.good = len(f.buf)
	}
	return b[n:]
}

// finish hands out the message when all bytes to keep are present. size is its full size.
func (f *framer) finish(size int, at moment) {
	if f.keep == 0 || len(f.buf) < f.keep {
		return
	}
	f.message(f.buf, f.good, size, f.why, at)
	f.skip = size - len(f.buf)
	f.drop()
}

// hole passes over n missing bytes.
func (f *framer) hole(n int, why Reason, at moment) {
	for n > 0 && !f.lost {
		switch {
		case f.skip > 0:
			m := min(f.skip, n)
			f.skip -= m
			n -= m
		case len(f.buf) < f.headerSize():
			f.drop()
			f.lost = true
		default:
			size, _ := f.length(f.buf)
			if f.why == 0 {
				f.why = why
			}
			if f.keep == 0 {
				f.keep = min(size, f.limit)
			}
			m := min(n, f.keep-len(f.buf))
			if !f.buffers.take(m) {
				f.resync(ErrLimit)
				return
			}
			f.buf = append(f.buf, make([]byte, m)...)
			n -= m
			f.finish(size, at)
		}
	}
}

// resync gives up the current message.
func (f *framer) resync(why Reason) {
	f.broken(why)
	f.drop()
	f.lost = true
}

// drop forgets the current message.
func (f *framer) drop() {
	f.buffers.give(len(f.buf))
	f.buffers.budget.recycle(f.buf)
	f.buf, f.keep, f.good, f.why = nil, 0, 0, 0
}

// find returns the index in b at which a message begins, or -1.
func (f *framer) find(b []byte) int {
	for i := 0; i+f.probeSize() <= len(b); i++ {
		if f.probe(b[i:]) {
			return i
		}
	}
	return -1
}

// smbFraming is the framing of SMB over TCP (MS-SMB2 2.1), and of NetBIOS sessions (RFC 1002
// 4.3.1):
//
//	| type 0 | length 3 | message |
type smbFraming struct{}

const (
	netbiosMessage   = 0x00
	netbiosRequest   = 0x81
	netbiosPositive  = 0x82
	netbiosKeepAlive = 0x85
	netbiosHeader    = 4
)

func (smbFraming) headerSize() int { return netbiosHeader }

func (smbFraming) probeSize() int { return netbiosHeader + 4 }

func (f smbFraming) length(b []byte) (int, bool) {
	n := netbiosHeader + int(binary.BigEndian.Uint32(b)&0xFFFFFF)
	switch b[0] {
	case netbiosMessage:
		return n, len(b) < f.probeSize() || f.probe(b)
	case netbiosRequest, netbiosPositive, netbiosKeepAlive:
		return n, n < 0x20000 // the length has 17 bits
	}
	return 0, false
}

// probe accepts a message with a known magic number.
func (f smbFraming) probe(b []byte) bool {
	if n := binary.BigEndian.Uint32(b); n>>24 != netbiosMessage || n < 32 {
		return false
	}
	switch string(b[netbiosHeader:f.probeSize()]) {
	case smb2.Magic, smb2.MagicTransform, smb2.MagicCompressed, smb2.MagicSMB1:
		return true
	}
	return false
}

// rpcFraming is the framing of connection-oriented RPC.
type rpcFraming struct{}

func (rpcFraming) headerSize() int { return pdu.HeaderSize }

func (rpcFraming) probeSize() int { return pdu.HeaderSize }

func (f rpcFraming) probe(b []byte) bool {
	_, ok := f.length(b)
	return ok
}

func (rpcFraming) length(b []byte) (int, bool) {
	if b[0] != 5 || b[1] != 0 {
		return 0, false
	}
	h, err := pdu.ParseHeader(b)
	if err != nil || h.Check() != nil || !h.Type.Known() || h.AuthLength > h.FragLength {
		return 0, false
	}
	return int(h.FragLength), true
}

// The protocols that a connection may carry.
const (
	kindUnknown = iota
	kindSMB
	kindRPC
)

// recognise returns the protocol of a message at b on a connection with a port, whether the client
// sent it, and whether that is certain.
func recognise(b []byte, port uint16) (kind int, fromClient, certain bool) {
	switch {
	case len(b) >= (smbFraming{}).probeSize() && (smbFraming{}).probe(b):
		if h, ok := smb2.ParseHeader(b[netbiosHeader:]); ok {
			return kindSMB, !h.IsResponse(), true
		}
		return kindSMB, false, false
	case len(b) >= (rpcFraming{}).probeSize() && (rpcFraming{}).probe(b):
		return kindRPC, sentByClient(pdu.Type(b[2])), true
	}
	if len(b) >= netbiosHeader && (port == 445 || port == 139) {
		switch b[0] {
		case netbiosMessage, netbiosRequest, netbiosPositive, netbiosKeepAlive:
			return kindSMB, false, false
		}
	}
	return kindUnknown, false, false
}

// sentByClient reports whether clients send PDUs of a type.
func sentByClient(t pdu.Type) bool {
	switch t {
	case pdu.TypeRequest, pdu.TypeBind, pdu.TypeAlterContext, pdu.TypeAuth3, pdu.TypeCoCancel, pdu.TypeOrphaned:
		return true
	}
	return false
}
