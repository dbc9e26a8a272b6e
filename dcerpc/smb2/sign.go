package smb2

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"
	"sync"
)

// A Signer signs and verifies the messages of one session (MS-SMB2 3.1.4.1). It may be used by
// several goroutines at once.
type Signer struct {
	mac func(msg []byte) [tagSize]byte // of a message whose signature is zero
}

// NewSigner derives the key of a session's signatures from the key that its authentication gave.
func NewSigner(dialect Dialect, a SigningAlgorithm, sessionKey []byte, h Preauth) (*Signer, error) {
	if len(sessionKey) == 0 {
		return nil, fmt.Errorf("%w: no session key", ErrCipher)
	}
	key, err := signingKey(dialect, sessionKey, h)
	if err != nil {
		return nil, err
	}
	return newSigner(a, key)
}

func newSigner(a SigningAlgorithm, key []byte) (*Signer, error) {
	if a == HMACSHA256 {
		pool := &sync.Pool{New: func() any { return &hmacScratch{Hash: hmac.New(sha256.New, key)} }}
		return &Signer{func(msg []byte) [tagSize]byte { return hmacSHA256(pool, msg) }}, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	switch a {
	case AESCMAC:
		k1, k2 := cmacKeys(block)
		pool := &sync.Pool{New: func() any { return new([tagSize]byte) }}
		return &Signer{func(msg []byte) [tagSize]byte {
			sum := pool.Get().(*[tagSize]byte)
			defer pool.Put(sum)
			clear(sum[:])
			cmac(block, &k1, &k2, msg, sum)
			return *sum
		}}, nil
	case AESGMAC:
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		pool := &sync.Pool{New: func() any { return new(gmacScratch) }}
		return &Signer{func(msg []byte) [tagSize]byte { return gmac(gcm, pool, msg) }}, nil
	}
	return nil, fmt.Errorf("%w: %v", ErrCipher, a)
}

// Sign sets the flag and the signature of a message, which includes its padding in a compound.
func (s *Signer) Sign(msg []byte) {
	le.PutUint32(msg[16:], le.Uint32(msg[16:])|FlagSigned)
	clear(msg[48:64])
	sum := s.mac(msg)
	copy(msg[48:64], sum[:])
}

// Verify reports whether the signature of a message is the right one. The message is unchanged
// afterwards, and nobody else may look at it meanwhile.
func (s *Signer) Verify(msg []byte) bool {
	if len(msg) < HeaderSize || le.Uint32(msg[16:])&FlagSigned == 0 {
		return false
	}
	got := [tagSize]byte(msg[48:64])
	clear(msg[48:64])
	want := s.mac(msg)
	copy(msg[48:64], got[:])
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

type hmacScratch struct {
	hash.Hash
	sum [sha256.Size]byte
}

func hmacSHA256(pool *sync.Pool, msg []byte) [tagSize]byte {
	h := pool.Get().(*hmacScratch)
	defer pool.Put(h)
	h.Reset()
	h.Write(msg)
	return [tagSize]byte(h.Sum(h.sum[:0]))
}

// cmacKeys makes the two keys of RFC 4493 2.3.
func cmacKeys(block cipher.Block) (k1, k2 [16]byte) {
	block.Encrypt(k1[:], k1[:])
	double(&k1)
	k2 = k1
	double(&k2)
	return k1, k2
}

// double multiplies by x in GF(2^128).
func double(k *[16]byte) {
	carry := byte(0)
	for i := len(k) - 1; i >= 0; i-- {
		k[i], carry = k[i]<<1|carry, k[i]>>7
	}
	k[15] ^= 0x87 * carry
}

// cmac is AES-CMAC (RFC 4493).
func cmac(block cipher.Block, k1, k2 *[16]byte, msg []byte, sum *[tagSize]byte) {
	n := 0 // bytes before the last block, which is a special one
	if len(msg) > 0 {
		n = (len(msg) - 1) &^ 15
	}
	cbcBlocks(block, sum, msg[:n])
	last := msg[n:]
	subtle.XORBytes(sum[:], sum[:], last)
	k := k1
	if len(last) < 16 {
		sum[len(last)] ^= 0x80
		k = k2
	}
	subtle.XORBytes(sum[:], sum[:], k[:])
	block.Encrypt(sum[:], sum[:])
}

type gmacScratch struct {
	nonce [12]byte
	tag   [tagSize]byte
}

// gmac is AES-GMAC with the nonce that MS-SMB2 3.1.4.1 makes of the header:
//
//	0 MessageId, 8 bytes | 8 bit 0: from the server; bit 1: a CANCEL
func gmac(gcm cipher.AEAD, pool *sync.Pool, msg []byte) [tagSize]byte {
	s := pool.Get().(*gmacScratch)
	defer pool.Put(s)
	copy(s.nonce[:8], msg[24:32])
	var bits uint32
	if le.Uint32(msg[16:])&FlagResponse != 0 {
		bits |= 1
	}
	if Command(le.Uint16(msg[12:])) == CommandCancel {
		bits |= 2
	}
	le.PutUint32(s.nonce[8:], bits)
	return [tagSize]byte(gcm.Seal(s.tag[:0], s.nonce[:], nil, msg))
}
