package writer

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"
)

// A database is a kind of server that the tests start.
type database struct {
	name   string
	driver string
	init   func(tb testing.TB, dir string) *exec.Cmd
	server func(tb testing.TB, dir, socketDir string) *exec.Cmd
	source func(socketDir string) string
	// stale are files of a data directory that a restore must leave out.
	stale []string
	args  []string // more arguments of the server
}

// postgreSQL is Debian's, run by its own user: it refuses to be root.
var postgreSQL = database{
	name:   "PostgreSQL",
	driver: "postgres",
	init: func(tb testing.TB, dir string) *exec.Cmd {
		return as(tb, "postgres", postgresProgram(tb, "initdb"), "-D", dir, "-U", "root", "-A", "trust", "--no-sync",
			"--locale=C", "-E", "UTF8")
	},
	server: func(tb testing.TB, dir, socketDir string) *exec.Cmd {
		return as(tb, "postgres", postgresProgram(tb, "postgres"), "-D", dir, "-c", "listen_addresses=", "-c",
			"unix_socket_directories="+socketDir,
			"-c", "max_connections=30", "-c", "shared_buffers=16MB", "-c", "log_min_messages=fatal", "-c", "max_wal_size=64MB",
			"-c", "archive_command=/bin/cp %p "+socketDir+"/%f")
	},
	stale: []string{"postmaster.pid"},
	source: func(socketDir string) string {
		return "host=" + socketDir + " user=root dbname=postgres sslmode=disable"
	},
}

var mariaDB = database{
	name:   "MariaDB",
	driver: "mysql",
	init: func(tb testing.TB, dir string) *exec.Cmd {
		return exec.Command(program(tb, "mariadb-install-db"), "--no-defaults", "--user=mysql", "--datadir="+dir,
			"--skip-test-db", "--auth-root-authentication-method=normal")
	},
	server: func(tb testing.TB, dir, socketDir string) *exec.Cmd {
		return as(tb, "mysql", program(tb, "mariadbd"), "--no-defaults", "--datadir="+dir, "--socket="+socketDir+"/s",
			"--skip-networking",
			"--log-bin="+dir+"/binlog", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M", "--pid-file="+socketDir+"/pid")
	},
	source: func(socketDir string) string { return "root@unix(" + socketDir + "/s)/" },
}

func program(tb testing.TB, name string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(tb, "%v", err)
	}
	return path
}

// postgresProgram finds what Debian keeps out of PATH.
func postgresProgram(tb testing.TB, name string) string {
	tb.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	require.NoError(tb, err)
	if len(found) == 0 {
		missing(tb, "PostgreSQL's %s is not installed", name)
	}
	return found[len(found)-1]
}

// as returns a command that runs as a user of the system, and dies with the tests.
func as(tb testing.TB, name, program string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.Command(program, args...)
	uid, gid := ids(tb, name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	cmd.Dir = "/"
	return cmd
}

func ids(tb testing.TB, name string) (uid, gid uint32) {
	tb.Helper()
	u, err := user.Lookup(name)
	if err != nil || os.Geteuid() != 0 {
		missing(tb, "tests with databases need root and the user %s", name)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(tb, err)
	g, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(tb, err)
	return uint32(n), uint32(g)
}

// systemUser is who runs the server.
func (d *database) systemUser() string {
	return map[string]string{"postgres": "postgres", "mysql": "mysql"}[d.driver]
}

// create makes a data directory.
func (d *database) create(tb testing.TB, dir string) {
	tb.Helper()
	uid, gid := ids(tb, d.systemUser())
	require.NoError(tb, os.Mkdir(dir, 0o700))
	require.NoError(tb, os.Chown(dir, int(uid), int(gid)))
	out, err := d.init(tb, dir).CombinedOutput()
	require.NoError(tb, err, string(out))
}

// A server is a database server that runs.
type server struct {
	*database
	dir, socketDir string
	cmd            *exec.Cmd
	ended          chan struct{}
	log            *syncBuffer
}

// start starts a server on a data directory, and waits until it takes connections.
func (d *database) start(tb testing.TB, dir string) (*server, *sql.DB) {
	tb.Helper()
	s := &server{database: d, dir: dir, ended: make(chan struct{}), log: &syncBuffer{}}
	var err error
	s.socketDir, err = os.MkdirTemp("", "db") // a socket's path is short
	require.NoError(tb, err)
	uid, gid := ids(tb, d.systemUser())
	require.NoError(tb, os.Chown(s.socketDir, int(uid), int(gid)))
	require.NoError(tb, os.Chmod(s.socketDir, 0o755))
	s.cmd = d.server(tb, dir, s.socketDir)
	s.cmd.Args = append(s.cmd.Args, d.args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	require.NoError(tb, s.cmd.Start())
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	db := s.open(tb)
	tb.Cleanup(func() {
		s.stop(tb)
		os.RemoveAll(s.socketDir)
		if tb.Failed() {
			tb.Log(s.log.String())
		}
	})
	for began := time.Now(); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := db.PingContext(ctx)
		cancel()
		if err == nil {
			return s, db
		}
		select {
		case <-s.ended:
			require.FailNow(tb, "the server has ended", "%s", s.log)
		case <-time.After(20 * time.Millisecond):
		}
		require.Less(tb, time.Since(began), time.Minute, "%s: %v", s.log, err)
	}
}

// open returns connections that the test closes.
func (s *server) open(tb testing.TB) *sql.DB {
	tb.Helper()
	db, err := sql.Open(s.driver, s.source(s.socketDir))
	require.NoError(tb, err)
	tb.Cleanup(func() { db.Close() }) // the server may have ended
	return db
}

func (s *server) stop(tb testing.TB) {
	tb.Helper()
	select {
	case <-s.ended:
		return
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	sig := syscall.SIGTERM
	if s.driver == "postgres" {
		sig = syscall.SIGINT // fast: sessions are ended
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		tb.Errorf("%s does not end", s.name)
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// crash ends a server that nobody needs any more.
func (s *server) crash() {
	if s.driver == "postgres" {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT) // its children have to end, too
	} else {
		_ = s.cmd.Process.Kill()
	}
	<-s.ended
}

// A load is clients that commit transactions all the time, numbered from 1 without a hole each, and
// know which of them were acknowledged.
type load struct {
	acked []atomic.Int64 // of each client
	last  atomic.Int64   // when a transaction that was acknowledged had begun, in ns since base
	base  time.Time
}

func startLoad(tb testing.TB, db *sql.DB, clients int) *load {
	tb.Helper()
	table := "CREATE TABLE load_test (client INT NOT NULL, n BIGINT NOT NULL, filler TEXT, PRIMARY KEY (client, n))"
	if _, err := db.Exec("SELECT COUNT(*) FROM load_test"); err != nil {
		_, err = db.Exec(table)
		require.NoError(tb, err)
	}
	l := &load{acked: make([]atomic.Int64, clients), base: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for c := range clients {
		var last sql.NullInt64
		require.NoError(tb, db.QueryRow(fmt.Sprintf("SELECT MAX(n) FROM load_test WHERE client = %d", c)).Scan(&last))
		l.acked[c].Store(last.Int64)
		wg.Go(func() {
			for n := last.Int64 + 1; ctx.Err() == nil; n++ {
				began := time.Since(l.base)
				tx, err := db.BeginTx(ctx, nil)
				if err == nil {
					_, err = tx.Exec(fmt.Sprintf("INSERT INTO load_test VALUES (%d, %d, '%s')", c, n,
						strings.Repeat("x", 200)))
				}
				if err == nil {
					err = tx.Commit()
				}
				if err != nil {
					if ctx.Err() == nil {
						tb.Errorf("client %d: %v", c, err)
					}
					return
				}
				l.acked[c].Store(n)
				l.last.Store(int64(began))
			}
		})
	}
	tb.Cleanup(func() { cancel(); wg.Wait() })
	return l
}

// acknowledged returns the last transaction of each client that was.
func (l *load) acknowledged() []int64 {
	out := make([]int64, len(l.acked))
	for i := range l.acked {
		out[i] = l.acked[i].Load()
	}
	return out
}

// commits demands that a transaction that begins now is acknowledged.
func (l *load) commits(tb testing.TB) time.Duration {
	tb.Helper()
	from := time.Since(l.base)
	for time.Duration(l.last.Load()) < from {
		require.Less(tb, time.Since(l.base)-from, patience, "nothing commits")
		time.Sleep(time.Millisecond)
	}
	return time.Since(l.base) - from
}

// holds demands that no transaction that begins now is acknowledged for a while.
func (l *load) holds(tb testing.TB) {
	tb.Helper()
	from := time.Since(l.base)
	time.Sleep(50 * time.Millisecond)
	require.Less(tb, time.Duration(l.last.Load()), from, "transactions are acknowledged")
}

// requireTransactions demands that a restored server holds all transactions up to those, and after
// them none but in a row.
func requireTransactions(tb testing.TB, db *sql.DB, atLeast []int64) {
	tb.Helper()
	for c, want := range atLeast {
		var n, last sql.NullInt64
		require.NoError(tb, db.QueryRow(fmt.Sprintf("SELECT COUNT(*), MAX(n) FROM load_test WHERE client = %d",
			c)).Scan(&n, &last))
		require.GreaterOrEqual(tb, last.Int64, want, "client %d has lost transactions", c)
		require.Equal(tb, last.Int64, n.Int64, "client %d has holes", c)
	}
}
