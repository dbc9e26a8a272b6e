package smb2

import (
	"crypto/cipher"
	"errors"
	"fmt"
)

// TransformSize is the size in bytes of the header of an encrypted message.
const TransformSize = 52

// tagSize is the size in bytes of a signature and of a cipher's tag.
const tagSize = 16

var errOpen = errors.New("smb2: the message is not authentic under this key")

// A Transform is the header of an encrypted message (MS-SMB2 2.2.41):
//
//	 0 ProtocolId | 4 Signature, 16 bytes | 20 Nonce, 16 bytes
//	36 OriginalMessageSize | 40 reserved | 42 Flags | 44 SessionId, 8 bytes
type Transform struct {
	Size      uint32 // of the message inside
	Flags     uint16 // 1: encrypted
	SessionID uint64
}

// ParseTransform reads the header at the start of b.
func ParseTransform(b []byte) (Transform, error) {
	if len(b) < TransformSize || string(b[:4]) != MagicTransform {
		return Transform{}, fmt.Errorf("%w: no transform header", ErrMessage)
	}
	return Transform{Size: le.Uint32(b[36:]), Flags: le.Uint16(b[42:]), SessionID: le.Uint64(b[44:])}, nil
}

// Open decrypts a whole message, including its transform header, and returns the message inside. It
// works in place. If msg has 16 bytes of capacity beyond its length, Open avoids a copy and
// overwrites these bytes. An error means that the key is wrong; msg then has no useful content.
func (k *Keys) Open(msg []byte, fromServer bool) ([]byte, error) {
	if len(msg) < TransformSize {
		return nil, errOpen
	}
	aead := k.toServer
	if fromServer {
		aead = k.toClient
	}
	text := msg[TransformSize:]
	sealed := append(text, msg[4:20]...)
	nonce, aad := msg[20:20+aead.NonceSize()], msg[20:TransformSize]
	if _, err := aead.Open(sealed[:0], nonce, sealed, aad); err != nil {
		return nil, errOpen
	}
	return sealed[:len(text)], nil
}

// Seal makes an encrypted message in place: b has room for the header at its start, and then the
// message. Counter is the nonce, and must never be repeated with the same key. The result is b, or
// a copy if b has less than 16 bytes of capacity beyond its length.
func (k *Keys) Seal(b []byte, sessionID, counter uint64, fromServer bool) []byte {
	aead := k.toServer
	if fromServer {
		aead = k.toClient
	}
	return seal(aead, b, sessionID, counter)
}

func seal(aead cipher.AEAD, b []byte, sessionID, counter uint64) []byte {
	clear(b[:TransformSize])
	copy(b, MagicTransform)
	le.PutUint64(b[20:], counter)
	le.PutUint32(b[36:], uint32(len(b)-TransformSize))
	le.PutUint16(b[42:], 1)
	le.PutUint64(b[44:], sessionID)
	nonce, aad := b[20:20+aead.NonceSize()], b[20:TransformSize]
	sealed := aead.Seal(b[:TransformSize], nonce, b[TransformSize:], aad)
	n := len(sealed) - tagSize
	copy(sealed[4:20], sealed[n:])
	return sealed[:n]
}
