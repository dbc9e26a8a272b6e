package krb5

import (
	"crypto/hmac"
	"fmt"
	"hash"

	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
)

// A protector makes, or checks, the tokens of one direction of a context. Between messages it keeps
// only scratch memory; the caller keeps the sequence numbers.
type protector interface {
	micSize() int
	sealSize() int
	// sign writes a MIC over the message into token, which has micSize bytes.
	sign(seq uint64, m dcerpc.Message, token []byte) error
	// seal encrypts m.Body in place and writes a Wrap token, less the body, of sealSize bytes.
	seal(seq uint64, m dcerpc.Message, token []byte) error
	// verify and unseal are the receiver's counterparts of sign and seal, and return the token's
	// sequence number.
	verify(m dcerpc.Message, token []byte) (uint64, error)
	unseal(m dcerpc.Message, token []byte) (uint64, error)
	// sequence cuts a number to the width that it has in tokens.
	sequence(n uint64) uint64
}

// An origin says who sends the tokens that a protector handles.
type origin struct {
	acceptor       bool // sent by the acceptor
	acceptorSubkey bool // the key is the acceptor's subkey
	dceStyle       bool
}

// newProtector derives the keys of one direction. seals says whether the protector makes tokens or
// checks them.
func newProtector(key types.EncryptionKey, o origin, seals bool) (protector, error) {
	if Etype(key.KeyType) == RC4HMAC {
		return newRC4Tokens(key.KeyValue, o), nil
	}
	p, ok := profileOf(Etype(key.KeyType))
	if !ok {
		return nil, fmt.Errorf("krb5: %w: %v", ErrEtype, Etype(key.KeyType))
	}
	signUsage, sealUsage := uint32(keyusage.GSSAPI_INITIATOR_SIGN), uint32(keyusage.GSSAPI_INITIATOR_SEAL)
	if o.acceptor {
		signUsage, sealUsage = keyusage.GSSAPI_ACCEPTOR_SIGN, keyusage.GSSAPI_ACCEPTOR_SEAL
	}
	kc, err := deriveKey(key, signUsage, 0x99)
	if err != nil {
		return nil, fmt.Errorf("krb5: deriving keys: %w", err)
	}
	ke, err := deriveKey(key, sealUsage, 0xAA)
	if err != nil {
		return nil, fmt.Errorf("krb5: deriving keys: %w", err)
	}
	ki, err := deriveKey(key, sealUsage, 0x55)
	if err != nil {
		return nil, fmt.Errorf("krb5: deriving keys: %w", err)
	}
	c, err := newCTS(ke, seals)
	if err != nil {
		return nil, fmt.Errorf("krb5: deriving keys: %w", err)
	}
	return &cfxTokens{
		profile:   p,
		origin:    o,
		checksum:  hmac.New(p.hash, kc),
		integrity: hmac.New(p.hash, ki),
		cts:       c,
	}, nil
}

// writeSigned writes to h what a signature covers before the token's own parts (MS-RPCE
// 3.3.1.5.2.2).
func writeSigned(h hash.Hash, m dcerpc.Message, body []byte) {
	if m.SignHeader {
		h.Write(m.Header)
	}
	h.Write(body)
	if m.SignHeader {
		h.Write(m.Trailer)
	}
}
