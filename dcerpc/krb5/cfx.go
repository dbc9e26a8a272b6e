package krb5

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// cfxTokens makes or checks the tokens of RFC 4121 for one direction.
//
//	MIC:  | 04 04 | flags | FF FF FF FF FF | seq, 8 bytes | checksum |
//	Wrap: | 05 04 | flags | FF | EC | RRC  | seq, 8 bytes | ... |
//
// The checksum of a MIC is over message | header. The cipher text of a Wrap token is
//
//	E(confounder 16 | body | filler, EC bytes | header with RRC 0) | tag
//
// rotated to the right, so that everything but the body stands before it and makes the token of the
// auth trailer:
//
//	| header 16 | E(filler) EC | E(header) 16 | tag | E(confounder) 16 |    and    | E(body) |
//
// DCE style has EC = 16 and rotates by EC + RRC instead of the RRC of RFC 4121 section 4.2.5; that
// is what Windows does, and others with it. A tag of SHA-1 types covers the plain text, one of
// SHA-2 types a zero block and the cipher text; header and trailer of the PDU, where they are
// signed, stand around the body in both.
type cfxTokens struct {
	profile
	origin
	checksum  hash.Hash // keyed with Kc of the direction's sign usage
	integrity hash.Hash // keyed with Ki of the direction's seal usage
	cts       *cts      // keyed with Ke of the direction's seal usage
	scratch   []byte    // the cipher text in its natural order
	sum       []byte
	header    [cfxHeaderSize]byte // the encrypted copy that the peer's header must equal
	iv        [16]byte            // the initial cipher state of RFC 8009: zero
}

const (
	cfxHeaderSize = 16
	cfxConfounder = 16

	cfxSentByAcceptor = 0x01
	cfxSealed         = 0x02
	cfxAcceptorSubkey = 0x04
)

func (t *cfxTokens) micSize() int { return cfxHeaderSize + t.macSize }

func (t *cfxTokens) sealSize() int { return t.wrapSize(t.extraCount()) }

func (t *cfxTokens) wrapSize(ec int) int {
	return cfxHeaderSize + ec + cfxHeaderSize + t.macSize + cfxConfounder
}

// extraCount is the EC of the tokens that we make.
func (t *cfxTokens) extraCount() int {
	if t.dceStyle {
		return 16
	}
	return 0
}

func (t *cfxTokens) sequence(n uint64) uint64 { return n }

func (t *cfxTokens) flags() byte {
	var f byte
	if t.acceptor {
		f |= cfxSentByAcceptor
	}
	if t.acceptorSubkey {
		f |= cfxAcceptorSubkey
	}
	return f
}

func (t *cfxTokens) putMICHeader(b []byte, seq uint64) {
	copy(b, "\x04\x04\x00\xFF\xFF\xFF\xFF\xFF")
	b[2] = t.flags()
	binary.BigEndian.PutUint64(b[8:], seq)
}

// putWrapHeader writes the header with an RRC of zero, as it is signed and encrypted.
func (t *cfxTokens) putWrapHeader(b []byte, seq uint64, ec int) {
	copy(b, "\x05\x04\x00\xFF\x00\x00\x00\x00")
	b[2] = t.flags() | cfxSealed
	binary.BigEndian.PutUint16(b[4:], uint16(ec))
	binary.BigEndian.PutUint64(b[8:], seq)
}

// mic returns the checksum of a MIC token with the given header. It is valid until the next call.
func (t *cfxTokens) mic(m dcerpc.Message, header []byte) []byte {
	t.checksum.Reset()
	writeSigned(t.checksum, m, m.Body)
	t.checksum.Write(header)
	t.sum = t.checksum.Sum(t.sum[:0])
	return t.sum[:t.macSize]
}

func (t *cfxTokens) sign(seq uint64, m dcerpc.Message, token []byte) error {
	if len(token) != t.micSize() {
		return fmt.Errorf("krb5: room of %d bytes for a signature of %d", len(token), t.micSize())
	}
	t.putMICHeader(token, seq)
	copy(token[cfxHeaderSize:], t.mic(m, token[:cfxHeaderSize]))
	return nil
}

func (t *cfxTokens) verify(m dcerpc.Message, token []byte) (uint64, error) {
	if len(token) != t.micSize() {
		return 0, fmt.Errorf("krb5: %w: signature of %d bytes, not %d", ErrToken, len(token), t.micSize())
	}
	seq := binary.BigEndian.Uint64(token[8:])
	t.putMICHeader(t.header[:], seq)
	if err := t.compareHeaders(token[:cfxHeaderSize], t.header[:]); err != nil {
		return 0, err
	}
	if subtle.ConstantTimeCompare(t.mic(m, token[:cfxHeaderSize]), token[cfxHeaderSize:]) != 1 {
		return 0, fmt.Errorf("krb5: %w", ErrSignature)
	}
	return seq, nil
}

// compareHeaders says what is wrong with a header that is not as expected.
func (t *cfxTokens) compareHeaders(got, want []byte) error {
	if string(got) == string(want) {
		return nil
	}
	switch diff := got[2] ^ want[2]; {
	case got[0] != want[0] || got[1] != want[1]:
		return fmt.Errorf("krb5: %w: token id %02x %02x, not %02x %02x", ErrToken, got[0], got[1], want[0], want[1])
	case diff&cfxSentByAcceptor != 0:
		return fmt.Errorf("krb5: %w: a token of our own came back", ErrSignature)
	case diff&cfxAcceptorSubkey != 0:
		return fmt.Errorf("krb5: %w: protected with the other side's choice of key", ErrSignature)
	case diff&cfxSealed != 0:
		return fmt.Errorf("krb5: %w: not sealed", ErrSignature)
	}
	return fmt.Errorf("krb5: %w: header %x", ErrToken, got)
}

// tag returns the integrity tag of a sealed message: over plain text for the types with SHA-1, over
// cipher text for the others. text is confounder | body | filler | header. It is valid until the
// next call.
func (t *cfxTokens) tag(m dcerpc.Message, text []byte) []byte {
	t.integrity.Reset()
	if t.macOverCipher {
		t.integrity.Write(t.iv[:])
	}
	end := cfxConfounder + len(m.Body)
	t.integrity.Write(text[:cfxConfounder])
	writeSigned(t.integrity, m, text[cfxConfounder:end])
	t.integrity.Write(text[end:])
	t.sum = t.integrity.Sum(t.sum[:0])
	return t.sum[:t.macSize]
}

// text returns scratch memory of n bytes with room for the last block of ciphertext stealing and
// for a tag.
func (t *cfxTokens) text(n int) []byte {
	if need := n + 16 + t.macSize; cap(t.scratch) < need {
		t.scratch = make([]byte, need+need/4)
	}
	return t.scratch[:n]
}

func (t *cfxTokens) seal(seq uint64, m dcerpc.Message, token []byte) error {
	if len(token) != t.sealSize() {
		return fmt.Errorf("krb5: room of %d bytes for a token of %d", len(token), t.sealSize())
	}
	ec := t.extraCount()
	end := cfxConfounder + len(m.Body)
	text := t.text(end + ec + cfxHeaderSize)
	if _, err := rand.Read(text[:cfxConfounder]); err != nil {
		return fmt.Errorf("krb5: confounder: %w", err)
	}
	copy(text[cfxConfounder:], m.Body)
	for i := range ec {
		text[end+i] = 0xFF
	}
	t.putWrapHeader(text[end+ec:], seq, ec)
	copy(token, text[end+ec:])
	binary.BigEndian.PutUint16(token[6:], uint16(cfxHeaderSize+t.macSize))

	var tag []byte
	if t.macOverCipher {
		t.cts.encrypt(text)
		tag = t.tag(m, text)
	} else {
		tag = t.tag(m, text)
		t.cts.encrypt(text)
	}
	rest := token[cfxHeaderSize:]
	rest = rest[copy(rest, text[end:]):]
	rest = rest[copy(rest, tag):]
	copy(rest, text[:cfxConfounder])
	copy(m.Body, text[cfxConfounder:end])
	return nil
}

func (t *cfxTokens) unseal(m dcerpc.Message, token []byte) (uint64, error) {
	if len(token) < t.wrapSize(0) {
		return 0, fmt.Errorf("krb5: %w: sealed message's token of %d bytes", ErrToken, len(token))
	}
	ec := int(binary.BigEndian.Uint16(token[4:]))
	rrc := int(binary.BigEndian.Uint16(token[6:]))
	seq := binary.BigEndian.Uint64(token[8:])
	if len(token) != t.wrapSize(ec) {
		return 0, fmt.Errorf("krb5: %w: token of %d bytes with EC %d", ErrToken, len(token), ec)
	}
	header := t.header[:]
	t.putWrapHeader(header, seq, ec)
	binary.BigEndian.PutUint16(header[6:], uint16(rrc))
	if err := t.compareHeaders(token[:cfxHeaderSize], header); err != nil {
		return 0, err
	}
	binary.BigEndian.PutUint16(header[6:], 0)

	rotation := rrc
	if t.dceStyle {
		rotation += ec
	}
	rotated := token[cfxHeaderSize:]
	total := len(rotated) + len(m.Body)
	// A rotation by the whole length would be none: the RRC is not signed, so only one value of it
	// may be right.
	if rotation >= total {
		return 0, fmt.Errorf("krb5: %w: RRC %d", ErrToken, rrc)
	}
	cipherText := t.text(total)
	unrotate(cipherText, rotated, m.Body, rotation)
	text, tag := cipherText[:total-t.macSize], cipherText[total-t.macSize:]

	if t.macOverCipher {
		if subtle.ConstantTimeCompare(t.tag(m, text), tag) != 1 {
			return 0, fmt.Errorf("krb5: %w", ErrSignature)
		}
		t.cts.decrypt(text)
	} else {
		var want [64]byte // ciphertext stealing needs the room that the tag stands in
		tag = want[:copy(want[:], tag)]
		t.cts.decrypt(text)
		if subtle.ConstantTimeCompare(t.tag(m, text), tag) != 1 {
			return 0, fmt.Errorf("krb5: %w", ErrSignature)
		}
	}
	end := cfxConfounder + len(m.Body)
	if subtle.ConstantTimeCompare(text[end+ec:], header) != 1 {
		return 0, fmt.Errorf("krb5: %w: the header is not the sealed one", ErrSignature)
	}
	copy(m.Body, text[cfxConfounder:end])
	return seq, nil
}

// unrotate writes a | b, rotated to the left by n bytes, to dst.
func unrotate(dst, a, b []byte, n int) {
	if n <= len(a) {
		dst = dst[copy(dst, a[n:]):]
		dst = dst[copy(dst, b):]
		copy(dst, a[:n])
		return
	}
	n -= len(a)
	dst = dst[copy(dst, b[n:]):]
	dst = dst[copy(dst, a):]
	copy(dst, b[:n])
}
