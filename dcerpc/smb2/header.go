package smb2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var le = binary.LittleEndian

// HeaderSize is the size in bytes of the header of a message (MS-SMB2 2.2.1).
const HeaderSize = 64

// The four bytes that a message begins with.
const (
	Magic           = "\xFESMB" // a message in clear
	MagicTransform  = "\xFDSMB" // an encrypted one (MS-SMB2 2.2.41)
	MagicCompressed = "\xFCSMB" // a compressed one (MS-SMB2 2.2.42)
	MagicSMB1       = "\xFFSMB"
)

// ErrMessage means that a message violates MS-SMB2: it is too short for its body, or has a length
// or an offset that points outside of it.
var ErrMessage = errors.New("smb2: malformed message")

// A Command is the command code of a message (MS-SMB2 2.2.1).
type Command uint16

// The commands.
const (
	CommandNegotiate      Command = 0x00
	CommandSessionSetup   Command = 0x01
	CommandLogoff         Command = 0x02
	CommandTreeConnect    Command = 0x03
	CommandTreeDisconnect Command = 0x04
	CommandCreate         Command = 0x05
	CommandClose          Command = 0x06
	CommandFlush          Command = 0x07
	CommandRead           Command = 0x08
	CommandWrite          Command = 0x09
	CommandLock           Command = 0x0A
	CommandIOCTL          Command = 0x0B
	CommandCancel         Command = 0x0C
	CommandEcho           Command = 0x0D
	CommandQueryDirectory Command = 0x0E
	CommandChangeNotify   Command = 0x0F
	CommandQueryInfo      Command = 0x10
	CommandSetInfo        Command = 0x11
	CommandOplockBreak    Command = 0x12
)

var commandNames = [...]string{
	"NEGOTIATE", "SESSION_SETUP", "LOGOFF", "TREE_CONNECT", "TREE_DISCONNECT", "CREATE", "CLOSE", "FLUSH", "READ",
	"WRITE", "LOCK", "IOCTL", "CANCEL", "ECHO", "QUERY_DIRECTORY", "CHANGE_NOTIFY", "QUERY_INFO", "SET_INFO", "OPLOCK_BREAK",
}

// String returns the standard's name, "TREE_CONNECT".
func (c Command) String() string {
	if int(c) < len(commandNames) {
		return commandNames[c]
	}
	return fmt.Sprintf("command 0x%04X", uint16(c))
}

// Flags of a header.
const (
	FlagResponse = 0x1 // SMB2_FLAGS_SERVER_TO_REDIR
	FlagAsync    = 0x2 // SMB2_FLAGS_ASYNC_COMMAND
	FlagRelated  = 0x4 // SMB2_FLAGS_RELATED_OPERATIONS
	FlagSigned   = 0x8 // SMB2_FLAGS_SIGNED
)

// A Header is the header of a message in clear (MS-SMB2 2.2.1):
//
//	 0 ProtocolId | 4 StructureSize 64 | 6 CreditCharge | 8 Status | 12 Command | 14 CreditRequest or -Response
//	16 Flags | 20 NextCommand | 24 MessageId, 8 bytes | 32 reserved and TreeId, or AsyncId | 40 SessionId, 8 bytes
//	48 Signature, 16 bytes
type Header struct {
	CreditCharge uint16 // how many credits the request costs
	Status       Status // of a response
	Command      Command
	Credits      uint16 // that a request asks for, or a response grants
	Flags        uint32
	NextCommand  uint32 // offset of the next message of a compound, or zero
	MessageID    uint64
	TreeID       uint32 // of a message that is not asynchronous
	AsyncID      uint64 // of one that is
	SessionID    uint64
	Signature    [16]byte
}

// ParseHeader reads the header at the start of b.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || string(b[:4]) != Magic || le.Uint16(b[4:]) != HeaderSize {
		return Header{}, fmt.Errorf("%w: no header", ErrMessage)
	}
	h := Header{
		CreditCharge: le.Uint16(b[6:]),
		Status:       Status(le.Uint32(b[8:])),
		Command:      Command(le.Uint16(b[12:])),
		Credits:      le.Uint16(b[14:]),
		Flags:        le.Uint32(b[16:]),
		NextCommand:  le.Uint32(b[20:]),
		MessageID:    le.Uint64(b[24:]),
		SessionID:    le.Uint64(b[40:]),
		Signature:    [16]byte(b[48:64]),
	}
	if h.Flags&FlagAsync != 0 {
		h.AsyncID = le.Uint64(b[32:])
	} else {
		h.TreeID = le.Uint32(b[36:])
	}
	return h, nil
}

// AppendBinary appends the header.
func (h *Header) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, Magic...)
	dst = le.AppendUint16(dst, HeaderSize)
	dst = le.AppendUint16(dst, h.CreditCharge)
	dst = le.AppendUint32(dst, uint32(h.Status))
	dst = le.AppendUint16(dst, uint16(h.Command))
	dst = le.AppendUint16(dst, h.Credits)
	dst = le.AppendUint32(dst, h.Flags)
	dst = le.AppendUint32(dst, h.NextCommand)
	dst = le.AppendUint64(dst, h.MessageID)
	if h.Flags&FlagAsync != 0 {
		dst = le.AppendUint64(dst, h.AsyncID)
	} else {
		dst = le.AppendUint32(dst, 0xFEFF) // what Windows sends in the reserved field
		dst = le.AppendUint32(dst, h.TreeID)
	}
	dst = le.AppendUint64(dst, h.SessionID)
	return append(dst, h.Signature[:]...), nil
}

// IsResponse reports whether the server sent the message.
func (h *Header) IsResponse() bool { return h.Flags&FlagResponse != 0 }

// Interim reports whether the message only says that the real response will come later.
func (h *Header) Interim() bool {
	return h.IsResponse() && h.Status == StatusPending && h.Flags&FlagAsync != 0
}

// body returns what follows the header where there are at least n bytes of it. StructureSize, its
// first field, says nothing that the command does not say.
func body(msg []byte, n int) ([]byte, error) {
	if len(msg) < HeaderSize+n {
		return nil, fmt.Errorf("%w: %d bytes are too few for its body", ErrMessage, len(msg))
	}
	return msg[HeaderSize:], nil
}

// maxPart bounds what a length field may claim: the largest message that there can be.
const maxPart = 1 << 24

// part returns n bytes at an offset from the header, and how many of them are beyond the end of the
// message. An offset into the header is no good, unless there is nothing at it.
func part(msg []byte, off, n uint32) (b []byte, missing int, err error) {
	switch {
	case n == 0:
		return nil, 0, nil
	case off < HeaderSize:
		return nil, 0, fmt.Errorf("%w: an offset of %d", ErrMessage, off)
	case n > maxPart:
		return nil, 0, fmt.Errorf("%w: a length of %d", ErrMessage, n)
	case uint64(off) >= uint64(len(msg)):
		return nil, int(n), nil
	}
	b = msg[off:]
	if int(n) <= len(b) {
		return b[:n:n], 0, nil
	}
	return b, int(n) - len(b), nil
}

// whole is part without the leave to have some of it missing.
func whole(msg []byte, off, n uint32) ([]byte, error) {
	b, missing, err := part(msg, off, n)
	if err == nil && missing != 0 {
		return nil, fmt.Errorf("%w: %d bytes at %d end %d bytes beyond it", ErrMessage, n, off, missing)
	}
	return b, err
}

// size16 checks a length for a field of 16 bits.
func size16(what string, n int) error {
	if n > 0xFFFF {
		return fmt.Errorf("smb2: %s of %d bytes is too long", what, n)
	}
	return nil
}

// simple are the bodies of four bytes: LOGOFF, TREE_DISCONNECT, ECHO, CANCEL, both ways.
func appendSimple(dst []byte) []byte { return append(dst, 4, 0, 0, 0) }

// An ErrorResponse is the body of every response that reports an error (MS-SMB2 2.2.2):
//
//	0 StructureSize 9 | 2 ErrorContextCount, 1 byte | 3 reserved | 4 ByteCount | 8 ErrorData
type ErrorResponse struct {
	Contexts uint8
	Data     []byte
}

// ParseErrorResponse reads one. Data aliases msg.
func ParseErrorResponse(msg []byte) (ErrorResponse, error) {
	b, err := body(msg, 8)
	if err != nil {
		return ErrorResponse{}, err
	}
	r := ErrorResponse{Contexts: b[2]}
	r.Data, err = whole(msg, HeaderSize+8, le.Uint32(b[4:]))
	return r, err
}

// AppendBinary appends the body.
func (r *ErrorResponse) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 9, 0, r.Contexts, 0)
	dst = le.AppendUint32(dst, uint32(len(r.Data)))
	if len(r.Data) == 0 {
		return append(dst, 0), nil
	}
	return append(dst, r.Data...), nil
}
