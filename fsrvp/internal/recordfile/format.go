package recordfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// The format of a file. Numbers are in network byte order.
//
//	0      header   magic 16 | kind 16 | id 16 | base 8 | zeros | sum 32     sum of all before it
//	4096   slot 0   sum 32 | length 4 | record | anything                    of the newest record with an even sequence
//	12288  slot 1   the same, odd
//	20480  log      records, from base on without a gap, then zeros
//
//	record          length of payload 4 | sequence 8 | sum 32 | payload
//	payload         operations: length of key 4 | key | length of value 4 | value; 0xffffffff: the key is dropped
//
// The sum of a record is SHA-256 of the sum before it (the header's, for the first), its length,
// its sequence and its payload: so a record is valid at only one place of only one file.
//
// A change is one record, written to the end of the log and to its slot, and then one fdatasync. If
// a record is too long for a slot, the slot has only its head, which is written when the log is on
// stable storage. So after every acknowledged change both the log and the slot prove it, and
// neither can be truncated or rolled back without the other showing it. After a crash, a change
// that was not acknowledged is valid in neither, or complete in one. The first record has the whole
// table of the previous file, which it replaced by a rename.
const (
	magic  = magics + "1\n"
	magics = "fsrvp records " // of all versions of the format

	kindSize   = 16
	headerSize = 4096
	slotSize   = 8192
	logAt      = headerSize + 2*slotSize
	sumSize    = sha256.Size
	headSize   = 4 + 8 + sumSize        // of a record
	slotRoom   = slotSize - sumSize - 4 // for a record
	chunk      = 64 << 10               // the file grows in these steps

	noValue = 0xffffffff // the length that means no value

	// MaxSize is the size of the largest file that is opened, in bytes.
	MaxSize = 1 << 30
)

type sum = [sumSize]byte

// A table is the contents of a file.
type table map[string][]byte

// A Change is the effect of one Write, all of it or nothing.
type Change struct {
	Put  map[string][]byte
	Drop []string
}

// Empty reports whether the change does nothing.
func (c *Change) Empty() bool { return len(c.Put) == 0 && len(c.Drop) == 0 }

// Apply applies the change to a table, which then shares its values.
func (c *Change) Apply(records map[string][]byte) {
	for _, k := range c.Drop {
		delete(records, k)
	}
	for k, v := range c.Put {
		records[k] = v
	}
}

func (c *Change) payload() []byte {
	keys := make([]string, 0, len(c.Put))
	for k := range c.Put {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b []byte
	for _, k := range c.Drop {
		b = appendString(b, k)
		b = binary.BigEndian.AppendUint32(b, noValue)
	}
	for _, k := range keys {
		b = appendString(b, k)
		b = appendString(b, c.Put[k])
	}
	return b
}

func appendString[S string | []byte](b []byte, s S) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// do applies a payload's operations, and calls dropped, if it is not nil, for each dropped key. It
// fails for an invalid payload.
func (t table) do(payload []byte, dropped func(key string)) error {
	errCut := errors.New("an operation is cut off")
	next := func() (uint32, bool) {
		if len(payload) < 4 {
			return 0, false
		}
		n := binary.BigEndian.Uint32(payload)
		payload = payload[4:]
		return n, true
	}
	for len(payload) > 0 {
		n, ok := next()
		if !ok || uint64(n) > uint64(len(payload)) {
			return errCut
		}
		key := string(payload[:n])
		payload = payload[n:]
		n, ok = next()
		if !ok {
			return errCut
		}
		if n == noValue {
			delete(t, key)
			if dropped != nil {
				dropped(key)
			}
			continue
		}
		if uint64(n) > uint64(len(payload)) {
			return errCut
		}
		t[key] = slices.Clone(payload[:n])
		payload = payload[n:]
	}
	return nil
}

// size returns the size of a record with the whole table.
func (t table) size() int {
	n := headSize
	for k, v := range t {
		n += 8 + len(k) + len(v)
	}
	return n
}

func header(kind string, id uuid.UUID, base uint64) []byte {
	b := make([]byte, headerSize)
	copy(b, magic)
	copy(b[16:16+kindSize], kind)
	copy(b[32:], id[:])
	binary.BigEndian.PutUint64(b[48:], base)
	s := sha256.Sum256(b[:headerSize-sumSize])
	copy(b[headerSize-sumSize:], s[:])
	return b
}

// record makes a record, and also returns its sum.
func record(prev sum, seq uint64, payload []byte) ([]byte, sum) {
	b := make([]byte, 0, headSize+len(payload))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint64(b, seq)
	s := chain(prev, b, payload)
	b = append(b, s[:]...)
	return append(b, payload...), s
}

func chain(prev sum, head, payload []byte) (s sum) {
	h := sha256.New()
	h.Write(prev[:])
	h.Write(head)
	h.Write(payload)
	h.Sum(s[:0])
	return s
}

// slot makes the used part of a slot for a record, with its payload if there is room.
func slot(file sum, rec []byte) []byte {
	if len(rec) > slotRoom {
		rec = rec[:headSize]
	}
	b := make([]byte, sumSize, sumSize+4+len(rec))
	b = appendString(b, rec)
	s := chain(file, nil, b[sumSize:])
	copy(b, s[:])
	return b
}

// slotAt returns the offset of the slot of a sequence.
func slotAt(seq uint64) int64 { return headerSize + int64(seq%2)*slotSize }

// A parsed is a record as read from a file.
type parsed struct {
	seq     uint64
	sum     sum
	length  uint64
	payload []byte // nil if it is not here
	head    []byte
}

// parseRecord reads a record at the beginning of b, which may be incomplete.
func parseRecord(b []byte) (r parsed, ok bool) {
	if len(b) < headSize {
		return r, false
	}
	r.length = uint64(binary.BigEndian.Uint32(b))
	r.seq = binary.BigEndian.Uint64(b[4:])
	r.head = b[:12]
	copy(r.sum[:], b[12:])
	if rest := b[headSize:]; r.length <= uint64(len(rest)) {
		r.payload = rest[:r.length:r.length]
	}
	return r, true
}

// follows reports whether the record is the one after another.
func (r *parsed) follows(seq uint64, prev sum) bool {
	return r.payload != nil && r.seq == seq && chain(prev, r.head, r.payload) == r.sum
}

// parseSlot reads a slot. It returns false for one that is damaged, or has not been written.
func parseSlot(file sum, b []byte) (r parsed, ok bool) {
	n := uint64(binary.BigEndian.Uint32(b[sumSize:]))
	if n < headSize || n > slotRoom {
		return r, false
	}
	used := b[sumSize : sumSize+4+n]
	if chain(file, nil, used) != sum(b[:sumSize]) {
		return r, false
	}
	return parseRecord(used[4:])
}

// contents is the parsed contents of a file.
type contents struct {
	id     uuid.UUID
	base   uint64
	file   sum    // of the header
	seq    uint64 // of the newest record
	last   sum    // its sum
	end    int    // of the log
	clean  bool   // only zeros follow the log
	table  table
	broken bool // not even the header could be read
}

// errForeign is what parse returns for a file of another format.
var errForeign = errors.New("it is not a file of this format")

// parse reads a file. Even with an error it returns what is known: the table as far as the log
// could be read.
func parse(data []byte, kind string) (c contents, err error) {
	if c, err = parseStart(data, kind); err != nil {
		return c, err
	}
	if len(data) < logAt {
		return c, fmt.Errorf("it is cut off after %d bytes, before its log", len(data))
	}
	if err := c.readLog(data); err != nil {
		return c, err
	}
	return c, c.readSlots(data)
}

// parseStart reads a file's header.
func parseStart(data []byte, kind string) (c contents, err error) {
	c = contents{table: table{}, broken: true}
	if len(data) < len(magic) || string(data[:len(magic)]) != magic {
		if bytes.HasPrefix(data, []byte(magics)) {
			return c, errors.New("its format is not known: it was written by another version of this program, or its first bytes are damaged")
		}
		return c, errForeign
	}
	if len(data) < headerSize {
		return c, fmt.Errorf("it has %d bytes, its header alone is %d", len(data), headerSize)
	}
	c.file = sha256.Sum256(data[:headerSize-sumSize])
	if c.file != sum(data[headerSize-sumSize:headerSize]) {
		return c, errors.New("its header is damaged")
	}
	if have := string(bytes.TrimRight(data[16:16+kindSize], "\x00")); have != kind {
		return c, fmt.Errorf("it is the file of a %s, not of a %s", have, kind)
	}
	c.broken = false
	copy(c.id[:], data[32:])
	c.base = binary.BigEndian.Uint64(data[48:])
	return c, nil
}

// readLog applies the records of the log up to the first that does not follow.
func (c *contents) readLog(data []byte) error {
	c.seq, c.last, c.end = c.base-1, c.file, logAt
	for {
		r, ok := parseRecord(data[c.end:])
		if !ok || !r.follows(c.seq+1, c.last) {
			break
		}
		if err := c.table.do(r.payload, nil); err != nil {
			return fmt.Errorf("change %d at byte %d: %w", r.seq, c.end, err)
		}
		c.seq, c.last, c.end = r.seq, r.sum, c.end+headSize+len(r.payload)
	}
	c.clean = len(bytes.TrimLeft(data[c.end:], "\x00")) == 0
	if c.seq+1 == c.base {
		return fmt.Errorf("its first record, change %d at byte %d, is damaged", c.base, logAt)
	}
	return nil
}

// readSlots proves the end of the log with the slots, or applies a record that only they have.
func (c *contents) readSlots(data []byte) error {
	var slots []parsed
	for i := range 2 {
		at := headerSize + i*slotSize
		if r, ok := parseSlot(c.file, data[at:at+slotSize]); ok {
			slots = append(slots, r)
		}
	}
	if len(slots) == 2 && slots[0].seq > slots[1].seq {
		slots[0], slots[1] = slots[1], slots[0]
	}
	if len(slots) == 0 {
		return errors.New("both slots, which prove the end of its log, are damaged")
	}
	newest := slots[len(slots)-1].seq
	for _, r := range slots {
		switch {
		case r.seq < c.seq:
		case r.seq == c.seq && r.sum == c.last:
		case r.seq == c.seq+1 && r.follows(r.seq, c.last):
			if err := c.table.do(r.payload, nil); err != nil {
				return fmt.Errorf("change %d: %w", r.seq, err)
			}
			c.seq, c.last, c.clean = r.seq, r.sum, false
		default:
			return fmt.Errorf("change %d at byte %d is lost or damaged; %d is the last", c.seq+1, c.end, newest)
		}
	}
	if newest+1 < c.seq {
		return fmt.Errorf("its log goes to change %d, the slots that prove it to %d", c.seq, newest)
	}
	return nil
}
