package smb2

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
)

// Cipher is an encryption algorithm (MS-SMB2 2.2.3.1.2).
type Cipher uint16

// The ciphers.
const (
	AES128CCM Cipher = 1
	AES128GCM Cipher = 2
	AES256CCM Cipher = 3
	AES256GCM Cipher = 4
)

func (c Cipher) keySize() int {
	switch c {
	case AES128CCM, AES128GCM:
		return 16
	case AES256CCM, AES256GCM:
		return 32
	}
	return 0
}

// Preauth is the hash over the messages that open a connection and a session (MS-SMB2 3.1.4.4.1). The
// zero value is its beginning.
type Preauth [sha512.Size]byte

// Add returns the hash with one more message, from its header on.
func (p Preauth) Add(msg []byte) Preauth {
	h := sha512.New()
	h.Write(p[:])
	h.Write(msg)
	return Preauth(h.Sum(nil))
}

// Keys decrypt the messages of one session.
type Keys struct {
	toServer, toClient opener
}

// ErrCipher says that no key can be derived: dialect and cipher are not known, or have no encryption.
var ErrCipher = errors.New("smb2: dialect and cipher of the connection are not known")

// DeriveKeys derives the keys of a session from the key that its authentication gave (MS-SMB2 3.1.4.2,
// 3.2.5.3, 3.3.5.5.3): the first 16 bytes of it, or for AES-256 all of it. The hash matters to dialect
// 3.1.1.
func DeriveKeys(dialect uint16, c Cipher, sessionKey []byte, hash Preauth) (*Keys, error) {
	size := c.keySize()
	if size == 0 || len(sessionKey) == 0 {
		return nil, ErrCipher
	}
	secret := sessionKey
	if size == 16 || len(secret) < 16 {
		var short [16]byte // right-padded with zeros (MS-SMB2 3.2.5.3.1)
		copy(short[:], secret)
		secret = short[:]
	}
	labelIn, labelOut := "SMB2AESCCM\x00", "SMB2AESCCM\x00"
	contextIn, contextOut := []byte("ServerIn \x00"), []byte("ServerOut\x00")
	switch dialect {
	case Dialect300, Dialect302:
	case Dialect311:
		labelIn, labelOut = "SMBC2SCipherKey\x00", "SMBS2CCipherKey\x00"
		contextIn, contextOut = hash[:], hash[:]
	default:
		return nil, ErrCipher
	}
	var k Keys
	var err error
	if k.toServer, err = newOpener(c, deriveKey(secret, labelIn, contextIn, size)); err != nil {
		return nil, err
	}
	if k.toClient, err = newOpener(c, deriveKey(secret, labelOut, contextOut, size)); err != nil {
		return nil, err
	}
	return &k, nil
}

// deriveKey is the KDF in counter mode of NIST SP 800-108 with HMAC-SHA256, for at most 32 bytes: one block.
func deriveKey(secret []byte, label string, context []byte, size int) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte{0, 0, 0, 1})
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(context)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(size*8)))
	return h.Sum(nil)[:size]
}
