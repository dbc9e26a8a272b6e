package ntlm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"
)

// Each of the three messages has a fixed head whose fields point to values behind it:
//
//	| "NTLMSSP\0" | MessageType, uint32 | ...
//	field: | Len, uint16 | MaxLen, uint16, ignored | BufferOffset, uint32, from the start |
//
// Slices of a parsed message alias the token.

// signature begins every message.
const signature = "NTLMSSP\x00"

var errTruncated = errors.New("ntlm: message is truncated")

// head checks signature and type, and that at least size bytes are there.
func head(b []byte, want messageType, size int) error {
	if len(b) < 12 || string(b[:8]) != signature {
		return errors.New("ntlm: not an NTLMSSP message")
	}
	if t := messageType(binary.LittleEndian.Uint32(b[8:])); t != want {
		return fmt.Errorf("ntlm: message of type %d in place of %d", t, want)
	}
	if len(b) < size {
		return errTruncated
	}
	return nil
}

// field returns the payload that the field at offset at points to. An empty field's offset
// means nothing.
func field(b []byte, at int) ([]byte, error) {
	n := uint64(binary.LittleEndian.Uint16(b[at:]))
	off := uint64(binary.LittleEndian.Uint32(b[at+4:]))
	if n == 0 {
		return nil, nil
	}
	if off+n > uint64(len(b)) {
		return nil, fmt.Errorf("ntlm: field of %d bytes at %d in a message of %d", n, off, len(b))
	}
	return b[off : off+n : off+n], nil
}

// textField is field for a UTF-16LE string without terminator.
func textField(b []byte, at int) (string, error) {
	v, err := field(b, at)
	if err != nil {
		return "", err
	}
	return decodeUTF16(v)
}

// oemField is field for a string in the client's code page, which is certain only for ASCII.
func oemField(b []byte, at int) (string, error) {
	v, err := field(b, at)
	return string(v), err
}

// decodeUTF16 reads UTF-16LE without terminator.
func decodeUTF16(v []byte) (string, error) {
	if len(v)%2 != 0 {
		return "", errors.New("ntlm: UTF-16 string with an odd number of bytes")
	}
	u := make([]uint16, len(v)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(v[2*i:])
	}
	return string(utf16.Decode(u)), nil
}

// utf16le returns s as UTF-16LE without terminator.
func utf16le(s string) []byte {
	u := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(u))
	for _, c := range u {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// parseNegotiate returns the flags of a NEGOTIATE_MESSAGE (MS-NLMP 2.2.1.1). The names in it are
// unused hints.
func parseNegotiate(b []byte) (negotiateFlags, error) {
	if err := head(b, typeNegotiate, 16); err != nil {
		return 0, err
	}
	return negotiateFlags(binary.LittleEndian.Uint32(b[12:])), nil
}

// A challengeMessage is a CHALLENGE_MESSAGE (MS-NLMP 2.2.1.2).
//
//	12 TargetName | 20 NegotiateFlags | 24 ServerChallenge, 8 | 32 Reserved, 8 | 40 TargetInfo | 48 Version, 8
type challengeMessage struct {
	flags      negotiateFlags
	challenge  [8]byte
	targetInfo []avPair
}

func parseChallenge(b []byte) (*challengeMessage, error) {
	if err := head(b, typeChallenge, 48); err != nil {
		return nil, err
	}
	m := &challengeMessage{flags: negotiateFlags(binary.LittleEndian.Uint32(b[20:]))}
	copy(m.challenge[:], b[24:32])
	info, err := field(b, 40)
	if err != nil {
		return nil, err
	}
	if len(info) == 0 {
		return nil, errors.New("ntlm: the server sent no TargetInfo, which NTLMv2 needs")
	}
	m.targetInfo, err = parseAVPairs(info)
	return m, err
}

// An authenticateMessage is an AUTHENTICATE_MESSAGE (MS-NLMP 2.2.1.3).
//
//	12 LmChallengeResponse | 20 NtChallengeResponse | 28 DomainName | 36 UserName | 44 Workstation
//	52 EncryptedRandomSessionKey | 60 NegotiateFlags | 64 Version, 8 | 72 MIC, 16
//
// Some clients leave out Version and MIC: their bytes may then be payload.
type authenticateMessage struct {
	flags               negotiateFlags
	lm, nt              []byte
	domain, user        string
	workstation         string
	encryptedSessionKey []byte
}

// micOffset and micEnd enclose the MIC of an AUTHENTICATE_MESSAGE that has one.
const (
	micOffset = 72
	micEnd    = micOffset + 16
)

func parseAuthenticate(b []byte) (*authenticateMessage, error) {
	if err := head(b, typeAuthenticate, 64); err != nil {
		return nil, err
	}
	m := &authenticateMessage{flags: negotiateFlags(binary.LittleEndian.Uint32(b[60:]))}
	text := textField
	if !m.flags.IsSet(negotiateUnicode) {
		text = oemField
	}
	var errs [6]error
	m.lm, errs[0] = field(b, 12)
	m.nt, errs[1] = field(b, 20)
	m.domain, errs[2] = text(b, 28)
	m.user, errs[3] = text(b, 36)
	m.workstation, errs[4] = text(b, 44)
	m.encryptedSessionKey, errs[5] = field(b, 52)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return m, nil
}

// anonymous reports whether the message asks for a null session (MS-NLMP 3.2.5.1.2).
func (m *authenticateMessage) anonymous() bool {
	return m.flags.IsSet(anonymous) || m.user == "" && len(m.nt) == 0 ||
		len(m.nt) == 0 && bytes.Equal(m.lm, []byte{0})
}
