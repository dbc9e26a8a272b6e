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

// ErrForeign means that a backend refused to delete, replace or expose something that carries
// another owner's mark.
var ErrForeign = errors.New("it belongs to another agent")

// An Owner is the id of an agent, made with its state: a UUID of version 8 (RFC 9562 5.8). Its
// first six bytes are derived from the place of that state, and the others are random. The zero
// Owner means none.
type Owner uuid.UUID

// ownerPlace is the number of bytes of an Owner that are derived from its place.
const ownerPlace = 6

// NewOwner returns a new id for an agent whose state is at the given place. The place is any text
// that names the machine and the state; [Owner.SamePlace] recognizes ids made for the same text.
func NewOwner(place string) Owner {
	var o Owner
	rand.Read(o[ownerPlace:])
	sum := sha256.Sum256([]byte("go-fsrvp agent\x00" + place))
	copy(o[:ownerPlace], sum[:])
	o[6] = o[6]&0x0F | 0x80
	o[8] = o[8]&0x3F | 0x80
	return o
}

// IsZero reports whether o is the zero Owner.
func (o Owner) IsZero() bool { return o == Owner{} }

// SamePlace reports whether o and p are ids of states at the same place, one after the other. The
// zero Owner has no place.
func (o Owner) SamePlace(p Owner) bool {
	return !o.IsZero() && !p.IsZero() && [ownerPlace]byte(o[:]) == [ownerPlace]byte(p[:])
}

// String returns the UUID in lower case.
func (o Owner) String() string { return uuid.UUID(o).String() }

// MarshalText returns the text of [Owner.String].
func (o Owner) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads only the form that [Owner.MarshalText] returns.
func (o *Owner) UnmarshalText(text []byte) error {
	u, err := uuid.ParseBytes(text)
	if err != nil || u.String() != string(text) {
		return fmt.Errorf("backend: %q is not the id of an agent", text)
	}
	*o = Owner(u)
	return nil
}

// A Mark says to whom a snapshot or an exposed share belongs. The backend stores it in its own way:
// in a name, an attribute or a file next to it. The zero Mark means none: the backend stores
// nothing.
type Mark struct {
	Owner Owner
	// Sequence is the number of changes to the owner's state before the snapshot or share was made,
	// zero if unknown. A state with fewer changes is an older one.
	Sequence uint64
}

// String returns the owner and, if it is known, a dot and the sequence,
// "01234567-...-89abcdef0123.42"; for the zero Mark the empty string. It contains at most 57
// characters, only dots, dashes and lower-case hexadecimal digits, so it can be part of a file
// name.
func (m Mark) String() string {
	switch {
	case m == Mark{}:
		return ""
	case m.Sequence == 0:
		return m.Owner.String()
	}
	return m.Owner.String() + "." + strconv.FormatUint(m.Sequence, 10)
}

// ParseMark reads only the form that [Mark.String] returns.
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
		return Mark{}, fmt.Errorf("backend: %q is not an agent's mark", s)
	}
	return m, nil
}

// Allows reports whether the owner may delete or replace a thing with this mark: its own, or one
// without a mark.
func (m Mark) Allows(owner Owner) bool { return m.Owner == owner || m == Mark{} }
