package krb5

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/jcmturner/gokrb5/v8/keytab"
)

// A Keytab holds long-term keys of principals. It does not change and is safe for concurrent use.
type Keytab struct {
	entries []keytabEntry
}

type keytabEntry struct {
	principal Principal
	kvno      uint32
	key       Key
}

// LoadKeytab reads a keytab file (MIT's format, versions 1 and 2).
func LoadKeytab(path string) (*Keytab, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("krb5: %w: the keytab cannot be read: %w", ErrConfig, err)
	}
	kt, err := ParseKeytab(b)
	if err != nil {
		return nil, fmt.Errorf("%w (file %s)", err, path)
	}
	return kt, nil
}

// ParseKeytab reads a keytab from memory. It does not retain b.
func ParseKeytab(b []byte) (*Keytab, error) {
	kt := keytab.New()
	// The library's error is left out because it quotes the keytab, including the keys.
	if err := kt.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("krb5: %w: not a keytab, or a part of one (%d bytes); export it again", ErrConfig,
			len(b))
	}
	return NewKeytab(kt), nil
}

// NewKeytab returns a Keytab with the entries of a keytab that gokrb5 has parsed or made.
func NewKeytab(kt *keytab.Keytab) *Keytab {
	k := &Keytab{}
	for _, e := range kt.Entries {
		k.entries = append(k.entries, keytabEntry{
			principal: Principal{Name: e.Principal.Components, Realm: e.Principal.Realm},
			kvno:      e.KVNO,
			key:       Key{Etype: Etype(e.Key.KeyType), Value: e.Key.KeyValue},
		})
	}
	return k
}

// Add returns a keytab with one additional key. The key's bytes are not copied.
func (k *Keytab) Add(p Principal, kvno uint32, key Key) *Keytab {
	return &Keytab{entries: append(k.entries[:len(k.entries):len(k.entries)], keytabEntry{p, kvno, key})}
}

// Principals returns the principals that have keys in the keytab, each once, in the keytab's order.
func (k *Keytab) Principals() []Principal {
	var out []Principal
	seen := make(map[string]bool)
	for _, e := range k.entries {
		if name := e.principal.String(); !seen[name] {
			seen[name] = true
			out = append(out, e.principal)
		}
	}
	return out
}

// sameVersion reports whether a keytab's key may have the version that a ticket names. Zero in
// either means unknown, and old keytabs hold no more than eight bits. A read-only domain controller
// puts its own number in the upper 16 bits of a ticket's (MS-KILE 3.1.5.8).
func (e *keytabEntry) sameVersion(kvno int) bool {
	n := uint32(kvno)
	return n == 0 || e.kvno == 0 || e.kvno == n || e.kvno == n&0xFF || e.kvno == n&0xFFFF
}

// clientKeys returns the newest key of p for each encryption type, in no particular order.
func (k *Keytab) clientKeys(p Principal) map[Etype]keytabEntry {
	keys := make(map[Etype]keytabEntry)
	for _, e := range k.entries {
		if !e.principal.equal(p) {
			continue
		}
		if have, ok := keys[e.key.Etype]; !ok || e.kvno >= have.kvno {
			keys[e.key.Etype] = e
		}
	}
	return keys
}

// AppendBinary appends the keytab as the content of a file, version 2:
//
//	05 02 | entries: size 4 | names 2 | realm | names | type 4 | time 4 | version 1 | etype 2 | key | version 4 |
//
// Strings and the key follow their length in 2 bytes; the time is zero. Anybody who can read the
// file has the keys.
func (k *Keytab) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, 5, 2)
	for _, e := range k.entries {
		size := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(e.principal.Name)))
		for _, s := range append([]string{e.principal.Realm}, e.principal.Name...) {
			if len(s) > 0x7FFF {
				return nil, fmt.Errorf("krb5: a name of %d bytes has no place in a keytab", len(s))
			}
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
			dst = append(dst, s...)
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(e.principal.wire().NameType))
		dst = binary.BigEndian.AppendUint32(dst, 0)
		dst = append(dst, byte(e.kvno))
		dst = binary.BigEndian.AppendUint16(dst, uint16(e.key.Etype))
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(e.key.Value)))
		dst = append(dst, e.key.Value...)
		dst = binary.BigEndian.AppendUint32(dst, e.kvno)
		binary.BigEndian.PutUint32(dst[size:], uint32(len(dst)-size-4))
	}
	return dst, nil
}
