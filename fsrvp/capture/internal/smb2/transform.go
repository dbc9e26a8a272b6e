package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// TransformSize is the size in bytes of the header of an encrypted message.
const TransformSize = 52

const (
	ccmNonceSize = 11
	gcmNonceSize = 12
)

// Transform is the header of an encrypted message (MS-SMB2 2.2.41):
//
//	 0 ProtocolId | 4 Signature, 16 bytes | 20 Nonce, 16 bytes
//	36 OriginalMessageSize | 40 reserved | 42 Flags | 44 SessionId, 8 bytes
type Transform struct {
	Size      uint32
	SessionID uint64
}

// ParseTransform reads the header at the start of b.
func ParseTransform(b []byte) (Transform, bool) {
	if len(b) < TransformSize || string(b[:4]) != MagicTransform {
		return Transform{}, false
	}
	return Transform{
		Size:      binary.LittleEndian.Uint32(b[36:]),
		SessionID: binary.LittleEndian.Uint64(b[44:]),
	}, true
}

// Open decrypts a whole message, transform header included, in place and returns what was inside. After an
// error, which says that the key is not the right one, msg holds nothing of use.
func (k *Keys) Open(msg []byte, fromServer bool) ([]byte, error) {
	if len(msg) < TransformSize {
		return nil, errOpen
	}
	tag, aad, text := msg[4:20], msg[20:TransformSize], msg[TransformSize:]
	if fromServer {
		return text, k.toClient.open(aad, text, tag)
	}
	return text, k.toServer.open(aad, text, tag)
}

// An opener decrypts with one key. The nonce is at the start of what is authenticated.
type opener struct {
	block cipher.Block // for CCM
	gcm   cipher.AEAD
}

func newOpener(c Cipher, key []byte) (opener, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return opener{}, err
	}
	if c == AES128CCM || c == AES256CCM {
		return opener{block: block}, nil
	}
	gcm, err := cipher.NewGCM(block)
	return opener{gcm: gcm}, err
}

func (o *opener) open(aad, text, tag []byte) error {
	if o.gcm == nil {
		return openCCM(o.block, aad[:ccmNonceSize], aad, text, tag)
	}
	sealed := append(append(make([]byte, 0, len(text)+len(tag)), text...), tag...)
	if _, err := o.gcm.Open(text[:0], aad[:gcmNonceSize], sealed, aad); err != nil {
		return errOpen
	}
	return nil
}
