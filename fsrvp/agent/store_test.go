package agent_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
)

// edit changes a store that no agent has open.
func edit(t testing.TB, path string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	store, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	require.NoError(t, err)
	require.NoError(t, store.Update(f))
	require.NoError(t, store.Close())
}

// storedSet is a set as version 1 of the store has it.
const storedSet = `{
	"id": "11111111-2222-3333-4444-555555555555",
	"client": "66666666-7777-8888-9999-aaaaaaaaaaaa",
	"status": "Exposed",
	"context": 25,
	"copies": [{
		"id": "bbbbbbbb-cccc-dddd-eeee-ffffffffffff",
		"volume": {"id": "memory:/srv/a", "path": "/srv/a"},
		"path": "/.snapshots/bbbbbbbb-cccc-dddd-eeee-ffffffffffff",
		"created": "2026-02-03T04:05:06.0000007Z",
		"shares": [{
			"unc": "\\\\fs1\\vms\\",
			"share": {"name": "vms", "path": "/srv/a/vms"},
			"dir": "vms",
			"name": "vms@{bbbbbbbb-cccc-dddd-eeee-ffffffffffff}",
			"exposed": true
		}]
	}]
}`

// TestStoreWithoutDir reads what an agent wrote that knew no volume mounted twice.
func TestStoreWithoutDir(t *testing.T) {
	old := strings.Replace(storedSet, `"dir": "vms",`, "", 1)
	require.NotEqual(t, storedSet, old)
	var want agent.Set
	require.NoError(t, json.Unmarshal([]byte(storedSet), &want))
	r := newRig(t, nil)
	require.NoError(t, r.Close())
	edit(t, r.cfg.StorePath, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("sets")).Put(want.ID[:], []byte(old)) })
	_, err := r.snapshots.Create(context.Background(), []agent.SnapshotSpec{{ID: want.Copies[0].ID, Volume: want.Copies[0].Volume}})
	require.NoError(t, err)
	r.start(t)
	require.Equal(t, []agent.Set{want}, r.Table())
}

// TestStoreFormat pins the format that is on disks: what an agent writes, and that it is read.
func TestStoreFormat(t *testing.T) {
	var want agent.Set
	require.NoError(t, json.Unmarshal([]byte(storedSet), &want))
	b, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, storedSet, string(b))

	r := newRig(t, nil)
	require.NoError(t, r.Close())
	edit(t, r.cfg.StorePath, func(tx *bbolt.Tx) error {
		require.Equal(t, "1", string(tx.Bucket([]byte("fsrvp")).Get([]byte("version"))))
		creation := `{"contextSet":true,"context":25,"address":"192.0.2.11","retries":2}`
		return errors.Join(
			tx.Bucket([]byte("fsrvp")).Put([]byte("creation"), []byte(creation)),
			tx.Bucket([]byte("sets")).Put(want.ID[:], []byte(storedSet)))
	})
	_, err = r.snapshots.Create(context.Background(), []agent.SnapshotSpec{{ID: want.Copies[0].ID, Volume: want.Copies[0].Volume}})
	require.NoError(t, err)
	r.start(t)
	require.Equal(t, []agent.Set{want}, r.Table())
	require.Equal(t, []string{want.Copies[0].Shares[0].Name}, r.listShares(t), "a share that is gone is exposed again")
	m, err := r.GetShareMapping(client2, want.Copies[0].ID, want.ID, vms, 1)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 2, 3, 4, 5, 6, 700, time.UTC), m.Created)
	requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(client2, 0), "the creation is still client 1's")
	require.NoError(t, r.SetContext(client1, 0))
	r.empty(t)
}

func TestStoreIsRefused(t *testing.T) {
	id := [16]byte{1, 1, 1, 1}
	put := func(bucket, key, value string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }
	}
	for name, change := range map[string]func(tx *bbolt.Tx) error{
		"later version":   put("fsrvp", "version", "2"),
		"no JSON":         put("sets", string(id[:]), "{"),
		"bad creation":    put("fsrvp", "creation", "[]"),
		"another id":      put("sets", string(id[:]), storedSet),
		"no table":        func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("sets")) },
		"another program": func(tx *bbolt.Tx) error { return errors.Join(tx.DeleteBucket([]byte("fsrvp"))) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			require.NoError(t, r.Close())
			_, err := r.snapshots.Create(context.Background(), []agent.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: agent.Volume{ID: "memory:/srv/a", Path: "/srv/a"}}})
			require.NoError(t, err)
			edit(t, r.cfg.StorePath, change)
			_, err = agent.New(context.Background(), r.cfg)
			require.ErrorContains(t, err, r.cfg.StorePath)
			require.Len(t, r.listSnapshots(t), 1, "nothing is taken for an orphan")
		})
	}
}

// TestStoredSetsAreChecked: what makes no sense is refused.
func TestStoredSetsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*agent.Set){
		"status":        func(s *agent.Set) { s.Status = "Lost" },
		"context":       func(s *agent.Set) { s.Context = 0x400002 },
		"copy id":       func(s *agent.Set) { s.Copies[0].ID = fsrvp.CopyID{} },
		"volume":        func(s *agent.Set) { s.Copies[0].Volume.ID = "" },
		"relative path": func(s *agent.Set) { s.Copies[0].Volume.Path = "srv/a" },
		"no shares":     func(s *agent.Set) { s.Copies[0].Shares = nil },
		"share name":    func(s *agent.Set) { s.Copies[0].Shares[0].Share.Name = "" },
		"exposed name":  func(s *agent.Set) { s.Copies[0].Shares[0].Name = "" },
		"another place": func(s *agent.Set) { s.Copies[0].Shares[0].Dir = "../b" },
		"another volume": func(s *agent.Set) {
			s.Copies[0].Shares[0].Dir, s.Copies[0].Shares[0].Share.Path = "", "/srv/a/../b"
		},
	} {
		r := newRig(t, nil)
		require.NoError(t, r.Close())
		var set agent.Set
		require.NoError(t, json.Unmarshal([]byte(storedSet), &set))
		change(&set)
		b, err := json.Marshal(set)
		require.NoError(t, err)
		edit(t, r.cfg.StorePath, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("sets")).Put(set.ID[:], b) })
		_, err = agent.New(context.Background(), r.cfg)
		require.ErrorContains(t, err, set.ID.String(), name)
	}
}

func TestStoreInUse(t *testing.T) {
	r := newRig(t, nil)
	cfg := *r.cfg
	cfg.StoreWait = 10 * time.Millisecond
	_, err := agent.New(context.Background(), &cfg)
	require.ErrorIs(t, err, agent.ErrStoreInUse)
	require.NoError(t, r.Close())
	r.start(t)
}

// TestFirstStartIsCutShort: a crash left an empty file, or bbolt's first pages alone.
func TestFirstStartIsCutShort(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.Close())
	require.NoError(t, os.WriteFile(r.cfg.StorePath, nil, 0o600))
	r.start(t)
	require.NoError(t, r.Close())
	require.NoError(t, os.Remove(r.cfg.StorePath))
	edit(t, r.cfg.StorePath, func(*bbolt.Tx) error { return nil })
	r.start(t)
	r.bring(t, 0, agent.Exposed, vms)
}

// TestStoreIsPrivate: the table names paths and accounts' hosts.
func TestStoreIsPrivate(t *testing.T) {
	r := newRig(t, nil)
	info, err := os.Stat(r.cfg.StorePath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

// TestDamagedStore damages a store in many ways. New may refuse it, or not notice; it must not panic.
func TestDamagedStore(t *testing.T) {
	dir := quickDir(t)
	r := newRig(t, func(r *rig) { r.cfg.StorePath = filepath.Join(dir, "store") })
	for range 3 {
		r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	}
	require.NoError(t, r.Close())
	whole, err := os.ReadFile(r.cfg.StorePath)
	require.NoError(t, err)
	rnd := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 400 {
		if !tryStore(t, dir, damage(rnd, whole)) {
			refused++
		}
	}
	t.Logf("%d of 400 damaged stores were refused", refused)
	require.NotZero(t, refused)
}

func damage(rnd *rand.Rand, whole []byte) []byte {
	b := append([]byte(nil), whole...)
	switch rnd.IntN(4) {
	case 0: // cut off
		return b[:rnd.IntN(len(b))]
	case 1: // a page of zeros
		clear(b[rnd.IntN(len(b)/4096)*4096:][:4096])
	default: // some bytes, where something is
		for range 1 + rnd.IntN(8) {
			page := rnd.IntN(len(b)/4096) * 4096
			b[page+rnd.IntN(256)] = byte(rnd.Uint32())
		}
	}
	return b
}

// tryStore starts an agent on a store with this content, and tells whether it started.
func tryStore(t testing.TB, dir string, content []byte) bool {
	f, err := os.CreateTemp(dir, "damaged-")
	require.NoError(t, err)
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	require.NoError(t, errors.Join(err, f.Close()))
	snapshots, shares := newBackends()
	a, err := agent.New(context.Background(), &agent.Config{
		Snapshots: snapshots, Shares: shares, StorePath: f.Name(), Names: []string{"fs1"}, StoreWait: time.Millisecond,
	})
	if err != nil {
		return false
	}
	_ = a.SetContext(client1, 0)
	_, _ = a.StartShadowCopySet(client1, fsrvp.NewSetID())
	_ = a.Close()
	return true
}

// FuzzStore starts an agent on any file. Checksums are made right, so that damage is not found by them alone.
func FuzzStore(f *testing.F) {
	dir := quickDir(f)
	for _, content := range [][]string{nil, {storedSet}, {storedSet, storedSet, storedSet}} {
		path := filepath.Join(dir, "seed")
		store, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1024})
		require.NoError(f, err)
		require.NoError(f, store.Update(func(tx *bbolt.Tx) error {
			main, err := tx.CreateBucket([]byte("fsrvp"))
			require.NoError(f, err)
			require.NoError(f, main.Put([]byte("version"), []byte("1")))
			sets, err := tx.CreateBucket([]byte("sets"))
			require.NoError(f, err)
			for _, set := range content {
				id := fsrvp.NewSetID()
				set = strings.Replace(set, "11111111-2222-3333-4444-555555555555", id.String(), 1)
				require.NoError(f, sets.Put(id[:], []byte(set)))
			}
			return nil
		}))
		require.NoError(f, store.Close())
		b, err := os.ReadFile(path)
		require.NoError(f, err)
		require.True(f, tryStore(f, dir, b))
		f.Add(b)
		require.NoError(f, os.Remove(path))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for page := range 2 {
			if m := page*1024 + 16; len(b) >= m+64 {
				sum := fnv.New64a()
				sum.Write(b[m : m+56])
				binary.NativeEndian.PutUint64(b[m+56:], sum.Sum64())
			}
		}
		tryStore(t, dir, b)
	})
}
