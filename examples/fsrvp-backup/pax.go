package main

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The types of members (POSIX pax, "ustar Interchange Format").
const (
	typeFile    = '0'
	typeLink    = '1' // one more name of a file
	typeSymlink = '2'
	typeChar    = '3'
	typeBlock   = '4'
	typeDir     = '5'
	typeFIFO    = '6'
	typePAX     = 'x'
)

const (
	blockSize = 512
	// recordSize is what an archive's size is a multiple of, and what a tape gets at once (tar -b
	// 20).
	recordSize = 20 * blockSize
	// maxRecords bounds the extended header of one member, in bytes: Go's and libarchive's readers
	// take no more.
	maxRecords = 1 << 20
	// maxExtents bounds a sparse map, so that it fits in what Go's reader takes.
	maxExtents = 32 << 10
)

// A member is one file of the archive, with all that is known of it.
type member struct {
	name     string // its bytes, without a slash at the end
	kind     byte
	mode     int64 // the 12 bits of Unix
	uid, gid int
	user     string
	group    string
	size     int64 // of the contents, with holes
	modified time.Time
	accessed time.Time // zero: not known
	link     string
	major    int64
	minor    int64
	// records are further ones of the extended header: "SCHILY.xattr.user.x" and the like.
	records []paxRecord
	// extents are what of a file is not a hole, in order. Nil: the file is not sparse.
	extents []extent
}

type paxRecord struct{ key, value string }

// An extent is a part of a file that has data.
type extent struct{ offset, length int64 }

func (m *member) add(key, value string) { m.records = append(m.records, paxRecord{key, value}) }

// stored returns how many bytes of contents the archive has, without a sparse map.
func (m *member) stored() int64 {
	if m.kind != typeFile {
		return 0
	}
	if m.extents == nil {
		return m.size
	}
	n := int64(0)
	for _, e := range m.extents {
		n += e.length
	}
	return n
}

// appendHeader appends all that goes ahead of the contents of m: the extended header, the header,
// and the map of a sparse file.
//
//	+---------+-----------------+--------+------------+----------+
//	| x 512   | records, padded | h 512  | sparse map | contents |
//	+---------+-----------------+--------+------------+----------+
func appendHeader(dst []byte, m *member) ([]byte, error) {
	h := *m
	if h.kind == typeDir {
		h.name += "/"
	}
	var records []paxRecord
	for _, s := range []string{h.name, h.link, h.user, h.group} {
		if !utf8.ValidString(s) {
			records = append(records, paxRecord{"hdrcharset", "BINARY"}) // names are bytes, in no code
			break
		}
	}
	add := func(key, value string) { records = append(records, paxRecord{key, value}) }
	var sparseMap []byte
	size := h.stored()
	if h.kind == typeFile && h.extents != nil {
		sparseMap = appendSparseMap(nil, h.extents, h.size)
		add("GNU.sparse.major", "1")
		add("GNU.sparse.minor", "0")
		add("GNU.sparse.name", h.name)
		add("GNU.sparse.realsize", strconv.FormatInt(h.size, 10))
		size += int64(len(sparseMap))
		h.name = path.Join(path.Dir(h.name), "GNUSparseFile.0", path.Base(h.name))
	} else if !plain(h.name, 100) {
		add("path", h.name)
	}
	if h.link != "" && !plain(h.link, 100) {
		add("linkpath", h.link)
	}
	if !plain(h.user, 31) {
		add("uname", h.user)
	}
	if !plain(h.group, 31) {
		add("gname", h.group)
	}
	for _, n := range []struct {
		key   string
		value int64
		most  int64
	}{{"size", size, 1<<33 - 1}, {"uid", int64(uint32(h.uid)), 1<<21 - 1}, {"gid", int64(uint32(h.gid)), 1<<21 - 1}} {
		if n.value < 0 || n.value > n.most {
			add(n.key, strconv.FormatInt(n.value, 10))
		}
	}
	if h.modified.Nanosecond() != 0 || h.modified.Unix() < 0 || h.modified.Unix() >= 1<<33 {
		add("mtime", paxTime(h.modified))
	}
	if !h.accessed.IsZero() {
		add("atime", paxTime(h.accessed))
	}
	records = append(records, h.records...)
	var body []byte
	for _, r := range records {
		body = appendRecord(body, r)
	}
	if len(body) > maxRecords {
		return nil, fmt.Errorf("its metadata takes %d bytes; %d is the most", len(body), maxRecords)
	}
	if len(body) > 0 {
		x := member{
			name: path.Join(path.Dir(m.name), "PaxHeaders.0",
				path.Base(m.name)), kind: typePAX, mode: 0o644, modified: h.modified,
		}
		dst = appendBlock(dst, &x, int64(len(body)))
		dst = pad(append(dst, body...))
	}
	dst = appendBlock(dst, &h, size)
	return append(dst, sparseMap...), nil
}

// plain reports whether a field of n bytes can have s as every reader understands it.
func plain(s string, n int) bool {
	if len(s) > n {
		return false
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || s[i] == 0 {
			return false
		}
	}
	return true
}

// keyEscapes is how GNU tar writes the names of extended attributes: a key ends at the first "=".
var keyEscapes = strings.NewReplacer("%", "%25", "=", "%3D")

// appendRecord appends "LENGTH KEY=VALUE\n", whose length counts itself.
func appendRecord(dst []byte, r paxRecord) []byte {
	key := keyEscapes.Replace(r.key)
	rest := len(key) + len(r.value) + 3 // blank, "=", newline
	n := rest + len(strconv.Itoa(rest))
	if len(strconv.Itoa(n)) != len(strconv.Itoa(rest)) {
		n = rest + len(strconv.Itoa(n))
	}
	return fmt.Appendf(dst, "%d %s=%s\n", n, key, r.value)
}

// paxTime returns seconds since 1970 with as many digits after the point as it takes.
func paxTime(t time.Time) string {
	sec, nsec, sign := t.Unix(), int64(t.Nanosecond()), ""
	if sec < 0 && nsec > 0 {
		sec, nsec = sec+1, 1e9-nsec
	}
	if sec <= 0 && t.Unix() < 0 {
		sec, sign = -sec, "-"
	}
	if nsec == 0 {
		return sign + strconv.FormatInt(sec, 10)
	}
	return sign + strconv.FormatInt(sec, 10) + "." + strings.TrimRight(fmt.Sprintf("%09d", nsec), "0")
}

// appendBlock appends the header of a member whose contents take size bytes. What a field cannot
// hold is in the extended header.
func appendBlock(dst []byte, m *member, size int64) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, blockSize)...)
	b := dst[start:]
	text := func(field []byte, s string) {
		n := 0
		for i := 0; i < len(s) && n < len(field); i++ {
			if c := s[i]; c < utf8.RuneSelf && c != 0 {
				field[n] = c
				n++
			}
		}
	}
	number := func(field []byte, v int64) { // octal digits, and NUL
		if v < 0 || v>>(3*(len(field)-1)) != 0 {
			v = 0
		}
		copy(field, fmt.Sprintf("%0*o", len(field)-1, v))
	}
	text(b[0:100], m.name)
	number(b[100:108], m.mode&0o7777)
	number(b[108:116], int64(uint32(m.uid)))
	number(b[116:124], int64(uint32(m.gid)))
	number(b[124:136], size)
	number(b[136:148], m.modified.Unix())
	b[156] = m.kind
	text(b[157:257], m.link)
	copy(b[257:], "ustar\x0000")
	text(b[265:296], m.user)
	text(b[297:328], m.group)
	if m.kind == typeChar || m.kind == typeBlock {
		number(b[329:337], m.major)
		number(b[337:345], m.minor)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", checksum(b)))
	return dst
}

// checksum is the sum of a header's bytes, those of the sum itself as blanks.
func checksum(b []byte) int64 {
	sum := int64(0)
	for i, c := range b[:blockSize] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	return sum
}

// pad appends zeros up to a whole block.
func pad(b []byte) []byte { return append(b, make([]byte, padding(int64(len(b))))...) }

// padding returns how many bytes n lacks to whole blocks.
func padding(n int64) int64 { return -n & (blockSize - 1) }

// appendSparseMap appends the map of a sparse file (GNU tar's format 1.0): the number of extents,
// then offset and length of each, in decimal, a newline after each number, and zeros up to a whole
// block. A hole at the end is an extent of length 0 there.
func appendSparseMap(dst []byte, extents []extent, size int64) []byte {
	all := extents
	if end := endOf(extents); end < size {
		all = append(slices.Clip(extents), extent{size, 0})
	}
	start := len(dst)
	dst = fmt.Appendf(dst, "%d\n", len(all))
	for _, e := range all {
		dst = fmt.Appendf(dst, "%d\n%d\n", e.offset, e.length)
	}
	return append(dst, make([]byte, padding(int64(len(dst)-start)))...)
}

func endOf(extents []extent) int64 {
	if len(extents) == 0 {
		return 0
	}
	last := extents[len(extents)-1]
	return last.offset + last.length
}

// sparseExtents returns what a sparse map says of a file of that size: extents in order, without
// the shortest holes between them where there are too many. It returns nil where a map would save
// nothing.
func sparseExtents(found []extent, size int64) []extent {
	var out []extent
	for gap := int64(blockSize); ; gap *= 2 {
		out = out[:0]
		for _, e := range found {
			end := size
			if e.offset < size && e.length < size-e.offset {
				end = e.offset + e.length
			}
			e.offset = max(e.offset, endOf(out)) // a server may give parts that overlap
			e.length = end - e.offset
			if e.length <= 0 {
				continue
			}
			if n := len(out); n > 0 && e.offset-endOf(out) < gap {
				out[n-1].length = e.offset + e.length - out[n-1].offset
				continue
			}
			out = append(out, e)
		}
		if len(out) <= maxExtents {
			break
		}
	}
	stored := int64(0)
	for _, e := range out {
		stored += e.length
	}
	if size-stored < 2*blockSize {
		return nil
	}
	if out == nil {
		out = []extent{} // one hole
	}
	return out
}
