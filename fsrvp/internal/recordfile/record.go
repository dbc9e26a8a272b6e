package recordfile

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// A Sum is the checksum of a record, over itself and all records before.
type Sum = [sumSize]byte

// AppendHeader and the functions below are for tables whose records are in separate files. A header
// names the kind and the identity of a table, and the sequence of the first record after it, which
// follows the header's sum.
func AppendHeader(b []byte, kind string, id uuid.UUID, base uint64) ([]byte, Sum) {
	h := header(kind, id, base)
	return append(b, h...), sum(h[headerSize-sumSize:])
}

// ParseHeader reads the header at the beginning of b, and returns the rest.
func ParseHeader(b []byte, kind string) (id uuid.UUID, base uint64, s Sum, rest []byte, err error) {
	c, err := parseStart(b, kind)
	if err != nil {
		return id, 0, s, nil, err
	}
	return c.id, c.base, c.file, b[headerSize:], nil
}

// AppendRecord appends the record of a change, which follows the one with the sum prev.
func AppendRecord(b []byte, prev Sum, seq uint64, c *Change) ([]byte, Sum) {
	rec, s := record(prev, seq, c.payload())
	return append(b, rec...), s
}

// ParseRecord reads a record, all of b, that follows the one with the sum prev.
func ParseRecord(b []byte, prev Sum, seq uint64) (Change, Sum, error) {
	r, ok := parseRecord(b)
	switch {
	case !ok || uint64(len(b)) != headSize+r.length:
		return Change{}, Sum{}, fmt.Errorf("it has %d bytes, which is not the size of change %d", len(b), seq)
	case !r.follows(seq, prev):
		return Change{}, Sum{}, fmt.Errorf("change %d is damaged, or does not follow the one before it", seq)
	}
	c := Change{Put: map[string][]byte{}}
	t := table{}
	if err := t.do(r.payload, func(dropped string) {
		delete(c.Put, dropped)
		c.Drop = append(c.Drop, dropped)
	}); err != nil {
		return Change{}, Sum{}, fmt.Errorf("change %d: %w", seq, err)
	}
	for k, v := range t {
		c.Put[k] = v
	}
	slices.Sort(c.Drop)
	return c, r.sum, nil
}
