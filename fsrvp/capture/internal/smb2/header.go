// Package smb2 reads what a decoder of captures needs of SMB 2 and 3 (MS-SMB2): headers, the
// bodies that open, use and close a named pipe, and, with a session's key, encrypted messages.
//
// Everything is read from bytes that may be damaged or cut: functions return false rather than fail.
// Slices that they return alias the message.
package smb2

import "encoding/binary"

// HeaderSize is the size in bytes of the header of a message (MS-SMB2 2.2.1).
const HeaderSize = 64

// The four bytes that a message begins with.
const (
	Magic           = "\xFESMB" // a message in clear
	MagicTransform  = "\xFDSMB" // an encrypted one (MS-SMB2 2.2.41)
	MagicCompressed = "\xFCSMB" // a compressed one (MS-SMB2 2.2.42)
	MagicSMB1       = "\xFFSMB"
)

// Command is what a message asks for (MS-SMB2 2.2.1).
type Command uint16

// The commands that matter to a pipe.
const (
	Negotiate    Command = 0x0
	SessionSetup Command = 0x1
	Logoff       Command = 0x2
	TreeConnect  Command = 0x3
	Create       Command = 0x5
	Close        Command = 0x6
	Read         Command = 0x8
	Write        Command = 0x9
	IOCTL        Command = 0xB
)

// Flags of a header.
const (
	FlagResponse = 0x1 // SMB2_FLAGS_SERVER_TO_REDIR
	FlagAsync    = 0x2 // SMB2_FLAGS_ASYNC_COMMAND
	FlagRelated  = 0x4 // SMB2_FLAGS_RELATED_OPERATIONS
)

// Statuses of responses that are no errors (MS-ERREF 2.3).
const (
	StatusSuccess                uint32 = 0x00000000
	StatusPending                uint32 = 0x00000103 // another response will follow
	StatusBufferOverflow         uint32 = 0x80000005 // a message of a pipe is longer than what was asked for
	StatusMoreProcessingRequired uint32 = 0xC0000016 // another leg of a session setup is due
)

// Header is what a decoder uses of the header of a message:
//
//	 0 ProtocolId | 4 StructureSize 64, CreditCharge | 8 Status | 12 Command, Credits
//	16 Flags | 20 NextCommand | 24 MessageId, 8 bytes | 32 reserved, TreeId, or AsyncId | 40 SessionId, 8 bytes
//	48 Signature, 16 bytes
type Header struct {
	Status      uint32 // of a response
	Command     Command
	Flags       uint32
	NextCommand uint32 // offset of the next message of a compound, or zero
	MessageID   uint64
	TreeID      uint32 // not in an asynchronous message
	SessionID   uint64
}

// ParseHeader reads the header at the start of b.
func ParseHeader(b []byte) (Header, bool) {
	if len(b) < HeaderSize || string(b[:4]) != Magic || binary.LittleEndian.Uint16(b[4:]) != HeaderSize {
		return Header{}, false
	}
	return Header{
		Status:      binary.LittleEndian.Uint32(b[8:]),
		Command:     Command(binary.LittleEndian.Uint16(b[12:])),
		Flags:       binary.LittleEndian.Uint32(b[16:]),
		NextCommand: binary.LittleEndian.Uint32(b[20:]),
		MessageID:   binary.LittleEndian.Uint64(b[24:]),
		TreeID:      binary.LittleEndian.Uint32(b[36:]),
		SessionID:   binary.LittleEndian.Uint64(b[40:]),
	}, true
}

// IsResponse tells whether the server sent the message.
func (h *Header) IsResponse() bool { return h.Flags&FlagResponse != 0 }

// Interim tells whether the message only says that the real response will come later.
func (h *Header) Interim() bool {
	return h.IsResponse() && h.Status == StatusPending && h.Flags&FlagAsync != 0
}

// body returns what follows the header where there are at least n bytes of it.
func body(msg []byte, n int) ([]byte, bool) {
	if len(msg) < HeaderSize+n {
		return nil, false
	}
	return msg[HeaderSize:], true
}

// Part is a range of a message of which the end may be missing.
type Part struct {
	Bytes   []byte
	Missing int // how many bytes should follow
}

// part returns n bytes at an offset from the header. What a length claims beyond the end of the message is
// missing.
func part(msg []byte, off, n uint32) Part {
	if uint64(off) >= uint64(len(msg)) {
		return Part{Missing: int(min(n, maxPart))}
	}
	b := msg[off:]
	if uint64(n) <= uint64(len(b)) {
		return Part{Bytes: b[:n:n]}
	}
	return Part{Bytes: b, Missing: int(min(n, maxPart)) - len(b)}
}

// maxPart bounds what a length field may claim: the largest message that there can be.
const maxPart = 1 << 24
