package writer

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// BenchmarkFreezeToThaw measures the time from the first Freeze to the end of the last Thaw, with a
// snapshot of 50 ms and writers of all kinds, in real peers: a guest, a file system, PostgreSQL,
// MariaDB and two programs; each alone, all at once, and in the groups of fsrvp-backup: databases
// and programs, the guest, the file system. x/slowest compares with the slowest writer alone (at
// most
// 1.3 at once), x/snapshot with the snapshot.
func BenchmarkFreezeToThaw(b *testing.B) {
	const snapshot = 50 * time.Millisecond
	server, err := fsrvptest.NewServer(nil)
	require.NoError(b, err)
	b.Cleanup(func() { server.Close() })
	require.NoError(b, server.Memory.Delay(fsrvp.OpCommitShadowCopySet, snapshot))
	ext4, xfs, disk := mountImage(b, "ext4", 64), mountImage(b, "xfs", 320), mountImage(b, "ext4", 900)
	agent := startRealAgent(b, map[string]string{"/data": xfs}, "")
	open := func(d database, name string) *sql.DB {
		dir := filepath.Join(disk, name)
		d.create(b, dir)
		_, db := d.start(b, dir)
		return db
	}
	pg, my := open(postgreSQL, "pg"), open(mariaDB, "my")
	var writers []provider.Writer
	for group, make := range map[int][]func() (provider.Writer, error){
		0: {Postgres{DB: pg}.Writer, MySQL{DB: my}.Writer, Command{Freeze: []string{"true"}, Thaw: []string{"true"},
			Guard: testGuard()}.Writer},
		1: {QEMUGuestAgent{Socket: agent.socket, Mounts: []string{"/data"}, Guard: testGuard()}.Writer},
		2: {FSFreeze{Mounts: []string{ext4}, Guard: testGuard()}.Writer},
	} {
		for _, m := range make {
			w, err := m()
			require.NoError(b, err)
			w.Group = group
			writers = append(writers, w)
		}
	}
	var slowest time.Duration
	run := func(name string, ws []provider.Writer) {
		b.Run(name, func(b *testing.B) {
			var total time.Duration
			var began time.Time
			cfg := &provider.Config{
				Dial: func(ctx context.Context, _ string) (provider.Agent, error) {
					return server.Dial(ctx, fsrvptest.Operator)
				},
				Writers: ws,
				Progress: func(e provider.Event) {
					switch {
					case e.Phase == provider.PhaseFreeze && e.Kind == provider.PhaseBegan:
						began = e.Time
					case e.Phase == provider.PhaseThaw && e.Kind == provider.PhaseEnded:
						total += e.Time.Sub(began)
					}
				},
			}
			for b.Loop() {
				require.NoError(b, provider.Run(b.Context(), cfg, []string{`\\fs1\share`},
					func(context.Context, *provider.Set) error { return nil }))
			}
			mean := total / time.Duration(b.N)
			b.ReportMetric(float64(mean.Microseconds())/1000, "ms-frozen")
			b.ReportMetric(float64(mean)/float64(snapshot), "x/snapshot")
			if len(ws) == 1 {
				slowest = max(slowest, mean)
			} else {
				b.ReportMetric(float64(mean)/float64(slowest), "x/slowest")
			}
		})
	}
	for i := range writers {
		run(fmt.Sprintf("%.12s", writers[i].Name), writers[i:i+1])
	}
	atOnce := slices.Clone(writers)
	for i := range atOnce {
		atOnce[i].Group = 0
	}
	run("at once", atOnce)
	run("in groups", writers)
}
