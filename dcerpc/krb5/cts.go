package krb5

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// cts is AES in CBC mode with ciphertext stealing and a zero initial vector (RFC 3962 section 5,
// RFC 8009 section 5): the last two blocks are swapped, and the second of them is cut to the length
// of the plain text.
//
// A cipher.BlockMode continues from the last block of the previous message and cannot be reset.
// Instead of making one for every message, cts XORs that last block into the first block, which
// cancels it and leaves a zero vector.
type cts struct {
	block     cipher.Block
	enc, dec  cipher.BlockMode
	lastCrypt [aes.BlockSize]byte // what enc or dec goes on from
	last      [aes.BlockSize]byte // scratch
}

func newCTS(key []byte, seal bool) (*cts, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	c := &cts{block: block}
	if seal {
		c.enc = cipher.NewCBCEncrypter(block, c.lastCrypt[:])
	} else {
		c.dec = cipher.NewCBCDecrypter(block, c.lastCrypt[:])
	}
	return c, nil
}

// encrypt works in place. b must be longer than one block and have capacity for a whole last block.
func (c *cts) encrypt(b []byte) {
	n := len(b)
	padded := (n + aes.BlockSize - 1) &^ (aes.BlockSize - 1)
	b = b[:padded]
	clear(b[n:])
	subtle.XORBytes(b[:aes.BlockSize], b[:aes.BlockSize], c.lastCrypt[:])
	c.enc.CryptBlocks(b, b)
	copy(c.lastCrypt[:], b[padded-aes.BlockSize:])
	swapLastBlocks(b)
}

// decrypt is the inverse of encrypt, with the same requirements.
func (c *cts) decrypt(b []byte) {
	n := len(b)
	padded := (n + aes.BlockSize - 1) &^ (aes.BlockSize - 1)
	b = b[:padded]
	if n < padded {
		// What was cut off of the last block but one is in the last one's plain text: zero padding
		// XOR just that.
		c.block.Decrypt(c.last[:], b[padded-2*aes.BlockSize:padded-aes.BlockSize])
		copy(b[n:], c.last[n-(padded-aes.BlockSize):])
	}
	swapLastBlocks(b)
	var lastCrypt [aes.BlockSize]byte
	copy(lastCrypt[:], b[padded-aes.BlockSize:])
	c.dec.CryptBlocks(b, b)
	subtle.XORBytes(b[:aes.BlockSize], b[:aes.BlockSize], c.lastCrypt[:])
	c.lastCrypt = lastCrypt
}

func swapLastBlocks(b []byte) {
	var t [aes.BlockSize]byte
	x, y := b[len(b)-2*aes.BlockSize:len(b)-aes.BlockSize], b[len(b)-aes.BlockSize:]
	copy(t[:], x)
	copy(x, y)
	copy(y, t[:])
}
