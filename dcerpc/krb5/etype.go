package krb5

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/types"
)

// An Etype is an encryption type of Kerberos, by its number at IANA.
type Etype int32

// The encryption types of this package. RC4 is broken; only a field named InsecureRC4 can switch it
// on, not a list of types.
const (
	AES128SHA1 Etype = 17 // aes128-cts-hmac-sha1-96, RFC 3962
	AES256SHA1 Etype = 18 // aes256-cts-hmac-sha1-96, RFC 3962
	AES128SHA2 Etype = 19 // aes128-cts-hmac-sha256-128, RFC 8009
	AES256SHA2 Etype = 20 // aes256-cts-hmac-sha384-192, RFC 8009
	RC4HMAC    Etype = 23 // rc4-hmac, RFC 4757: only with InsecureRC4
)

// defaultEtypes returns the types that an initiator asks for and an acceptor accepts by default,
// the most common first: every KDC supports the types with SHA-1, but few support those with SHA-2.
func defaultEtypes() []Etype { return []Etype{AES256SHA1, AES128SHA1, AES256SHA2, AES128SHA2} }

// String returns the name that krb5.conf uses.
func (e Etype) String() string {
	if p, ok := profileOf(e); ok {
		return p.name
	}
	return fmt.Sprintf("etype %d", int32(e))
}

// A profile is what the package must know about an encryption type (RFC 3961 section 3).
type profile struct {
	name       string
	keySize    int
	macSize    int // of a checksum or an integrity tag, after truncation
	confounder int
	hash       func() hash.Hash
	// macOverCipher says that the tag covers the cipher text (RFC 8009), not the plain text.
	macOverCipher bool
	cksumType     int32 // of the type's keyed checksum
}

func profileOf(e Etype) (profile, bool) {
	switch e {
	case AES128SHA1:
		return profile{"aes128-cts-hmac-sha1-96", 16, 12, 16, sha1.New, false, 15}, true
	case AES256SHA1:
		return profile{"aes256-cts-hmac-sha1-96", 32, 12, 16, sha1.New, false, 16}, true
	case AES128SHA2:
		return profile{"aes128-cts-hmac-sha256-128", 16, 16, 16, sha256.New, true, 19}, true
	case AES256SHA2:
		return profile{"aes256-cts-hmac-sha384-192", 32, 24, 16, sha512.New384, true, 20}, true
	case RC4HMAC:
		return profile{"rc4-hmac", 16, 16, 8, md5.New, false, -138}, true
	}
	return profile{}, false
}

// checkEtype returns an error if a type may not be used.
func checkEtype(e Etype, allowed []Etype) error {
	if _, ok := profileOf(e); !ok || !slices.Contains(allowed, e) {
		return fmt.Errorf("krb5: %w: %v", ErrEtype, e)
	}
	return nil
}

// checkKey returns an error if a key that came in a message cannot be used.
func checkKey(key types.EncryptionKey, allowed []Etype) error {
	e := Etype(key.KeyType)
	if err := checkEtype(e, allowed); err != nil {
		return err
	}
	if p, _ := profileOf(e); len(key.KeyValue) != p.keySize {
		return fmt.Errorf("krb5: %w: key of %d bytes for %v", ErrToken, len(key.KeyValue), e)
	}
	return nil
}

// decrypt opens an EncryptedData of RFC 4120. It checks what gokrb5 takes for granted: that key and
// data have the same type, and that the cipher text is long enough.
func decrypt(ed types.EncryptedData, key types.EncryptionKey, usage uint32) ([]byte, error) {
	p, ok := profileOf(Etype(key.KeyType))
	switch {
	case !ok:
		return nil, fmt.Errorf("krb5: %w: %v", ErrEtype, Etype(key.KeyType))
	case ed.EType != key.KeyType:
		return nil, fmt.Errorf("krb5: %w: data of %v, key of %v", ErrEtype, Etype(ed.EType), Etype(key.KeyType))
	case len(key.KeyValue) != p.keySize:
		return nil, fmt.Errorf("krb5: %w: key of %d bytes for %v", ErrToken, len(key.KeyValue), Etype(key.KeyType))
	case len(ed.Cipher) < p.confounder+p.macSize:
		return nil, fmt.Errorf("krb5: %w: cipher text of %d bytes", ErrToken, len(ed.Cipher))
	}
	return crypto.DecryptEncPart(ed, key, usage)
}

// encrypt makes an EncryptedData of RFC 4120, with the number of the key's version if that is not
// zero.
func encrypt(plain []byte, key types.EncryptionKey, usage uint32, kvno int) (types.EncryptedData, error) {
	return crypto.GetEncryptedData(plain, key, usage, kvno)
}

// deriveKey derives the key for a usage: kind is 0x99 for Kc, 0xAA for Ke, 0x55 for Ki (RFC 3961
// section 5.3).
func deriveKey(key types.EncryptionKey, usage uint32, kind byte) ([]byte, error) {
	et, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	return et.DeriveKey(key.KeyValue, []byte{byte(usage >> 24), byte(usage >> 16), byte(usage >> 8), byte(usage), kind})
}
