package smb2

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

var errOpen = errors.New("smb2: the message is not authentic under this key")

// openCCM decrypts and checks text | tag in AES-CCM (RFC 3610, NIST SP 800-38C) with a nonce of 11 bytes and a
// tag of 16, as SMB 3 uses it. The plain text overwrites text.
func openCCM(block cipher.Block, nonce, aad, text, tag []byte) error {
	const lengthSize = 15 - ccmNonceSize
	var counter [16]byte
	counter[0] = lengthSize - 1
	copy(counter[1:], nonce)
	stream := cipher.NewCTR(block, counter[:]) // counter 0 encrypts the tag, the text follows
	var mask [16]byte
	stream.XORKeyStream(mask[:], mask[:])
	stream.XORKeyStream(text, text)

	var first [16]byte
	first[0] = 1<<6 | (16-2)/2<<3 | (lengthSize - 1) // there is additional data; size of the tag; size of the length
	copy(first[1:], nonce)
	binary.BigEndian.PutUint32(first[12:], uint32(len(text)))
	mac := cbcMAC{block: block}
	mac.write(first[:])
	mac.write(binary.BigEndian.AppendUint16(nil, uint16(len(aad))))
	mac.write(aad)
	mac.pad()
	mac.write(text)
	mac.pad()
	subtle.XORBytes(mac.sum[:], mac.sum[:], mask[:])
	if subtle.ConstantTimeCompare(mac.sum[:], tag) != 1 {
		return errOpen
	}
	return nil
}

// cbcMAC adds bytes to sum, which is encrypted whenever 16 of them are there.
type cbcMAC struct {
	block cipher.Block
	sum   [16]byte
	n     int
}

func (m *cbcMAC) write(b []byte) {
	for len(b) > 0 {
		n := subtle.XORBytes(m.sum[m.n:], m.sum[m.n:], b)
		b = b[n:]
		if m.n += n; m.n == len(m.sum) {
			m.block.Encrypt(m.sum[:], m.sum[:])
			m.n = 0
		}
	}
}

func (m *cbcMAC) pad() {
	if m.n > 0 {
		m.block.Encrypt(m.sum[:], m.sum[:])
		m.n = 0
	}
}
