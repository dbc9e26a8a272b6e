package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// resum gives every header block of an archive its sum, so that what a fuzzer changes gets further
// than to there. It returns the same bytes for what is no archive.
func resum(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+blockSize <= len(b); at += blockSize {
		h := b[at : at+blockSize]
		if string(h[257:262]) == "ustar" {
			copy(h[148:156], "        ")
			copy(h[148:156], octalSum(h))
		}
	}
	return b
}

func octalSum(h []byte) []byte {
	sum, out := checksum(h), []byte("000000\x00 ")
	for i := 5; i >= 0; i-- {
		out[i], sum = byte('0'+sum&7), sum>>3
	}
	return out
}

// FuzzRestore restores archives of anybody's making. Nothing outside of the directory changes, and
// nothing that the archive says of sizes is believed before it is there.
func FuzzRestore(f *testing.F) {
	file := func(name string) node { return node{member: member{name: name, kind: typeFile, size: 4, mode: 0o644}} }
	sparse := node{member: member{name: "s", kind: typeFile, size: 4, mode: 0o600}}
	f.Add(seal(f, file("a"), file("../outside/b"), node{member: member{name: "d", kind: typeDir, mode: 0o700}}, file("d/c")))
	f.Add(seal(f, node{member: member{name: "l", kind: typeSymlink, link: "../outside"}}, file("l/x"),
		node{member: member{name: "h", kind: typeLink, link: "l/f"}}, sparse))
	f.Add(seal(f, node{member: member{name: "p", kind: typeFIFO}}, file("\xff"), node{member: member{
		name: "x", kind: typeDir, mode: 0o777, records: []paxRecord{{"SCHILY.xattr.user.a", "b"}, {"mtime", "1.5"}, {"GNU.sparse.major", "1"}},
	}}))
	base := f.TempDir()
	outside := filepath.Join(base, "outside")
	require.NoError(f, os.Mkdir(outside, 0o755))
	require.NoError(f, os.WriteFile(filepath.Join(outside, "f"), []byte("mine"), 0o600))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resum(b)
		to, err := os.MkdirTemp(base, "to")
		require.NoError(t, err)
		defer os.RemoveAll(to)
		root, err := os.OpenRoot(to)
		require.NoError(t, err)
		defer root.Close()
		r := newReading("fuzz", io.Discard)
		// Not as root: whoever may make devices makes them.
		x := &restorer{root: root, reading: r, buf: make([]byte, 1<<10), dirAt: map[string]int{}}
		x.scanner = newScanner(bytes.NewReader(b), r.settle)
		for err == nil {
			var m *scanned
			if m, err = x.scanner.next(); err == nil && m.kind != typeChar && m.kind != typeBlock {
				err = x.member(m)
			}
		}
		x.finishDirectories()
		entries, err := os.ReadDir(outside)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		mine, err := os.ReadFile(filepath.Join(outside, "f"))
		require.NoError(t, err)
		require.Equal(t, "mine", string(mine))
		info, err := os.Stat(outside)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	})
}

// TestTruncatedArchives restores an archive that ends too early, at the border of each block and at
// many bytes between: never as if it were whole.
func TestTruncatedArchives(t *testing.T) {
	archive := seal(t, node{member: member{name: "a", kind: typeFile, size: 4, mode: 0o600}},
		node{member: member{name: "d", kind: typeDir, mode: 0o700}}, node{member: member{name: "d/b", kind: typeFile, size: 4, mode: 0o600}})
	end := bytes.Index(archive, []byte(trailerTitle+"\n")) + blockSize
	for n := range end {
		if n%blockSize > 1 && n%blockSize < blockSize-1 && n%37 != 0 {
			continue
		}
		root, err := os.OpenRoot(t.TempDir())
		require.NoError(t, err)
		r := newReading("cut", io.Discard)
		x := &restorer{root: root, reading: r, buf: make([]byte, 1<<10), dirAt: map[string]int{}}
		x.scanner = newScanner(bytes.NewReader(archive[:n]), r.settle)
		for err == nil {
			var m *scanned
			if m, err = x.scanner.next(); err == nil {
				err = x.member(m)
			}
		}
		x.finishDirectories()
		require.Error(t, err)
		require.False(t, errors.Is(err, io.EOF), "cut to %d of %d bytes", n, end)
		require.NoError(t, root.Close())
	}
}
