package recordfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const testKind = "test"

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path, &Options{Kind: testKind, Advice: "call for help"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// quickDir is a directory that need not outlive the machine.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "fsrvp-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func put(kv ...string) Change {
	c := Change{Put: map[string][]byte{}}
	for i := 0; i < len(kv); i += 2 {
		c.Put[kv[i]] = []byte(kv[i+1])
	}
	return c
}

// sample makes a file with some changes, and returns its bytes and its table.
func sample(t testing.TB) ([]byte, table) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	long := strings.Repeat("long ", 300)
	require.NoError(t, f.Write(put("a", "1", "b", long)))
	require.NoError(t, f.Write(put("a", "2")))
	require.NoError(t, f.Write(Change{Drop: []string{"b"}, Put: map[string][]byte{"c": []byte("3")}}))
	require.NoError(t, f.Write(put("d", "", "e", "5")))
	want := f.Load()
	require.NoError(t, f.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data, want
}

// judge fails where a file with these bytes is taken for one with another table.
func judge(t *testing.T, data []byte, want table, what string, args ...any) (refused bool) {
	t.Helper()
	c, err := parse(data, testKind)
	if err == nil && !maps.EqualFunc(c.table, want, bytes.Equal) {
		t.Fatalf("%s: another table: %v", fmt.Sprintf(what, args...), c.table)
	}
	return err != nil
}

// TestEveryBit flips every single bit.
func TestEveryBit(t *testing.T) {
	data, want := sample(t)
	require.False(t, judge(t, data, want, "the file itself"))
	c, err := parse(data, testKind)
	require.NoError(t, err)
	step := 1
	if testing.Short() {
		step = 11
	}
	refused := 0
	data = data[:c.end+64] // then there are zeros
	for bit := 0; bit < len(data)*8; bit += step {
		data[bit/8] ^= 1 << (bit % 8)
		if judge(t, data, want, "bit %d of byte %d", bit%8, bit/8) {
			refused++
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	t.Logf("%d refused", refused)
	require.NotZero(t, refused)
}

// TestEveryCut cuts the file off after every byte, takes out every single byte, and repeats every
// one.
func TestEveryCut(t *testing.T) {
	data, want := sample(t)
	c, err := parse(data, testKind)
	require.NoError(t, err)
	for n := range len(data) {
		refused := judge(t, data[:n], want, "cut off after %d bytes", n)
		if n < c.end-2000 {
			require.True(t, refused, "cut off after %d bytes", n)
		}
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	data = data[:c.end+64] // then there are zeros
	for n := 0; n < c.end+16; n += step {
		judge(t, slices.Delete(slices.Clone(data), n, n+1), want, "byte %d taken out", n)
		judge(t, slices.Insert(slices.Clone(data), n, data[n]), want, "byte %d repeated", n)
	}
}

// logOf returns where the records of a file begin, and where the last one ends.
func logOf(t testing.TB, data []byte) []int {
	at := []int{logAt}
	for {
		r, ok := parseRecord(data[at[len(at)-1]:])
		if !ok || r.seq == 0 {
			return at
		}
		at = append(at, at[len(at)-1]+headSize+int(r.length))
	}
}

// TestEveryRecord drops, doubles and swaps records, and takes them away from the end, with and
// without zeros in their place.
func TestEveryRecord(t *testing.T) {
	data, want := sample(t)
	at := logOf(t, data)
	require.Len(t, at, 6)
	for i := range len(at) - 1 {
		rec := slices.Clone(data[at[i]:at[i+1]])
		judge(t, slices.Delete(slices.Clone(data), at[i], at[i+1]), want, "record %d dropped", i)
		judge(t, slices.Insert(slices.Clone(data), at[i], rec...), want, "record %d doubled", i)
		zeros := slices.Clone(data)
		clear(zeros[at[i]:at[i+1]])
		judge(t, zeros, want, "record %d zeros", i)
		clear(zeros[at[i]:])
		judge(t, zeros, want, "all from record %d on zeros", i)
		if i < len(at)-2 {
			require.True(t, judge(t, zeros, want, "all from record %d on zeros", i) || i == len(at)-3)
			swapped := slices.Concat(data[:at[i]], data[at[i+1]:at[i+2]], rec, data[at[i+2]:])
			judge(t, swapped, want, "records %d and %d swapped", i, i+1)
		}
		judge(t, data[:at[i]], want, "cut off at record %d", i)
	}
	for i := range 2 {
		zeros := slices.Clone(data)
		clear(zeros[headerSize+i*slotSize:][:slotSize])
		require.False(t, judge(t, zeros, want, "slot %d zeros", i))
	}
}

// TestLongRecord: the end of a change that is too long for a slot is proven, too.
func TestLongRecord(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	require.NoError(t, f.Write(put("a", "1")))
	before := f.Syncs()
	require.NoError(t, f.Write(put("long", strings.Repeat("x", 3*slotSize))))
	require.Equal(t, uint64(2), f.Syncs()-before)
	before = f.Syncs()
	require.NoError(t, f.Write(put("short", "x")))
	require.Equal(t, uint64(1), f.Syncs()-before, "one fdatasync for a change")
	require.NoError(t, f.Write(put("long", strings.Repeat("y", 3*slotSize))))
	want := table(f.Load())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	at := logOf(t, data)
	for n := logAt; n < at[len(at)-1]; n += 97 {
		require.True(t, judge(t, data[:n], want, "cut off after %d bytes", n))
	}
	require.False(t, judge(t, data, want, "whole"))
}

// TestCrash writes changes and lets each of the writes of one be on the disk in part: what is read
// is the table before it, or after it.
func TestCrash(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	for i := range 40 {
		before, old := table(f.Load()), read(t, path)
		size := 1 + rnd.IntN(400)
		if i%8 == 7 {
			size = slotSize + rnd.IntN(slotSize)
		}
		require.NoError(t, f.Write(put(fmt.Sprint("key", rnd.IntN(5)), strings.Repeat(fmt.Sprint(i%10), size))))
		after, now := table(f.Load()), read(t, path)
		if len(now) < len(old) || !bytes.Equal(now[:headerSize], old[:headerSize]) {
			continue // written anew
		}
		for range 50 {
			torn := slices.Clone(old)
			torn = append(torn, make([]byte, rnd.IntN(len(now)-len(old)+1))...)
			long := size > slotRoom
			for at := 0; at < len(torn); at += 512 { // sectors that have reached the disk
				slots := at >= headerSize && at < logAt
				if rnd.IntN(2) == 0 && !(long && slots) { // a long one's slot is written when its log is
					copy(torn[at:min(at+512, len(torn))], now[at:])
				}
			}
			c, err := parse(torn, testKind)
			require.NoError(t, err, "change %d", i)
			if !maps.EqualFunc(c.table, before, bytes.Equal) && !maps.EqualFunc(c.table, after, bytes.Equal) {
				t.Fatalf("change %d: neither the table before nor that after", i)
			}
			if i%10 == 0 { // and it can be opened, and written to
				again := filepath.Join(quickDir(t), "file")
				require.NoError(t, os.WriteFile(again, torn, 0o600))
				g := open(t, again)
				require.NoError(t, g.Write(put("new", "x")))
				want := g.Load()
				require.NoError(t, g.Close())
				require.Equal(t, want, open(t, again).Load())
			}
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// TestWrittenAnew: the file does not grow without end, and its changes go on counting.
func TestWrittenAnew(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	var last uint64
	for i := range 600 {
		require.NoError(t, f.Write(put(fmt.Sprint("key", i%3), strings.Repeat("x", 1000+2*i))))
		require.Greater(t, f.Sequence(), last)
		last = f.Sequence()
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(400<<10))
	want := f.Load()
	require.NoError(t, f.Close())
	g := open(t, path)
	require.Equal(t, want, g.Load())
	require.Equal(t, last, g.Sequence())
	require.Equal(t, f.ID(), g.ID())
}

// TestFailedWrite: a write that failed has no effect, and the next one works.
func TestFailedWrite(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	require.NoError(t, f.Write(put("a", "1")))
	real := f.file
	var err error
	f.file, err = os.Open(path) // for reading alone
	require.NoError(t, err)
	require.Error(t, f.Write(put("a", "2")))
	require.Equal(t, map[string][]byte{"a": []byte("1")}, f.Load())
	require.NoError(t, real.Close())
	require.NoError(t, f.Write(put("b", "3")))
	require.NoError(t, f.Close())
	require.Equal(t, map[string][]byte{"a": []byte("1"), "b": []byte("3")}, open(t, path).Load())
}

func TestMissing(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	id := f.ID()
	require.NoError(t, f.Close())
	require.NoError(t, os.Remove(path))
	_, err := Open(path, &Options{Kind: testKind, Advice: "call for help"})
	var damage *DamageError
	require.ErrorAs(t, err, &damage)
	require.ErrorContains(t, err, path+" is damaged: it is missing")
	require.ErrorContains(t, err, id.String())
	require.ErrorContains(t, err, "call for help")
	f, err = Open(path, &Options{Kind: testKind, New: true})
	require.NoError(t, err)
	require.NotEqual(t, id, f.ID())
	id = f.ID()
	require.NoError(t, f.Close())

	// The other file is missing: it is made again.
	require.NoError(t, os.Remove(path+".id"))
	f = open(t, path)
	require.Equal(t, id, f.ID())
	require.NoError(t, f.Close())
	// It is another's.
	other := filepath.Join(quickDir(t), "other")
	require.NoError(t, open(t, other).Close())
	require.NoError(t, os.WriteFile(path+".id", read(t, other+".id"), 0o600))
	_, err = Open(path, &Options{Kind: testKind})
	require.ErrorAs(t, err, &damage)
}

// TestIDFile flips every bit of the file with the id, cuts it everywhere, and removes it: an id is
// never made up.
func TestIDFile(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	id := f.ID()
	require.NoError(t, f.Close())
	whole, data := read(t, path+".id"), read(t, path)
	try := func(b []byte, what string) {
		require.NoError(t, os.WriteFile(path+".id", b, 0o600))
		f, err := Open(path, &Options{Kind: testKind})
		if err == nil {
			require.Equal(t, id, f.ID(), what)
			require.NoError(t, f.Close())
		}
		require.NoError(t, os.WriteFile(path+".id", b, 0o600))
		require.NoError(t, os.Remove(path))
		f, err = Open(path, &Options{Kind: testKind})
		if err == nil {
			require.Empty(t, b, what)
			require.NoError(t, f.Close())
		}
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
	for i := range len(whole) * 8 {
		b := slices.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		try(b, fmt.Sprint("bit ", i))
	}
	for n := range whole {
		if n > 0 {
			try(whole[:n], fmt.Sprint("cut off after ", n))
		}
	}
}

func TestInUse(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	_, err := Open(path, &Options{Kind: testKind})
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Write(put("a", "1")), os.ErrClosed)
	open(t, path)
	_, err = Open(path+"/below", &Options{Kind: testKind})
	require.Error(t, err)
}

func TestAnotherKind(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	require.NoError(t, open(t, path).Close())
	require.NoError(t, os.Remove(path+".id"))
	_, err := Open(path, &Options{Kind: "other"})
	require.ErrorContains(t, err, "it is the file of a test, not of a other")
}

func TestConvert(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	o := &Options{Kind: testKind, Convert: func(data []byte) (map[string][]byte, error) {
		if string(data) != "old" {
			return nil, errors.New("not old")
		}
		return map[string][]byte{"a": data}, nil
	}}
	f, err := Open(path, o)
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"a": []byte("old")}, f.Load())
	require.NoError(t, f.Close())
	require.Equal(t, "old", string(read(t, path+".old")))
	require.Equal(t, map[string][]byte{"a": []byte("old")}, open(t, path).Load())
	require.NoError(t, os.WriteFile(path+"2", []byte("new"), 0o600))
	_, err = Open(path+"2", o)
	require.ErrorContains(t, err, "not old")
}

func TestReplace(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	f := open(t, path)
	require.NoError(t, f.Write(put("a", "1")))
	_, err := Replace(path, &Options{Kind: testKind}, f.ID(), nil)
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, f.Close())
	aside, err := Replace(path, &Options{Kind: testKind}, f.ID(), map[string][]byte{"b": []byte("2")})
	require.NoError(t, err)
	require.Equal(t, path+".replaced", aside)
	more, err := Replace(path, &Options{Kind: testKind}, f.ID(), map[string][]byte{"b": []byte("2")})
	require.NoError(t, err)
	require.Equal(t, path+".replaced-2", more)
	require.FileExists(t, aside)
	r, err := Check(path, testKind)
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{"b": []byte("2")}, r.Records)
	require.EqualValues(t, 1, r.Sequence)
	require.Equal(t, f.ID(), r.ID)
}

func FuzzParse(f *testing.F) {
	data, _ := sample(f)
	f.Add(data[logAt:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// A file whose sums are right as far as they can be made so.
		file := slices.Concat(header(testKind, [16]byte{1}, 1), make([]byte, 2*slotSize), b)
		rec, _ := record(sum(file[headerSize-sumSize:headerSize]), 1, b)
		file = append(file[:logAt], rec...)
		copy(file[slotAt(1):], slot(sum(file[headerSize-sumSize:headerSize]), rec))
		if c, err := parse(file, testKind); err == nil {
			again := table{}
			require.NoError(t, again.do((&Change{Put: c.table}).payload(), nil))
			require.Equal(t, c.table, again)
		}
		_, _ = parse(b, testKind)
	})
}

// TestLaterFormat: what a later version has written is refused, and not taken for an older one's.
func TestLaterFormat(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	require.NoError(t, open(t, path).Close())
	data := read(t, path)
	data[len(magic)-2]++
	require.NoError(t, os.WriteFile(path, data, 0o600))
	_, err := Open(path, &Options{Kind: testKind, Convert: func([]byte) (map[string][]byte, error) { return nil, nil }})
	require.ErrorContains(t, err, "another version")
	require.Equal(t, data, read(t, path))
}

// TestOldIsKept: a file that is taken over replaces no other's.
func TestOldIsKept(t *testing.T) {
	path := filepath.Join(quickDir(t), "file")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	require.NoError(t, os.WriteFile(path+".old", []byte("mine"), 0o600))
	f, err := Open(path, &Options{Kind: testKind, Convert: func([]byte) (map[string][]byte, error) { return nil, nil }})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, "mine", string(read(t, path+".old")))
	require.Equal(t, "old", string(read(t, path+".old-2")))
}

// TestOrigin moves, copies and restores a file.
func TestOrigin(t *testing.T) {
	for _, c := range []struct {
		made, now place
		want      Origin
	}{
		{place{"/a", "m", "1"}, place{"/a", "m", "1"}, Original},
		{place{"/a", "m", "1"}, place{"/b", "m", "1"}, Original},
		{place{"/a", "m", "1"}, place{"/b", "n", "1"}, Original},
		{place{"/a", "m", "1"}, place{"/a", "m", "2"}, Restored},
		{place{"/a", "m", "1"}, place{"/a", "n", "2"}, Copied},
		{place{"/a", "m", "1"}, place{"/b", "m", "2"}, Copied},
		{place{"/a", "", ""}, place{"/a", "", ""}, Original},
		{place{"/a", "m", "1"}, place{"/a", "m", ""}, Original},
		{place{"/a", "m", ""}, place{"/b", "m", ""}, Copied},
		{place{"/a", "m", ""}, place{"/a", "n", ""}, Restored},
		{place{"/a", "m", replaced}, place{"/a", "m", "1"}, Restored},
	} {
		require.Equal(t, c.want, originOf(c.made, c.now), "%v, %v", c.made, c.now)
		for _, p := range []place{c.made, c.now, {"/a b\"c\n", "-", "1 2"}} {
			if again, ok := parsePlace(p.String()); ok {
				require.Equal(t, p, again)
			}
		}
	}
	for _, bad := range []string{"", "x", `"/a"`, `"/a" m`, `"/a" m 1 2`, `"/a"  m 1`, "`/a` m 1", `"/a" m `} {
		_, ok := parsePlace(bad)
		require.False(t, ok, bad)
	}
	id := [16]byte{1}
	text := idText(testKind, id, place{"/a b", "m", ""})
	got, from, err := parseID(text, testKind)
	require.NoError(t, err)
	require.EqualValues(t, id, got)
	require.Equal(t, place{"/a b", "m", ""}, from)
	for i := range text {
		for bit := range 8 {
			b := []byte(text)
			b[i] ^= 1 << bit
			_, _, err := parseID(string(b), testKind)
			require.Error(t, err, "byte %d, bit %d", i, bit)
		}
		_, _, err := parseID(text[:i], testKind)
		require.Error(t, err, "cut off after %d", i)
	}
}
