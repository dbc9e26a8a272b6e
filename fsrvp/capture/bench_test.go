//go:build unix

package capture

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchmarkFile writes a generated capture, not damaged, of a size in megabytes.
func benchmarkFile(b *testing.B, megabytes int) string {
	name := filepath.Join(b.TempDir(), "bench.pcap")
	f, err := os.Create(name)
	require.NoError(b, err)
	_, err = io.Copy(f, newGenerator(megabytes<<20, 0, 1))
	require.NoError(b, err)
	require.NoError(b, f.Close())
	return name
}

// BenchmarkCalls decodes a generated capture of 20 MB.
func BenchmarkCalls(b *testing.B) {
	name := benchmarkFile(b, 20)
	size, _ := decodeTime(b, name)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		decodeTime(b, name)
	}
}

func decodeTime(b *testing.B, name string) (int64, time.Duration) {
	f, err := os.Open(name)
	require.NoError(b, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(b, err)
	before := processorTime(b, syscall.RUSAGE_SELF)
	n := 0
	for c, err := range Calls(f, nil) {
		require.NoError(b, err)
		require.NoError(b, c.RequestErr)
		n++
	}
	require.NotZero(b, n)
	return info.Size(), processorTime(b, syscall.RUSAGE_SELF) - before
}

// BenchmarkTshark reads the same capture with us and with tshark, and reports the quotient of the
// processor time that each took.
func BenchmarkTshark(b *testing.B) {
	needTshark(b)
	name := benchmarkFile(b, 50)
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
}

func processorTime(b *testing.B, who int) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(who, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
