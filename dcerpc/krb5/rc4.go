package krb5

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// rc4Tokens makes or checks the tokens of RFC 4757 section 7 for one direction, framed as RFC 1964
// says:
//
//	MIC:  | 60 23 06 09 OID | 01 01 | 11 00 | FF FF FF FF   | seq 8 | checksum 8 |
//	Wrap: | 60 2B 06 09 OID | 02 01 | 11 00 | 10 00 | FF FF | seq 8 | checksum 8 | confounder 8 | and the body
//
// In DCE style the length in the frame leaves the body out, and the body has no padding. Seq is the
// low 32 bits in big-endian order and four bytes of direction, encrypted.
type rc4Tokens struct {
	origin
	key     []byte
	sealKey [16]byte // HMAC(key ^ F0..., 0)
	signKey [16]byte // HMAC(key, "signaturekey\0")
	seqKey  [16]byte // HMAC(key, 0)
	hmac    hmacMD5
	md5     hash.Hash
	sum     []byte
	seq     [8]byte
	conf    [8]byte
	salt    [4]byte // what a derived key or a checksum begins with
}

const (
	rc4Frame    = "\x60\x00\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"
	rc4MICHead  = "\x01\x01\x11\x00\xff\xff\xff\xff"
	rc4WrapHead = "\x02\x01\x11\x00\x10\x00\xff\xff"
	rc4MICSize  = len(rc4Frame) + 24
	rc4WrapSize = len(rc4Frame) + 32

	rc4WrapSalt = 13
	rc4MICSalt  = 15
)

func newRC4Tokens(key []byte, o origin) *rc4Tokens {
	t := &rc4Tokens{origin: o, key: key, md5: md5.New(), hmac: hmacMD5{h: md5.New()}}
	var local [16]byte
	for i := range local {
		local[i] = key[i] ^ 0xF0
	}
	zero := make([]byte, 4)
	t.hmac.sum(&t.sealKey, local[:], zero)
	t.hmac.sum(&t.signKey, key, []byte("signaturekey\x00"))
	t.hmac.sum(&t.seqKey, key, zero)
	return t
}

func (t *rc4Tokens) micSize() int             { return rc4MICSize }
func (t *rc4Tokens) sealSize() int            { return rc4WrapSize }
func (t *rc4Tokens) sequence(n uint64) uint64 { return n & 0xFFFFFFFF }

// putRC4Head writes frame and header, all that precedes the sequence number.
func putRC4Head(token []byte, head string) {
	copy(token, rc4Frame)
	token[1] = byte(len(token) - 2)
	copy(token[len(rc4Frame):], head)
}

// cryptSeq encrypts a sequence number, or decrypts one, with a key that depends on the checksum.
func (t *rc4Tokens) cryptSeq(seq, checksum []byte) error {
	var key [16]byte
	t.hmac.sum(&key, t.seqKey[:], checksum)
	c, err := rc4.NewCipher(key[:])
	if err != nil {
		return fmt.Errorf("krb5: %w", err)
	}
	c.XORKeyStream(seq, seq)
	return nil
}

// direction is the second half of the plain sequence number.
func (t *rc4Tokens) direction() uint32 {
	if t.acceptor {
		return 0xFFFFFFFF
	}
	return 0
}

// checksum is the 8-byte checksum of either token (RFC 4757 section 7.2 and 7.3).
func (t *rc4Tokens) checksum(salt uint32, head, confounder []byte, m dcerpc.Message) [8]byte {
	binary.LittleEndian.PutUint32(t.salt[:], salt)
	t.md5.Reset()
	t.md5.Write(t.salt[:])
	t.md5.Write(head)
	t.md5.Write(confounder)
	writeSigned(t.md5, m, m.Body)
	t.sum = t.md5.Sum(t.sum[:0])
	var mac [16]byte
	t.hmac.sum(&mac, t.signKey[:], t.sum)
	return [8]byte(mac[:8])
}

func (t *rc4Tokens) sign(seq uint64, m dcerpc.Message, token []byte) error {
	if len(token) != rc4MICSize {
		return fmt.Errorf("krb5: room of %d bytes for a signature of %d", len(token), rc4MICSize)
	}
	putRC4Head(token, rc4MICHead)
	rest := token[len(rc4Frame):]
	sum := t.checksum(rc4MICSalt, rest[:8], nil, m)
	binary.BigEndian.PutUint32(rest[8:], uint32(seq))
	binary.BigEndian.PutUint32(rest[12:], t.direction())
	copy(rest[16:], sum[:])
	return t.cryptSeq(rest[8:16], rest[16:24])
}

// openSeq decrypts a token's sequence number and keeps it, with its direction, in t.seq.
func (t *rc4Tokens) openSeq(token []byte) (uint32, error) {
	rest := token[len(rc4Frame):]
	copy(t.seq[:], rest[8:16])
	if err := t.cryptSeq(t.seq[:], rest[16:24]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(t.seq[:4]), nil
}

// checkRC4Head compares all that precedes the sequence number.
func checkRC4Head(token []byte, size int, head string) error {
	if len(token) != size {
		return fmt.Errorf("krb5: %w: %d bytes, not %d", ErrToken, len(token), size)
	}
	var want [len(rc4Frame) + 8]byte
	copy(want[:], rc4Frame+head)
	want[1] = byte(size - 2)
	if string(want[:]) != string(token[:len(want)]) {
		return fmt.Errorf("krb5: %w: header %x", ErrToken, token[:len(want)])
	}
	return nil
}

// checkDirection comes after the checksum, so that a wrong one is no guess at a key.
func (t *rc4Tokens) checkDirection() error {
	if binary.BigEndian.Uint32(t.seq[4:]) != t.direction() {
		return fmt.Errorf("krb5: %w: a token of our own came back, or its sequence number was changed", ErrSignature)
	}
	return nil
}

func (t *rc4Tokens) verify(m dcerpc.Message, token []byte) (uint64, error) {
	if err := checkRC4Head(token, rc4MICSize, rc4MICHead); err != nil {
		return 0, err
	}
	rest := token[len(rc4Frame):]
	want := t.checksum(rc4MICSalt, rest[:8], nil, m)
	if subtle.ConstantTimeCompare(want[:], rest[16:24]) != 1 {
		return 0, fmt.Errorf("krb5: %w", ErrSignature)
	}
	seq, err := t.openSeq(token)
	if err != nil {
		return 0, err
	}
	return uint64(seq), t.checkDirection()
}

// bodyCipher is the cipher stream of one sealed message: first the confounder, then the body.
func (t *rc4Tokens) bodyCipher(seq uint32) (*rc4.Cipher, error) {
	binary.BigEndian.PutUint32(t.salt[:], seq)
	var key [16]byte
	t.hmac.sum(&key, t.sealKey[:], t.salt[:])
	c, err := rc4.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("krb5: %w", err)
	}
	return c, nil
}

func (t *rc4Tokens) seal(seq uint64, m dcerpc.Message, token []byte) error {
	if len(token) != rc4WrapSize {
		return fmt.Errorf("krb5: room of %d bytes for a token of %d", len(token), rc4WrapSize)
	}
	putRC4Head(token, rc4WrapHead)
	rest := token[len(rc4Frame):]
	if _, err := rand.Read(rest[24:32]); err != nil {
		return fmt.Errorf("krb5: confounder: %w", err)
	}
	sum := t.checksum(rc4WrapSalt, rest[:8], rest[24:32], m)
	c, err := t.bodyCipher(uint32(seq))
	if err != nil {
		return err
	}
	c.XORKeyStream(rest[24:32], rest[24:32])
	c.XORKeyStream(m.Body, m.Body)
	binary.BigEndian.PutUint32(rest[8:], uint32(seq))
	binary.BigEndian.PutUint32(rest[12:], t.direction())
	copy(rest[16:], sum[:])
	return t.cryptSeq(rest[8:16], rest[16:24])
}

func (t *rc4Tokens) unseal(m dcerpc.Message, token []byte) (uint64, error) {
	if err := checkRC4Head(token, rc4WrapSize, rc4WrapHead); err != nil {
		return 0, err
	}
	rest := token[len(rc4Frame):]
	seq, err := t.openSeq(token)
	if err != nil {
		return 0, err
	}
	c, err := t.bodyCipher(seq)
	if err != nil {
		return 0, err
	}
	c.XORKeyStream(t.conf[:], rest[24:32])
	c.XORKeyStream(m.Body, m.Body)
	want := t.checksum(rc4WrapSalt, rest[:8], t.conf[:], m)
	if subtle.ConstantTimeCompare(want[:], rest[16:24]) != 1 {
		return 0, fmt.Errorf("krb5: %w", ErrSignature)
	}
	return uint64(seq), t.checkDirection()
}

// hmacMD5 is HMAC-MD5 for keys of 16 bytes that change with every message: without memory of its
// own for each.
type hmacMD5 struct {
	h   hash.Hash
	pad [md5.BlockSize]byte
	out []byte
}

func (x *hmacMD5) sum(dst *[16]byte, key, data []byte) {
	x.setPad(key, 0x36)
	x.h.Reset()
	x.h.Write(x.pad[:])
	x.h.Write(data)
	x.out = x.h.Sum(x.out[:0])
	x.setPad(key, 0x5c)
	x.h.Reset()
	x.h.Write(x.pad[:])
	x.h.Write(x.out)
	x.out = x.h.Sum(x.out[:0])
	copy(dst[:], x.out)
}

func (x *hmacMD5) setPad(key []byte, b byte) {
	for i := range x.pad {
		x.pad[i] = b
	}
	subtle.XORBytes(x.pad[:len(key)], x.pad[:len(key)], key)
}
