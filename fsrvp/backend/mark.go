package backend

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// ErrForeign is what a backend refuses with to delete, replace or expose what carries another
// owner's mark.
var ErrForeign = errors.New("it belongs to another agent")

// An Owner is the id of an agent, made with its state: a UUID of version 8 (RFC 9562 5.8). Its
// first six bytes stand for the place of that state, and the others are random. The zero Owner is
// nobody.
type Owner uuid.UUID

// ownerPlace is how many bytes of an Owner stand for its place.
const ownerPlace = 6

// NewOwner returns a new id for an agent whose state is at the given place. Any text that names the
// machine and the state will do: the same text gives ids that [Owner.SamePlace] recognizes.
func NewOwner(place string) Owner {
	var o Owner
	rand.Read(o[ownerPlace:])
	sum := sha256.Sum256([]byte("go-fsrvp agent\x00" + place))
	copy(o[:ownerPlace], sum[:])
	o[6] = o[6]&0x0F | 0x80
	o[8] = o[8]&0x3F | 0x80
	return o
}

// IsZero reports whether o is nobody.
func (o Owner) IsZero() bool { return o == Owner{} }

// SamePlace reports whether both are ids of states at the same place, one after the other. Nobody
// is at no place.
func (o Owner) SamePlace(p Owner) bool {
	return !o.IsZero() && !p.IsZero() && [ownerPlace]byte(o[:]) == [ownerPlace]byte(p[:])
}

// String returns the UUID in lower case.
func (o Owner) String() string { return uuid.UUID(o).String() }

// MarshalText returns what String does.
func (o Owner) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads what MarshalText returns, and nothing else.
func (o *Owner) UnmarshalText(text []byte) error {
	u, err := uuid.ParseBytes(text)
	if err != nil || u.String() != string(text) {
		return fmt.Errorf("backend: %q is not the id of an agent", text)
	}
	*o = Owner(u)
	return nil
}

// A Mark is what a snapshot or an exposed share carries, in whatever way suits its backend: in its
// name, an attribute or a file beside it. The zero Mark is none: a backend leaves out what it would
// be written in.
type Mark struct {
	Owner Owner
	// Sequence is how many changes the owner's state had seen when the thing was about to be made,
	// zero where that is not known. A state that has seen fewer is an older one.
	Sequence uint64
}

// String returns the owner and, where it is known, the sequence after a dot,
// "01234567-...-89abcdef0123.42"; for the zero Mark nothing. It has no other characters than these
// and lower-case hexadecimal digits, so it suits the name of a file, and at most 57 of them.
func (m Mark) String() string {
	switch {
	case m == Mark{}:
		return ""
	case m.Sequence == 0:
		return m.Owner.String()
	}
	return m.Owner.String() + "." + strconv.FormatUint(m.Sequence, 10)
}

// ParseMark reads what [Mark.String] returns, and nothing else.
func ParseMark(s string) (Mark, error) {
	if s == "" {
		return Mark{}, nil
	}
	var m Mark
	owner, sequence, more := strings.Cut(s, ".")
	err := m.Owner.UnmarshalText([]byte(owner))
	if err == nil && more {
		m.Sequence, err = strconv.ParseUint(sequence, 10, 64)
	}
	if err != nil || m.String() != s {
		return Mark{}, fmt.Errorf("backend: %q is no mark of an agent's", s)
	}
	return m, nil
}

// Allows reports whether the owner may delete or replace what carries the mark: its own, and what
// carries none.
func (m Mark) Allows(owner Owner) bool { return m.Owner == owner || m == Mark{} }
