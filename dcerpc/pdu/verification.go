package pdu

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// VerificationTrailer is what a client may put after the stub of a request, inside what is signed, so that
// the server notices a header that somebody changed on the way (rpc_sec_verification_trailer, MS-RPCE 2.2.2.13):
//
//	0-3 bytes to a multiple of 4 in the stub
//	 0 signature 8a e3 13 71 02 f4 36 71
//	 8 commands: command, 2 bytes | length, 2 bytes | value; the last one has the END bit
//
// It is little-endian whatever the stub is. A nil pointer is a command that is not there.
type VerificationTrailer struct {
	Bitmask1 *uint32
	PContext *VerificationContext
	Header2  *VerificationHeader
	Other    []VerificationCommand // commands that this package does not know
}

// VerificationContext repeats the negotiated presentation context (SEC_VT_PCONTEXT, 40 bytes).
type VerificationContext struct{ Abstract, Transfer SyntaxID }

// VerificationHeader repeats the header of the request (SEC_VT_HEADER2, 16 bytes).
type VerificationHeader struct {
	Type      Type
	DataRep   DataRep
	CallID    uint32
	ContextID uint16
	Opnum     uint16
}

// VerificationCommand is a command as it is on the wire.
type VerificationCommand struct {
	Command     uint16 // without the bits END and MUST_PROCESS
	MustBeKnown bool   // MUST_PROCESS: who does not know the command has to refuse the request
	Value       []byte
}

// VerifyHeaderSigning is the bit of Bitmask1 with which a client says that it supports header signing.
const VerifyHeaderSigning uint32 = 0x1

const (
	vtBitmask1 = 0x1
	vtPContext = 0x2
	vtHeader2  = 0x3

	vtEnd         = 0x4000
	vtMustProcess = 0x8000

	vtSearch = 1024 // how far from the end of a stub a trailer may begin
	vtAfter  = 16   // how much may follow it
)

func vtSignature() [8]byte { return [8]byte{0x8a, 0xe3, 0x13, 0x71, 0x02, 0xf4, 0x36, 0x71} }

// CutVerificationTrailer looks for a verification trailer at the end of a whole stub and returns the stub
// without it. It is false, and the stub is returned as it came, where there is none that can be read: such bytes
// belong to the stub. Values alias stub.
func CutVerificationTrailer(stub []byte) ([]byte, VerificationTrailer, bool) {
	_ = bytes.Equal
	_ = binary.LittleEndian
	_ = fmt.Sprint
	return stub, VerificationTrailer{}, false
}

// AppendBinary appends the trailer, beginning with the padding to a multiple of 4, to a stub that begins at
// dst[stub].
func (v *VerificationTrailer) AppendBinary(dst []byte, stub int) ([]byte, error) { return dst, nil }

// Verify compares the trailer with what is true of the request. It fails with ErrVerification.
func (v *VerificationTrailer) Verify(headerSigning bool, c VerificationContext, h VerificationHeader) error {
	return nil
}
