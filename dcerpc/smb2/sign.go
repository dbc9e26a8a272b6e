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

// A Signer signs and verifies the messages of one session (MS-SMB2 3.1.4.1). It is safe for
// concurrent use.
type Signer struct {
	mac func(msg []byte) [tagSize]byte // of a message whose signature is zero
	// pair is mac of two messages, where that takes less time than one after the other; otherwise
	// nil
	pair func(msg1, msg2 []byte) (sum1, sum2 [tagSize]byte)
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
		return &Signer{mac: func(msg []byte) [tagSize]byte { return hmacSHA256(pool, msg) }}, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	switch a {
	case AESCMAC:
		k1, k2 := cmacKeys(block)
		pool := &sync.Pool{New: func() any { return new([2][tagSize]byte) }}
		return &Signer{
			mac: func(msg []byte) [tagSize]byte {
				sums := pool.Get().(*[2][tagSize]byte)
				defer pool.Put(sums)
				sums[0] = [tagSize]byte{}
				cmac(block, &k1, &k2, msg, &sums[0])
				return sums[0]
			},
			pair: func(msg1, msg2 []byte) (sum1, sum2 [tagSize]byte) {
				sums := pool.Get().(*[2][tagSize]byte)
				defer pool.Put(sums)
				*sums = [2][tagSize]byte{}
				n := min(beforeLast(msg1), beforeLast(msg2))
				cbcPair(block, &sums[0], &sums[1], msg1[:n], msg2[:n])
				cmac(block, &k1, &k2, msg1[n:], &sums[0])
				cmac(block, &k1, &k2, msg2[n:], &sums[1])
				return sums[0], sums[1]
			},
		}, nil
	case AESGMAC:
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		pool := &sync.Pool{New: func() any { return new(gmacScratch) }}
		return &Signer{mac: func(msg []byte) [tagSize]byte { return gmac(gcm, pool, msg) }}, nil
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

// Verify reports whether the signature of a message is correct. It changes the message for the
// duration of the call, so nobody else may read it meanwhile.
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

// Pairs reports whether VerifyPair takes less time than two calls of Verify.
func (s *Signer) Pairs() bool { return s.pair != nil }

// VerifyPair verifies two messages.
func (s *Signer) VerifyPair(msg1, msg2 []byte) (ok1, ok2 bool) {
	if s.pair == nil || len(msg1) < HeaderSize || len(msg2) < HeaderSize {
		return s.Verify(msg1), s.Verify(msg2)
	}
	got1, got2 := [tagSize]byte(msg1[48:64]), [tagSize]byte(msg2[48:64])
	clear(msg1[48:64])
	clear(msg2[48:64])
	want1, want2 := s.pair(msg1, msg2)
	copy(msg1[48:64], got1[:])
	copy(msg2[48:64], got2[:])
	signed := func(msg []byte) bool { return le.Uint32(msg[16:])&FlagSigned != 0 }
	return signed(msg1) && subtle.ConstantTimeCompare(got1[:], want1[:]) == 1,
		signed(msg2) && subtle.ConstantTimeCompare(got2[:], want2[:]) == 1
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

// beforeLast is how many bytes of a message are before its last block, which is a special one.
func beforeLast(msg []byte) int {
	if len(msg) == 0 {
		return 0
	}
	return (len(msg) - 1) &^ 15
}

// cmac is AES-CMAC (RFC 4493), of what follows the blocks that are in sum.
func cmac(block cipher.Block, k1, k2 *[16]byte, msg []byte, sum *[tagSize]byte) {
	n := beforeLast(msg)
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
