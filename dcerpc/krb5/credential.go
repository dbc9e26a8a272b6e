package krb5

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/jcmturner/gokrb5/v8/crypto"
)

// A credential is what a client uses to prove its identity to a KDC.
type credential interface {
	// etypes returns the types in the list for which the credential has keys.
	etypes(list []Etype) []Etype
	// key returns the key of one type. Salt and params come from the KDC; they may be empty.
	key(e Etype, salt string, params []byte) (Key, error)
}

// A passwordCredential makes keys of every type (RFC 3961 section 3, string-to-key).
type passwordCredential struct {
	client   Principal
	password string
}

// maxIterations bounds the work that an unauthenticated answer of a KDC can cause, to a second or
// two.
const maxIterations = 1 << 22

func (p *passwordCredential) etypes(list []Etype) []Etype { return list }

func (p *passwordCredential) key(e Etype, salt string, params []byte) (Key, error) {
	et, err := crypto.GetEtype(int32(e))
	if err != nil {
		return Key{}, fmt.Errorf("krb5: %w: %w", ErrEtype, err)
	}
	if e == RC4HMAC {
		// MD4 of the UTF-16, with no salt (RFC 4757 section 2). gokrb5's own function is correct
		// only for ASCII.
		var b []byte
		for _, u := range utf16.Encode([]rune(p.password)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return Key{e, et.RandomToKey(b)}, nil
	}
	if salt == "" {
		salt = p.client.Realm + strings.Join(p.client.Name, "")
	}
	s2k := et.GetDefaultStringToKeyParams()
	if len(params) != 0 {
		if len(params) != 4 || binary.BigEndian.Uint32(params)-1 >= maxIterations {
			return Key{}, fmt.Errorf("krb5: %w: the KDC wants a key made with parameters %x", ErrToken, params)
		}
		s2k = hex.EncodeToString(params)
	}
	value, err := et.StringToKey(p.password, salt, s2k)
	if err != nil {
		return Key{}, fmt.Errorf("krb5: making a key of the password: %w", err)
	}
	return Key{e, value}, nil
}

// clientKeytab has the keys of one principal in a keytab.
type clientKeytab struct {
	client Principal
	keys   map[Etype]keytabEntry
}

func (k *clientKeytab) etypes(list []Etype) []Etype {
	return slices.DeleteFunc(slices.Clone(list), func(e Etype) bool { _, ok := k.keys[e]; return !ok })
}

func (k *clientKeytab) key(e Etype, _ string, _ []byte) (Key, error) {
	entry, ok := k.keys[e]
	if !ok {
		return Key{}, fmt.Errorf("krb5: %w: %v, %v; export the keytab again", ErrNoKey, k.client, e)
	}
	return entry.key, nil
}
