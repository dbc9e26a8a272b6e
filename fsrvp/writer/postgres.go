package writer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// Postgres is a PostgreSQL server, 9.6 or later. One session is in backup mode while the copies are
// taken: from pg_backup_start, with a checkpoint, in Prepare, to pg_backup_stop in Thaw. PostgreSQL
// cannot stop its writes, and does not need to: the backup mode keeps what a recovery of the copy
// needs.
//
// There are two ways to restore, depending on the copy:
//
//   - If the copy shows a single moment of the data directory, pg_wal and all tablespaces, start a
//     server on it. It recovers as after a crash, and has every transaction that was acknowledged
//     before the freeze. Do not put the label there: with it the server needs the log up to the end
//     of the backup, which the copy does not have.
//   - If the copy mixes several moments, put the label there as backup_label and the tablespace map
//     as tablespace_map, and let restore_command fetch the log up to StopLSN from an archive.
//
// The server ends the backup mode when the connection breaks, or (from version 14 on) when it was
// idle for Limit after the freeze. The role needs the right to execute the two functions.
type Postgres struct {
	// DB reaches the server with any driver, without a pooler that shares sessions. The writer uses
	// one connection from Prepare to Thaw, and briefly another one if it must make sure that the
	// first has ended.
	DB *sql.DB
	// Name is the name of the writer, also in the label. Empty means PostgreSQL.
	Name string
	// Limit is the longest time from freeze to thaw. Zero means [DefaultLimit].
	Limit time.Duration
	// WaitForArchive makes Thaw wait until the log up to StopLSN is in the archive.
	WaitForArchive bool
	// Label, if not nil, is called with the results of pg_backup_stop, when the copies are exposed
	// and not yet recovered: with a context for writable copies they may still be changed.
	Label func(ctx context.Context, set *provider.Set, label PostgresLabel) error
}

// A PostgresLabel is what a recovery from a copy of several moments needs besides the log.
type PostgresLabel struct {
	StartLSN      string `json:"start_lsn"`      // "0/2000028"
	StopLSN       string `json:"stop_lsn"`       // the log up to here is needed
	BackupLabel   string `json:"backup_label"`   // contents of the file backup_label
	TablespaceMap string `json:"tablespace_map"` // contents of the file tablespace_map; if empty, there is no such file
}

// postgresWriter is Postgres in a run.
type postgresWriter struct {
	Postgres
	session session
	version int // server_version_num
	label   *PostgresLabel
	start   string
}

// Writer returns the writer, which serves one run at a time.
func (p Postgres) Writer() (provider.Writer, error) {
	if p.DB == nil {
		return provider.Writer{}, errors.New("writer: Postgres has no DB")
	}
	if p.Name == "" {
		p.Name = "PostgreSQL"
	}
	if p.Limit == 0 {
		p.Limit = DefaultLimit
	}
	w := &postgresWriter{Postgres: p, session: session{db: p.DB, kill: killPostgres}}
	return provider.Writer{
		Name:    p.Name,
		Prepare: func(ctx context.Context, _ []string) error { return w.prepare(ctx) },
		Freeze:  w.freeze,
		Thaw:    w.thaw,
		PostSnapshot: func(ctx context.Context, set *provider.Set) error {
			if w.label == nil || p.Label == nil {
				return nil
			}
			return p.Label(ctx, set, *w.label)
		},
		Abort:   func(ctx context.Context, _ error) error { return w.session.abort(ctx) },
		Timeout: p.Limit + 5*time.Second,
	}, nil
}

// prepare puts a new session into backup mode. The checkpoint takes as long as the server has pages
// to write.
func (w *postgresWriter) prepare(ctx context.Context) error {
	return w.session.open(ctx, func(ctx context.Context, conn *sql.Conn) (sessionID, error) {
		w.label = nil
		var id sessionID
		row := conn.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int, pid, "+
			"COALESCE(backend_start::text, '') FROM pg_stat_activity WHERE pid = pg_backend_pid()")
		if err := row.Scan(&w.version, &id.number, &id.since); err != nil {
			return id, err
		}
		query := "SELECT pg_backup_start($1, true)::text"
		if w.version < 150000 {
			query = "SELECT pg_start_backup($1, true, false)::text"
		}
		if err := conn.QueryRowContext(ctx, query, w.Name).Scan(&w.start); err != nil {
			return id, fmt.Errorf("start the backup mode: %w", err)
		}
		return id, nil
	})
}

// freeze checks the backup mode, and starts the server's idle limit.
func (w *postgresWriter) freeze(ctx context.Context) error {
	if !w.session.held() {
		if err := w.prepare(ctx); err != nil {
			return err
		}
	}
	err := w.session.use(ctx, func(ctx context.Context, conn *sql.Conn) error {
		if w.version < 140000 {
			return conn.PingContext(ctx)
		}
		_, err := conn.ExecContext(ctx, fmt.Sprintf("SET idle_session_timeout = %d", max(1, w.Limit.Milliseconds())))
		return err
	})
	if err != nil {
		return errors.Join(err, w.session.end(context.WithoutCancel(ctx)))
	}
	return nil
}

// thaw ends the backup mode. If the session cannot, it has ended before, at an unknown time.
func (w *postgresWriter) thaw(ctx context.Context) error {
	if !w.session.held() {
		return nil
	}
	err := w.session.use(ctx, func(ctx context.Context, conn *sql.Conn) error {
		query := "SELECT lsn::text, labelfile, COALESCE(spcmapfile, '') FROM pg_backup_stop($1)"
		args := []any{w.WaitForArchive}
		if w.version < 150000 {
			query = "SELECT lsn::text, labelfile, COALESCE(spcmapfile, '') FROM pg_stop_backup(false, $1)"
		}
		label := PostgresLabel{StartLSN: w.start}
		row := conn.QueryRowContext(ctx, query, args...)
		if err := row.Scan(&label.StopLSN, &label.BackupLabel, &label.TablespaceMap); err != nil {
			return err
		}
		w.label = &label
		return nil
	})
	if err == nil {
		w.session.leave()
		return nil
	}
	if end := w.session.end(ctx); end != nil {
		return errors.Join(err, end)
	}
	return fmt.Errorf("end the backup mode: %w (%w)", provider.ErrNotHeld, err)
}

// killPostgres ends a session that may already have ended.
func killPostgres(ctx context.Context, db *sql.DB, id sessionID) error {
	var n int
	return db.QueryRowContext(ctx, "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity "+
		"WHERE pid = $1 AND backend_start::text = $2", id.number, id.since).Scan(&n)
}
