package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// Every archive has its own check, in places that readers of tar pass over. A record "comment" of
// an extended header begins with formatComment; after it come, each behind "; ":
//
//	sha256 HEX                the sum of the member's own contents
//	previous sha256 HEX       that of the member before, which was too long to be known in time
//	previous incomplete HEX   the same, of a member whose end could not be read: it has zeros there
//
// The sums are those of the contents as stored: a sparse file's without its holes. The two blocks
// of zeros at the end are followed by one block of text, the trailer:
//
//	fsrvp-backup 1 end
//	members N
//	sha256 HEX                the sum of all but the contents: headers, extended headers, sparse maps
//	previous ...              as above, for the last member
const (
	formatComment = "fsrvp-backup 1"
	trailerTitle  = formatComment + " end"
	keyComment    = "comment"
)

// previousSum is what is known of a member behind its contents.
type previousSum struct {
	sum        []byte // nil: none
	incomplete bool
}

func (p previousSum) String() string {
	word := "sha256"
	if p.incomplete {
		word = "incomplete"
	}
	return "previous " + word + " " + hex.EncodeToString(p.sum)
}

// A scanner reads an archive of this program, and checks all of it.
type scanner struct {
	r       io.Reader
	index   hash.Hash // of all but contents
	members int64
	count   int64 // blocks of headers are at this offset, for errors

	current *scanned
	left    int64 // of the contents of current
	content hash.Hash
	pending *scanned // its sum comes behind it
	settle  func(*scanned, verdict)
	ended   bool
}

// scanned is a member of the archive, as it was read.
type scanned struct {
	member
	records map[string]string
	sum     []byte // of its contents, from its own header; nil: it comes later
	got     []byte // of its contents, as read
}

// A verdict is what the sum of a member says of it.
type verdict int

const (
	intact verdict = iota
	damaged
	incomplete // it was so when it was archived
	unchecked  // it has no sum
)

// newScanner returns a scanner. Settle is called once for every regular file, behind it, in their
// order.
func newScanner(r io.Reader, settle func(*scanned, verdict)) *scanner {
	return &scanner{r: r, index: sha256.New(), content: sha256.New(), settle: settle}
}

var errForeign = errors.New("it is no archive of fsrvp-backup, or its beginning is damaged; tar reads others")

func (s *scanner) fail(format string, args ...any) error {
	return fmt.Errorf("at byte %d of the archive: %w", s.count, fmt.Errorf(format, args...))
}

// read reads a piece of what is no contents.
func (s *scanner) read(n int64) ([]byte, error) {
	b := make([]byte, n)
	m, err := io.ReadFull(s.r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, s.fail("the archive ends here, before its end: it was cut, or never finished")
	}
	s.count += int64(m)
	return b, err
}

// next returns the next member, io.EOF behind the last one when the archive as a whole is what was
// written.
func (s *scanner) next() (*scanned, error) {
	if s.ended {
		return nil, io.EOF
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	records := map[string]string{}
	for {
		b, err := s.read(blockSize)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(b, make([]byte, blockSize)) {
			return nil, s.trailer()
		}
		m, size, err := parseBlock(b)
		if err != nil {
			if s.members == 0 {
				return nil, errForeign
			}
			return nil, s.fail("%w: the archive is damaged", err)
		}
		s.index.Write(b)
		if m.kind != typePAX {
			return s.member(m, size, records)
		}
		if size > maxRecords {
			return nil, s.fail("an extended header of %d bytes; %d is the most", size, maxRecords)
		}
		body, err := s.read(size + padding(size))
		if err != nil {
			return nil, err
		}
		s.index.Write(body)
		if records, err = parseRecords(body[:size]); err != nil {
			return nil, s.fail("%w: the archive is damaged", err)
		}
	}
}

// member makes the member of a header and its records, and reads a sparse map.
func (s *scanner) member(m member, size int64, records map[string]string) (*scanned, error) {
	out := &scanned{member: m, records: records}
	var previous previousSum
	if err := s.comment(out, records[keyComment], &previous); err != nil {
		return nil, err
	}
	if s.members == 0 && !strings.HasPrefix(records[keyComment], formatComment) {
		return nil, errForeign
	}
	if err := s.settlePending(previous); err != nil {
		return nil, err
	}
	s.members++
	if err := out.apply(records, &size); err != nil {
		return nil, s.fail("%w", err)
	}
	if out.kind != typeFile {
		size = 0
	}
	out.size = size
	if _, ok := records["GNU.sparse.major"]; ok && out.kind == typeFile {
		if err := s.sparse(out, records, &size); err != nil {
			return nil, err
		}
	}
	s.current, s.left = out, size
	s.content.Reset()
	return out, nil
}

// comment takes what the record says of this member and of the one before.
func (s *scanner) comment(m *scanned, text string, previous *previousSum) error {
	for part := range strings.SplitSeq(text, "; ") {
		switch words := strings.Fields(part); {
		case len(words) == 2 && words[0] == "sha256":
			sum, err := hex.DecodeString(words[1])
			if err != nil || len(sum) != sha256.Size {
				return s.fail("the sum of a member is %q", words[1])
			}
			m.sum = sum
		case len(words) == 3 && words[0] == "previous":
			sum, err := hex.DecodeString(words[2])
			if err != nil || len(sum) != sha256.Size || words[1] != "sha256" && words[1] != "incomplete" {
				return s.fail("the sum of a member is %q", part)
			}
			*previous = previousSum{sum, words[1] == "incomplete"}
		}
	}
	return nil
}

// settlePending says how the member before is, whose sum has come now.
func (s *scanner) settlePending(p previousSum) error {
	m := s.pending
	if m == nil {
		if p.sum != nil {
			return s.fail("a sum for a member that is not there: the archive is damaged")
		}
		return nil
	}
	s.pending = nil
	switch {
	case p.sum == nil:
		s.settle(m, unchecked)
	case !bytes.Equal(p.sum, m.got):
		s.settle(m, damaged)
	case p.incomplete:
		s.settle(m, incomplete)
	default:
		s.settle(m, intact)
	}
	return nil
}

// finish reads what is left of the current member, and its padding.
func (s *scanner) finish() error {
	m := s.current
	if m == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	s.current = nil
	padded := padding(m.stored())
	b, err := s.read(padded)
	if err != nil {
		return err
	}
	s.index.Write(b)
	if m.kind != typeFile {
		return nil
	}
	m.got = s.content.Sum(nil)
	switch {
	case m.sum == nil:
		s.pending = m
	case bytes.Equal(m.sum, m.got):
		s.settle(m, intact)
	default:
		s.settle(m, damaged)
	}
	return nil
}

// Read reads the contents of the current member as they are stored.
func (s *scanner) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	s.count += int64(n)
	s.content.Write(b[:n])
	if errors.Is(err, io.EOF) {
		err = nil
		if n == 0 {
			return 0, s.fail("the archive ends here, before its end: it was cut, or never finished")
		}
	}
	return n, err
}

// trailer checks what comes behind the first block of zeros.
func (s *scanner) trailer() error {
	zero, err := s.read(blockSize)
	if err != nil {
		return err
	}
	b, err := s.read(blockSize)
	if err != nil {
		return err
	}
	if !bytes.Equal(zero, make([]byte, blockSize)) {
		return s.fail("the archive's end is damaged")
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n\x00"), "\n")
	if lines[0] != trailerTitle {
		if s.members == 0 {
			return errForeign
		}
		return s.fail("the archive has no check at its end: it is damaged, or was written anew by another program")
	}
	var members int64 = -1
	var sum string
	var previous previousSum
	for _, line := range lines[1:] {
		switch words := strings.Fields(line); {
		case len(words) == 2 && words[0] == "members":
			members, err = strconv.ParseInt(words[1], 10, 64)
			if err != nil {
				return s.fail("the archive's end is damaged")
			}
		case len(words) == 2 && words[0] == "sha256":
			sum = words[1]
		case len(words) == 3 && words[0] == "previous":
			if err := s.comment(nil, line, &previous); err != nil {
				return err
			}
		}
	}
	if err := s.settlePending(previous); err != nil {
		return err
	}
	if members != s.members {
		return s.fail("the archive has %d members; it had %d when it was written", s.members, members)
	}
	if sum != hex.EncodeToString(s.index.Sum(nil)) {
		return s.fail("names, attributes or holes of some members are not those that were archived")
	}
	s.ended = true
	if _, err := io.Copy(io.Discard, s.r); err != nil {
		return err
	}
	return io.EOF
}

// parseBlock reads a header, and returns the size of what comes behind it.
func parseBlock(b []byte) (member, int64, error) {
	var m member
	sum, err := parseOctal(b[148:156])
	if err != nil || sum != checksum(b) || string(b[257:262]) != "ustar" {
		return m, 0, errors.New("here is no header of a member")
	}
	var size, uid, gid, seconds int64
	for _, f := range []struct {
		field []byte
		value *int64
	}{
		{b[100:108], &m.mode}, {b[108:116], &uid}, {b[116:124], &gid}, {b[124:136], &size}, {b[136:148], &seconds},
		{b[329:337], &m.major}, {b[337:345], &m.minor},
	} {
		if *f.value, err = parseOctal(f.field); err != nil {
			return m, 0, err
		}
	}
	m.uid, m.gid, m.modified = int(uid), int(gid), time.Unix(seconds, 0)
	m.name, m.link, m.user, m.group = cString(b[0:100]), cString(b[157:257]), cString(b[265:297]), cString(b[297:329])
	m.kind = b[156]
	return m, size, nil
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

func parseOctal(b []byte) (int64, error) {
	s := strings.Trim(string(b), " \x00")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 8, 63)
	if err != nil {
		return 0, fmt.Errorf("a number of a header is %q", s)
	}
	return int64(n), nil
}

var keyUnescapes = strings.NewReplacer("%3D", "=", "%25", "%")

// parseRecords reads an extended header. The last record of a key holds.
func parseRecords(b []byte) (map[string]string, error) {
	records := map[string]string{}
	bad := errors.New("an extended header is no list of records")
	for len(b) > 0 {
		digits, _, ok := bytes.Cut(b[:min(len(b), 12)], []byte(" "))
		if !ok {
			return nil, bad
		}
		n, err := strconv.ParseUint(string(digits), 10, 31)
		if err != nil || n > uint64(len(b)) || n < uint64(len(digits))+3 || b[n-1] != '\n' {
			return nil, bad
		}
		key, value, ok := strings.Cut(string(b[len(digits)+1:n-1]), "=")
		if !ok {
			return nil, bad
		}
		records[keyUnescapes.Replace(key)] = value
		b = b[n:]
	}
	return records, nil
}

// apply has the records overrule the header.
func (m *scanned) apply(records map[string]string, size *int64) error {
	for _, f := range []struct {
		key   string
		field *string
	}{{"path", &m.name}, {"linkpath", &m.link}, {"uname", &m.user}, {"gname", &m.group}, {"GNU.sparse.name", &m.name}} {
		if v, ok := records[f.key]; ok {
			*f.field = v
		}
	}
	for key, set := range map[string]func(int64){
		"size": func(n int64) { *size = n }, "uid": func(n int64) { m.uid = int(n) }, "gid": func(n int64) { m.gid = int(n) },
	} {
		if v, ok := records[key]; ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 || key != "size" && n > math.MaxUint32 {
				return fmt.Errorf("%s of %q is %q", key, m.name, v)
			}
			set(n)
		}
	}
	for key, field := range map[string]*time.Time{"mtime": &m.modified, "atime": &m.accessed} {
		if v, ok := records[key]; ok {
			t, err := parsePAXTime(v)
			if err != nil {
				return fmt.Errorf("%s of %q: %w", key, m.name, err)
			}
			*field = t
		}
	}
	if m.kind == typeDir {
		m.name = strings.TrimSuffix(m.name, "/")
	}
	if strings.Contains(m.name, "\x00") || strings.Contains(m.link, "\x00") {
		return fmt.Errorf("the name %q", m.name)
	}
	return nil
}

func parsePAXTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	var nsec int64
	if err == nil && fraction != "" {
		nsec, err = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	}
	if err != nil || nsec < 0 {
		return time.Time{}, fmt.Errorf("%q is no time", s)
	}
	if strings.HasPrefix(whole, "-") {
		nsec = -nsec
	}
	return time.Unix(sec, nsec), nil
}

// sparse reads the map of a sparse file.
func (s *scanner) sparse(m *scanned, records map[string]string, size *int64) error {
	bad := func() error { return s.fail("the map of the sparse file %q is damaged", m.name) }
	realSize, err := strconv.ParseInt(records["GNU.sparse.realsize"], 10, 64)
	if err != nil || realSize < 0 || records["GNU.sparse.major"] != "1" || records["GNU.sparse.minor"] != "0" {
		return bad()
	}
	var text []byte
	number := func() (int64, bool) {
		for !bytes.Contains(text, []byte("\n")) {
			if *size < blockSize || len(text) > blockSize {
				return 0, false
			}
			b, err := s.read(blockSize)
			if err != nil {
				return 0, false
			}
			s.index.Write(b)
			*size -= blockSize
			text = append(text, b...)
		}
		digits, rest, _ := bytes.Cut(text, []byte("\n"))
		n, err := strconv.ParseInt(string(digits), 10, 64)
		text = rest
		return n, err == nil && n >= 0
	}
	count, ok := number()
	if !ok || count > maxExtents+1 {
		return bad()
	}
	m.extents = []extent{}
	stored := int64(0)
	for range count {
		offset, ok1 := number()
		length, ok2 := number()
		if !ok1 || !ok2 || offset < endOf(m.extents) || offset > realSize || length > realSize-offset {
			return bad()
		}
		if length > 0 {
			m.extents = append(m.extents, extent{offset, length})
			stored += length
		}
	}
	if stored != *size {
		return bad()
	}
	m.size = realSize
	return nil
}

// cleanName returns the name of a member below the directory that it is restored to.
func cleanName(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }
