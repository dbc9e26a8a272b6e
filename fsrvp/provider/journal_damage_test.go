package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/recordfile"
)

// threeRuns leaves a journal of three runs that never ended, on two servers each.
func threeRuns(t *testing.T, path string) []record {
	t.Helper()
	j, err := OpenJournal(path)
	require.NoError(t, err)
	for range 3 {
		run, err := j.begin()
		require.NoError(t, err)
		for _, name := range []string{"fs1", "fs2"} {
			s := &server{name: name, set: fsrvp.NewSetID(), shares: []*share{{unc: `\\` + name + `\s`,
				copy: fsrvp.NewCopyID()}}}
			require.NoError(t, j.note(run, s, stateStarting))
			require.NoError(t, j.note(run, s, stateStarted))
		}
		j.end(run)
	}
	left, err := j.left()
	require.NoError(t, err)
	require.Len(t, left, 6)
	require.NoError(t, j.Close())
	return left
}

// TestEveryBitOfTheJournal flips every single bit of a journal of three runs, and cuts it off after
// every byte: what is read is the same records, or nothing.
func TestEveryBitOfTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	threeRuns(t, path)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	whole, err := recordfile.Parse(data, journalKind)
	require.NoError(t, err)
	require.Len(t, whole.Records, 6)
	step, refused := 1, 0
	if testing.Short() {
		step = 37
	}
	judge := func(b []byte, what string, at int) {
		r, err := recordfile.Parse(b, journalKind)
		if err != nil {
			refused++
		} else if !maps.EqualFunc(r.Records, whole.Records, bytes.Equal) {
			t.Fatalf("%s %d: other records", what, at)
		}
	}
	for n := 0; n < len(data); n += 17 * step {
		judge(data[:n], "cut off after", n)
	}
	data = data[:whole.Log+64] // then there are zeros
	for bit := 0; bit < len(data)*8; bit += step {
		data[bit/8] ^= 1 << (bit % 8)
		judge(data, "bit", bit)
		data[bit/8] ^= 1 << (bit % 8)
	}
	for n := 0; n < len(data); n += step {
		judge(data[:n], "cut off after", n)
	}
	require.NotZero(t, refused)
}

// TestDamagedJournal: a damaged journal is refused, by its name, and no server is asked for
// anything.
func TestDamagedJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	threeRuns(t, path)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, damaged := range [][]byte{nil, data[:100], data[:len(data)/3], append([]byte("x"), data...)} {
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		_, err = OpenJournal(path)
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, "no server was asked")
	}
	require.NoError(t, os.Remove(path))
	_, err = OpenJournal(path)
	require.ErrorContains(t, err, "it is missing")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = OpenJournal(path)
	require.ErrorContains(t, err, "others may use it")
}

// TestOldJournal takes over the journal of an older version, and ends its run.
func TestOldJournal(t *testing.T) {
	fs := startFileServer(t, "fs1", 1)
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	require.NoError(t, err)
	cfg := &Config{Dial: newNetwork(fs).dial, Journal: j, CleanUpLimit: 300 * time.Millisecond}
	fs.setFault(func(op fsrvp.Opnum) error {
		if op == fsrvp.OpDeleteShareMapping {
			return errInjected
		}
		return nil
	})
	require.ErrorIs(t, Run(t.Context(), cfg, []string{fs.unc(0)}, func(context.Context, *Set) error { return nil }),
		errInjected)
	left := j.file.Load()
	require.NoError(t, j.Close())
	require.Len(t, left, 1)
	fs.setFault(nil)

	old := filepath.Join(t.TempDir(), "journal")
	db, err := bbolt.Open(old, 0o600, &bbolt.Options{Timeout: time.Second})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("runs v1"))
		require.NoError(t, err)
		for key, value := range left {
			require.NoError(t, b.Put([]byte(key), value))
		}
		return nil
	}))
	require.NoError(t, db.Close())
	cfg.Journal, err = OpenJournal(old)
	require.NoError(t, err)
	defer cfg.Journal.Close()
	require.FileExists(t, old+".old")
	require.NoError(t, Recover(t.Context(), cfg))
	fs.requireClean(t)
	require.Empty(t, cfg.Journal.file.Load())
}

// TestRecordsAreChecked: a record that makes no sense is refused.
func TestRecordsAreChecked(t *testing.T) {
	for _, rec := range []record{{}, {Run: "1", Server: "fs1"}, {Run: "1", Server: "fs2", State: "started"},
		{Run: "2", Server: "fs1", State: "started"}} {
		b, err := json.Marshal(rec)
		require.NoError(t, err)
		_, err = parseRecord("1 fs1", b)
		require.Error(t, err, "%+v", rec)
	}
}
