package smb2

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// ccm is AES-CCM (RFC 3610, NIST SP 800-38C) with a nonce of 11 bytes and a tag of 16, as SMB 3
// uses it.
type ccm struct{ block cipher.Block }

var _ cipher.AEAD = ccm{}

const (
	ccmNonceSize  = 11
	ccmLengthSize = 15 - ccmNonceSize
)

func (ccm) NonceSize() int { return ccmNonceSize }
func (ccm) Overhead() int  { return tagSize }

// Seal appends text and tag to dst; the text may be what follows dst in its own array, and may not
// overlap it otherwise.
func (c ccm) Seal(dst, nonce, text, aad []byte) []byte {
	stream, mask := c.stream(nonce)
	tag := c.tag(nonce, text, aad)
	subtle.XORBytes(tag[:], tag[:], mask[:])
	n := len(dst)
	dst = append(dst, text...)
	stream.XORKeyStream(dst[n:], dst[n:])
	return append(dst, tag[:]...)
}

// Open appends the text to dst, as Seal does.
func (c ccm) Open(dst, nonce, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < tagSize {
		return nil, errOpen
	}
	text, tag := sealed[:len(sealed)-tagSize], sealed[len(sealed)-tagSize:]
	stream, mask := c.stream(nonce)
	n := len(dst)
	dst = append(dst, text...)
	stream.XORKeyStream(dst[n:], dst[n:])
	want := c.tag(nonce, dst[n:], aad)
	subtle.XORBytes(want[:], want[:], mask[:])
	if subtle.ConstantTimeCompare(want[:], tag) != 1 {
		clear(dst[n:])
		return nil, errOpen
	}
	return dst, nil
}

// stream returns the key stream of the text, and what encrypts the tag: that of counter 0.
func (c ccm) stream(nonce []byte) (cipher.Stream, [16]byte) {
	var counter, mask [16]byte
	counter[0] = ccmLengthSize - 1
	copy(counter[1:], nonce)
	s := cipher.NewCTR(c.block, counter[:])
	s.XORKeyStream(mask[:], mask[:])
	return s, mask
}

func (c ccm) tag(nonce, text, aad []byte) [16]byte {
	var first [16]byte
	// there is additional data; size of the tag; size of the length
	first[0] = 1<<6 | (tagSize-2)/2<<3 | (ccmLengthSize - 1)
	copy(first[1:], nonce)
	binary.BigEndian.PutUint32(first[12:], uint32(len(text)))
	m := cbcMAC{block: c.block}
	m.write(first[:])
	var n [2]byte
	binary.BigEndian.PutUint16(n[:], uint16(len(aad)))
	m.write(n[:])
	m.write(aad)
	m.pad()
	m.write(text)
	m.pad()
	return m.sum
}

// A cbcMAC adds bytes to sum, which is encrypted whenever 16 of them have come.
type cbcMAC struct {
	block cipher.Block
	sum   [16]byte
	n     int
}

func (m *cbcMAC) write(b []byte) {
	if m.n > 0 {
		n := subtle.XORBytes(m.sum[m.n:], m.sum[m.n:], b)
		b = b[n:]
		if m.n += n; m.n == len(m.sum) {
			m.block.Encrypt(m.sum[:], m.sum[:])
			m.n = 0
		}
	}
	if n := len(b) &^ 15; n > 0 {
		cbcBlocks(m.block, &m.sum, b[:n])
		b = b[n:]
	}
	if len(b) > 0 {
		m.n = subtle.XORBytes(m.sum[:], m.sum[:], b)
	}
}

func (m *cbcMAC) pad() {
	if m.n > 0 {
		m.block.Encrypt(m.sum[:], m.sum[:])
		m.n = 0
	}
}

// cbcBlocks chains whole blocks into sum. XORBytes writes all 16 bytes at once, which Encrypt reads
// back at once: two halves would have to come from memory.
func cbcBlocks(block cipher.Block, sum *[16]byte, b []byte) {
	s := sum[:]
	for len(b) >= 16 {
		subtle.XORBytes(s, s, b[:16])
		block.Encrypt(s, s)
		b = b[16:]
	}
}

// cbcPair is cbcBlocks of two texts of the same length. A chain waits for each of its blocks; two
// that have nothing to do with each other take little more time than one.
func cbcPair(block cipher.Block, sum1, sum2 *[16]byte, b1, b2 []byte) {
	s1, s2 := sum1[:], sum2[:]
	for len(b1) >= 16 && len(b2) >= 16 {
		subtle.XORBytes(s1, s1, b1[:16])
		block.Encrypt(s1, s1)
		subtle.XORBytes(s2, s2, b2[:16])
		block.Encrypt(s2, s2)
		b1, b2 = b1[16:], b2[16:]
	}
}
