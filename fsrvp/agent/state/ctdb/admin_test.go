//go:build linux

package ctdb

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
)

// tree returns the names and contents of all files of a table.
func tree(t *testing.T, dir string) map[string]string {
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	}))
	return files
}

// TestCheck reads tables that members have open, at every place of a generation's end.
func TestCheck(t *testing.T) {
	dir := newDir(t)
	_, err := Check(dir)
	require.Error(t, err, "no table")
	require.Empty(t, tree(t, dir))
	a := open(t, dir, "a")
	want := map[string][]byte{}
	check := func() {
		t.Helper()
		before := tree(t, dir)
		r, err := Check(dir)
		require.NoError(t, err)
		require.Equal(t, before, tree(t, dir), "it changes nothing")
		require.Equal(t, a.ID(), r.ID)
		require.Equal(t, want, r.Records)
		require.Positive(t, r.Size)
		require.GreaterOrEqual(t, r.Sequence, a.Sequence())
	}
	check()
	for i := range maxChanges + 3 {
		c := put(strconv.Itoa(i%5), strconv.Itoa(i))
		require.NoError(t, a.Write(t.Context(), c))
		c.Apply(want)
		if i < 2 || i > maxChanges-3 {
			check()
		}
	}
	_, err = a.log.append(state.Change{Put: map[string][]byte{endKey: {}}}) // cut short before the next generation
	require.NoError(t, err)
	check()
}

// TestCheckDamage damages a table: what can be read is what was there before the damage.
func TestCheckDamage(t *testing.T) {
	dir := newDir(t)
	a := open(t, dir, "a")
	for i := range 5 {
		require.NoError(t, a.Write(t.Context(), put(fmt.Sprint("key", i), "value")))
	}
	id := a.ID()
	third := a.log.entry(3)
	base := filepath.Join(a.log.genDir(1), baseFile)
	require.NoError(t, a.Close())
	var damage *state.DamageError
	for path, records := range map[string]int{third: 2, base: -1, filepath.Join(dir, idFile): 5} {
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append([]byte{whole[0] ^ 1}, whole[1:]...), 0o600))
		r, err := Check(dir)
		require.ErrorAs(t, err, &damage, path)
		if records < 0 {
			require.Nil(t, r)
		} else {
			require.Len(t, r.Records, records, path)
			require.Equal(t, id, r.ID)
		}
		require.NoError(t, os.WriteFile(path, whole, 0o600))
	}
	require.NoError(t, os.Remove(third))
	r, err := Check(dir)
	require.ErrorAs(t, err, &damage)
	require.True(t, damage.Missing)
	require.Len(t, r.Records, 2)
}

// TestCheckOlderGeneration damages the newest generation at its root: the one before is read.
func TestCheckOlderGeneration(t *testing.T) {
	dir := newDir(t)
	a := open(t, dir, "a")
	for i := range maxChanges + 1 {
		require.NoError(t, a.Write(t.Context(), put("n", strconv.Itoa(i))))
	}
	require.NoError(t, os.WriteFile(filepath.Join(a.log.genDir(2), baseFile), nil, 0o600))
	r, err := Check(dir)
	var damage *state.DamageError
	require.ErrorAs(t, err, &damage)
	require.Equal(t, strconv.Itoa(maxChanges-1), string(r.Records["n"]))
}

// TestReplace puts another table in the place of one, when no member has it open.
func TestReplace(t *testing.T) {
	dir := newDir(t)
	records := map[string][]byte{"x": []byte("new"), "y": []byte("2")}
	id := state.ID(uuid.New())
	aside, err := Replace(dir, id, records)
	require.NoError(t, err)
	require.Empty(t, aside, "there was none")
	a, b := open(t, dir, "a"), open(t, dir, "b")
	require.Equal(t, id, a.ID())
	require.NoError(t, a.Write(t.Context(), put("x", "newer")))
	require.NoError(t, a.Close())
	before := tree(t, dir)
	other := state.ID(uuid.New())
	_, err = Replace(dir, other, records)
	require.ErrorIs(t, err, state.ErrInUse)
	require.ErrorContains(t, err, "member b")
	require.Equal(t, before, tree(t, dir))
	require.NoError(t, b.Close())
	a = open(t, dir, "a")
	for i := range maxChanges + 1 {
		require.NoError(t, a.Write(t.Context(), put("x", strconv.Itoa(i))))
	}
	require.NoError(t, a.Close())

	for _, next := range []state.ID{other, other, id} {
		aside, err = Replace(dir, next, records)
		require.NoError(t, err)
		require.DirExists(t, aside)
		a = open(t, dir, "a")
		require.Equal(t, next, a.ID())
		have, err := a.Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, records, have)
		require.NoError(t, a.Write(t.Context(), put("x", "changed")))
		require.NoError(t, a.Close())
	}
	gens, err := a.log.generations()
	require.NoError(t, err)
	require.Len(t, gens, 1)

	// What stays aside is a whole table, for who wants it back.
	require.NoError(t, os.Chmod(aside, 0o700))
	back := open(t, aside, "a")
	have, err := back.Load(t.Context())
	require.NoError(t, err)
	want := maps.Clone(records)
	want["x"] = []byte("changed")
	require.Equal(t, want, have)
	require.Equal(t, other, back.ID())
}

// TestReplaceCutShort ends Replace after each of its steps: no member takes a half of it for a
// table, and it can be done again.
func TestReplaceCutShort(t *testing.T) {
	dir := newDir(t)
	old, next := state.ID(uuid.New()), state.ID(uuid.New())
	_, err := Replace(dir, old, map[string][]byte{"x": []byte("old")})
	require.NoError(t, err)
	l := &log{dir: dir, member: "import"}
	steps := []func(){
		func() {
			require.NoError(t, l.makeGeneration(3, uuid.UUID(next), 0, map[string][]byte{"x": []byte("new")}))
		},
		func() { require.NoError(t, os.Mkdir(filepath.Join(dir, asidePrefix+"1"), 0o700)) },
		func() {
			require.NoError(t, os.Rename(l.genDir(1), filepath.Join(dir, asidePrefix+"1", "table-0000000001")))
		},
	}
	for i, step := range steps {
		step()
		_, err := tryOpen(dir, "a")
		var damage *state.DamageError
		require.ErrorAs(t, err, &damage, i)
	}
	_, err = Replace(dir, next, map[string][]byte{"x": []byte("new")})
	require.NoError(t, err)
	a := open(t, dir, "a")
	require.Equal(t, next, a.ID())
}
