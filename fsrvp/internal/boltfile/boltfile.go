// Package boltfile reads bbolt files, in which older agents and providers kept their tables. It
// checks every page that the current meta page leads to, and the free list. Where bbolt panics,
// faults or recurses without end on a damaged file, it returns an error.
package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

// The format is that of bbolt's file version 2, in the machine's byte order:
//
//	page    | id 8 | flags 2 | count 2 | overflow 4 | elements, then their data
//	branch  element | pos 4 | ksize 4 | child page 8 |         pos is relative to the element
//	leaf    element | flags 4 | pos 4 | ksize 4 | vsize 4 |    flags 1: the value is a bucket
//	bucket  | root page 8 | sequence 8 | and, for root 0, a leaf page
//	meta    | magic 4 | version 4 | page size 4 | flags 4 | root bucket 16 | freelist 8 | pages 8 | txid 8 | checksum 8 |
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltHeader     = 16
	boltMeta       = 64
	boltBucket     = 16
	flagBranch     = 0x01
	flagLeaf       = 0x02
	flagFreelist   = 0x10
	flagBucketLeaf = 0x01

	// bbolt's trees of a file that fits into memory are not nearly as deep.
	maxDepth = 32
)

var native = binary.NativeEndian

// boltFile is a file during the check.
type boltFile struct {
	data     []byte
	pageSize uint64
	pages    uint64          // pages that the current meta page knows of
	seen     map[uint64]bool // pages that were reached
	found    map[string]map[string][]byte
}

// Read returns the contents of the buckets of a file. It refuses nested buckets.
func Read(data []byte) (map[string]map[string][]byte, error) {
	f := &boltFile{data: data, seen: map[uint64]bool{}, found: map[string]map[string][]byte{}}
	meta, err := f.meta()
	if err != nil {
		return nil, err
	}
	if err := f.bucket(meta[16:32], 0, nil); err != nil {
		return nil, err
	}
	if err := f.freelist(native.Uint64(meta[32:])); err != nil {
		return nil, err
	}
	return f.found, nil
}

// meta finds the current meta page, as bbolt does: the one with the higher transaction id that is
// whole.
func (f *boltFile) meta() ([]byte, error) {
	size, err := f.findPageSize()
	if err != nil {
		return nil, err
	}
	f.pageSize = size
	var current []byte
	for page := range uint64(2) {
		m := f.metaAt(page * size)
		if m != nil && uint64(native.Uint32(m[8:])) == size &&
			(current == nil || native.Uint64(m[48:]) > native.Uint64(current[48:])) {
			current = m
		}
	}
	if current == nil {
		return nil, errors.New("it has no meta page")
	}
	f.pages = native.Uint64(current[40:])
	if f.pages < 3 || f.pages > uint64(len(f.data))/size {
		return nil, fmt.Errorf("it has %d bytes for %d pages of %d", len(f.data), f.pages, size)
	}
	return current, nil
}

// findPageSize takes the page size from the first meta page, or from the second at any of its
// possible places.
func (f *boltFile) findPageSize() (uint64, error) {
	at := []uint64{0}
	for shift := range 15 {
		at = append(at, 1024<<shift)
	}
	for _, offset := range at {
		m := f.metaAt(offset)
		if m == nil {
			continue
		}
		size := uint64(native.Uint32(m[8:]))
		if size < 1024 || size > 1<<24 || size&(size-1) != 0 || (offset != 0 && offset != size) {
			return 0, fmt.Errorf("it has pages of %d bytes", size)
		}
		return size, nil
	}
	return 0, errors.New("it is not a bbolt file")
}

// metaAt returns the meta page at an offset, nil if there is none.
func (f *boltFile) metaAt(offset uint64) []byte {
	if uint64(len(f.data)) < offset+boltHeader+boltMeta {
		return nil
	}
	m := f.data[offset+boltHeader:][:boltMeta]
	sum := fnv.New64a()
	sum.Write(m[:boltMeta-8])
	if native.Uint32(m) != boltMagic || native.Uint32(m[4:]) != boltVersion ||
		native.Uint64(m[boltMeta-8:]) != sum.Sum64() {
		return nil
	}
	return m
}

// page returns a page with its overflow pages, and marks them as reached.
func (f *boltFile) page(id uint64) ([]byte, error) {
	if id < 2 || id >= f.pages {
		return nil, fmt.Errorf("page %d of %d", id, f.pages)
	}
	p := f.data[id*f.pageSize:]
	n := uint64(native.Uint32(p[12:])) + 1
	if native.Uint64(p) != id || n > f.pages-id {
		return nil, fmt.Errorf("page %d is not whole", id)
	}
	for i := id; i < id+n; i++ {
		if f.seen[i] {
			return nil, fmt.Errorf("page %d is used twice", i)
		}
		f.seen[i] = true
	}
	return p[:n*f.pageSize], nil
}

// bucket reads a bucket, given its header and the bytes after it; into is nil for the root bucket.
func (f *boltFile) bucket(b []byte, depth int, into map[string][]byte) error {
	if len(b) < boltBucket {
		return errors.New("a bucket is too short")
	}
	root := native.Uint64(b)
	if root != 0 {
		return f.tree(root, depth+1, into)
	}
	inline := b[boltBucket:]
	if len(inline) < boltHeader || native.Uint16(inline[8:]) != flagLeaf {
		return errors.New("an inline bucket is not a leaf")
	}
	return f.leaf(inline, depth+1, into)
}

func (f *boltFile) tree(id uint64, depth int, into map[string][]byte) error {
	if depth > maxDepth {
		return fmt.Errorf("it is more than %d pages deep", maxDepth)
	}
	p, err := f.page(id)
	if err != nil {
		return err
	}
	switch flags := native.Uint16(p[8:]); flags {
	case flagBranch:
		err = f.branch(p, depth, into)
	case flagLeaf:
		err = f.leaf(p, depth, into)
	default:
		err = fmt.Errorf("flags %#x", flags)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// elements calls f with each element of a page and its data: size bytes of element, data of the
// length that dataLen gives at the position that is at pos in the element. The keys, ksize bytes
// long, ascend.
func elements(p []byte, pos int, dataLen func(e []byte) (key, all uint64),
	each func(e, key, value []byte) error) error {
	const size = 16
	count := int(native.Uint16(p[10:]))
	if boltHeader+count*size > len(p) {
		return fmt.Errorf("%d elements", count)
	}
	var last []byte
	for i := range count {
		at := p[boltHeader+i*size:]
		offset := uint64(native.Uint32(at[pos:]))
		key, all := dataLen(at)
		if offset < size || offset > uint64(len(at)) || all > uint64(len(at))-offset {
			return fmt.Errorf("element %d is not within the page", i)
		}
		data := at[offset:][:all]
		if i > 0 && bytes.Compare(last, data[:key]) >= 0 {
			return fmt.Errorf("element %d is not in order", i)
		}
		last = data[:key]
		if err := each(at[:size], data[:key], data[key:]); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

func (f *boltFile) branch(p []byte, depth int, into map[string][]byte) error {
	if native.Uint16(p[10:]) == 0 {
		return errors.New("a branch without elements")
	}
	return elements(p, 0,
		func(e []byte) (key, all uint64) { n := uint64(native.Uint32(e[4:])); return n, n },
		func(e, _, _ []byte) error { return f.tree(native.Uint64(e[8:]), depth+1, into) })
}

func (f *boltFile) leaf(p []byte, depth int, into map[string][]byte) error {
	return elements(p, 4,
		func(e []byte) (key, all uint64) {
			n := uint64(native.Uint32(e[8:]))
			return n, n + uint64(native.Uint32(e[12:]))
		},
		func(e, key, value []byte) error {
			if len(key) == 0 {
				return errors.New("an empty key")
			}
			switch flags := native.Uint32(e); {
			case flags == 0 && into != nil:
				into[string(key)] = bytes.Clone(value)
				return nil
			case flags == flagBucketLeaf && into == nil:
				values := map[string][]byte{}
				f.found[string(key)] = values
				return f.bucket(value, depth, values)
			default:
				return fmt.Errorf("flags %#x", flags)
			}
		})
}

// freelist checks that the free pages are unused.
func (f *boltFile) freelist(id uint64) error {
	p, err := f.page(id)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	if native.Uint16(p[8:]) != flagFreelist {
		return errors.New("the free list is not one")
	}
	ids, n := p[boltHeader:], uint64(native.Uint16(p[10:]))
	if n == 0xFFFF {
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return fmt.Errorf("free list of %d pages", n)
	}
	for i := range n {
		free := native.Uint64(ids[8*i:])
		if free < 2 || free >= f.pages || f.seen[free] {
			return fmt.Errorf("page %d of %d is not free", free, f.pages)
		}
		f.seen[free] = true
	}
	return nil
}
