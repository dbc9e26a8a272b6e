package provider

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// BenchmarkFreeze measures how long writers are frozen while 64 shares on 8 servers are copied. The
// snapshots of a server take 50 ms, all at once, as they do with the backends for real file
// systems. It is compared with the slowest single server: x/slowest is the frozen time divided by
// the longest commit, x/snapshot by those 50 ms.
func BenchmarkFreeze(b *testing.B) {
	var servers []*fileServer
	var shares []string
	for i := range 8 {
		fs := startFileServer(b, fmt.Sprintf("fs%d", i), 8, func(fs *fileServer, _ *agent.Config) {
			fs.snapshots.Fault = func(_ context.Context, p snapmemory.Point) error {
				if p.Method == "Create" && p.Done && strings.HasSuffix(p.Volume, "/v0") {
					time.Sleep(50 * time.Millisecond)
				}
				return nil
			}
		})
		servers = append(servers, fs)
		for j := range 8 {
			shares = append(shares, fs.unc(j))
		}
	}
	var app application
	var slowest, frozen, commits time.Duration
	cfg := &Config{
		Dial:    newNetwork(servers...).dial,
		Writers: []Writer{app.writer()},
		Progress: func(e Event) {
			if e.Phase == PhaseCommit && e.Kind == PartEnded {
				slowest = max(slowest, e.Elapsed)
			}
		},
	}
	for b.Loop() {
		slowest = 0
		require.NoError(b, Run(b.Context(), cfg, shares, func(context.Context, *Set) error { return nil }))
		frozen += app.held
		commits += slowest
	}
	b.ReportMetric(float64(frozen.Microseconds())/1000/float64(b.N), "ms-frozen")
	b.ReportMetric(float64(frozen)/float64(commits), "x/slowest")
	b.ReportMetric(float64(frozen)/float64(b.N)/float64(50*time.Millisecond), "x/snapshot")
}
