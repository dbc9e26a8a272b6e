package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// A Cipher is an encryption algorithm (MS-SMB2 2.2.3.1.2).
type Cipher uint16

// The ciphers.
const (
	AES128CCM Cipher = 1
	AES128GCM Cipher = 2
	AES256CCM Cipher = 3
	AES256GCM Cipher = 4
)

// String returns Samba's name, "AES-128-GCM".
func (c Cipher) String() string {
	switch c {
	case 0:
		return "none"
	case AES128CCM:
		return "AES-128-CCM"
	case AES128GCM:
		return "AES-128-GCM"
	case AES256CCM:
		return "AES-256-CCM"
	case AES256GCM:
		return "AES-256-GCM"
	}
	return fmt.Sprintf("cipher 0x%04X", uint16(c))
}

func (c Cipher) keySize() int {
	switch c {
	case AES128CCM, AES128GCM:
		return 16
	case AES256CCM, AES256GCM:
		return 32
	}
	return 0
}

// A SigningAlgorithm makes signatures (MS-SMB2 2.2.3.1.7).
type SigningAlgorithm uint16

// The signing algorithms.
const (
	HMACSHA256 SigningAlgorithm = 0
	AESCMAC    SigningAlgorithm = 1
	AESGMAC    SigningAlgorithm = 2
)

// String returns Samba's name, "AES-128-GMAC".
func (a SigningAlgorithm) String() string {
	switch a {
	case HMACSHA256:
		return "HMAC-SHA256"
	case AESCMAC:
		return "AES-128-CMAC"
	case AESGMAC:
		return "AES-128-GMAC"
	}
	return fmt.Sprintf("signing algorithm 0x%04X", uint16(a))
}

// A Preauth is the hash over the messages that open a connection and a session (MS-SMB2 3.1.4.4.1).
// The zero value is its start.
type Preauth [sha512.Size]byte

// Add returns the hash with one more message added; msg begins at the header.
func (p Preauth) Add(msg []byte) Preauth {
	h := sha512.New()
	h.Write(p[:])
	h.Write(msg)
	return Preauth(h.Sum(nil))
}

// ErrCipher means that no key can be derived, because the dialect or the algorithm is unknown or
// they cannot be combined.
var ErrCipher = errors.New("smb2: dialect and algorithms of the connection do not go together")

// shortKey is what keys of 16 bytes are derived from: the first 16 bytes, or all padded with zeros
// (MS-SMB2 3.2.5.3.1).
func shortKey(sessionKey []byte) []byte {
	var short [16]byte
	copy(short[:], sessionKey)
	return short[:]
}

// deriveKey is the KDF in counter mode of NIST SP 800-108 with HMAC-SHA256, for at most 32 bytes:
// one block. Label and context end with their NUL.
func deriveKey(secret []byte, label string, context []byte, size int) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte{0, 0, 0, 1})
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(context)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(size*8)))
	return h.Sum(nil)[:size]
}

// signingKey derives the key of signatures (MS-SMB2 3.1.4.2).
func signingKey(dialect Dialect, sessionKey []byte, hash Preauth) ([]byte, error) {
	secret := shortKey(sessionKey)
	switch dialect {
	case SMB210:
		return secret, nil
	case SMB300, SMB302:
		return deriveKey(secret, "SMB2AESCMAC\x00", []byte("SmbSign\x00"), 16), nil
	case SMB311:
		return deriveKey(secret, "SMBSigningKey\x00", hash[:], 16), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrCipher, dialect)
}

// Keys encrypt and decrypt the messages of one session.
type Keys struct {
	toServer, toClient cipher.AEAD
}

// DeriveKeys derives the keys of a session from the key that its authentication gave (MS-SMB2
// 3.1.4.2, 3.2.5.3, 3.3.5.5.3): from the first 16 bytes of it, or for AES-256 from all of it. Only
// dialect 3.1.1 uses the hash.
func DeriveKeys(dialect Dialect, c Cipher, sessionKey []byte, hash Preauth) (*Keys, error) {
	size := c.keySize()
	if size == 0 || len(sessionKey) == 0 {
		return nil, fmt.Errorf("%w: %v, %v, a key of %d bytes", ErrCipher, dialect, c, len(sessionKey))
	}
	secret := sessionKey
	if size == 16 || len(secret) < 16 {
		secret = shortKey(secret)
	}
	labelIn, labelOut := "SMB2AESCCM\x00", "SMB2AESCCM\x00"
	contextIn, contextOut := []byte("ServerIn \x00"), []byte("ServerOut\x00")
	switch dialect {
	case SMB300, SMB302:
	case SMB311:
		labelIn, labelOut = "SMBC2SCipherKey\x00", "SMBS2CCipherKey\x00"
		contextIn, contextOut = hash[:], hash[:]
	default:
		return nil, fmt.Errorf("%w: %v has no encryption", ErrCipher, dialect)
	}
	var k Keys
	var err error
	if k.toServer, err = newAEAD(c, deriveKey(secret, labelIn, contextIn, size)); err != nil {
		return nil, err
	}
	if k.toClient, err = newAEAD(c, deriveKey(secret, labelOut, contextOut, size)); err != nil {
		return nil, err
	}
	return &k, nil
}

func newAEAD(c Cipher, key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if c == AES128CCM || c == AES256CCM {
		return ccm{block}, nil
	}
	return cipher.NewGCM(block)
}
