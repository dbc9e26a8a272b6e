package smb2

import (
	"encoding/binary"
	"unicode/utf16"
)

// FileID names an open file or pipe (MS-SMB2 2.2.14.1).
type FileID [16]byte

// Related tells whether the id stands for that of the message before in a compound.
func (id FileID) Related() bool {
	for _, b := range id {
		if b != 0xFF {
			return false
		}
	}
	return true
}

// FSCTLPipeTransceive is the control code that writes to a pipe and reads from it (MS-SMB2 2.2.31).
const FSCTLPipeTransceive = 0x0011C017

// NegotiateResponse is the choice of a server (MS-SMB2 2.2.4):
//
//	2 SecurityMode | 4 DialectRevision | 6 NegotiateContextCount | 8 ServerGuid, 16 bytes | ...
//	60 NegotiateContextOffset
type NegotiateResponse struct {
	Dialect    uint16
	ServerGUID [16]byte
	Cipher     Cipher // zero where the dialect has no choice of its own
}

// Dialects (MS-SMB2 2.2.3).
const (
	Dialect300 = 0x0300
	Dialect302 = 0x0302
	Dialect311 = 0x0311
)

// encryptionCapabilities is the type of the negotiate context with the cipher (MS-SMB2 2.2.3.1.2).
const encryptionCapabilities = 2

// ParseNegotiateResponse reads one.
func ParseNegotiateResponse(msg []byte) (NegotiateResponse, bool) {
	b, ok := body(msg, 64)
	if !ok {
		return NegotiateResponse{}, false
	}
	r := NegotiateResponse{Dialect: binary.LittleEndian.Uint16(b[4:]), ServerGUID: [16]byte(b[8:24])}
	switch r.Dialect {
	case Dialect300, Dialect302:
		r.Cipher = AES128CCM
	case Dialect311:
		r.Cipher = negotiatedCipher(msg, binary.LittleEndian.Uint16(b[6:]), binary.LittleEndian.Uint32(b[60:]))
	}
	return r, true
}

// negotiatedCipher looks through the negotiate contexts, each of which begins at a multiple of 8:
//
//	0 ContextType, 2 bytes | 2 DataLength, 2 bytes | 4 reserved | 8 data
func negotiatedCipher(msg []byte, count uint16, off uint32) Cipher {
	for range count {
		if uint64(off)+8 > uint64(len(msg)) {
			return 0
		}
		b := msg[off:]
		kind, size := binary.LittleEndian.Uint16(b), uint32(binary.LittleEndian.Uint16(b[2:]))
		if kind == encryptionCapabilities && len(b) >= 12 {
			return Cipher(binary.LittleEndian.Uint16(b[10:])) // after CipherCount
		}
		off += (8 + size + 7) &^ 7
	}
	return 0
}

// SessionSetupRequest returns the security token of a request (MS-SMB2 2.2.5):
//
//	2 Flags, SecurityMode | 4 Capabilities | 8 Channel | 12 SecurityBufferOffset, Length | 16 PreviousSessionId
func SessionSetupRequest(msg []byte) ([]byte, bool) {
	b, ok := body(msg, 24)
	if !ok {
		return nil, false
	}
	p := part(msg, uint32(binary.LittleEndian.Uint16(b[12:])), uint32(binary.LittleEndian.Uint16(b[14:])))
	return p.Bytes, p.Missing == 0
}

// SessionSetupResponse returns the security token of a response (MS-SMB2 2.2.6):
//
//	2 SessionFlags | 4 SecurityBufferOffset, Length
func SessionSetupResponse(msg []byte) ([]byte, bool) {
	b, ok := body(msg, 8)
	if !ok {
		return nil, false
	}
	p := part(msg, uint32(binary.LittleEndian.Uint16(b[4:])), uint32(binary.LittleEndian.Uint16(b[6:])))
	return p.Bytes, p.Missing == 0
}

// TreeConnectResponse tells whether the tree is that of the pipes (MS-SMB2 2.2.10): 2 ShareType.
func TreeConnectResponse(msg []byte) (pipes, ok bool) {
	const shareTypePipe = 0x02
	b, ok := body(msg, 3)
	return ok && b[2] == shareTypePipe, ok
}

// CreateRequest returns the name of the file or pipe to open (MS-SMB2 2.2.13): 44 NameOffset, NameLength.
func CreateRequest(msg []byte) (string, bool) {
	b, ok := body(msg, 48)
	if !ok {
		return "", false
	}
	p := part(msg, uint32(binary.LittleEndian.Uint16(b[44:])), uint32(binary.LittleEndian.Uint16(b[46:])))
	if p.Missing != 0 {
		return "", false
	}
	units := make([]uint16, len(p.Bytes)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(p.Bytes[2*i:])
	}
	return string(utf16.Decode(units)), true
}

// CreateResponse returns the id of what was opened (MS-SMB2 2.2.14): 64 FileId.
func CreateResponse(msg []byte) (FileID, bool) { return fileID(msg, 64) }

// CloseRequest returns the id of what is closed (MS-SMB2 2.2.15): 8 FileId.
func CloseRequest(msg []byte) (FileID, bool) { return fileID(msg, 8) }

// ReadRequest returns the id of what is read (MS-SMB2 2.2.19): 16 FileId.
func ReadRequest(msg []byte) (FileID, bool) { return fileID(msg, 16) }

func fileID(msg []byte, off int) (FileID, bool) {
	b, ok := body(msg, off+16)
	if !ok {
		return FileID{}, false
	}
	return FileID(b[off : off+16]), true
}

// ReadResponse returns what was read (MS-SMB2 2.2.20): 2 DataOffset, 1 byte | 4 DataLength.
func ReadResponse(msg []byte) (Part, bool) {
	b, ok := body(msg, 16)
	if !ok {
		return Part{}, false
	}
	return part(msg, uint32(b[2]), binary.LittleEndian.Uint32(b[4:])), true
}

// WriteRequest returns what is written, and where to (MS-SMB2 2.2.21): 2 DataOffset | 4 Length | 16 FileId.
func WriteRequest(msg []byte) (FileID, Part, bool) {
	id, ok := fileID(msg, 16)
	if !ok {
		return FileID{}, Part{}, false
	}
	b := msg[HeaderSize:]
	return id, part(msg, uint32(binary.LittleEndian.Uint16(b[2:])), binary.LittleEndian.Uint32(b[4:])), true
}

// IOCTLRequest returns the control code, the file and the input (MS-SMB2 2.2.31):
//
//	4 CtlCode | 8 FileId | 24 InputOffset | 28 InputCount
func IOCTLRequest(msg []byte) (code uint32, id FileID, input Part, ok bool) {
	b, ok := body(msg, 56)
	if !ok {
		return 0, FileID{}, Part{}, false
	}
	return binary.LittleEndian.Uint32(b[4:]), FileID(b[8:24]),
		part(msg, binary.LittleEndian.Uint32(b[24:]), binary.LittleEndian.Uint32(b[28:])), true
}

// IOCTLResponse returns the output (MS-SMB2 2.2.32): 32 OutputOffset | 36 OutputCount.
func IOCTLResponse(msg []byte) (Part, bool) {
	b, ok := body(msg, 48)
	if !ok {
		return Part{}, false
	}
	return part(msg, binary.LittleEndian.Uint32(b[32:]), binary.LittleEndian.Uint32(b[36:])), true
}
