package command

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

func mkdir(t testing.TB, path string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(path, 0o755))
	return path
}

// newCopyctl makes a backend by testdata/copyctl, which keeps its snapshots in dir.
func newCopyctl(t testing.TB, dir string, volumes ...string) snaptest.Backend {
	t.Helper()
	wd, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dir, 0o711))
	argv := []string{filepath.Join(wd, "testdata/copyctl"), dir}
	b, err := New(&Config{Create: argv, Delete: argv, List: argv, Seal: argv, Prepare: argv, Volumes: volumes})
	require.NoError(t, err)
	return b.(snaptest.Backend)
}

func TestConform(t *testing.T) {
	base := snaptest.Dir(t)
	one, two := mkdir(t, filepath.Join(base, "one")), mkdir(t, filepath.Join(base, "two"))
	b := newCopyctl(t, filepath.Join(base, "snapshots"), one, two)
	snaptest.Conform(t, b, mkdir(t, filepath.Join(one, "share")), mkdir(t, filepath.Join(two, "share")))
	require.NoError(t, b.(backend.Preparer).Prepare(t.Context(), []backend.Volume{{ID: prefix + one, Path: one}}))
}

// TestFails has programs that fail in ways that an administrator has to hear of.
func TestFails(t *testing.T) {
	base := snaptest.Dir(t)
	share, dir := mkdir(t, filepath.Join(base, "share")), filepath.Join(base, "snapshots")
	b := newCopyctl(t, dir, share)
	v, err := b.Volume(t.Context(), share)
	require.NoError(t, err)
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
	flag := func(name string) func() {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
		return func() { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
	}
	none := func() {
		list, _, err := b.List(t.Context(), backend.Owner{})
		require.NoError(t, err)
		require.Empty(t, list)
	}

	off := flag("fail")
	_, err = b.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, "the pool is 97% full")
	off()
	none()

	off = flag("slow")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the set was aborted")
	time.AfterFunc(200*time.Millisecond, func() { cancel(cause) }) // in the middle; before it begins is tested too
	_, err = b.Create(ctx, []backend.SnapshotSpec{spec})
	require.ErrorIs(t, err, cause)
	off()
	none()

	_, err = b.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	off = flag("busy")
	err = b.Delete(t.Context(), spec)
	require.ErrorContains(t, err, "dataset is busy")
	var e *program.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 6, e.Exit)
	off()
	require.NoError(t, b.Delete(t.Context(), spec))
	none()
}

// TestForeign has a snapshot of another agent.
func TestForeign(t *testing.T) {
	base := snaptest.Dir(t)
	share := mkdir(t, filepath.Join(base, "share"))
	b := newCopyctl(t, filepath.Join(base, "snapshots"), share)
	v, err := b.Volume(t.Context(), share)
	require.NoError(t, err)
	me, other := backend.Mark{Owner: backend.NewOwner("here"),
		Sequence: 7}, backend.Mark{Owner: backend.NewOwner("there")}
	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Mark: me, Volume: v}
	made, err := b.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	require.Equal(t, spec, made[0].SnapshotSpec)
	own, foreign, err := b.List(t.Context(), other.Owner)
	require.NoError(t, err)
	require.Empty(t, own)
	require.Len(t, foreign, 1)
	require.Equal(t, me, foreign[0].Mark)
	theirs := spec
	theirs.Mark = other
	require.ErrorIs(t, b.Delete(t.Context(), theirs), backend.ErrForeign)
	_, err = b.Create(t.Context(), []backend.SnapshotSpec{theirs})
	require.ErrorIs(t, err, fsrvp.ErrObjectAlreadyExists)
	require.NoError(t, b.Delete(t.Context(), spec))
}

// TestAnswers has programs that answer what they must not.
func TestAnswers(t *testing.T) {
	base := snaptest.Dir(t)
	share := mkdir(t, filepath.Join(base, "share"))
	id := fsrvp.NewCopyID()
	for name, c := range map[string]struct{ answer, want string }{
		"nothing":         {"", "not a JSON object"},
		"no object":       {"[1]", "not a JSON object"},
		"no id":           {`{"snapshots": [{"id": "x"}]}`, "not a JSON object"},
		"another":         {`{"snapshots": [{"id": "` + fsrvp.NewCopyID().String() + `", "path": "/"}]}`, "which was not requested"},
		"no path":         {`{"snapshots": [{"id": "` + id.String() + `"}]}`, "not an absolute, clean path"},
		"relative path":   {`{"snapshots": [{"id": "` + id.String() + `", "path": "x"}]}`, "not an absolute, clean path"},
		"nothing is made": {`{"snapshots": [{"id": "` + id.String() + `", "path": "/nothing/here"}]}`, "has taken no snapshot"},
		"twice":           {`{"snapshots": []}{"snapshots": []}`, "after top-level value"},
		"bytes after":     {`{"snapshots": []} done`, "after top-level value"},
		"null":            {"null", `no member "snapshots"`},
		"no snapshots":    {`{"error": "the pool is offline"}`, `no member "snapshots"`},
		"null snapshots":  {`{"snapshots": null}`, `no member "snapshots"`},
		"a member twice":  {`{"snapshots": [{"id": "` + id.String() + `", "path": "/"}], "snapshots": []}`, `the member "snapshots" twice`},
		"a name folded":   {`{"snapshots": [], "\u017fnapshots": []}`, "twice in one object"},
		"a path twice":    {`{"snapshots": [{"id": "` + id.String() + `", "path": "/usr", "Path": "/"}]}`, `the member "Path" twice`},
		"an id twice": {`{"snapshots": [{"id": "` + id.String() + `", "path": "/usr"}, {"id": "` + id.String() + `", "path": "/"}]}`,
			"names snapshot " + id.String() + " twice"},
		"one more": {`{"snapshots": [{"id": "` + id.String() + `", "path": "/usr"}, {"id": "00000000-0000-0000-0000-000000000000", "path": "/"}]}`,
			"which was not requested"},
		"a huge number": {`{"snapshots": [{"id": 1e999999999, "path": "/usr"}]}`, "not a JSON object"},
		"a deep answer": {`{"x": ` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `, "snapshots": []}`, "not a JSON object"},
		"nothing asked": {`{"snapshots": []}`, "does not mention snapshot"},
		"above it":      {`{"snapshots": [{"id": "` + id.String() + `", "path": "` + base + `"}]}`, "the volume itself, or above it"},
		"before 1601":   {`{"snapshots": [{"id": "` + id.String() + `", "path": "/usr", "created": "1500-01-01T00:00:00Z"}]}`, "a time that the protocol cannot express"},
		"year 1":        {`{"snapshots": [{"id": "` + id.String() + `", "path": "/usr", "created": "0001-01-01T00:00:00Z"}]}`, "a time that the protocol cannot express"},
		"no time":       {`{"snapshots": [{"id": "` + id.String() + `", "path": "/", "created": 1e400}]}`, "not a JSON object"},
		"the volume":    {`{"snapshots": [{"id": "` + id.String() + `", "path": "` + share + `"}]}`, "which is the volume itself"},
		"a NUL":         {`{"snapshots": [{"id": "` + id.String() + `", "path": "/a\u0000b"}]}`, "has taken no snapshot"},
		"a file":        {`{"snapshots": [{"id": "` + id.String() + `", "path": "/proc/self/stat"}]}`, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			deleted := filepath.Join(t.TempDir(), "deleted")
			b, err := New(&Config{
				Create: []string{"printf", "%s", c.answer}, Delete: []string{"sh", "-c", `cat >"$0"`, deleted},
				List: []string{"echo", `{"snapshots": []}`}, Volumes: []string{share},
			})
			require.NoError(t, err)
			v, err := b.Volume(t.Context(), share)
			require.NoError(t, err)
			_, err = b.Create(t.Context(), []backend.SnapshotSpec{{ID: id, Volume: v}})
			require.ErrorContains(t, err, c.want)
			got, err := os.ReadFile(deleted)
			require.NoError(t, err)
			require.JSONEq(t, `{"version": 1, "action": "delete", "snapshots": [{"id": "`+id.String()+`",
				"volume": {"id": "command:`+share+`", "path": "`+share+`"}, "writable": false}]}`, string(got))
			_, err = b.Create(t.Context(), []backend.SnapshotSpec{{ID: id, Volume: v, Writable: true}})
			require.ErrorIs(t, err, fsrvp.ErrNotSupported)
			_, ok := b.(backend.Sealer)
			require.False(t, ok)
		})
	}
}

// TestMoreOpen has a snapshot that those could read who cannot pass to its volume.
func TestMoreOpen(t *testing.T) {
	base := snaptest.Dir(t)
	share := mkdir(t, filepath.Join(base, "private/share"))
	require.NoError(t, os.Chmod(filepath.Join(base, "private"), 0o700))
	for dir, want := range map[string]bool{filepath.Join(base, "snapshots"): false,
		filepath.Join(base, "private/snapshots"): true} {
		b := newCopyctl(t, dir, share)
		v, err := b.Volume(t.Context(), share)
		require.NoError(t, err)
		_, err = b.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
		if want {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "who cannot pass through")
		}
	}
}

// TestSwapped has a directory above the volume replaced, before a snapshot and while it is taken.
func TestSwapped(t *testing.T) {
	base := snaptest.Dir(t)
	share := mkdir(t, filepath.Join(base, "mid/share"))
	swap := "mv " + base + "/mid " + base + "/was && mkdir -p " + share
	argv := []string{"sh", "-c", swap + ` && printf '{"snapshots": []}'`}
	b, err := New(&Config{Create: argv, Delete: []string{"true"}, List: []string{"echo", `{"snapshots": []}`},
		Volumes: []string{share}})
	require.NoError(t, err)
	v, err := b.Volume(t.Context(), share)
	require.NoError(t, err)
	snaptest.Run(t, "sh", "-c", swap)
	_, err = b.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
	require.ErrorContains(t, err, "is not the same directory")
}

func TestConfig(t *testing.T) {
	argv := []string{"true"}
	for _, cfg := range []*Config{
		nil, {}, {Create: argv, Delete: argv, List: argv}, {Create: argv, Delete: argv, List: argv,
			Volumes: []string{"relative"}},
		{Create: argv, Delete: argv, List: argv, Volumes: []string{"/srv"}, Timeout: -1},
	} {
		_, err := New(cfg)
		require.Error(t, err)
	}
}

// TestExamples reads the examples as their interpreters do.
func TestExamples(t *testing.T) {
	snaptest.Run(t, "bash", "-n", "testdata/arraycli")
	if _, err := exec.LookPath("python3"); err != nil {
		snaptest.Missing(t, "%v", err)
	}
	snaptest.Run(t, "python3", "-c", "import ast; ast.parse(open('testdata/lvmthin').read())")
}

// array is a storage array's command-line tool, as the example arraycli wants it, over a folder.
const array = `#!/bin/bash
set -eu
pool=${POOL:?}
case "$1 $2" in
"snapshot create")
	[ ! -e "$pool.full" ] || exit 28
	mkdir -p "$pool"
	cp -a "$3" "$pool/$5"
	;;
"snapshot delete") [ -d "$pool/$3" ] || exit 2; rm -rf "$pool/${3:?}" ;;
"snapshot list") ls "$pool" 2>/dev/null || true ;;
mount*)
	mount --bind "$pool/$2" "$3"
	[ "${4:-}" = -w ] || mount -o remount,bind,ro "$3"
	;;
umount*) umount "$2" ;;
*) exit 64 ;;
esac
`

// TestArrayExample runs the example for a storage array with a tool that stands for the array's.
func TestArrayExample(t *testing.T) {
	if _, err := exec.LookPath("jq"); err != nil {
		snaptest.Missing(t, "%v", err)
	}
	base := snaptest.Dir(t)
	tool := filepath.Join(base, "array")
	require.NoError(t, os.WriteFile(tool, []byte(array), 0o755))
	t.Setenv("ARRAY", tool)
	t.Setenv("POOL", filepath.Join(base, "pool"))
	dir := mkdir(t, filepath.Join(base, "shown"))
	one, two := mkdir(t, filepath.Join(base, "one")), mkdir(t, filepath.Join(base, "two"))
	require.NoError(t, os.WriteFile(filepath.Join(one, "file"), []byte("one"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(two, "file"), []byte("two"), 0o644))
	wd, err := os.Getwd()
	require.NoError(t, err)
	argv := []string{filepath.Join(wd, "testdata/arraycli"), dir}
	b, err := New(&Config{Create: argv, Delete: argv, List: argv, Volumes: []string{one, two}})
	require.NoError(t, err)
	lister := b.(backend.SnapshotLister)
	owner := backend.NewOwner("here")
	var specs []backend.SnapshotSpec
	for i, path := range []string{one, two} {
		v, err := b.Volume(t.Context(), path)
		require.NoError(t, err)
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v,
			Mark: backend.Mark{Owner: owner, Sequence: uint64(i + 1)}})
	}
	made, err := b.Create(t.Context(), specs)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(one, "file"), []byte("later"), 0o644))
	for i, want := range []string{"one", "two"} {
		got, err := os.ReadFile(filepath.Join(made[i].Path, "file"))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		require.ErrorIs(t, os.WriteFile(filepath.Join(made[i].Path, "file"), nil, 0o644), syscall.EROFS)
	}
	own, foreign, err := lister.List(t.Context(), owner)
	require.NoError(t, err)
	require.Len(t, own, 2)
	require.Empty(t, foreign)
	_, foreign, err = lister.List(t.Context(), backend.NewOwner("there"))
	require.NoError(t, err)
	require.Len(t, foreign, 2)
	for _, spec := range specs {
		require.NoError(t, b.Delete(t.Context(), spec))
		require.NoError(t, b.Delete(t.Context(), spec), "again")
	}
	own, _, err = lister.List(t.Context(), owner)
	require.NoError(t, err)
	require.Empty(t, own)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)

	require.NoError(t, os.WriteFile(filepath.Join(base, "pool.full"), nil, 0o644))
	_, err = b.Create(t.Context(), specs[:1])
	require.ErrorIs(t, err, syscall.ENOSPC)
	own, _, err = lister.List(t.Context(), owner)
	require.NoError(t, err)
	require.Empty(t, own)
}

// TestLives kills processes that take and delete snapshots, at any moment, also while a program
// works, of which parts go on.
func TestLives(t *testing.T) {
	const dirEnv = "FSRVP_TEST_COPYCTL"
	wd, err := os.Getwd()
	require.NoError(t, err)
	again := func(t *testing.T) snaptest.Backend {
		argv := []string{filepath.Join(wd, "testdata/copyctl"), os.Getenv(dirEnv)}
		b, err := New(&Config{Create: argv, Delete: argv, List: argv, Seal: argv, Prepare: argv,
			Volumes: []string{filepath.Join(filepath.Dir(os.Getenv(dirEnv)), "share")}})
		require.NoError(t, err)
		return b.(snaptest.Backend)
	}
	if snaptest.Living() {
		snaptest.Live(t, again(t))
	}
	base := snaptest.Dir(t)
	dir := filepath.Join(base, "snapshots")
	require.NoError(t, os.Mkdir(dir, 0o711))
	t.Setenv(dirEnv, dir)
	share := mkdir(t, filepath.Join(base, "share"))
	snaptest.Many(t, share, 50)
	snaptest.Lives(t, snaptest.Life{
		Backend: again, Share: share,
		Left: func(t *testing.T) []string { return snaptest.Entries(t, dir) },
	})
}

// FuzzParse reads answers. What it takes says nothing twice.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"snapshots": []}`))
	f.Add([]byte(`{"snapshots": [{"id": "f0f1f2f3-0000-4000-8000-000000000001", "path": "/s", "created": "2026-11-27T06:40:13Z"}], "more": {"a": [1, {}]}}`))
	f.Add([]byte(`{"snapshots": [], "SnapShots": [null]}`))
	f.Add([]byte(`{"snapshots": []} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answer
		if err := parse(b, &a); err != nil {
			return
		}
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(b, &members))
		named := 0
		for name := range members {
			if strings.EqualFold(name, "snapshots") {
				named++
			}
		}
		require.Equal(t, 1, named, "%q", b)
	})
}
