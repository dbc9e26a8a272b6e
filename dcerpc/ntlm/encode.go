package ntlm

import (
	"encoding/binary"
	"fmt"
	"math"
)

// maxName is the largest size of a name in a message that this package accepts, in bytes of UTF-16.
// The format limits all AV pairs together to 65,535 bytes.
const maxName = 1024

// A messageType says which of the three messages a message is.
type messageType uint32

const (
	typeNegotiate    messageType = 1
	typeChallenge    messageType = 2
	typeAuthenticate messageType = 3
)

// version is that of Windows 7 with NTLMSSP's revision 15, which is only for debugging (MS-NLMP
// 2.2.2.10).
var version = [8]byte{6, 1, 0, 0, 0, 0, 0, 15}

func appendHead(b []byte, t messageType) []byte {
	return binary.LittleEndian.AppendUint32(append(b, signature...), uint32(t))
}

// A payload collects the values that the fields of a message's head point to.
type payload struct {
	head int // the length of the head, at which the payload starts
	b    []byte
}

// field appends the field of a value to the head b, and the value to the payload.
func (p *payload) field(b, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.head+len(p.b)))
	p.b = append(p.b, value...)
	return b
}

// appendNegotiate appends a NEGOTIATE_MESSAGE without names (MS-NLMP 2.2.1.1).
//
//	12 NegotiateFlags | 16 DomainName | 24 Workstation | 32 Version, 8
func appendNegotiate(b []byte, flags negotiateFlags) []byte {
	p := payload{head: 40}
	b = appendHead(b, typeNegotiate)
	b = binary.LittleEndian.AppendUint32(b, uint32(flags))
	b = p.field(p.field(b, nil), nil)
	return append(b, version[:]...)
}

// appendChallenge appends a CHALLENGE_MESSAGE (MS-NLMP 2.2.1.2), laid out as challengeMessage says.
// The name and the AV pairs are shorter than 64 KiB.
func appendChallenge(b []byte, flags negotiateFlags, challenge [8]byte, name string, info []byte) []byte {
	p := payload{head: 56}
	b = appendHead(b, typeChallenge)
	b = p.field(b, utf16le(name))
	b = binary.LittleEndian.AppendUint32(b, uint32(flags))
	b = append(b, challenge[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = p.field(b, info)
	b = append(b, version[:]...)
	return append(b, p.b...)
}

// append appends the message with zeros for its MIC. It fails if a field is longer than 65,535
// bytes.
func (m *authenticateMessage) append(b []byte) ([]byte, error) {
	p := payload{head: micEnd}
	b = appendHead(b, typeAuthenticate)
	for _, f := range []struct {
		name  string
		value []byte
	}{
		{"LmChallengeResponse", m.lm}, {"NtChallengeResponse", m.nt}, {"DomainName", utf16le(m.domain)},
		{"UserName", utf16le(m.user)}, {"Workstation", utf16le(m.workstation)}, {"EncryptedRandomSessionKey", m.encryptedSessionKey},
	} {
		if len(f.value) > math.MaxUint16 {
			return nil, fmt.Errorf("%s of %d bytes has no place in a message", f.name, len(f.value))
		}
		b = p.field(b, f.value)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(m.flags))
	b = append(b, version[:]...)
	b = append(b, make([]byte, micEnd-micOffset)...)
	return append(b, p.b...), nil
}
