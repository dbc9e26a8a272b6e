//go:build unix

package capture

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchmarkSize is the size of the captures in bytes: CAPTURE_BENCH_MB megabytes, or 50.
func benchmarkSize(b *testing.B) int {
	if s := os.Getenv("CAPTURE_BENCH_MB"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(b, err)
		return n << 20
	}
	return 50 << 20
}

// kinds are the captures of the benchmarks: one in which FSRVP is dense, ordinary reading over few
// connections, and over 10,000 that take turns after each segment.
func kinds(size int) map[string]io.Reader {
	interleaved := newTraffic(size, 10000, 64<<10)
	interleaved.bySegment = true
	return map[string]io.Reader{
		"dense": newGenerator(size, 0, 1), "ordinary": newTraffic(size, 10, 64<<10), "interleaved": interleaved,
	}
}

// benchmarkFile writes a generated capture.
func benchmarkFile(b *testing.B, from io.Reader) string {
	name := filepath.Join(b.TempDir(), "bench.pcap")
	f, err := os.Create(name)
	require.NoError(b, err)
	_, err = io.Copy(f, from)
	require.NoError(b, err)
	require.NoError(b, f.Close())
	return name
}

// BenchmarkCalls decodes a generated capture of each kind, and reports megabytes for each second of
// the processor.
func BenchmarkCalls(b *testing.B) {
	for kind, from := range kinds(benchmarkSize(b)) {
		b.Run(kind, func(b *testing.B) {
			name := benchmarkFile(b, from)
			size, _ := decodeTime(b, name)
			b.SetBytes(size)
			b.ReportAllocs()
			var took time.Duration
			for b.Loop() {
				_, d := decodeTime(b, name)
				took += d
			}
			b.ReportMetric(float64(size)*float64(b.N)/took.Seconds()/1e6, "MB/cpu-s")
			b.ReportMetric(float64(peakRSS(b))/1e3, "MB-peak-rss")
		})
	}
}

// peakRSS is the most memory that this process had, in kilobytes; on Linux.
func peakRSS(b *testing.B) int64 {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return int64(u.Maxrss)
}

func decodeTime(b *testing.B, name string) (int64, time.Duration) {
	f, err := os.Open(name)
	require.NoError(b, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(b, err)
	before := processorTime(b, syscall.RUSAGE_SELF)
	var sum Summary
	for c, err := range Calls(f, &Config{Summary: &sum}) {
		require.NoError(b, err)
		require.NoError(b, c.RequestErr)
	}
	require.NotZero(b, sum.Connections)
	require.Empty(b, sum.Problems)
	return info.Size(), processorTime(b, syscall.RUSAGE_SELF) - before
}

// BenchmarkTshark reads the same capture with us and with tshark, and reports the quotient of the
// processor time that each took.
func BenchmarkTshark(b *testing.B) {
	needTshark(b)
	for kind, from := range kinds(benchmarkSize(b)) {
		b.Run(kind, func(b *testing.B) {
			name := benchmarkFile(b, from)
			var ours, theirs time.Duration
			for b.Loop() {
				_, d := decodeTime(b, name)
				ours += d
				before := processorTime(b, syscall.RUSAGE_CHILDREN)
				cmd := exec.Command("tshark", "-r", name, "-Y", "fsrvp")
				cmd.Stdout = io.Discard
				require.NoError(b, cmd.Run())
				theirs += processorTime(b, syscall.RUSAGE_CHILDREN) - before
			}
			b.ReportMetric(ours.Seconds()/float64(b.N), "s-ours")
			b.ReportMetric(theirs.Seconds()/float64(b.N), "s-tshark")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-faster")
		})
	}
}

func processorTime(b *testing.B, who int) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(who, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
