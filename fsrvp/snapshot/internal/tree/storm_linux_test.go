package tree

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

// runsEnv is how often TestRenameStorm copies, with each way to copy. Empty: a few times.
const runsEnv = "FSRVP_STORM_RUNS"

// A storm moves files and directories of one tree to and fro. Nothing is ever absent: each has one
// of two names at any moment.
type storm struct {
	files map[string][2]string // by what is in the file: where it may be
	moves [][2]string
}

// newStorm makes directories with files, and says what is moved: files within a directory and
// across, and a directory with files in it.
func newStorm(t testing.TB, src string, rnd *rand.Rand) *storm {
	t.Helper()
	s := &storm{files: make(map[string][2]string)}
	write := func(path string, other string) {
		id := fmt.Sprintf("file %d", len(s.files))
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(src, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(src, path), []byte(id), 0o644))
		s.files[id] = [2]string{path, other}
	}
	for d := range 8 {
		for f := range 12 {
			path := fmt.Sprintf("d%d/f%d", d, f)
			write(path, path)
		}
		for m := range 2 {
			to := fmt.Sprintf("d%d/moved%d-%d", rnd.IntN(8), d, m)
			from := fmt.Sprintf("d%d/moves%d", d, m)
			write(from, to)
			s.moves = append(s.moves, [2]string{from, to})
		}
	}
	from, to := "d0/travels", "d7/has travelled"
	for f := range 5 {
		write(fmt.Sprintf("%s/in/f%d", from, f), fmt.Sprintf("%s/in/f%d", to, f))
	}
	s.moves = append(s.moves, [2]string{from, to})
	return s
}

// blow moves things until ctx ends, and then puts all back.
func (s *storm) blow(ctx context.Context, src string, rnd *rand.Rand, pause time.Duration) {
	away := make([]bool, len(s.moves))
	move := func(i int) {
		from, to := s.moves[i][0], s.moves[i][1]
		if away[i] {
			from, to = to, from
		}
		away[i] = !away[i]
		if err := os.Rename(filepath.Join(src, from), filepath.Join(src, to)); err != nil {
			panic(err)
		}
	}
	for ctx.Err() == nil {
		move(rnd.IntN(len(s.moves)))
		if pause > 0 {
			time.Sleep(time.Duration(rnd.Int64N(int64(pause)))) // the storm is not meant to have a rhythm
		}
	}
	for i := range away {
		if away[i] {
			move(i)
		}
	}
}

// missing returns which files a copy does not have and moved does not name, by themselves or by a
// directory that they were in or above.
func (s *storm) missing(t testing.TB, dst string, moved []string) (silent, named []string) {
	t.Helper()
	have := make(map[string]bool)
	require.NoError(t, filepath.WalkDir(dst, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			have[string(b)] = true
		}
		return err
	}))
	for id, paths := range s.files {
		if have[id] {
			continue
		}
		told := false
		for _, path := range paths {
			for ; path != "."; path = filepath.Dir(path) {
				told = told || slices.Contains(moved, path)
			}
		}
		if told {
			named = append(named, id)
		} else {
			silent = append(silent, id)
		}
	}
	return silent, named
}

// TestRenameStorm copies trees in which files and directories are moved all the time. Every file is
// in the copy, or the copy says what moved. With a freeze, which a storm ends before, every file is
// in the copy.
func TestRenameStorm(t *testing.T) {
	runs := 6
	if n, err := strconv.Atoi(os.Getenv(runsEnv)); err == nil {
		runs = n
	}
	onEach(t, func(t *testing.T, dir string, clone bool) {
		src, dst := source(t, dir)
		seed := uint64(time.Now().UnixNano())
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := newStorm(t, src, rnd)
		whole, told, lost := 0, 0, 0
		for run := range runs {
			frozen := run%2 == 1
			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan struct{})
			go func() {
				defer close(over)
				s.blow(ctx, src, rand.New(rand.NewPCG(seed, uint64(run))), time.Duration(run%3)*time.Millisecond)
			}()
			f, err := os.Open(src)
			require.NoError(t, err)
			c, err := New(dst, f, &Config{Clone: clone})
			require.NoError(t, err)
			require.NoError(t, f.Close())
			if frozen {
				_, err = c.Pass(t.Context())
				require.NoError(t, err)
				cancel()
				<-over
			}
			report, err := c.Finish(t.Context())
			require.NoError(t, err)
			require.NoError(t, c.Close())
			cancel()
			<-over
			silent, named := s.missing(t, dst, report.Moved)
			require.Empty(t, silent, "run %d, seed %d, frozen %v, told of %q", run, seed, frozen, report.Moved)
			if frozen {
				require.Empty(t, report.Moved)
				require.Empty(t, named)
				snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
			}
			switch {
			case len(report.Moved) == 0:
				whole++
			default:
				told++
			}
			lost += len(named)
			require.NoError(t, Remove(t.Context(), dst))
		}
		t.Logf("%d runs: %d copies settled, %d said what moved; %d files missing, each of them named", runs, whole,
			told, lost)
	})
}

// TestRenameStormOfOthers is not about this package: it counts, for the note on TestRenameStorm,
// how often tar and rsync, with exit status 0, miss a file in the same storm.
func TestRenameStormOfOthers(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv(runsEnv))
	if err != nil {
		t.Skipf("%s is not set", runsEnv)
	}
	for name, command := range map[string]string{
		"tar":   `tar -C "$0" -cf - . 2>/dev/null | tar -C "$1" -xf -; exit ${PIPESTATUS[0]}`,
		"rsync": `rsync -a "$0/" "$1/" 2>/dev/null`,
		"cp":    `cp -a "$0/." "$1/" 2>/dev/null`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				t.Skip(err)
			}
			src, dst := source(t, snaptest.Mount(t, "xfs", 400))
			s := newStorm(t, src, rand.New(rand.NewPCG(1, 1)))
			silent, failed := 0, 0
			for run := range runs {
				ctx, cancel := context.WithCancel(t.Context())
				over := make(chan struct{})
				go func() {
					defer close(over)
					s.blow(ctx, src, rand.New(rand.NewPCG(2, uint64(run))), time.Duration(run%3)*time.Millisecond)
				}()
				mkdir(t, dst)
				err := exec.Command("bash", "-c", command, src, dst).Run()
				cancel()
				<-over
				if missing, _ := s.missing(t, dst, nil); err != nil {
					failed++
				} else if len(missing) > 0 {
					silent++
				}
				require.NoError(t, Remove(t.Context(), dst))
			}
			t.Logf("%d runs: %d failed, %d succeeded without all files", runs, failed, silent)
		})
	}
}

// TestUpdate changes a tree in many ways between two passes.
func TestUpdate(t *testing.T) {
	onEach(t, func(t *testing.T, dir string, clone bool) { testUpdate(t, dir, clone) })
}

// TestUpdateHere needs no root.
func TestUpdateHere(t *testing.T) { testUpdate(t, snaptest.Dir(t), false) }

func testUpdate(t *testing.T, dir string, clone bool) {
	src, dst := source(t, dir)
	snaptest.Build(t, src)
	snaptest.Many(t, src, 300)
	at := func(name string) string { return filepath.Join(src, name) }
	waitClock(t)
	f, err := os.Open(src)
	require.NoError(t, err)
	defer f.Close()
	files := int64(0)
	c, err := New(dst, f, &Config{Clone: clone, Progress: func(f, _ int64) { files = f }})
	require.NoError(t, err)
	settled, err := c.Pass(t.Context())
	require.NoError(t, err)
	require.True(t, settled)
	fi, err := os.Stat(dst)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), fi.Mode().Perm(), "nobody else may enter it yet")
	first := files

	require.NoError(t, os.WriteFile(at("docs/plain.txt"), []byte("longer than before"), 0o640))
	require.NoError(t, os.Chmod(at("docs/readonly"), 0o400))
	require.NoError(t, os.Remove(at("docs/empty")))
	require.NoError(t, os.Mkdir(at("docs/empty"), 0o750), "a directory where a file was")
	require.NoError(t, os.WriteFile(at("docs/empty/inside"), nil, 0o644))
	require.NoError(t, os.RemoveAll(at("deep")))
	require.NoError(t, os.Symlink("docs", at("deep")), "a symbolic link where a tree was")
	require.NoError(t, os.Rename(at("d00/e001"), at("docs/e001 moved")))
	require.NoError(t, os.Rename(at("d00/e000"), at("d00/e001")), "another directory of the same name")
	require.NoError(t, os.Rename(at("d00/e002/file 00250"), at("d00/e001/file 00250")))
	require.NoError(t, os.Remove(at("links/one")))
	require.NoError(t, os.Link(at("links/two"), at("docs/four")))
	require.NoError(t, os.Chmod(at("docs"), 0o700))
	require.NoError(t, os.Chmod(at("docs/sub/empty"), 0o711))
	require.NoError(t, os.WriteFile(at("new"), []byte("new"), 0o600))
	waitClock(t)

	report, err := c.Finish(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Moved)
	require.NoError(t, c.Close())
	snaptest.Same(t, snaptest.List(t, src), snaptest.List(t, dst))
	require.Less(t, files-first, int64(220), "of 330; two directories of 100 files were moved")
	require.NoError(t, Remove(t.Context(), dst))
}

// waitClock waits until what was written lies a step of the clock behind.
func waitClock(t testing.TB) {
	t.Helper()
	m := moved{newest: time.Now()}
	require.NoError(t, m.clock(t.Context()))
}

// TestMovedNames has more changes than a copy lists.
func TestMovedNames(t *testing.T) {
	var m moved
	require.True(t, m.none())
	require.Nil(t, m.list())
	m.add("b", time.Time{})
	m.add("a", time.Now())
	m.add("b", time.Now())
	require.Equal(t, []string{"a", "b"}, m.list())
	for i := range MaxMoved + 10 {
		m.add(strings.Repeat("x", i%7)+strconv.Itoa(i), time.Now())
	}
	require.Equal(t, []string{"."}, m.list())
}

// TestQuiet is about times near the clock's step, and those that cannot be.
func TestQuiet(t *testing.T) {
	now := time.Now()
	whole := now.Truncate(time.Second)
	for name, c := range map[string]struct {
		when, from time.Time
		want       bool
	}{
		"long ago":                  {now.Add(-time.Hour), now, true},
		"a tick ago":                {now.Add(-5 * time.Millisecond), now, false},
		"after":                     {now.Add(time.Millisecond), now, false},
		"whole seconds, a tick ago": {whole, whole.Add(time.Second), false},
		"whole seconds":             {whole.Add(-3 * time.Second), whole, true},
		"by a clock turned back":    {now.Add(time.Hour), now, true},
	} {
		require.Equal(t, c.want, quiet(c.when, c.from), name)
	}
}

func FuzzNextEntry(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("12345678abcdefgh\x18\x00\x04..\x00\x00\x00"))
	f.Add([]byte("12345678abcdefgh\x13\x00\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			e, rest, ok := nextEntry(b)
			if !ok {
				return
			}
			if len(rest) >= len(b) || len(e.name) > len(b) {
				t.Fatalf("%q: entry %q, rest %q", b, e.name, rest)
			}
			b = rest
		}
	})
}
