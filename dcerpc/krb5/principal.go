package krb5

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/types"
)

// A Principal names a user or a service in a realm (RFC 4120 section 6).
type Principal struct {
	Name  []string // "backup"; "host", "fs1.example.com"
	Realm string   // in capitals, by convention; may be empty if a default is known
}

// ParsePrincipal reads "backup@EXAMPLE.COM" or "host/fs1.example.com"; without an "@" the realm is
// empty. A backslash makes the character after it part of a name, as in MIT's tools. Errors match
// [ErrConfig].
func ParsePrincipal(s string) (Principal, error) {
	var p Principal
	var part strings.Builder
	inRealm := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			part.WriteByte(unescapePrincipal(s[i]))
		case c == '/' && !inRealm:
			p.Name = append(p.Name, part.String())
			part.Reset()
		case c == '@' && !inRealm:
			p.Name = append(p.Name, part.String())
			part.Reset()
			inRealm = true
		case c == '@':
			return Principal{}, fmt.Errorf("krb5: %w: principal %q has two realms", ErrConfig, s)
		default:
			part.WriteByte(c)
		}
	}
	if inRealm {
		p.Realm = part.String()
	} else {
		p.Name = append(p.Name, part.String())
	}
	for _, n := range p.Name {
		if n == "" {
			return Principal{}, fmt.Errorf("krb5: %w: principal %q has an empty name", ErrConfig, s)
		}
	}
	if inRealm && p.Realm == "" {
		return Principal{}, fmt.Errorf("krb5: %w: principal %q has an empty realm", ErrConfig, s)
	}
	return p, nil
}

func unescapePrincipal(c byte) byte {
	switch c {
	case 't':
		return '\t'
	case 'n':
		return '\n'
	case 'b':
		return '\b'
	case '0':
		return 0
	}
	return c
}

// principalEscapes prevents a name with an "@" in it from looking like a name in another realm. It
// writes such names as MIT does.
func principalEscapes() *strings.Replacer {
	return strings.NewReplacer(`\`, `\\`, `/`, `\/`, `@`, `\@`, "\t", `\t`, "\n", `\n`, "\b", `\b`, "\x00", `\0`)
}

// String returns the form that [ParsePrincipal] reads.
func (p Principal) String() string {
	s := p.name()
	if p.Realm != "" {
		s += "@" + principalEscapes().Replace(p.Realm)
	}
	return s
}

// name returns the result of String without the realm.
func (p Principal) name() string {
	r := principalEscapes()
	parts := make([]string, len(p.Name))
	for i, n := range p.Name {
		parts[i] = r.Replace(n)
	}
	return strings.Join(parts, "/")
}

// equalFold compares principals, ignoring the case of ASCII letters only. By Unicode's rules the
// Kelvin sign would equal a k.
func (p Principal) equalFold(q Principal) bool {
	return equalFoldASCII(p.Realm, q.Realm) && slices.EqualFunc(p.Name, q.Name, equalFoldASCII)
}

func equalFoldASCII(s, t string) bool {
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(t[i]) {
			return false
		}
	}
	return true
}

func (p Principal) equal(q Principal) bool {
	return p.Realm == q.Realm && slices.Equal(p.Name, q.Name)
}

// wire returns the name in the form of messages, with type NT-SRV-INST for a service and
// NT-PRINCIPAL for a user.
func (p Principal) wire() types.PrincipalName {
	n := types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: p.Name}
	if len(p.Name) > 1 {
		n.NameType = nametype.KRB_NT_SRV_INST
	}
	return n
}

// A Key is a key of one encryption type.
type Key struct {
	Etype Etype
	Value []byte
}

func (k Key) wire() types.EncryptionKey {
	return types.EncryptionKey{KeyType: int32(k.Etype), KeyValue: k.Value}
}

// String does not show the key.
func (k Key) String() string { return fmt.Sprintf("%v key", k.Etype) }

// Format keeps the key out of the output of every verb, including %v and %x.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }
