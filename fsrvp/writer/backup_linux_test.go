package writer

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// buildBackup builds the program that people use.
func buildBackup(tb testing.TB) string {
	tb.Helper()
	if os.Getenv(inNamespace) != "ready" {
		missing(tb, "needs root and a mount namespace")
	}
	exe := filepath.Join(tb.TempDir(), "fsrvp-backup")
	runCommand(tb, "go", "build", "-o", exe, "github.com/go-fsrvp/go-fsrvp/examples/fsrvp-backup")
	return exe
}

// rounds returns how often a test does something: less with -short, another number with the
// variable.
func rounds(tb testing.TB, variable string, usual int) int {
	tb.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(tb, err)
		return n
	}
	if testing.Short() {
		return max(1, usual/20)
	}
	return usual
}

// A checkpoint is a writer that asks the test before anything freezes.
type checkpoint struct {
	program     string
	ask, answer string // fifos
}

func newCheckpoint(tb testing.TB) *checkpoint {
	tb.Helper()
	dir := tb.TempDir()
	c := &checkpoint{filepath.Join(dir, "writer"), filepath.Join(dir, "ask"), filepath.Join(dir, "answer")}
	require.NoError(tb, unix.Mkfifo(c.ask, 0o600))
	require.NoError(tb, unix.Mkfifo(c.answer, 0o600))
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = freeze ]; then echo >%s; read x <%s; fi\n", c.ask, c.answer)
	require.NoError(tb, os.WriteFile(c.program, []byte(script), 0o755))
	return c
}

// serve calls f once, while the program waits.
func (c *checkpoint) serve(f func()) error {
	asked, err := os.Open(c.ask)
	if err != nil {
		return err
	}
	defer asked.Close()
	if _, err := io.ReadAll(asked); err != nil {
		return err
	}
	f()
	return os.WriteFile(c.answer, []byte("go on\n"), 0)
}

// TestBackupOfDatabases backs up data directories of servers that commit transactions all the time,
// by fsrvp-backup and a btrfs snapshot. A server on what is restored holds every transaction that
// was acknowledged before the freeze.
func TestBackupOfDatabases(t *testing.T) {
	exe := buildBackup(t)
	for _, d := range []database{postgreSQL, mariaDB} {
		t.Run(d.name, func(t *testing.T) {
			volume := filepath.Join(mountImage(t, "btrfs", 1<<10), "volume")
			runCommand(t, "btrfs", "subvolume", "create", volume)
			dir := filepath.Join(volume, "data")
			d.create(t, dir)
			s, admin := d.start(t, dir)
			source := s.source(s.socketDir)
			app := admin
			if d.driver == "mysql" {
				_, err := admin.Exec("CREATE DATABASE app")
				require.NoError(t, err)
				app, err = sql.Open(d.driver, source+"app")
				require.NoError(t, err)
				t.Cleanup(func() { app.Close() })
			}
			l := startLoad(t, app, 2)
			check := newCheckpoint(t)
			work, err := os.MkdirTemp(imageDir, "restore")
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(work) })
			require.NoError(t, os.Chmod(work, 0o755))
			var frozen time.Duration
			n := rounds(t, "FSRVP_WRITER_ROUNDS", 20)
			for i := range n {
				out := filepath.Join(work, "out.tar")
				var acked []int64
				served := make(chan error, 1)
				go func() { served <- check.serve(func() { acked = l.acknowledged() }) }()
				cmd := exec.Command(exe, "-local", dir, "-out", out, "-json", "-writer", "command@-1:"+check.program,
					"-writer", d.driver+":"+source)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				require.NoError(t, cmd.Run(), stderr.String())
				require.NoError(t, <-served)
				var sum struct {
					Writers []struct {
						Name    string
						Freeze  float64 `json:"freeze_seconds"`
						Thaw    float64 `json:"thaw_seconds"`
						Prepare float64 `json:"prepare_seconds"`
						Label   *PostgresLabel
						Binlog  *BinlogPosition
					}
					Freeze float64 `json:"freeze_seconds"`
				}
				require.NoError(t, json.Unmarshal(stdout.Bytes(), &sum))
				require.Len(t, sum.Writers, 2)
				of := sum.Writers[1]
				frozen += time.Duration(sum.Freeze * float64(time.Second))
				if d.driver == "postgres" {
					label, err := os.ReadFile(out + ".backup_label")
					require.NoError(t, err)
					require.Contains(t, string(label), "START WAL LOCATION: "+of.Label.StartLSN)
				} else {
					require.NotNil(t, of.Binlog)
					require.NotEmpty(t, of.Binlog.File)
				}
				restored := filepath.Join(work, fmt.Sprint(i))
				require.NoError(t, os.Mkdir(restored, 0o700))
				runCommand(t, "tar", "xpf", out, "-C", restored)
				for _, stale := range d.stale {
					require.NoError(t, os.Remove(filepath.Join(restored, stale)))
				}
				runCommand(t, "chown", "-R", d.systemUser()+":", restored)
				other, db := d.start(t, restored)
				if d.driver == "mysql" {
					require.NoError(t, db.Close())
					db, err = sql.Open(d.driver, other.source(other.socketDir)+"app")
					require.NoError(t, err)
				}
				requireTransactions(t, db, acked)
				require.NoError(t, db.Close())
				other.crash()
				require.NoError(t, os.RemoveAll(restored))
				l.commits(t)
			}
			t.Logf("%d rounds, %v acknowledged, frozen for %v each", n, l.acknowledged(), frozen/time.Duration(n))
		})
	}
}

// A victim is fsrvp-backup with writers of all kinds, to be killed or stopped, and what those
// writers freeze.
type victim struct {
	exe  string
	args []string
	dir  string // holds what is backed up, and what the program leaves

	stopped          string // exists while the application of the command writer is frozen
	probes           []*probe
	load             *load
	agent            *realAgent
	pgAdmin, myAdmin *sql.DB
	log              syncBuffer
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	exe := buildBackup(t)
	ext4, xfs := mountImage(t, "ext4", 64), mountImage(t, "xfs", 320)
	agent := startRealAgent(t, map[string]string{"/data": xfs}, "")
	onDisk := mountImage(t, "ext4", 900)
	pgDir, myDir := filepath.Join(onDisk, "pg"), filepath.Join(onDisk, "my")
	postgreSQL.create(t, pgDir)
	mariaDB.create(t, myDir)
	pg, pgAdmin := postgreSQL.start(t, pgDir)
	my, myAdmin := mariaDB.start(t, myDir)
	for _, statement := range []string{"CREATE DATABASE app", "CREATE USER backup@localhost IDENTIFIED BY ''",
		"GRANT RELOAD, BINLOG MONITOR ON *.* TO backup@localhost"} {
		_, err := myAdmin.Exec(statement)
		require.NoError(t, err)
	}
	app, err := sql.Open("mysql", my.source(my.socketDir)+"app")
	require.NoError(t, err)
	t.Cleanup(func() { app.Close() })
	l := startLoad(t, app, 1)

	dir, err := os.MkdirTemp(imageDir, "kills")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	source, stopped := filepath.Join(dir, "source"), filepath.Join(dir, "stopped")
	require.NoError(t, os.Mkdir(source, 0o755))
	for i := range 20 {
		require.NoError(t, os.WriteFile(filepath.Join(source, fmt.Sprint(i)), make([]byte, 1<<20), 0o644))
	}
	script := filepath.Join(dir, "application")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil,
		"#!/bin/sh\nif [ $1 = freeze ]; then : >%[1]s; else rm -f %[1]s; fi\n", stopped), 0o755))
	args := []string{
		"-local", source, "-out", filepath.Join(dir, "out.tar"), "-writer", "command:" + script,
		"-writer", "postgres:" + pg.source(pg.socketDir) + " application_name='the writer'",
		"-writer", "mysql:" + strings.Replace(my.source(my.socketDir), "root@", "backup@", 1),
		"-writer", "qga:" + agent.socket + ",/data", "-writer", "fsfreeze:" + ext4,
	}
	return &victim{
		exe: exe, args: args, dir: dir, stopped: stopped, probes: []*probe{startProbe(t, ext4), startProbe(t, xfs)},
		load: l, agent: agent, pgAdmin: pgAdmin, myAdmin: myAdmin,
	}
}

// start starts the program. What it returns is closed when the program and its guards have ended.
func (v *victim) start(t *testing.T, args ...string) (*exec.Cmd, <-chan struct{}) {
	t.Helper()
	r, w, err := os.Pipe() // the guards have it, too: its end is that of the last one
	require.NoError(t, err)
	cmd := exec.Command(v.exe, append(slices.Clone(v.args), args...)...)
	cmd.Stderr = w
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		_, _ = io.Copy(&v.log, r)
	}()
	return cmd, done
}

// whole returns how long the program takes when nothing happens to it.
func (v *victim) whole(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	cmd, ended := v.start(t)
	require.NoError(t, cmd.Wait(), v.log.String())
	<-ended
	return time.Since(began)
}

// free demands that nothing is frozen, and no lock is held, within patience.
func (v *victim) free(t *testing.T) {
	t.Helper()
	for _, p := range v.probes {
		p.writable(t)
	}
	v.load.commits(t)
	eventually(t, func() bool { _, err := os.Stat(v.stopped); return errors.Is(err, fs.ErrNotExist) }, "the application is stopped")
}

// sessions returns how many sessions of the program the servers have.
func (v *victim) sessions(t *testing.T) (pg, my int) {
	t.Helper()
	require.NoError(t, v.pgAdmin.QueryRow("SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'the writer'").Scan(&pg))
	require.NoError(t, v.myAdmin.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'").Scan(&my))
	return pg, my
}

// tidy removes what a program that was killed was copying to.
func (v *victim) tidy(t *testing.T) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(v.dir, ".fsrvp-backup-*"))
	require.NoError(t, err)
	for _, temp := range left {
		require.NoError(t, os.RemoveAll(temp))
	}
}

// TestKills kills the program at random. Soon nothing is frozen, no lock is held, and no guard is
// left: within two seconds on a machine that has nothing else to do.
func TestKills(t *testing.T) {
	v := newVictim(t)
	whole := v.whole(t)
	var slowest, sum time.Duration
	n := rounds(t, "FSRVP_WRITER_KILLS", 200)
	for i := range n {
		cmd, ended := v.start(t)
		time.Sleep(rand.N(whole * 11 / 10))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		killed := time.Now()
		v.free(t)
		for pg, my := v.sessions(t); pg+my > 0; pg, my = v.sessions(t) {
			require.Less(t, time.Since(killed), patience, "round %d: %d sessions of PostgreSQL and %d of MariaDB are left\n%s",
				i, pg, my, v.log.String())
			time.Sleep(time.Millisecond)
		}
		select {
		case <-ended:
		case <-time.After(patience):
			require.FailNow(t, "a guard is left", "%s", v.log.String())
		}
		sum += time.Since(killed)
		slowest = max(slowest, time.Since(killed))
		v.tidy(t)
	}
	held := strings.Count(v.log.String(), "thawed, since the program that froze it is gone")
	t.Logf("%d kills within %v, %d guards had to thaw; free after %v on average, %v at most", n, whole, held,
		sum/time.Duration(n), slowest)
	if n >= 100 {
		require.Greater(t, held, 5, "the kills came when nothing was frozen")
	}
	require.Equal(t, `"thawed"`, v.agent.ask(t, agentStatus, nil))
}

// TestStops stops the program at random, for longer than its limit. Nothing is frozen when that is
// over; the program, when it goes on, either has had its copies before, or fails.
func TestStops(t *testing.T) {
	v := newVictim(t)
	whole := v.whole(t)
	const limit = time.Second
	lost := 0
	n := rounds(t, "FSRVP_WRITER_STOPS", 5)
	for range n {
		cmd, ended := v.start(t, "-freeze-limit", limit.String())
		time.Sleep(rand.N(whole))
		require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
		v.free(t)
		require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
		err := cmd.Wait()
		<-ended
		if err != nil {
			lost++
		}
		v.free(t)
		require.Equal(t, `"thawed"`, v.agent.ask(t, agentStatus, nil))
		v.tidy(t)
	}
	t.Logf("%d stops, %d backups failed", n, lost)
}
