package pdu

import (
	"bytes"
	"encoding/binary"
)

// A VerificationTrailer may follow the stub of a request, inside what is signed, so that the server
// notices if a header was changed on the way (rpc_sec_verification_trailer, MS-RPCE 2.2.2.13):
//
//	  0-3 bytes to a multiple of 4 in the stub
//	0 signature 8a e3 13 71 02 f4 36 71
//	8 commands: command, 2 bytes | length, 2 bytes | value
//
// Bit 0x4000 (END) of the command marks the last one, bit 0x8000 (MUST_PROCESS) one that the server
// may not skip. It is always little-endian, even if the stub is not.
type VerificationTrailer []VerificationCommand

// VerificationCommand is one command of a trailer.
type VerificationCommand struct {
	ID          uint16 // without the bits END and MUST_PROCESS
	MustProcess bool
	Value       []byte
}

// The commands (MS-RPCE 2.2.2.13.1 to 2.2.2.13.4).
const (
	VerifyBitmask1 = 0x1 // uint32: VerifyHeaderSigning
	VerifyPContext = 0x2 // abstract and transfer syntax, 40 bytes
	VerifyHeader2  = 0x3 // ptype | reserved, 3 bytes | drep, 4 | call_id, 4 | p_cont_id, 2 | opnum, 2
)

// VerifyHeaderSigning is the bit of VerifyBitmask1 with which a client says that it supports header
// signing.
const VerifyHeaderSigning uint32 = 0x1

const (
	verifyEnd         = 0x4000
	verifyMustProcess = 0x8000

	verifySearch = 1024 // how far from the end of a stub the signature may begin
	verifyAfter  = 16   // how many bytes of padding may follow a trailer
)

func verifySignature() []byte {
	return []byte{0x8a, 0xe3, 0x13, 0x71, 0x02, 0xf4, 0x36, 0x71}
}

// CutVerificationTrailer looks for a trailer at the end of a whole, unsealed stub and returns the
// stub before it, the padding to a multiple of 4 included. If there is none that can be read, it
// returns the stub unchanged and false: the bytes belong to the stub. The values alias stub. It
// allocates only if it finds a signature.
func CutVerificationTrailer(stub []byte) ([]byte, VerificationTrailer, bool) {
	signature := verifySignature()
	first := max(0, len(stub)-verifySearch)
	for end := len(stub); ; {
		i := first + bytes.LastIndex(stub[first:end], signature)
		if i < first {
			return stub, nil, false
		}
		if trailer := stub[i+len(signature):]; i%4 == 0 {
			if n := countVerification(trailer); n > 0 {
				return stub[:i:i], parseVerification(trailer, n), true
			}
		}
		end = i
	}
}

// countVerification returns the number of commands after a signature, or 0 if they cannot be read
// or do not end close enough to the end of b.
func countVerification(b []byte) int {
	for n := 1; ; n++ {
		c, rest, end := cutCommand(b)
		if rest == nil || !c.sized() {
			return 0
		}
		if end {
			if len(rest) > verifyAfter {
				return 0
			}
			return n
		}
		b = rest
	}
}

func parseVerification(b []byte, n int) VerificationTrailer {
	v := make(VerificationTrailer, n)
	for i := range v {
		v[i], b, _ = cutCommand(b)
	}
	return v
}

// cutCommand reads one command; rest is nil if b ends too early.
func cutCommand(b []byte) (c VerificationCommand, rest []byte, end bool) {
	if len(b) < 4 {
		return c, nil, false
	}
	command := binary.LittleEndian.Uint16(b)
	size := 4 + int(binary.LittleEndian.Uint16(b[2:]))
	if size > len(b) {
		return c, nil, false
	}
	c = VerificationCommand{
		ID:          command &^ (verifyEnd | verifyMustProcess),
		MustProcess: command&verifyMustProcess != 0,
		Value:       b[4:size:size],
	}
	return c, b[size:], command&verifyEnd != 0
}

// sized reports whether the value of a known command has the length that it must have.
func (c *VerificationCommand) sized() bool {
	switch c.ID {
	case VerifyBitmask1:
		return len(c.Value) == 4
	case VerifyPContext:
		return len(c.Value) == 2*syntaxIDSize
	case VerifyHeader2:
		return len(c.Value) == 16
	}
	return true
}

// NewVerificationTrailer returns the commands Bitmask1, PContext and Header2 for a request on a
// presentation context. No command is marked MUST_PROCESS, but servers that know them check them.
func NewVerificationTrailer(req *Request, abstract, transfer SyntaxID, headerSigning bool) VerificationTrailer {
	var bits uint32
	if headerSigning {
		bits = VerifyHeaderSigning
	}
	return VerificationTrailer{
		{ID: VerifyBitmask1, Value: binary.LittleEndian.AppendUint32(nil, bits)},
		{ID: VerifyPContext, Value: pcontextValue(abstract, transfer)},
		{ID: VerifyHeader2, Value: header2Value(req)},
	}
}

func pcontextValue(abstract, transfer SyntaxID) []byte {
	var w writer
	w.syntaxID(abstract)
	w.syntaxID(transfer)
	return w.b
}

func header2Value(req *Request) []byte {
	var w writer
	label := req.DataRep.Label()
	w.bytes([]byte{byte(TypeRequest), 0, 0, 0})
	w.bytes(label[:])
	w.uint32(req.CallID)
	w.uint16(req.ContextID)
	w.uint16(req.Opnum)
	return w.b
}

// AppendBinary appends the trailer to a stub that begins at dst[start], after zeros up to a
// multiple of 4. It fails with [ErrCount] if there is no command, or if a value is longer than
// 65,535 bytes; it then returns dst unchanged.
func (v VerificationTrailer) AppendBinary(dst []byte, start int) ([]byte, error) {
	if len(v) == 0 {
		return dst, fail(ErrCount, TypeRequest, "no verification command")
	}
	b := append(dst, make([]byte, -(len(dst)-start)&3)...)
	b = append(b, verifySignature()...)
	for i, c := range v {
		if len(c.Value) > 0xFFFF {
			return dst, fail(ErrCount, TypeRequest, "verification command of %d bytes", len(c.Value))
		}
		command := c.ID
		if c.MustProcess {
			command |= verifyMustProcess
		}
		if i == len(v)-1 {
			command |= verifyEnd
		}
		b = binary.LittleEndian.AppendUint16(b, command)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(c.Value)))
		b = append(b, c.Value...)
	}
	return b, nil
}

// Verify compares the trailer with the first fragment of the request that it came with, the
// syntaxes of its presentation context, and whether header signing was negotiated. It fails with
// [ErrVerification] if one of them differs, or if a command that must be processed is unknown.
// Other unknown commands are ignored.
func (v VerificationTrailer) Verify(req *Request, abstract, transfer SyntaxID, headerSigning bool) error {
	for _, c := range v {
		ok := !c.MustProcess
		switch c.ID {
		case VerifyBitmask1:
			ok = c.sized() && (headerSigning || binary.LittleEndian.Uint32(c.Value)&VerifyHeaderSigning == 0)
		case VerifyPContext:
			ok = bytes.Equal(c.Value, pcontextValue(abstract, transfer))
		case VerifyHeader2:
			want := header2Value(req)
			ok = c.sized() && c.Value[0] == want[0] && bytes.Equal(c.Value[4:], want[4:]) // reserved in between
		}
		if !ok {
			return fail(ErrVerification, TypeRequest, "command %#x: % x", c.ID, c.Value)
		}
	}
	return nil
}
