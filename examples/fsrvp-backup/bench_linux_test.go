package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// BenchmarkLocal is -local beside GNU tar on the same tree, each into a file. FSRVP_BACKUP_BENCH is
// the size of the tree: the number of large files of 64 MiB, and a thousandth of the number of
// small ones of 10 KiB; 1 unless it is set. The snapshot is of the file system of TMPDIR.
func BenchmarkLocal(b *testing.B) {
	size := 1
	if s := os.Getenv("FSRVP_BACKUP_BENCH"); s != "" {
		var err error
		size, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	base := b.TempDir()
	src := filepath.Join(base, "src")
	block := make([]byte, 1<<20)
	rand.Read(block)
	total := int64(0)
	write := func(name string, blocks int, part []byte) {
		f, err := os.Create(filepath.Join(src, name))
		require.NoError(b, err)
		for range blocks {
			n, err := f.Write(part)
			require.NoError(b, err)
			total += int64(n)
		}
		require.NoError(b, f.Close())
	}
	require.NoError(b, os.Mkdir(src, 0o755))
	for i := range size {
		write(fmt.Sprintf("large%d", i), 64, block)
	}
	for i := range size * 1000 {
		dir := fmt.Sprintf("d%d", i/100)
		if i%100 == 0 {
			require.NoError(b, os.Mkdir(filepath.Join(src, dir), 0o755))
		}
		write(fmt.Sprintf("%s/f%d", dir, i), 1, block[:10<<10])
	}
	out := filepath.Join(base, "out.tar")
	b.Run("fsrvp-backup", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			_, stderr, err := backUp(b, "-local", src, "-out", out)
			require.NoError(b, err, stderr)
		}
	})
	b.Run("archive", func(b *testing.B) { // without the snapshot
		b.SetBytes(total)
		for b.Loop() {
			f, err := os.Create(out)
			require.NoError(b, err)
			a := newArchiver(f)
			rep := newReport(new(bytes.Buffer))
			tree, err := openLocalTree(src)
			require.NoError(b, err)
			require.NoError(b, a.copy(b.Context(), &benchSource{fakeSource{}, tree}, benchCopy, rep))
			require.NoError(b, a.close())
			require.NoError(b, f.Sync())
			require.NoError(b, f.Close())
		}
	})
	b.Run("tar", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			text, err := exec.Command("tar", "-cf", out, "--format=pax", "-C", src, ".").CombinedOutput()
			require.NoError(b, err, string(text))
			f, err := os.Open(out)
			require.NoError(b, err)
			require.NoError(b, f.Sync()) // as the others do
			require.NoError(b, f.Close())
		}
	})
}

// A benchSource is a tree without a snapshot.
type benchSource struct {
	fakeSource
	local tree
}

var benchCopy = provider.Copy{Share: "bench"}

func (s *benchSource) open(context.Context, provider.Copy) (tree, error) { return s.local, nil }
