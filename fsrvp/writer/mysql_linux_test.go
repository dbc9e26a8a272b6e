package writer

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

func TestMySQL(t *testing.T) {
	dir := filepath.Join(mountImage(t, "ext4", 512), "data")
	mariaDB.create(t, dir)
	s, admin := mariaDB.start(t, dir)
	for _, statement := range []string{"CREATE DATABASE app", "CREATE USER backup@localhost IDENTIFIED BY ''",
		"GRANT RELOAD, BINLOG MONITOR ON *.* TO backup@localhost",
		"CREATE USER nobody@localhost IDENTIFIED BY ''"} {
		_, err := admin.Exec(statement)
		require.NoError(t, err)
	}
	as := func(user string) *sql.DB {
		db, err := sql.Open("mysql", strings.Replace(s.source(s.socketDir), "root@", user+"@", 1))
		require.NoError(t, err)
		t.Cleanup(func() { db.Close() })
		db.SetMaxIdleConns(0) // one that is idle would count as the writer's
		return db
	}
	app, err := sql.Open("mysql", s.source(s.socketDir)+"app")
	require.NoError(t, err)
	t.Cleanup(func() { app.Close() })
	l := startLoad(t, app, 2)
	db := as("backup")
	sessions := func() (n int) {
		require.NoError(t, admin.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'backup'").Scan(&n))
		return n
	}
	for _, c := range []struct {
		name     string
		readLock bool
	}{{"backup stage", false}, {"read lock", true}} {
		t.Run(c.name, func(t *testing.T) {
			var position *BinlogPosition
			newWriter := func(limit time.Duration) provider.Writer {
				w, err := MySQL{DB: db, ReadLock: c.readLock, Limit: limit,
					Position: func(_ context.Context, p BinlogPosition) error {
						position = &p
						return nil
					}}.Writer()
				require.NoError(t, err)
				return w
			}
			w := newWriter(0)
			t.Run("run", func(t *testing.T) {
				for range 2 {
					position = nil
					require.NoError(t, w.Prepare(t.Context(), nil))
					require.ErrorContains(t, w.Prepare(t.Context(), nil), "in use by another run")
					require.NoError(t, w.Abort(t.Context(), nil))
					l.commits(t)
					require.NoError(t, w.Freeze(t.Context()))
					l.holds(t)
					var file string
					var at uint64
					require.NoError(t, admin.QueryRow("SHOW MASTER STATUS").Scan(&file, &at, new(sql.NullString),
						new(sql.NullString)))
					require.NoError(t, w.Thaw(t.Context()))
					l.commits(t)
					require.NoError(t, w.PostSnapshot(t.Context(), nil))
					require.Equal(t, file, position.File)
					require.Equal(t, at, position.Position)
					require.Regexp(t, `^0-1-\d+$`, position.GTID)
				}
			})
			kill := func() {
				var id int64
				require.NoError(t, admin.QueryRow("SELECT id FROM information_schema.processlist WHERE user = 'backup'").Scan(&id))
				require.NoError(t, killMySQL(t.Context(), admin, sessionID{number: id}))
			}
			t.Run("connection broken", func(t *testing.T) {
				eventually(t, func() bool { return sessions() == 0 }, "a session is left")
				require.NoError(t, w.Prepare(t.Context(), nil))
				kill()
				require.Error(t, w.Freeze(t.Context()))
				require.NoError(t, w.Thaw(t.Context()))
				require.NoError(t, w.Abort(t.Context(), nil))
				l.commits(t)
				eventually(t, func() bool { return sessions() == 0 }, "a session is left")
				require.NoError(t, w.Freeze(t.Context()))
				l.holds(t)
				kill()
				l.commits(t)
				require.ErrorIs(t, w.Thaw(t.Context()), provider.ErrNotHeld)
				require.NoError(t, w.Thaw(t.Context()))
			})
			t.Run("aborted", func(t *testing.T) {
				require.NoError(t, w.Freeze(t.Context()))
				l.holds(t)
				require.NoError(t, w.Abort(t.Context(), nil))
				l.commits(t)
			})
			t.Run("limit", func(t *testing.T) {
				w := newWriter(500 * time.Millisecond) // the server counts seconds
				require.NoError(t, w.Freeze(t.Context()))
				l.commits(t)
				require.ErrorIs(t, w.Thaw(t.Context()), provider.ErrNotHeld)
			})
			// A transaction that has a table locked is in the way of the freeze, which must not
			// block all others.
			t.Run("lock that waits", func(t *testing.T) {
				conn, err := app.Conn(t.Context())
				require.NoError(t, err)
				defer conn.Close()
				_, err = conn.ExecContext(t.Context(),
					"CREATE TABLE IF NOT EXISTS notrans (n INT) ENGINE=Aria TRANSACTIONAL=0")
				require.NoError(t, err)
				_, err = conn.ExecContext(t.Context(), "LOCK TABLES notrans WRITE")
				require.NoError(t, err)
				w := newWriter(30 * time.Second)
				require.NoError(t, w.Prepare(t.Context(), nil))
				ctx, cancel := timeoutContext(t, 300*time.Millisecond)
				defer cancel()
				require.ErrorIs(t, w.Freeze(ctx), context.DeadlineExceeded)
				l.commits(t)
				require.NoError(t, w.Thaw(t.Context()))

				w = newWriter(time.Second)
				require.Error(t, w.Freeze(t.Context()), "the server gives up by itself")
				l.commits(t)
				require.NoError(t, w.Thaw(t.Context()))
				_, err = conn.ExecContext(t.Context(), "UNLOCK TABLES")
				require.NoError(t, err)
			})
			t.Run("refused", func(t *testing.T) {
				w, err := MySQL{DB: as("nobody"), ReadLock: c.readLock}.Writer()
				require.NoError(t, err)
				require.ErrorContains(t, w.Freeze(t.Context()), "denied")
				require.NoError(t, w.Thaw(t.Context()))
				l.commits(t)
			})
		})
	}
	_, err = MySQL{}.Writer()
	require.ErrorContains(t, err, "no DB")
}
