package writer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// MySQL is a MySQL or MariaDB server. Between freeze and thaw one session holds BACKUP STAGE
// BLOCK_COMMIT (MariaDB 10.4.1 and later) or FLUSH TABLES WITH READ LOCK: nothing commits, and
// tables without transactions are on disk.
//
// InnoDB still writes pages meanwhile, so the copy must show a single moment. A server on the
// restored copy starts with the usual recovery, and has every transaction that was acknowledged
// before the freeze.
//
// The session needs the privilege RELOAD, and REPLICATION CLIENT (in MariaDB: BINLOG MONITOR) for
// the position. The server ends the session, and so the lock, when the connection breaks, or when
// it was idle for Limit.
type MySQL struct {
	// DB reaches the server with any driver. The writer uses one connection from Prepare to Thaw,
	// and briefly another one if it must make sure that the first has ended.
	DB *sql.DB
	// Name is the name of the writer. Empty means [MySQL].
	Name string
	// ReadLock uses FLUSH TABLES WITH READ LOCK even if the server has BACKUP STAGE.
	ReadLock bool
	// Limit is the longest time from freeze to thaw, in whole seconds, rounded up; the server
	// enforces it (wait_timeout). It also bounds the wait for the lock (lock_wait_timeout). Zero
	// means [DefaultLimit].
	Limit time.Duration
	// Position, if not nil, is called after the thaw with the position of the binary log while
	// nothing was committed. It is not called if the server has no binary log.
	Position func(context.Context, BinlogPosition) error
}

// A BinlogPosition is the position of the binary log when the copies were taken.
type BinlogPosition struct {
	File     string `json:"file"`
	Position uint64 `json:"position"`
	// GTID is @@gtid_binlog_pos of MariaDB, or the executed set of [MySQL]. It may be empty.
	GTID string `json:"gtid,omitempty"`
}

// mySQLWriter is MySQL in a run.
type mySQLWriter struct {
	MySQL
	session  session
	mariaDB  bool
	stages   bool
	newNames bool // SHOW BINARY LOG STATUS
	locked   bool
	position *BinlogPosition
}

// Writer returns the writer, which serves one run at a time.
func (m MySQL) Writer() (provider.Writer, error) {
	if m.DB == nil {
		return provider.Writer{}, errors.New("writer: MySQL has no DB")
	}
	if m.Name == "" {
		m.Name = "MySQL"
	}
	if m.Limit == 0 {
		m.Limit = DefaultLimit
	}
	w := &mySQLWriter{MySQL: m, session: session{db: m.DB, kill: killMySQL}}
	return provider.Writer{
		Name:    m.Name,
		Prepare: func(ctx context.Context, _ []string) error { return w.prepare(ctx) },
		Freeze:  w.freeze,
		Thaw:    w.thaw,
		PostSnapshot: func(ctx context.Context, _ *provider.Set) error {
			if w.position == nil || m.Position == nil {
				return nil
			}
			return m.Position(ctx, *w.position)
		},
		Abort:   func(ctx context.Context, _ error) error { return w.session.abort(ctx) },
		Timeout: m.Limit + 5*time.Second,
	}, nil
}

// prepare opens the session, and writes out tables ahead, so that little is left for the freeze.
func (w *mySQLWriter) prepare(ctx context.Context) error {
	return w.session.open(ctx, func(ctx context.Context, conn *sql.Conn) (sessionID, error) {
		var version string
		var id sessionID
		row := conn.QueryRowContext(ctx, "SELECT VERSION(), CONNECTION_ID()")
		if err := row.Scan(&version, &id.number); err != nil {
			return id, err
		}
		n := versionNumber(version)
		w.mariaDB = strings.Contains(version, "MariaDB")
		w.stages = w.mariaDB && n >= 100401 && !w.ReadLock
		w.newNames = !w.mariaDB && n >= 80200
		w.locked, w.position = false, nil
		if !w.stages {
			if _, err := conn.ExecContext(ctx, "FLUSH LOCAL TABLES"); err != nil {
				return id, err
			}
		}
		return id, nil
	})
}

func (w *mySQLWriter) freeze(ctx context.Context) error {
	if !w.session.held() {
		if err := w.prepare(ctx); err != nil {
			return err
		}
	}
	seconds := int64((w.Limit + time.Second - 1) / time.Second)
	statements := []string{
		fmt.Sprintf("SET SESSION lock_wait_timeout = %d, SESSION wait_timeout = %d", seconds, seconds),
	}
	if w.stages {
		for _, stage := range []string{"START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"} {
			statements = append(statements, "BACKUP STAGE "+stage)
		}
	} else {
		statements = append(statements, "FLUSH TABLES WITH READ LOCK")
	}
	err := w.session.use(ctx, func(ctx context.Context, conn *sql.Conn) error {
		for _, statement := range statements {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		w.locked = true
		if w.Position == nil {
			return nil
		}
		var err error
		w.position, err = w.readPosition(ctx, conn)
		return err
	})
	if err != nil {
		return errors.Join(err, w.session.end(context.WithoutCancel(ctx)))
	}
	return nil
}

// readPosition returns nil if there is no binary log.
func (w *mySQLWriter) readPosition(ctx context.Context, conn *sql.Conn) (*BinlogPosition, error) {
	query := "SHOW MASTER STATUS"
	if w.newNames {
		query = "SHOW BINARY LOG STATUS"
	}
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errors.Join(err, rows.Err())
	}
	values := make([]sql.NullString, len(columns))
	targets := make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	p := &BinlogPosition{}
	for i, column := range columns {
		switch value := values[i].String; strings.ToLower(column) {
		case "file":
			p.File = value
		case "position":
			if p.Position, err = strconv.ParseUint(value, 10, 64); err != nil {
				return nil, fmt.Errorf("%s: %w", query, err)
			}
		case "executed_gtid_set":
			p.GTID = strings.ReplaceAll(value, "\n", "")
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	rows.Close()
	if w.mariaDB {
		if err := conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&p.GTID); err != nil {
			return nil, fmt.Errorf("gtid_binlog_pos: %w", err)
		}
	}
	return p, nil
}

// thaw unlocks. If the session cannot, the server has ended it, and with it the lock, at an unknown
// time.
func (w *mySQLWriter) thaw(ctx context.Context) error {
	if !w.session.held() {
		return nil
	}
	unlock := "UNLOCK TABLES"
	if w.stages {
		unlock = "BACKUP STAGE END"
	}
	locked := false
	err := w.session.use(ctx, func(ctx context.Context, conn *sql.Conn) error {
		if locked = w.locked; !locked {
			return nil
		}
		_, err := conn.ExecContext(ctx, unlock)
		return err
	})
	if err == nil {
		w.session.leave()
		return nil
	}
	if end := w.session.end(ctx); end != nil {
		return errors.Join(err, end)
	}
	if locked {
		return fmt.Errorf("%s: %w (%w)", unlock, provider.ErrNotHeld, err)
	}
	return nil // the freeze failed, and has returned the error
}

// killMySQL ends a session that may already have ended.
func killMySQL(ctx context.Context, db *sql.DB, id sessionID) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf("KILL CONNECTION %d", id.number))
	if err == nil {
		return nil
	}
	var n int // whether it is gone: error numbers depend on the driver
	row := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", id.number)
	if list := row.Scan(&n); list != nil {
		return errors.Join(err, list)
	}
	if n > 0 {
		return err
	}
	return nil
}

// versionNumber returns 100401 for "10.4.1-MariaDB".
func versionNumber(version string) int {
	n := 0
	for i, part := range strings.SplitN(version, ".", 3) {
		digits := strings.TrimRightFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if j := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); j >= 0 {
			digits = digits[:j]
		}
		v, err := strconv.Atoi(digits)
		if err != nil || v > 99 {
			break
		}
		n += v * []int{10000, 100, 1}[i]
	}
	return n
}
