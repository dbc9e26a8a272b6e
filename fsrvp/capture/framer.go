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
	// length returns the size of the message that begins at b, header included. It is false where none can.
	length(b []byte) (int, bool)
}

// A framer divides one direction into messages. After a hole of which the end is not known to lie
// within a message it looks for the next header.
type framer struct {
	framing
	limit   int // bytes of a message to keep
	buffers *account
	// message takes a message of which the first good bytes are there, and the rest, where it is not, is zero
	// because of why. size is what it should have; beyond limit nothing is kept.
	message func(b []byte, good, size int, why Reason, at moment)
	// broken is told that what comes next is not known: b is no message (ErrProtocol), or there
	// is no room for it (ErrLimit).
	broken func(b []byte, why Reason)

	buf  []byte
	good int // of buf
	why  Reason
	skip int // bytes of the last message that are passed over
	lost bool
}

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
		f.resync(*b, ErrProtocol)
		*b = (*b)[1:]
		return true
	}
	if n > len(*b) || n > f.limit {
		return false
	}
	f.message((*b)[:n:n], n, n, 0, at)
	*b = (*b)[n:]
	return true
}

// collect adds to the message that has begun, and returns what is left of b.
func (f *framer) collect(b []byte, at moment) []byte {
	b = f.add(b, f.headerSize())
	if len(f.buf) < f.headerSize() {
		return b
	}
	n, ok := f.length(f.buf)
	if !ok {
		f.resync(f.buf, ErrProtocol)
		return b
	}
	b = f.add(b, min(n, f.limit))
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
		f.resync(b, ErrLimit)
		return nil
	}
	f.buf = append(f.buf, b[:n]...)
	if f.why == 0 {
		f.good = len(f.buf)
	}
	return b[n:]
}

// finish hands the message out when all of it that is kept is there. size is its whole size.
func (f *framer) finish(size int, at moment) {
	if len(f.buf) < min(size, f.limit) {
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
			m := min(n, min(size, f.limit)-len(f.buf))
			if !f.buffers.take(m) {
				f.resync(f.buf, ErrLimit)
				return
			}
			f.buf = append(f.buf, make([]byte, m)...)
			n -= m
			f.finish(size, at)
		}
	}
}

// resync gives up the message that has begun.
func (f *framer) resync(b []byte, why Reason) {
	f.broken(b, why)
	f.drop()
	f.lost = true
}

// drop forgets the message that has begun.
func (f *framer) drop() {
	f.buffers.give(len(f.buf))
	if cap(f.buf) > 64<<10 {
		f.buf = nil
	}
	f.buf, f.good, f.why = f.buf[:0], 0, 0
}

// find returns where in b a message begins, or -1.
func (f *framer) find(b []byte) int {
	for i := 0; i+f.headerSize() <= len(b); i++ {
		if _, ok := f.length(b[i:]); ok {
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

// The magic number of the message counts as part of the header: with it a message can be found.
func (smbFraming) headerSize() int { return netbiosHeader + 4 }

func (smbFraming) length(b []byte) (int, bool) {
	n := netbiosHeader + int(binary.BigEndian.Uint32(b)&0xFFFFFF)
	switch string(b[4:8]) {
	case smb2.Magic, smb2.MagicTransform, smb2.MagicCompressed, smb2.MagicSMB1:
		return n, b[0] == netbiosMessage && n >= netbiosHeader+8
	}
	return 0, false
}

// rpcFraming is that of connection-oriented RPC.
type rpcFraming struct{}

func (rpcFraming) headerSize() int { return pdu.HeaderSize }

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

// recognise tells what begins at b on a connection with a port, whether the client sent it, and whether
// that is certain.
func recognise(b []byte, port uint16) (kind int, fromClient, certain bool) {
	switch {
	case len(b) >= netbiosHeader+4 && binary.BigEndian.Uint32(b)>>24 == netbiosMessage:
		if _, ok := (smbFraming{}).length(b); ok {
			if h, ok := smb2.ParseHeader(b[netbiosHeader:]); ok {
				return kindSMB, !h.IsResponse(), true
			}
			return kindSMB, false, false
		}
	case len(b) >= pdu.HeaderSize:
		if _, ok := (rpcFraming{}).length(b); ok {
			return kindRPC, sentByClient(pdu.Type(b[2])), true
		}
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
