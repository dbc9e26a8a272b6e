package writer

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

func startPostgres(t *testing.T) (*server, *sql.DB) {
	t.Helper()
	dir := filepath.Join(mountImage(t, "ext4", 512), "data")
	postgreSQL.create(t, dir)
	archiving := postgreSQL
	archiving.args = []string{"-c", "archive_mode=on"}
	return archiving.start(t, dir)
}

// backupSessions returns how many sessions there are in backup mode: those of an application name
// that the tests give.
func backupSessions(t *testing.T, db *sql.DB) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'the writer'").Scan(&n))
	return n
}

func TestPostgres(t *testing.T) {
	s, admin := startPostgres(t)
	l := startLoad(t, admin, 2)
	db, err := sql.Open("postgres", s.source(s.socketDir)+" application_name='the writer'")
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxIdleConns(0) // one that is idle would count as the writer's
	var label PostgresLabel
	w, err := Postgres{DB: db, Name: "pg", WaitForArchive: true,
		Label: func(_ context.Context, _ *provider.Set, l PostgresLabel) error {
			label = l
			return nil
		}}.Writer()
	require.NoError(t, err)

	t.Run("run", func(t *testing.T) {
		for range 2 {
			label = PostgresLabel{}
			require.NoError(t, w.Prepare(t.Context(), nil))
			require.Equal(t, 1, backupSessions(t, admin))
			require.ErrorContains(t, w.Prepare(t.Context(), nil), "in use by another run")
			require.NoError(t, w.Abort(t.Context(), nil))
			require.NoError(t, w.Freeze(t.Context()))
			l.commits(t) // it needs not hold still
			require.NoError(t, w.Thaw(t.Context()))
			require.NoError(t, w.PostSnapshot(t.Context(), nil))
			require.Contains(t, label.BackupLabel, "START WAL LOCATION: "+label.StartLSN)
			require.Contains(t, label.BackupLabel, "LABEL: pg")
			require.NotEqual(t, label.StartLSN, label.StopLSN)
			eventually(t, func() bool { return backupSessions(t, admin) == 0 }, "the session is left")
		}
	})
	// A copy of several moments, taken file by file under load, is restored by label and archive.
	t.Run("label and archive", func(t *testing.T) {
		require.NoError(t, w.Prepare(t.Context(), nil))
		require.NoError(t, w.Freeze(t.Context()))
		acked := l.acknowledged()
		restored := filepath.Join(filepath.Dir(s.dir), "restored")
		require.NoError(t, os.Mkdir(restored, 0o700))
		runCommand(t, "sh", "-c",
			`cd "$1" && tar cf - --warning=no-file-changed --exclude=./pg_wal/* --exclude=./postmaster.* . | tar xpf - -C "$2"; chown -R postgres: "$2"`,
			"sh", s.dir, restored)
		l.commits(t)
		require.NoError(t, w.Thaw(t.Context()))
		require.NoError(t, w.PostSnapshot(t.Context(), nil))
		for name, text := range map[string]string{
			"backup_label": label.BackupLabel, "recovery.signal": "",
			"postgresql.auto.conf": "restore_command = '/bin/cp " + s.socketDir + "/%f %p'\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\n",
		} {
			require.NoError(t, os.WriteFile(filepath.Join(restored, name), []byte(text), 0o644))
		}
		runCommand(t, "chown", "-R", "postgres:", restored)
		other, odb := postgreSQL.start(t, restored)
		eventually(t, func() bool {
			var recovering bool
			return odb.QueryRow("SELECT pg_is_in_recovery()").Scan(&recovering) == nil && !recovering
		}, "the recovery does not end")
		requireTransactions(t, odb, acked)
		other.stop(t)
	})
	t.Run("connection broken", func(t *testing.T) {
		kill := func() {
			_, err := admin.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'the writer'")
			require.NoError(t, err)
			eventually(t, func() bool { return backupSessions(t, admin) == 0 }, "the session is left")
		}
		require.NoError(t, w.Prepare(t.Context(), nil))
		kill()
		require.Error(t, w.Freeze(t.Context()))
		require.NoError(t, w.Thaw(t.Context()))
		require.NoError(t, w.Abort(t.Context(), nil))

		require.NoError(t, w.Prepare(t.Context(), nil))
		require.NoError(t, w.Freeze(t.Context()))
		kill()
		require.ErrorIs(t, w.Thaw(t.Context()), provider.ErrNotHeld)
		require.NoError(t, w.PostSnapshot(t.Context(), nil), "no label of an earlier run")
		require.NoError(t, w.Abort(t.Context(), nil))
		require.NoError(t, w.Prepare(t.Context(), nil), "the next run is a new one")
		require.NoError(t, w.Abort(t.Context(), nil))
		eventually(t, func() bool { return backupSessions(t, admin) == 0 }, "the session is left")
	})
	t.Run("limit", func(t *testing.T) {
		w, err := Postgres{DB: db, Limit: 100 * time.Millisecond}.Writer()
		require.NoError(t, err)
		require.NoError(t, w.Prepare(t.Context(), nil))
		require.NoError(t, w.Freeze(t.Context()))
		eventually(t, func() bool { return backupSessions(t, admin) == 0 }, "the session is left")
		require.ErrorIs(t, w.Thaw(t.Context()), provider.ErrNotHeld)
	})
	t.Run("refused", func(t *testing.T) {
		_, err := admin.Exec("CREATE ROLE nobody LOGIN")
		require.NoError(t, err)
		db, err := sql.Open("postgres", strings.Replace(s.source(s.socketDir), "user=root", "user=nobody", 1))
		require.NoError(t, err)
		defer db.Close()
		w, err := Postgres{DB: db}.Writer()
		require.NoError(t, err)
		require.ErrorContains(t, w.Prepare(t.Context(), nil), "start the backup mode")
		require.NoError(t, w.Abort(t.Context(), nil))
	})
	_, err = Postgres{}.Writer()
	require.ErrorContains(t, err, "no DB")
}
