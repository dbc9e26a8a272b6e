package capture

import (
	"encoding/binary"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/capture/internal/smb2"
)

// A framing divides a stream into messages.
type framing interface {
	// headerSize is how many bytes length needs.
	headerSize() int
	// length returns the size of the message that begins at b, header included. It is false where
	// none can, as far as b shows.
	length(b []byte) (int, bool)
	// probeSize is how many bytes probe needs, and length to be as sure as it can.
	probeSize() int
	// probe reports whether b looks so much like the beginning of a message that it must be one.
	probe(b []byte) bool
}

// A framer divides one direction into messages. After a hole of which the end is not known to lie
// within a message it looks for the next header.
type framer struct {
	framing
	limit   int // bytes of a message to keep
	buffers *account
	// wanted reports whether a message of some size is wanted whole, by its first headSize bytes,
	// which are all there. Of others no more than these are kept, and handed out. Nil means that
	// all are wanted.
	wanted func(head []byte, size int) bool
	// message takes a message of which the first good bytes are there, and the rest, where it is
	// not, is zero because of why. size is what it should have; beyond limit nothing is kept.
	message func(b []byte, good, size int, why Reason, at moment)
	// broken is told that a message is passed over: it is none (ErrProtocol), or there is no room
	// for it (ErrLimit).
	broken func(why Reason)

	buf  []byte
	keep int // of the message that has begun, as far as it is known: bytes to hand out
	good int // of buf
	why  Reason
	skip int // bytes of the last message that are passed over
	lost bool
}

// headSize is how many bytes show whether a message is wanted.
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

// whole takes a message that lies in b as a whole. It is false where none does.
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

// collect adds to the message that has begun, and returns what is left of b.
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

// finish hands the message out when all of it that is kept is there. size is its whole size.
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

// resync gives up the message that has begun.
func (f *framer) resync(why Reason) {
	f.broken(why)
	f.drop()
	f.lost = true
}

// drop forgets the message that has begun.
func (f *framer) drop() {
	f.buffers.give(len(f.buf))
	f.buffers.budget.recycle(f.buf)
	f.buf, f.keep, f.good, f.why = nil, 0, 0, 0
}

// find returns where in b a message begins, or -1.
func (f *framer) find(b []byte) int {
	for i := 0; i+f.probeSize() <= len(b); i++ {
		if f.probe(b[i:]) {
			return i
		}
	}
	return -1
}

// smbFraming is that of SMB over TCP (MS-SMB2 2.1), and of NetBIOS sessions (RFC 1002 4.3.1):
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
		return n, n < 0x20000 // there are 17 bits of length
	}
	return 0, false
}

// probe wants a message with a magic number that is known.
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

// rpcFraming is that of connection-oriented RPC.
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

// What a connection may hold.
const (
	kindUnknown = iota
	kindSMB
	kindRPC
)

// recognise tells what begins at b on a connection with a port, whether the client sent it, and
// whether that is certain.
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

// sentByClient tells which side sends PDUs of a type.
func sentByClient(t pdu.Type) bool {
	switch t {
	case pdu.TypeRequest, pdu.TypeBind, pdu.TypeAlterContext, pdu.TypeAuth3, pdu.TypeCoCancel, pdu.TypeOrphaned:
		return true
	}
	return false
}
