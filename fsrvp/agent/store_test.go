package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/recordfile"
)

// bolt writes a store of version 1, in the place of one that no agent has open.
func bolt(t testing.TB, path string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	if err := os.Remove(path); !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	store, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, PageSize: 1024})
	require.NoError(t, err)
	require.NoError(t, store.Update(func(tx *bbolt.Tx) error {
		main, err := tx.CreateBucket([]byte("fsrvp"))
		require.NoError(t, err)
		require.NoError(t, main.Put([]byte("version"), []byte("1")))
		_, err = tx.CreateBucket([]byte("sets"))
		return errors.Join(err, f(tx))
	}))
	require.NoError(t, store.Close())
}

// edit changes the records of a store that no agent has open.
func edit(t testing.TB, path string, f func(map[string][]byte)) {
	t.Helper()
	r, err := state.Check(path)
	require.NoError(t, err)
	base, _ := strconv.ParseUint(string(r.Records["base"]), 10, 64)
	r.Records["base"] = strconv.AppendUint(nil, base+r.Sequence, 10) // changes are counted anew
	f(r.Records)
	_, err = state.Replace(path, r.ID, r.Records)
	require.NoError(t, err)
	adopt(t, path)
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

// putSet puts a set into a store of version 1.
func putSet(set []byte) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		var s agent.Set
		if err := json.Unmarshal(set, &s); err != nil {
			return err
		}
		return tx.Bucket([]byte("sets")).Put(s.ID[:], set)
	}
}

func (r *rig) takeStored(t testing.TB) (want agent.Set) {
	require.NoError(t, json.Unmarshal([]byte(storedSet), &want))
	_, err := r.snapshots.Create(context.Background(), []agent.SnapshotSpec{{ID: want.Copies[0].ID,
		Volume: want.Copies[0].Volume}})
	require.NoError(t, err)
	return want
}

// TestStoreWithoutDir reads what an agent wrote that knew no volume mounted twice.
func TestStoreWithoutDir(t *testing.T) {
	old := strings.Replace(storedSet, `"dir": "vms",`, "", 1)
	require.NotEqual(t, storedSet, old)
	r := newRig(t, nil)
	require.NoError(t, r.Close())
	want := r.takeStored(t)
	want.Kept = true // without a creation
	bolt(t, r.cfg.StorePath, putSet([]byte(old)))
	r.start(t)
	require.Equal(t, []agent.Set{want}, r.Table())
}

// TestOldFormat takes over what an agent of an older version has written, in the format that is on
// disks.
func TestOldFormat(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.Close())
	want := r.takeStored(t)
	b, err := json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, storedSet, string(b))
	bolt(t, r.cfg.StorePath, func(tx *bbolt.Tx) error {
		creation := `{"contextSet":true,"context":25,"address":"192.0.2.11","retries":2}`
		return errors.Join(tx.Bucket([]byte("fsrvp")).Put([]byte("creation"), []byte(creation)),
			putSet([]byte(storedSet))(tx))
	})
	old, err := os.ReadFile(r.cfg.StorePath)
	require.NoError(t, err)
	r.start(t)
	require.Equal(t, []agent.Set{want}, r.Table())
	require.Equal(t, []string{want.Copies[0].Shares[0].Name}, r.listShares(t), "a share that is gone is exposed again")
	aside, err := os.ReadFile(r.cfg.StorePath + ".old")
	require.NoError(t, err)
	require.Equal(t, old, aside)
	require.NoError(t, r.Close())
	r.start(t) // from its own store
	require.Equal(t, []agent.Set{want}, r.Table())
	m, err := r.GetShareMapping(client2, want.Copies[0].ID, want.ID, vms, 1)
	require.NoError(t, err)
	require.Equal(t, time.Date(2026, 2, 3, 4, 5, 6, 700, time.UTC), m.Created)
	requireStatus(t, fsrvp.ErrShadowCopySetInProgress, r.SetContext(client2, 0), "the creation is still client 1's")
	require.NoError(t, r.SetContext(client1, 0))
	r.empty(t)
}

// TestOldFormatInUse: an agent of an older version has it open.
func TestOldFormatInUse(t *testing.T) {
	path := filepath.Join(quickDir(t), "store")
	store, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	defer store.Close()
	snapshots, shares := newBackends()
	_, err = agent.New(context.Background(), &agent.Config{Snapshots: snapshots, Shares: shares, StorePath: path,
		Names: []string{"fs1"}})
	require.ErrorIs(t, err, agent.ErrStoreInUse)
}

// TestRecords pins the format of the records that are on disks.
func TestRecords(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms, docs)
	table := r.Table()[0]
	require.NoError(t, r.Close())
	report, err := state.Check(r.cfg.StorePath)
	require.NoError(t, err)
	copy := l.copies[0].String()
	want := map[string]string{
		"version":               "2",
		"creation":              `{"contextSet":true,"context":25,"address":"192.0.2.11","retries":0}`,
		"set/" + l.set.String(): `{"client":"` + table.Client.String() + `","status":"Exposed","context":25}`,
		"copy/" + l.set.String() + "/" + copy: `{"place":0,"id":"` + copy + `","volume":{"id":"memory:/srv/a","path":"/srv/a"},"path":"` +
			table.Copies[0].Path + `","created":"` + table.Copies[0].Created.Format(time.RFC3339Nano) + `"}`,
		"share/" + l.set.String() + "/" + copy + "/vms":  `{"place":1,"unc":"\\\\fs1\\vms","share":{"name":"vms","path":"/srv/a/vms"},"dir":"vms","name":"vms@{` + copy + `}","exposed":true}`,
		"share/" + l.set.String() + "/" + copy + "/docs": `{"place":2,"unc":"\\\\FS1.example.com\\docs\\","share":{"name":"docs","path":"/srv/a/docs"},"dir":"docs","name":"docs@{` + copy + `}","exposed":true}`,
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(report.Records)))
	for key, value := range want {
		require.JSONEq(t, value, string(report.Records[key]), key)
	}
	r.start(t)
	require.Equal(t, []agent.Set{table}, r.Table())
}

// TestStoreIsRefused: what makes no sense stops the agent, and nothing is deleted.
func TestStoreIsRefused(t *testing.T) {
	put := func(bucket, key, value string) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), []byte(value)) }
	}
	id := [16]byte{1, 1, 1, 1}
	old := map[string]func(tx *bbolt.Tx) error{
		"later version":   put("fsrvp", "version", "3"),
		"no JSON":         put("sets", string(id[:]), "{"),
		"bad creation":    put("fsrvp", "creation", "[]"),
		"another id":      put("sets", string(id[:]), storedSet),
		"no table":        func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("sets")) },
		"another program": func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("fsrvp")) },
	}
	refused := func(t *testing.T, prepare func(r *rig)) {
		r := newRig(t, nil)
		r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
		require.NoError(t, r.Close())
		prepare(r)
		_, err := agent.New(context.Background(), r.cfg)
		require.Error(t, err)
		require.Len(t, r.listSnapshots(t), 1, "nothing is taken for an orphan")
		require.Len(t, r.listShares(t), 1)
	}
	for name, change := range old {
		t.Run("bbolt/"+name, func(t *testing.T) { refused(t, func(r *rig) { bolt(t, r.cfg.StorePath, change) }) })
	}
	for name, change := range map[string]func(map[string][]byte){
		"later version": func(m map[string][]byte) { m["version"] = []byte("3") },
		"no version":    func(m map[string][]byte) { delete(m, "version") },
		"bad creation":  func(m map[string][]byte) { m["creation"] = []byte("[]") },
		"unknown":       func(m map[string][]byte) { m["later/1"] = []byte("{}") },
		"no set":        func(m map[string][]byte) { without(m, "set/") },
		"no copy":       func(m map[string][]byte) { without(m, "copy/") },
		"no share":      func(m map[string][]byte) { without(m, "share/") },
		"null":          func(m map[string][]byte) { m["set/"+fsrvp.NewSetID().String()] = []byte("null") },
		"bad id":        func(m map[string][]byte) { m["set/1"] = []byte("{}") },
	} {
		t.Run(name, func(t *testing.T) { refused(t, func(r *rig) { edit(t, r.cfg.StorePath, change) }) })
	}
	t.Run("empty file", func(t *testing.T) {
		refused(t, func(r *rig) { require.NoError(t, os.WriteFile(r.cfg.StorePath, nil, 0o600)) })
	})
	t.Run("no file", func(t *testing.T) { refused(t, func(r *rig) { require.NoError(t, os.Remove(r.cfg.StorePath)) }) })
}

func without(m map[string][]byte, prefix string) {
	for k := range m {
		if strings.HasPrefix(k, prefix) {
			delete(m, k)
		}
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
		bolt(t, r.cfg.StorePath, putSet(b))
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

// TestFirstStartIsCutShort: a crash left only the file with the id, or bbolt's first pages.
func TestFirstStartIsCutShort(t *testing.T) {
	dir := quickDir(t)
	r := newRig(t, func(r *rig) {
		r.cfg.StorePath = filepath.Join(dir, "store")
		require.NoError(t, os.WriteFile(r.cfg.StorePath+".id", nil, 0o600))
		require.NoError(t, os.WriteFile(r.cfg.StorePath+".new", []byte("half"), 0o600))
	})
	require.NoError(t, r.Close())
	r = newRig(t, func(r *rig) {
		r.cfg.StorePath = filepath.Join(dir, "bbolt")
		store, err := bbolt.Open(r.cfg.StorePath, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, store.Close())
	})
	r.bring(t, 0, agent.Exposed, vms)
}

// TestNewState: an administrator lets an agent begin anew.
func TestNewState(t *testing.T) {
	r := newRig(t, nil)
	r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	require.NoError(t, r.Close())
	require.NoError(t, os.Remove(r.cfg.StorePath))
	r.cfg.AcceptState = true
	r.start(t)
	require.Empty(t, r.Table())
}

// TestStoreIsPrivate: the table names paths and accounts' hosts.
func TestStoreIsPrivate(t *testing.T) {
	r := newRig(t, nil)
	for _, suffix := range []string{"", ".id"} {
		info, err := os.Stat(r.cfg.StorePath + suffix)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}
}

// threeSets leaves three sets, in a store and on backends.
func threeSets(t testing.TB) (r *rig, data []byte) {
	r = &rig{as: client1, other: client2, cfg: &agent.Config{StorePath: filepath.Join(quickDir(t), "store"),
		Names: []string{"fs1", "fs1.example.com", "192.0.2.1"}}}
	r.snapshots, r.shares = newBackends()
	r.start(t)
	for range 3 {
		r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms, db)
	}
	require.NoError(t, r.Close())
	data, err := os.ReadFile(r.cfg.StorePath)
	require.NoError(t, err)
	return r, data
}

// TestEveryBitOfTheStore flips every single bit of a store with three sets, and cuts it off after
// every byte: what is read is the same records, or nothing.
func TestEveryBitOfTheStore(t *testing.T) {
	_, data := threeSets(t)
	const kind = "agent state"
	whole, err := recordfile.Parse(data, kind)
	require.NoError(t, err)
	require.Greater(t, len(whole.Records), 3+6+6)
	step, refused, same := 1, 0, 0
	if testing.Short() {
		step = 37
	}
	judge := func(b []byte, what string, at int) {
		switch r, err := recordfile.Parse(b, kind); {
		case err != nil:
			refused++
		case maps.EqualFunc(r.Records, whole.Records, bytes.Equal):
			same++
		default:
			t.Fatalf("%s %d: another table", what, at)
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
	t.Logf("%d refused, %d the same table", refused, same)
	require.NotZero(t, refused)
}

// TestDamagedStore damages a store of three sets in many ways and starts an agent on it: it has the
// same table or does not start, and deletes nothing.
func TestDamagedStore(t *testing.T) {
	r, whole := threeSets(t)
	r.start(t)
	table := r.Table()
	require.NoError(t, r.Close())
	rnd := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 400 {
		snapshots := r.snapshots.Clone()
		shares := r.shares.Clone(snapshots)
		require.NoError(t, os.WriteFile(r.cfg.StorePath, damage(rnd, whole), 0o600))
		a, err := agent.New(context.Background(), &agent.Config{Snapshots: snapshots, Shares: shares,
			StorePath: r.cfg.StorePath, Names: r.cfg.Names})
		if err != nil {
			refused++
			require.ErrorContains(t, err, r.cfg.StorePath)
			require.ErrorContains(t, err, "state check")
		} else {
			require.ElementsMatch(t, table, a.Table())
			require.NoError(t, a.Close())
		}
		require.Len(t, snapshots.All(), 6)
		require.Len(t, shares.All(), 6)
	}
	t.Logf("%d of 400 damaged stores were refused", refused)
	require.NotZero(t, refused)
}

func damage(rnd *rand.Rand, whole []byte) []byte {
	b := bytes.Clone(whole)
	switch rnd.IntN(4) {
	case 0: // cut off
		return b[:rnd.IntN(len(b))]
	case 1: // a page of zeros
		clear(b[rnd.IntN(len(b)/4096)*4096:][:4096])
	case 2: // bytes taken out
		at := rnd.IntN(len(b) / 2)
		return slices.Delete(b, at, at+1+rnd.IntN(600))
	default: // a byte, where something is
		at := rnd.IntN(len(b))
		for b[at] == 0 {
			at = rnd.IntN(len(b))
		}
		b[at] ^= byte(1 + rnd.IntN(255))
	}
	return b
}

// tryStore starts an agent on a store, and reports whether it started.
func tryStore(path string) bool {
	snapshots, shares := newBackends()
	a, err := agent.New(context.Background(), &agent.Config{
		Snapshots: snapshots, Shares: shares, StorePath: path, Names: []string{"fs1"}, StoreWait: time.Millisecond,
	})
	if err != nil {
		return false
	}
	_ = a.SetContext(client1, 0)
	_, _ = a.StartShadowCopySet(client1, fsrvp.NewSetID())
	_ = a.Close()
	return true
}

// FuzzStore starts an agent on a store with any records.
func FuzzStore(f *testing.F) {
	dir := quickDir(f)
	_, data := threeSets(f)
	r, err := recordfile.Parse(data, "agent state")
	require.NoError(f, err)
	for key, value := range r.Records {
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		records := maps.Clone(r.Records)
		records[key] = value
		path := filepath.Join(dir, fsrvp.NewSetID().String())
		_, err := state.Replace(path, state.ID{1}, records)
		require.NoError(t, err)
		tryStore(path)
		require.NoError(t, errors.Join(os.Remove(path), os.Remove(path+".id")))
	})
}

// FuzzOldFormat starts an agent on any file of bbolt. Checksums are made right, so that damage is
// not found by them alone.
func FuzzOldFormat(f *testing.F) {
	dir := quickDir(f)
	for i, n := range []int{0, 1, 3} {
		path := filepath.Join(dir, fmt.Sprint("seed", i))
		bolt(f, path, func(tx *bbolt.Tx) error {
			for range n {
				set := strings.Replace(storedSet, "11111111-2222-3333-4444-555555555555", fsrvp.NewSetID().String(), 1)
				require.NoError(f, putSet([]byte(set))(tx))
			}
			return nil
		})
		b, err := os.ReadFile(path)
		require.NoError(f, err)
		require.True(f, tryStore(path))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for page := range 2 {
			if m := page*1024 + 16; len(b) >= m+64 {
				sum := fnv.New64a()
				sum.Write(b[m : m+56])
				binary.NativeEndian.PutUint64(b[m+56:], sum.Sum64())
			}
		}
		path := filepath.Join(dir, fsrvp.NewSetID().String())
		require.NoError(t, os.WriteFile(path, b, 0o600))
		tryStore(path)
		for _, suffix := range []string{"", ".id", ".old"} {
			os.Remove(path + suffix)
		}
	})
}
