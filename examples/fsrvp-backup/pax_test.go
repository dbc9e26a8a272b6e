package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

func mapKeys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

func sumOf(n int) []byte {
	sum := sha256.Sum256(bytes.Repeat([]byte("!"), n))
	return sum[:]
}

// programEnv makes the test's binary the program.
const programEnv = "FSRVP_BACKUP_TEST_PROGRAM"

// program1 is the program, to be run.
func program1(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), programEnv+"=1")
	return cmd
}

func TestRecordLength(t *testing.T) {
	for n := range 1200 {
		b := appendRecord(nil, paxRecord{"k", strings.Repeat("v", n)})
		records, err := parseRecords(b)
		require.NoError(t, err)
		require.Equal(t, map[string]string{"k": strings.Repeat("v", n)}, records)
	}
}

func TestTime(t *testing.T) {
	for text, at := range map[string]time.Time{
		"0": time.Unix(0, 0), "1.5": time.Unix(1, 5e8), "-1": time.Unix(-1, 0), "-0.5": time.Unix(-1, 5e8), "-1.75": time.Unix(-2, 25e7),
		"1234567890.123456789": time.Unix(1234567890, 123456789), "0.000000001": time.Unix(0, 1), "-11644473600": time.Unix(-11644473600, 0),
	} {
		require.Equal(t, text, paxTime(at))
		got, err := parsePAXTime(text)
		require.NoError(t, err)
		require.True(t, at.Equal(got), "%s is %v", text, got)
	}
	for _, text := range []string{"", "x", "1.x", "1.-5", "--1"} {
		_, err := parsePAXTime(text)
		require.Error(t, err, text)
	}
}

func TestSparseExtents(t *testing.T) {
	require.Nil(t, sparseExtents([]extent{{0, 1 << 20}}, 1<<20), "no hole")
	require.Equal(t, []extent{}, sparseExtents(nil, 1<<20), "one hole")
	require.Equal(t, []extent{{4096, 4096}}, sparseExtents([]extent{{4096, 1024}, {5120, 3072}}, 1<<20))
	require.Equal(t, []extent{{0, 2000}}, sparseExtents([]extent{{0, 1500}, {1000, 1000}}, 1<<20), "parts that overlap")
	require.Equal(t, []extent{{2000, 1000}}, sparseExtents([]extent{{2000, 1 << 40}}, 3000), "longer than the file")
	var many []extent
	for i := range int64(3 * maxExtents) {
		many = append(many, extent{i * 8192, 4096})
	}
	size := endOf(many) + 1<<30
	got := sparseExtents(many, size)
	require.LessOrEqual(t, len(got), maxExtents)
	require.Equal(t, endOf(many), endOf(got))
	require.Less(t, len(appendSparseMap(nil, got, size)), maxRecords)
}

func TestACL(t *testing.T) {
	const text = "user::rwx,user:1000:r-x,group::---,group:4294967294:-w-,mask::rwx,other::--x"
	b, err := aclAttribute(text)
	require.NoError(t, err)
	got, err := aclText(b)
	require.NoError(t, err)
	require.Equal(t, text, got)
	for _, bad := range []string{"", "user", "user::rw", "user::rwz", "user:x:rwx", "mask:1:rwx", "other:5:rwx",
		"alien::rwx", "user:4294967296:rwx"} {
		_, err := aclAttribute(bad)
		require.Error(t, err, bad)
	}
	for _, bad := range [][]byte{nil, {2, 0, 0}, {1, 0, 0, 0}, b[:len(b)-1],
		append([]byte{2, 0, 0, 0}, 3, 0, 0, 0, 0, 0, 0, 0)} {
		_, err := aclText(bad)
		require.Error(t, err)
	}
}

// TestHeaderIsWhatGoReads has the standard library read headers with everything in them.
func TestHeaderIsWhatGoReads(t *testing.T) {
	long := strings.Repeat("ü/", 100) + "name"
	m := member{
		name: long, kind: typeFile, mode: 0o4751, uid: 1 << 24, gid: 1 << 30, user: "jürgen", group: strings.Repeat("g",
			40),
		modified: time.Unix(-5, 1), accessed: time.Unix(7, 8), size: 1 << 40, extents: []extent{{1 << 39, 5}},
	}
	m.add("SCHILY.xattr.user.x", "\x00\n=")
	b, err := appendHeader(nil, &m)
	require.NoError(t, err)
	require.Zero(t, len(b)%blockSize)
	r := tar.NewReader(bytes.NewReader(append(pad(append(b, "12345"...)), make([]byte, 1024)...)))
	h, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, long, h.Name)
	require.Equal(t, int64(0o4751), h.Mode)
	require.Equal(t, []int{1 << 24, 1 << 30}, []int{h.Uid, h.Gid})
	require.Equal(t, []string{"jürgen", strings.Repeat("g", 40)}, []string{h.Uname, h.Gname})
	require.True(t, h.ModTime.Equal(m.modified) && h.AccessTime.Equal(m.accessed))
	require.Equal(t, int64(1<<40), h.Size)
	require.Equal(t, "\x00\n=", h.PAXRecords["SCHILY.xattr.user.x"])
	m.add("SCHILY.xattr.user.big", strings.Repeat("x", maxRecords))
	_, err = appendHeader(nil, &m)
	require.ErrorContains(t, err, "its metadata takes")
}

// FuzzScanner reads anything as an archive.
func FuzzScanner(f *testing.F) {
	whole := func(nodes ...node) []byte {
		var b bytes.Buffer
		a := newArchiver(&b)
		rep := newReport(io.Discard)
		rep.summary.Shares = []shareSummary{{}}
		for _, n := range nodes {
			if err := a.member(&step{n: &n, data: bytes.Repeat([]byte("!"), int(n.stored())),
				sum: sumOf(int(n.stored()))}, rep); err != nil {
				f.Fatal(err)
			}
		}
		if err := a.close(); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(whole())
	f.Add(whole(node{member: member{name: "f", kind: typeFile, size: 5}},
		node{member: member{name: "l", kind: typeSymlink, link: "f"}}))
	f.Add(whole(node{member: member{name: "s", kind: typeFile, size: 1 << 20, extents: []extent{{5, 7}}}}))
	f.Add(whole(node{member: member{name: strings.Repeat("x", 300), kind: typeDir, uid: 1 << 30,
		modified: time.Unix(1, 2)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, settled := 0, 0
		s := newScanner(bytes.NewReader(b), func(m *scanned, v verdict) { settled++ })
		for {
			m, err := s.next()
			if err != nil {
				if err == io.EOF && files != settled {
					t.Fatalf("%d of %d files have a verdict", settled, files)
				}
				return
			}
			if m.kind == typeFile {
				files++
				if m.size < 0 || endOf(m.extents) > m.size {
					t.Fatalf("extents %v in %d bytes", m.extents, m.size)
				}
			}
		}
	})
}

// A fakeSource is one copy, a fakeTree.
type fakeSource struct{ tree *fakeTree }

func (s *fakeSource) shares() []string                                  { return []string{"fake"} }
func (s *fakeSource) title(provider.Copy) string                        { return "fake" }
func (s *fakeSource) describe(provider.Copy) shareSummary               { return shareSummary{Share: "fake"} }
func (s *fakeSource) prefix(provider.Copy) string                       { return "" }
func (s *fakeSource) open(context.Context, provider.Copy) (tree, error) { return s.tree, nil }
func (s *fakeSource) explain(err error) error                           { return err }
func (s *fakeSource) close() error                                      { return nil }

// A fakeTree has files in its top directory, whose bytes are the first ones of their names.
type fakeTree struct {
	nodes  []*node
	open1  map[string]error // of open
	good   map[string]int64 // bytes that can be read; the rest is missing
	bad    map[string]error // instead of missing
	lists  map[string]error
	broken error
	opened atomic.Int64
}

func (t *fakeTree) list(_ context.Context, dir string) ([]*node, error) {
	if err := t.lists[dir]; err != nil || dir != "." {
		return nil, err
	}
	return slices.Clone(t.nodes), nil
}

func (t *fakeTree) open(_ context.Context, n *node) (content, error) {
	if err := t.open1[n.path]; err != nil {
		return nil, err
	}
	t.opened.Add(1)
	return &fakeFile{t, n.path}, nil
}

func (t *fakeTree) fatal(err error) bool { return t.broken != nil && errors.Is(err, t.broken) }
func (t *fakeTree) Close() error         { return nil }

type fakeFile struct {
	t    *fakeTree
	name string
}

func (f *fakeFile) ReadAt(b []byte, off int64) (int, error) {
	n := len(b)
	var err error
	if good, ok := f.t.good[f.name]; ok && off+int64(n) > good {
		n = int(max(0, good-off))
		if err = f.t.bad[f.name]; err == nil {
			err = io.EOF
		}
	}
	copy(b, bytes.Repeat([]byte(f.name[:1]), n))
	return n, err
}

func (f *fakeFile) Close() error                         { f.t.opened.Add(-1); return nil }
func (f *fakeFile) describe(*member) error               { return nil }
func (f *fakeFile) extents(size int64) ([]extent, error) { return wholeFile(size), nil }
func (f *fakeFile) streams(*node) ([]*node, error)       { return nil, nil }
