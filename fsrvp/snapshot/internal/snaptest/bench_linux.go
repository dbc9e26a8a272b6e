package snaptest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
)

// The environment of BenchmarkTree: how many small files a tree has, how many MiB in all, and a
// directory on a disk for images of file systems, which else lie in memory.
const (
	benchFiles = "FSRVP_BENCH_FILES"
	benchMiB   = "FSRVP_BENCH_MIB"
	benchIn    = "FSRVP_BENCH_IN"
)

// BenchmarkTree compares a backend with cp and rm: a tree of small files, 10 KiB each, and eight
// large ones, of which one in a hundred changes between PrepareSnapshots and Create. The arguments
// are those of cp.
//
// It reports seconds, and the ratios that matter: freeze/whole is the share of Create in all the
// time that the copy took, and the others compare the whole copy with cp and sync, and with cp
// alone, and Delete with rm. MiB is the most memory that the process had in use.
func BenchmarkTree(b *testing.B, fsType string, backends func(dir string) Backend, cp ...string) {
	files, mib := setting(b, benchFiles, 2000), setting(b, benchMiB, 64)
	image := int64(3*mib + files/20 + 600) // the tree, a copy, one of cp, and room
	if in := os.Getenv(benchIn); in != "" {
		old := imageDir
		imageDir = in
		b.Cleanup(func() { imageDir = old })
	}
	mount := Mount(b, fsType, image)
	dir, byCP := filepath.Join(mount, "vms"), filepath.Join(mount, "by cp")
	large(b, dir, files, mib)
	s := backends(dir)
	v, err := s.Volume(b.Context(), dir)
	must(b, err)
	run := func(name string, args ...string) time.Duration {
		begun := time.Now()
		Run(b, name, args...)
		return time.Since(begun)
	}
	quiet := func() {
		Run(b, "sync", "-f", mount)
		// What was written lies a step of the clock behind, as in a tree that is not made for this.
		time.Sleep(50 * time.Millisecond)
	}
	var prepare, freeze, deleted, copied, synced, removed time.Duration
	rss := int64(0)
	rnd := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		quiet()
		must(b, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // the peak is counted from here
		spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
		begun := time.Now()
		must(b, s.(backend.SnapshotPreparer).PrepareSnapshots(b.Context(), []backend.SnapshotSpec{spec}))
		prepare += time.Since(begun)
		change(b, dir, files, rnd)
		quiet()
		begun = time.Now()
		made, err := s.Create(b.Context(), []backend.SnapshotSpec{spec})
		must(b, err)
		freeze += time.Since(begun)
		rss = max(rss, peak(b))
		if len(made[0].Moved) > 0 {
			b.Fatalf("moved: %q", made[0].Moved)
		}
		sample(b, dir, made[0].Path, files, rnd)

		quiet()
		copied += run("cp", append(append([]string{"-a"}, cp...), dir, byCP)...)
		synced += run("sync", "-f", byCP)
		quiet()
		begun = time.Now()
		must(b, s.Delete(b.Context(), spec))
		deleted += time.Since(begun)
		quiet()
		removed += run("rm", "-rf", byCP)
	}
	n := float64(b.N)
	whole := prepare + freeze
	b.ReportMetric(0, "ns/op")
	for unit, d := range map[string]time.Duration{"s:prepare": prepare, "s:freeze": freeze, "s:delete": deleted,
		"s:cp": copied, "s:cp+sync": copied + synced, "s:rm": removed} {
		b.ReportMetric(d.Seconds()/n, unit)
	}
	b.ReportMetric(100*freeze.Seconds()/whole.Seconds(), "%freeze/whole")
	b.ReportMetric(whole.Seconds()/copied.Seconds(), "whole/cp")
	b.ReportMetric(whole.Seconds()/(copied+synced).Seconds(), "whole/cp+sync")
	b.ReportMetric(deleted.Seconds()/removed.Seconds(), "delete/rm")
	b.ReportMetric(float64(rss)/1024, "MiB")
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func setting(tb testing.TB, name string, value int) int {
	tb.Helper()
	if text := os.Getenv(name); text != "" {
		var err error
		if value, err = strconv.Atoi(text); err != nil || value < 1 {
			tb.Fatalf("%s is %q, and not a number", name, text)
		}
	}
	return value
}

const smallFile = 10 << 10

func smallName(dir string, i int) string {
	return filepath.Join(dir, "small", strconv.Itoa(i/10_000), strconv.Itoa(i/100), fmt.Sprintf("n%d.dat", i%100))
}

// large makes the tree.
func large(tb testing.TB, dir string, files, mib int) {
	tb.Helper()
	data := pattern(smallFile)
	for i := range files {
		name := smallName(dir, i)
		if i%100 == 0 {
			must(tb, os.MkdirAll(filepath.Dir(name), 0o755))
		}
		must(tb, os.WriteFile(name, data, 0o644))
	}
	const many = 8
	must(tb, os.MkdirAll(filepath.Join(dir, "big"), 0o755))
	block := pattern(1 << 20)
	for i := range many {
		f, err := os.Create(filepath.Join(dir, "big", fmt.Sprintf("f%d.vhdx", i)))
		must(tb, err)
		for j := range max(mib-files*smallFile>>20, many) / many {
			block[0] = byte(j)
			_, err = f.Write(block)
			must(tb, err)
		}
		must(tb, f.Close())
	}
}

// change rewrites one small file in a hundred, in its place.
func change(tb testing.TB, dir string, files int, rnd *rand.Rand) {
	tb.Helper()
	data := pattern(smallFile)
	for range max(files/100, 1) {
		data[rnd.IntN(len(data))]++
		must(tb, os.WriteFile(smallName(dir, rnd.IntN(files)), data, 0o644))
	}
}

// sample demands that files of a copy are as they are in the tree.
func sample(tb testing.TB, dir, made string, files int, rnd *rand.Rand) {
	tb.Helper()
	for range 500 {
		i := rnd.IntN(files)
		want, err := os.ReadFile(smallName(dir, i))
		must(tb, err)
		got, err := os.ReadFile(smallName(made, i))
		must(tb, err)
		if !bytes.Equal(want, got) {
			tb.Fatalf("%s differs", smallName("", i))
		}
	}
}

// peak returns the most memory that the process had in use, in KiB.
func peak(tb testing.TB) int64 {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(tb, err)
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			n, err := strconv.ParseInt(string(bytes.Fields(value)[0]), 10, 64)
			must(tb, err)
			return n
		}
	}
	tb.Fatal("no VmHWM")
	return 0
}
