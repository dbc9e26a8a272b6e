//go:build linux

package ctdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state/statetest"
)

func newDir(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "table")
	require.NoError(t, os.Mkdir(dir, 0o700))
	return dir
}

func open(t testing.TB, dir, member string) *Store {
	s, err := tryOpen(dir, member)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func tryOpen(dir, member string) (*Store, error) {
	return Open(context.Background(), &Config{Dir: dir, Member: member, Poll: 5 * time.Millisecond,
		Life: func(context.Context, string) (state.Life, error) { return state.Present, nil }})
}

func TestStore(t *testing.T) {
	statetest.Run(t, func(t *testing.T) func(string) (state.Shared, error) {
		dir := newDir(t)
		return func(member string) (state.Shared, error) {
			s, err := tryOpen(dir, member)
			if err != nil {
				return nil, err
			}
			return s, nil
		}
	})
}

func put(k, v string) state.Change { return state.Change{Put: map[string][]byte{k: []byte(v)}} }

// TestGenerations writes through several of them, while another member looks now and then, and
// checks that old ones go.
func TestGenerations(t *testing.T) {
	dir := newDir(t)
	a, b := open(t, dir, "a"), open(t, dir, "b")
	seen := map[string][]byte{}
	want := map[string][]byte{}
	for i := range 4*maxChanges + 10 {
		c := put(strconv.Itoa(i%13), strconv.Itoa(i))
		if i%7 == 0 {
			c = state.Change{Drop: []string{strconv.Itoa(i % 13)}}
		}
		require.NoError(t, a.Write(t.Context(), c))
		c.Apply(want)
		if i%97 == 0 || i > 1500 && i%600 == 0 {
			c, err := b.Refresh(t.Context())
			require.NoError(t, err)
			c.Apply(seen)
			require.Equal(t, want, seen, i)
		}
	}
	c, err := b.Refresh(t.Context())
	require.NoError(t, err)
	c.Apply(seen)
	require.Equal(t, want, seen)
	gens, err := b.log.generations()
	require.NoError(t, err)
	require.Len(t, gens, 2)
	require.Equal(t, uint64(5), gens[1])
	left, err := filepath.Glob(filepath.Join(dir, "*", tmpPrefix+"*"))
	require.NoError(t, err)
	require.Empty(t, left)
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, list, 4, "%v", list)
}

// TestStoppedWriter has a member stop between any two steps of a write, while others write through
// two generations.
func TestStoppedWriter(t *testing.T) {
	dir := newDir(t)
	a, b := open(t, dir, "a"), open(t, dir, "b")
	require.NoError(t, a.Write(t.Context(), put("x", "1")))
	_, err := b.Refresh(t.Context())
	require.NoError(t, err)
	// b's change is written, and b stops before it gives it a name.
	tmp, err := b.log.writeTmp(b.log.genDir(b.log.gen), []byte("anything"))
	require.NoError(t, err)
	require.NoError(t, a.Write(t.Context(), put("x", "2")))
	require.ErrorIs(t, b.log.link(tmp), state.ErrConflict)
	// b stops when it has found its directory, which is renamed and emptied meanwhile.
	old := b.log.genDir(b.log.gen)
	for i := range 3 * maxChanges {
		require.NoError(t, a.Write(t.Context(), put("x", strconv.Itoa(i))))
	}
	require.NoDirExists(t, old)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "old-a-dead"), 0o700))
	require.ErrorIs(t, b.log.link(tmp), state.ErrConflict)
	require.ErrorIs(t, b.Write(t.Context(), put("x", "b")), state.ErrConflict)
	c, err := b.Refresh(t.Context())
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(3*maxChanges-1), string(c.Put["x"]))
	require.NoError(t, b.Write(t.Context(), put("x", "b")))
}

// TestEndOfGenerationCutShort stops the member that ends a generation before it makes the next.
func TestEndOfGenerationCutShort(t *testing.T) {
	dir := newDir(t)
	a, b := open(t, dir, "a"), open(t, dir, "b")
	require.NoError(t, a.Write(t.Context(), put("x", "1")))
	_, err := a.log.append(state.Change{Put: map[string][]byte{endKey: {}}})
	require.NoError(t, err)
	_, err = b.Refresh(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.Write(t.Context(), put("x", "2")))
	c, err := a.Refresh(t.Context())
	require.NoError(t, err)
	require.Equal(t, put("x", "2").Put, c.Put)
	require.Equal(t, uint64(2), a.log.gen)
}

// TestDamage changes, cuts, removes and doubles every file of a table: what is read is the same
// table, or nothing.
func TestDamage(t *testing.T) {
	dir := newDir(t)
	a := open(t, dir, "a")
	want := map[string][]byte{}
	for i := range 6 {
		c := put(fmt.Sprint("key", i), "value")
		require.NoError(t, a.Write(t.Context(), c))
		c.Apply(want)
	}
	id := a.ID()
	require.NoError(t, a.Close())
	var files []string
	require.NoError(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && filepath.Ext(path) != ".lock" {
			files = append(files, path)
		}
		return err
	}))
	require.Len(t, files, 8)
	judge := func(what string, last bool) {
		s, err := tryOpen(dir, "a")
		if err != nil {
			var damage *state.DamageError
			require.ErrorAs(t, err, &damage, what)
			return
		}
		defer s.Close()
		records, err := s.Load(t.Context())
		require.NoError(t, err, what)
		require.Equal(t, id, s.ID(), what)
		if last { // that the newest change is missing altogether only the copies can tell
			without := maps.Clone(want)
			delete(without, "key5")
			require.Equal(t, without, records, what)
			return
		}
		require.Equal(t, want, records, what)
	}
	for i, path := range files {
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		last := i == len(files)-2
		write := func(b []byte) { require.NoError(t, os.WriteFile(path, b, 0o600)) }
		for at := 0; at < len(whole); at++ {
			if len(whole) > 1000 && at > 100 && at < len(whole)-150 && at%97 != 0 {
				continue
			}
			changed := append([]byte{}, whole...)
			changed[at] ^= 1 << (at % 8)
			write(changed)
			judge(fmt.Sprintf("%s byte %d", path, at), false)
		}
		for _, n := range []int{0, 1, len(whole) / 2, len(whole) - 1} {
			write(whole[:n])
			judge(fmt.Sprintf("%s cut at %d", path, n), false)
		}
		write(append(whole[:len(whole):len(whole)], 0))
		judge(path+" longer", false)
		require.NoError(t, os.Remove(path))
		if filepath.Base(path) != idFile {
			judge(path+" missing", last)
		}
		write(whole)
	}
	require.NoError(t, os.Rename(files[2], files[2]+".x"))
	require.NoError(t, os.Rename(files[3], files[2]))
	judge("another change", false)
	require.NoError(t, os.Rename(files[2], files[3]))
	require.NoError(t, os.Rename(files[2]+".x", files[2]))
	judge("whole again", false)
	require.NoError(t, os.RemoveAll(filepath.Dir(files[2])))
	judge("no table", false)
}

// TestTurnedBack takes the newest changes away while members have the table open.
func TestTurnedBack(t *testing.T) {
	dir := newDir(t)
	a := open(t, dir, "a")
	for i := range 4 {
		require.NoError(t, a.Write(t.Context(), put("x", strconv.Itoa(i))))
	}
	require.NoError(t, os.Remove(a.log.entry(a.log.seq)))
	var damage *state.DamageError
	require.ErrorAs(t, a.Write(t.Context(), put("x", "9")), &damage)
}

func TestOpenRefuses(t *testing.T) {
	dir := newDir(t)
	for name, cfg := range map[string]*Config{
		"relative":     {Dir: "table", Member: "a"},
		"missing":      {Dir: dir + "x", Member: "a"},
		"no name":      {Dir: dir, Member: "../a"},
		"no CTDB":      {Dir: dir, Program: "/nonexistent/ctdb"},
		"long, a name": {Dir: dir, Member: string(make([]byte, 100))},
	} {
		_, err := Open(t.Context(), cfg)
		require.Error(t, err, name)
	}
	require.NoError(t, os.Chmod(dir, 0o777))
	_, err := tryOpen(dir, "a")
	require.Error(t, err, "others may write")
}

// TestLife asks the cluster for what the locks do not prove: a lock that nobody holds does, one
// that is held does not, and one whose file was removed does not, since its process may go on.
func TestLife(t *testing.T) {
	dir := newDir(t)
	asked := 0
	lost := errors.New("no answer")
	a, err := Open(t.Context(), &Config{Dir: dir, Member: "a", Life: func(context.Context, string) (state.Life, error) {
		asked++
		return state.Present, lost
	}})
	require.NoError(t, err)
	defer a.Close()
	_, err = a.Life(t.Context(), "b")
	require.ErrorIs(t, err, lost)
	b := open(t, dir, "b")
	_, err = a.Life(t.Context(), "b")
	require.ErrorIs(t, err, lost)
	require.Equal(t, 2, asked)
	lock := a.cfg.lockPath("b")
	require.NoError(t, os.Rename(lock, lock+".away"))
	_, err = a.Life(t.Context(), "b")
	require.ErrorIs(t, err, lost)
	require.Equal(t, 3, asked)
	require.NoError(t, os.Rename(lock+".away", lock))
	require.NoError(t, b.Close())
	l, err := a.Life(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, state.Gone, l)
	_, err = a.Life(t.Context(), "a")
	require.ErrorIs(t, err, lost, "whether this node is in the cluster")
	require.Equal(t, 4, asked)
}

func TestStatus(t *testing.T) {
	const header = "|Node|IP|Disconnected|Unknown|Banned|Disabled|Unhealthy|Stopped|Inactive|PartiallyOnline|ThisNode|\n"
	nodes, err := parseStatus(header +
		"|0|10.98.0.1|0|0|0|0|0|0|0|0|Y|\n" +
		"|1|10.98.0.2|1|0|0|0|0|0|1|0|N|\n" +
		"|2|10.98.0.3|0|0|0|0|1|0|0|0|N|\n" +
		"|3|10.98.0.4|0|0|1|0|0|0|1|0|N|\n")
	require.NoError(t, err)
	for pnn, want := range map[int]state.Life{0: state.Present, 1: state.Lost, 2: state.Present, 3: state.Lost,
		9: state.Present} {
		require.Equal(t, want, judge(nodes, pnn), pnn)
	}
	nodes[0].out = true
	require.Equal(t, state.Present, judge(nodes, 1), "a node that is out itself knows nothing")
	for _, bad := range []string{"", header, header + "|x|10.98.0.1|0|\n"} {
		_, err := parseStatus(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add("|Node|IP|Disconnected|ThisNode|\n|0|10.98.0.1|0|Y|\n")
	f.Fuzz(func(t *testing.T, s string) {
		nodes, err := parseStatus(s)
		if err == nil {
			judge(nodes, 0)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	s := open(b, newDir(b), "a")
	for i := 0; b.Loop(); i++ {
		require.NoError(b, s.Write(b.Context(), put("key", strconv.Itoa(i))))
	}
}

func BenchmarkRefreshOfNothing(b *testing.B) {
	s := open(b, newDir(b), "a")
	for b.Loop() {
		_, err := s.Refresh(b.Context())
		require.NoError(b, err)
	}
}

// TestSweep leaves what members leave that are killed in the midst of a write. It is removed when
// it is proven that its member is gone, and stays where that is not so.
func TestSweep(t *testing.T) {
	dir := newDir(t)
	a, b, c := open(t, dir, "a"), open(t, dir, "node-7"), open(t, dir, "c")
	leave := func(s *Store) (left []string) {
		for _, in := range []string{dir, s.log.genDir(s.log.gen)} {
			path, err := s.log.writeTmp(in, []byte("half"))
			require.NoError(t, err)
			left = append(left, path)
		}
		half := filepath.Join(dir, tmpPrefix+s.cfg.Member+"-HALF")
		require.NoError(t, os.Mkdir(half, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(half, baseFile), nil, 0o600))
		return append(left, half)
	}
	requireThere := func(there bool, paths []string) {
		t.Helper()
		for _, path := range paths {
			_, err := os.Lstat(path)
			require.Equal(t, there, err == nil, path)
		}
	}
	ofB, ofC := leave(b), leave(c)
	foreign := []string{filepath.Join(dir, "tmp-"), filepath.Join(dir, "tmp-never-X"), filepath.Join(dir, "tmp-.x-X"),
		filepath.Join(dir, "else")}
	for _, path := range foreign {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
	}
	old := filepath.Join(dir, oldPrefix+"node-7-X", "base")
	require.NoError(t, os.Mkdir(filepath.Dir(old), 0o700))
	require.NoError(t, os.WriteFile(old, nil, 0o600))
	require.NoError(t, b.Close())

	a.sweep()
	requireThere(false, append(ofB, old))
	requireThere(true, ofC)
	requireThere(true, foreign)

	ofB = leave(b) // by one that was killed, as far as anybody can see
	require.NoError(t, os.Rename(a.cfg.lockPath("node-7"), a.cfg.lockPath("node-7")+".away"))
	a.sweep()
	requireThere(true, ofB)
	require.NoError(t, os.Rename(a.cfg.lockPath("node-7")+".away", a.cfg.lockPath("node-7")))

	require.NoError(t, c.Close())
	c = open(t, dir, "c") // its own, and others'
	requireThere(false, append(ofB, ofC...))
	require.NoError(t, c.Write(t.Context(), put("x", "1")))

	ofB = leave(b)
	for i := range maxChanges {
		require.NoError(t, c.Write(t.Context(), put("x", strconv.Itoa(i))))
	}
	requireThere(false, ofB)
}

// TestSweepAndOpen has a member come while others sweep what it has left: it gets its name.
func TestSweepAndOpen(t *testing.T) {
	dir := newDir(t)
	a := open(t, dir, "a")
	b := open(t, dir, "b")
	for range 30 {
		require.NoError(t, b.Close())
		_, err := b.log.writeTmp(dir, []byte("half"))
		require.NoError(t, err)
		var wg sync.WaitGroup
		wg.Go(func() { a.sweep() })
		b, err = tryOpen(dir, "b")
		wg.Wait()
		require.NoError(t, err)
		require.NoError(t, b.Write(t.Context(), put("x", "b")))
		_, err = a.Refresh(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, b.Close())
}

// TestLockReplaced removes and replaces the file of a member's lock under it: the member takes the
// new one, so that others do not find it gone for long, and does nothing more where it cannot.
func TestLockReplaced(t *testing.T) {
	dir := newDir(t)
	a, b := open(t, dir, "a"), open(t, dir, "b")
	path := a.cfg.lockPath("b")
	requireLife := func(want state.Life) {
		t.Helper()
		l, err := a.Life(t.Context(), "b")
		require.NoError(t, err)
		require.Equal(t, want, l)
	}
	require.NoError(t, os.Remove(path))
	require.NoError(t, b.Write(t.Context(), put("x", "1")))
	require.FileExists(t, path)
	requireLife(state.Present)

	require.NoError(t, os.Rename(path, path+".away"))
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	requireLife(state.Gone)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { _ = b.Wait(ctx) }() // as agents do, always
	require.Eventually(t, func() bool { l, err := a.Life(t.Context(), "b"); return err == nil && l == state.Present },
		30*time.Second, time.Millisecond)
	cancel()

	require.NoError(t, os.Remove(path))
	second := open(t, dir, "b") // another process comes first
	for range 2 {
		require.ErrorIs(t, b.Write(t.Context(), put("x", "2")), state.ErrInUse)
		_, err := b.Refresh(t.Context())
		require.ErrorIs(t, err, state.ErrInUse)
	}
	_, err := second.Refresh(t.Context())
	require.NoError(t, err)
	require.NoError(t, second.Write(t.Context(), put("x", "3")))
}

// fakeCTDB is a program that says of a cluster what it is told to: a line of flags for each node,
// in the order of ctdb -X status after the address.
func fakeCTDB(t *testing.T, pnn int, nodes ...string) string {
	status := "|Node|IP|Disconnected|Unknown|Banned|Disabled|Unhealthy|Stopped|Inactive|PartiallyOnline|ThisNode|\n"
	for i, n := range nodes {
		this := "N"
		if i == pnn {
			this = "Y"
		}
		status += fmt.Sprintf("|%d|%s|%s|\n", i, n, this)
	}
	path := filepath.Join(t.TempDir(), "ctdb")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = pnn ]; then echo %d; else cat <<'S'\n%sS\nfi\n", pnn, status)
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

const healthy = "|0|0|0|0|0|0|0|0"

// TestOtherCluster has the nodes of two clusters use one directory: those that come second are
// refused, also where they have numbers of their own.
func TestOtherCluster(t *testing.T) {
	dir := newDir(t)
	tryNode := func(pnn int, addrs ...string) (*Store, error) {
		for i := range addrs {
			addrs[i] += healthy
		}
		return Open(t.Context(), &Config{Dir: dir, Program: fakeCTDB(t, pnn, addrs...)})
	}
	a, err := tryNode(0, "10.0.0.1", "10.0.0.2")
	require.NoError(t, err)
	defer a.Close()
	_, err = tryNode(1, "10.1.0.1", "10.1.0.2")
	require.ErrorContains(t, err, "that of another cluster, whose node0 has the address 10.0.0.1")
	_, err = tryNode(0, "10.1.0.1", "10.1.0.2")
	require.ErrorIs(t, err, state.ErrInUse)
	b, err := tryNode(1, "10.0.0.1", "10.0.0.2")
	require.NoError(t, err)
	require.NoError(t, b.Close())
	require.NoError(t, a.Close())
	c, err := tryNode(1, "10.1.0.1", "10.1.0.2") // the other one has moved out, or has new addresses
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// TestOwnLife asks a CTDB that has put its own node out.
func TestOwnLife(t *testing.T) {
	dir := newDir(t)
	for flags, want := range map[string]state.Life{
		healthy: state.Present, "|0|0|1|0|0|0|1|0": state.Lost, "|0|0|0|0|0|1|1|0": state.Lost,
		"|0|0|0|1|1|0|0|0": state.Present, // disabled and unhealthy nodes have no addresses, and are in the cluster
	} {
		s, err := Open(t.Context(), &Config{Dir: dir, Program: fakeCTDB(t, 1, "10.0.0.1"+healthy, "10.0.0.2"+flags)})
		require.NoError(t, err)
		l, err := s.Life(t.Context(), "node1")
		require.NoError(t, err)
		require.Equal(t, want, l, flags)
		require.NoError(t, s.Close())
	}
	s, err := Open(t.Context(), &Config{Dir: dir, Program: fakeCTDB(t, 1, "10.0.0.1"+healthy, "10.0.0.2"+healthy)})
	require.NoError(t, err)
	defer s.Close()
	s.cfg.Program, s.status.at = "/nonexistent", time.Time{}
	_, err = s.Life(t.Context(), "node1")
	require.Error(t, err, "CTDB does not answer")
}
