package krb5

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// Unauthenticated peers must not be able to make an acceptor do expensive work. Before its ticket
// is decrypted, an AP-REQ costs time in proportion to the length of its names; then the ticket
// costs time in proportion to its length for every key that is tried.

// maxTicketNames is how many bytes a ticket may have around its encrypted part: realm and names of
// a service.
const maxTicketNames = 2 << 10

// checkAPReqSizes looks at the lengths in an AP-REQ before anything in it is read (RFC 4120 section
// 5.5.1):
//
//	AP-REQ ::= [APPLICATION 14] SEQUENCE { pvno [0], msg-type [1], ap-options [2], ticket [3], authenticator [4] }
//	Ticket ::= [APPLICATION 1] SEQUENCE { tkt-vno [0], realm [1], sname [2], enc-part [3] }
func checkAPReqSizes(msg []byte) error {
	s := cryptobyte.String(msg)
	var ticket, encPart cryptobyte.String
	ok := s.ReadASN1(&s, der.Tag(14).Constructed()|0x40) && s.ReadASN1(&s, der.SEQUENCE)
	for tag := der.Tag(0); ok && tag < 3; tag++ {
		var field cryptobyte.String
		ok = s.ReadASN1(&field, tag.ContextSpecific().Constructed()) && len(field) <= 64
	}
	ok = ok && s.ReadASN1(&ticket, der.Tag(3).ContextSpecific().Constructed())
	size := len(ticket)
	ok = ok && ticket.ReadASN1(&ticket, der.Tag(1).Constructed()|0x40) && ticket.ReadASN1(&ticket, der.SEQUENCE)
	for tag := der.Tag(0); ok && tag < 3; tag++ {
		ok = ticket.SkipASN1(tag.ContextSpecific().Constructed())
	}
	if !ok || !ticket.ReadASN1(&encPart, der.Tag(3).ContextSpecific().Constructed()) {
		return fmt.Errorf("krb5: %w: AP-REQ: not of RFC 4120's form", ErrToken)
	}
	if names := size - len(encPart); names > maxTicketNames {
		return fmt.Errorf("krb5: %w: AP-REQ: a ticket with names of %d bytes", ErrToken, names)
	}
	return nil
}

// mayOpen reports whether a key may be the one of a ticket's encrypted part, by the first bytes of
// what it would decrypt: those of EncTicketPart, [APPLICATION 3] with a length that fits. A key
// that it refuses cannot be the right one; that it does not refuse one means nothing.
//
//	| confounder, 16 | 63, length in DER | ... | MAC |
func mayOpen(text []byte, key Key) bool {
	p, ok := profileOf(key.Etype)
	if !ok || len(key.Value) != p.keySize || len(text) < p.confounder+p.macSize {
		return true // decrypt says what is wrong
	}
	if p.confounder != aes.BlockSize || len(text)-p.macSize <= 4*aes.BlockSize {
		return true // RC4, or so short that cipher text stealing has changed the first blocks
	}
	ke, err := deriveKey(key.wire(), keyusage.KDC_REP_TICKET, 0xAA)
	if err != nil {
		return true
	}
	block, err := aes.NewCipher(ke)
	if err != nil {
		return true
	}
	var first [2 * aes.BlockSize]byte
	cipher.NewCBCDecrypter(block, make([]byte, aes.BlockSize)).CryptBlocks(first[:], text[:len(first)])
	return startsTicketPart(first[aes.BlockSize:], len(text)-p.macSize-p.confounder)
}

// startsTicketPart reports whether b is the beginning of an EncTicketPart of size bytes.
func startsTicketPart(b []byte, size int) bool {
	if b[0] != 0x63 {
		return false
	}
	n := int(b[1])
	switch {
	case n < 0x80:
		return 2+n == size
	case n == 0x81:
		return 3+int(b[2]) == size
	case n == 0x82:
		return 4+int(binary.BigEndian.Uint16(b[2:])) == size
	}
	return n <= 0x84
}
