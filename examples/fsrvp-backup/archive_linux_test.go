package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/examples/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// makeTree makes a directory with all kinds of files that Linux has. Where the test is not root, or
// the file system lacks something, that is missing.
func makeTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	name := func(n string) string { return filepath.Join(dir, n) }
	require.NoError(t, os.MkdirAll(name("d/sub/empty"), 0o755))
	long := strings.Repeat("long", 50)
	require.NoError(t, os.MkdirAll(name(long+"/"+long), 0o700))
	for n, size := range map[string]int{
		"a": 3, "empty": 0, "block": 512, "small": 100_000, "large": 3_000_001, "even": 2 << 20, long + "/" + long + "/f": 7, "latin\xe9": 5,
		"new\nline": 2, " ": 1, "d/back\\slash": 1, "d/x:y": 1, "ünïcode": 4,
	} {
		data := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
		require.NoError(t, os.WriteFile(name(n), data, 0o640))
	}
	require.NoError(t, os.Link(name("a"), name("d/hard")))
	require.NoError(t, os.Link(name("large"), name("zz-large")))
	require.NoError(t, os.Symlink("a", name("link")))
	require.NoError(t, os.Symlink("/nowhere/"+strings.Repeat("x", 200), name("dangling")))
	for n, parts := range map[string][]int64{
		"sparse": {0, 4096, 100 << 20, 4096}, "hole at the end": {1 << 20, 8192}, "hole": {}, "small sparse": {64 << 10, 4096},
	} {
		f, err := os.Create(name(n))
		require.NoError(t, err)
		for i := 0; i < len(parts); i += 2 {
			_, err = f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, int(parts[i+1])), parts[i])
			require.NoError(t, err)
		}
		size := int64(200 << 20)
		if n == "small sparse" {
			size = 200_000
		}
		require.NoError(t, f.Truncate(size))
		require.NoError(t, f.Close())
	}
	require.NoError(t, unix.Mkfifo(name("fifo"), 0o600))
	l, err := net.Listen("unix", name("socket"))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	require.NoError(t, os.Chtimes(name("small"), time.Unix(3, 0), time.Unix(1_000_000_000, 123456789)))
	// A time that nanoseconds since 1970 cannot express, where the file system can.
	if far, err := unix.TimeToTimespec(time.Unix(10_000_000_000, 5)); err == nil {
		require.NoError(t, unix.UtimesNanoAt(unix.AT_FDCWD, name("link"), []unix.Timespec{far, far}, unix.AT_SYMLINK_NOFOLLOW))
	}
	require.NoError(t, os.Chmod(name("d/sub/empty"), 0o500))
	if err := unix.Setxattr(name("a"), "user.a=b%", []byte("v=1%\x00\n"), 0); !errors.Is(err, unix.ENOTSUP) {
		require.NoError(t, err)
		require.NoError(t, unix.Setxattr(name("d"), "user.dir", []byte("x"), 0))
		acl, err := aclAttribute("user::rw-,user:65534:r--,group::r--,mask::r--,other::---")
		require.NoError(t, err)
		require.NoError(t, unix.Setxattr(name("small"), aclAccess, acl, 0))
		require.NoError(t, unix.Setxattr(name("d"), aclDefault, acl, 0))
	}
	if os.Geteuid() == 0 {
		require.NoError(t, unix.Mknod(name("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		require.NoError(t, unix.Mknod(name("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(250, 70000))))
		require.NoError(t, os.Lchown(name("a"), 65534, 1<<22))
		require.NoError(t, os.Lchown(name("link"), 1, 2))
		require.NoError(t, os.Chmod(name("a"), 0o755|fs.ModeSetuid))
		require.NoError(t, unix.Setxattr(name("block"), "trusted.x", []byte("y"), 0))
	}
	require.NoError(t, os.Chtimes(name("d"), time.Unix(5, 0), time.Unix(1_234_567_890, 5)))
	return dir
}

// A described is all of a file that a copy has to have.
type described struct {
	Mode     fs.FileMode
	UID, GID uint32
	Size     int64
	Links    uint64
	Device   uint64
	Modified time.Time
	Link     string
	Xattrs   string
	Data     string
}

// describeTree describes all files of a tree but sockets. Without names of attributes that bsdtar
// does not restore where plain is set.
func describeTree(t testing.TB, dir string, plain bool) map[string]described {
	t.Helper()
	all := map[string]described{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Type() == fs.ModeSocket {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		out := described{Mode: info.Mode(), UID: st.Uid, GID: st.Gid, Modified: info.ModTime().UTC(), Device: uint64(st.Rdev)}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			if out.Link, err = os.Readlink(path); err != nil {
				return err
			}
		case 0:
			out.Size, out.Links = info.Size(), uint64(st.Nlink)
			if out.Size < 10<<20 {
				b, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				out.Data = string(b)
			} else {
				require.Less(t, st.Blocks*512, int64(1<<20), "%s has no holes", path)
				f, err := os.Open(path)
				if err != nil {
					return err
				}
				defer f.Close()
				extents, err := (&localFile{f: f}).extents(out.Size)
				if err != nil {
					return err
				}
				for _, e := range extents {
					b := make([]byte, e.length)
					_, err = f.ReadAt(b, e.offset)
					require.NoError(t, err)
					out.Data += fmt.Sprintf("%d: %x\n", e.offset, b)
				}
			}
		}
		m := member{}
		if err := (&localFile{path: path}).describe(&m); err != nil {
			return err
		}
		slices.SortFunc(m.records, func(a, b paxRecord) int { return strings.Compare(a.key, b.key) })
		for _, r := range m.records {
			if plain && strings.ContainsAny(r.key, "=%") {
				continue
			}
			out.Xattrs += fmt.Sprintf("%s=%q\n", r.key, r.value)
		}
		name, err := filepath.Rel(dir, path)
		all[name] = out
		return err
	}))
	return all
}

// backUp runs the program.
func backUp(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var o, e bytes.Buffer
	err = run(t.Context(), args, &o, &e, nil)
	return o.String(), e.String(), err
}

// TestArchive archives a tree with all kinds of files. GNU tar, bsdtar and -restore make the same
// of it as there was.
func TestArchive(t *testing.T) {
	dir := makeTree(t)
	want := describeTree(t, dir, false)
	out := filepath.Join(t.TempDir(), "out.tar")
	_, stderr, err := backUp(t, "-local", dir, "-out", out)
	require.NoError(t, err, stderr)
	require.Contains(t, stderr, "left out  socket: tar has no place for a socket")
	info, err := os.Stat(out)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	require.Zero(t, info.Size()%recordSize)
	require.Less(t, info.Size(), int64(12<<20), "holes are in the archive")

	_, stderr, err = backUp(t, "-verify", out)
	require.NoError(t, err, stderr)
	isRoot := os.Geteuid() == 0
	restored := filepath.Join(t.TempDir(), "restored")
	_, stderr, err = backUp(t, "-restore", out, "-to", restored)
	require.NoError(t, err, stderr)
	requireTree(t, want, describeTree(t, restored, false))

	if !isRoot {
		return // without its rights tar restores less
	}
	t.Run("GNU tar", func(t *testing.T) {
		to := t.TempDir()
		requireCommand(t, "tar", "xpf", out, "--xattrs", "--xattrs-include=*", "--acls", "--warning=no-unknown-keyword", "-C", to)
		requireTree(t, want, describeTree(t, to, false))
	})
	t.Run("bsdtar", func(t *testing.T) {
		to := t.TempDir()
		requireCommand(t, "bsdtar", "xpf", out, "--xattrs", "--acls", "-C", to)
		requireTree(t, describeTree(t, dir, true), describeTree(t, to, true))
	})
}

func requireTree(t *testing.T, want, got map[string]described) {
	t.Helper()
	for name, w := range want {
		require.Equal(t, w, got[name], "%q", name)
	}
	require.Len(t, got, len(want))
}

func requireCommand(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil && os.Getenv("FSRVP_PEERS") != "require" {
		t.Skip(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); name == "bsdtar" && errors.As(err, &exit) && strings.Contains(string(out), "can't be converted") {
		err = nil // it says so of a name that is not UTF-8, and restores it
	}
	require.NoError(t, err, "%s", out)
}

// TestLongPaths archives what is deeper than a path may be long.
func TestLongPaths(t *testing.T) {
	base := t.TempDir()
	src := filepath.Join(base, "src")
	require.NoError(t, os.Mkdir(src, 0o755))
	root, err := os.OpenRoot(src)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	deep := strings.TrimSuffix(strings.Repeat(strings.Repeat("x", 200)+"/", 30), "/")
	require.NoError(t, root.MkdirAll(deep, 0o755))
	require.NoError(t, root.WriteFile(deep+"/f", []byte("deep"), 0o600))
	require.NoError(t, root.Symlink("f", deep+"/l"))
	out := filepath.Join(base, "o.tar")
	_, stderr, err := backUp(t, "-local", src, "-out", out)
	require.NoError(t, err, stderr)
	_, stderr, err = backUp(t, "-restore", out, "-to", filepath.Join(base, "to"))
	require.NoError(t, err, stderr)
	to, err := os.OpenRoot(filepath.Join(base, "to"))
	require.NoError(t, err)
	defer to.Close()
	link, err := to.Readlink(deep + "/l")
	require.NoError(t, err)
	require.Equal(t, "f", link)
	b, err := to.ReadFile(deep + "/f")
	require.NoError(t, err)
	require.Equal(t, "deep", string(b))
}

// TestVerifyFindsDamage changes an archive in every place. What the sums do not cover are the zeros
// at its very end.
func TestVerifyFindsDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "d"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d", strings.Repeat("b", 120)), bytes.Repeat([]byte("x"), 1000), 0o600))
	large := bytes.Repeat([]byte("0123456789abcdef"), smallFile/16+1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), large, 0o600))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("end"), 1<<20)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	out := filepath.Join(t.TempDir(), "out.tar")
	_, stderr, err := backUp(t, "-local", dir, "-out", out)
	require.NoError(t, err, stderr)
	archive, err := os.ReadFile(out)
	require.NoError(t, err)
	check := func(b []byte) (bad []string, err error) {
		s := newScanner(bytes.NewReader(b), func(m *scanned, v verdict) {
			if v != intact {
				bad = append(bad, m.name)
			}
		})
		for err == nil {
			_, err = s.next()
		}
		if err == io.EOF {
			err = nil
		}
		return bad, err
	}
	bad, err := check(archive)
	require.NoError(t, err)
	require.Empty(t, bad)
	end := bytes.Index(archive, []byte(trailerTitle+"\n")) + blockSize
	for i := 0; i < end; i += 3 {
		if i > 8<<10 && i < end-8<<10 && i%9973 != 0 {
			continue // contents of the large file, one byte in many
		}
		archive[i] ^= 0x41
		if bad, err := check(archive); err == nil && len(bad) == 0 {
			text := archive[end-blockSize : end]
			require.GreaterOrEqual(t, i, end-blockSize+len(bytes.TrimRight(text, "\x00A")), "byte %d of %d is not checked", i, end)
		}
		archive[i] ^= 0x41
	}
	for n := 0; n < end; n += blockSize {
		_, err := check(archive[:n])
		require.Error(t, err, "cut to %d of %d bytes", n, len(archive))
	}
	var names []string
	archive[bytes.Index(archive, []byte("content"))]++
	bad, err = check(archive)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, append(names, bad...))
	require.NoError(t, os.WriteFile(out, archive, 0o600))
	stdout, _, err := backUp(t, "-verify", out, "-json")
	require.ErrorContains(t, err, "1 problem is listed above")
	require.Contains(t, stdout, `"kind": "damaged"`)
	require.Equal(t, 1, exitStatus(err))
}

// exitStatus is that of the program.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	if exit := new(program.Exit); errors.As(err, &exit) {
		return exit.Status
	}
	return 1
}

// seal writes an archive of members with all its sums.
func seal(t testing.TB, members ...node) []byte {
	t.Helper()
	var b bytes.Buffer
	a := newArchiver(&b)
	rep := newReport(io.Discard)
	rep.summary.Shares = []shareSummary{{}}
	for _, n := range members {
		require.NoError(t, a.member(&step{n: &n, data: bytes.Repeat([]byte("!"), int(n.size)), sum: sumOf(int(n.size))}, rep))
	}
	require.NoError(t, a.close())
	return b.Bytes()
}

// TestRestoreStaysInside restores archives that want to write elsewhere.
func TestRestoreStaysInside(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	require.NoError(t, os.Mkdir(outside, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(outside, "f"), []byte("mine"), 0o600))
	file := func(name string) node { return node{member: member{name: name, kind: typeFile, size: 4, mode: 0o644}} }
	link := func(name, to string, kind byte) node { return node{member: member{name: name, kind: kind, link: to}} }
	for name, c := range map[string]struct {
		members  []node
		inside   []string
		problems int
	}{
		"up":                         {[]node{file("../outside/new"), file("ok")}, []string{"ok"}, 1},
		"up in the middle":           {[]node{file("a/../../outside/new"), file("ok")}, []string{"ok"}, 1},
		"absolute":                   {[]node{file(filepath.Join(outside, "new"))}, []string{filepath.Join(outside, "new")[1:]}, 0},
		"through a link":             {[]node{link("l", "../outside", typeSymlink), file("l/new"), file("ok")}, []string{"l", "ok"}, 1},
		"through an absolute link":   {[]node{link("l", outside, typeSymlink), file("l/new"), file("l/f")}, []string{"l"}, 2},
		"over a link":                {[]node{link("f", "../outside/f", typeSymlink), file("f")}, []string{"f"}, 1},
		"hard link to what is not":   {[]node{link("h", "../outside/f", typeLink), link("i", outside+"/f", typeLink)}, nil, 2},
		"hard link through a link":   {[]node{link("l", "../outside", typeSymlink), link("h", "l/f", typeLink)}, []string{"l"}, 1},
		"directory that is a link":   {[]node{link("l", "../outside", typeSymlink), {member: member{name: "l", kind: typeDir, mode: 0o777}}}, []string{"l"}, 1},
		"the directory itself":       {[]node{file("."), file("..")}, nil, 2},
		"a member of another kind":   {[]node{{member: member{name: "x", kind: '7'}}, file("ok")}, []string{"ok"}, 1},
		"a directory twice":          {[]node{{member: member{name: "d", kind: typeDir, mode: 0o500}}, {member: member{name: "d", kind: typeDir, mode: 0o700}}}, []string{"d"}, 0},
		"no name":                    {[]node{file(""), file("/"), {member: member{name: "", kind: typeDir, mode: 0o700}}}, nil, 2},
		"names with NUL":             {[]node{file("a\x00b"), file("ok")}, nil, -1},
		"the same name twice":        {[]node{file("f"), file("f")}, []string{"f"}, 1},
		"a directory that is a file": {[]node{file("f"), file("f/g")}, []string{"f"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			archive := filepath.Join(dir, "a.tar")
			require.NoError(t, os.WriteFile(archive, seal(t, c.members...), 0o600))
			to := filepath.Join(base, strings.ReplaceAll(name, " ", "-"))
			_, stderr, err := backUp(t, "-restore", archive, "-to", to)
			if c.problems < 0 {
				require.Error(t, err)
				return
			}
			if c.problems == 0 {
				require.NoError(t, err, stderr)
			} else {
				require.Equal(t, 3, exitStatus(err), "%v", err)
			}
			require.Equal(t, c.problems, strings.Count(stderr, kindMissing)+strings.Count(stderr, kindMetadata), stderr)
			for _, name := range c.inside {
				_, err := os.Lstat(filepath.Join(to, name))
				require.NoError(t, err, stderr)
			}
			entries, err := os.ReadDir(outside)
			require.NoError(t, err)
			require.Len(t, entries, 1)
			b, err := os.ReadFile(filepath.Join(outside, "f"))
			require.NoError(t, err)
			require.Equal(t, "mine", string(b))
			info, err := os.Stat(outside)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
		})
	}
}

// TestRestoreTellsOfWindows restores what a share had, and says what of it stays in the archive.
func TestRestoreTellsOfWindows(t *testing.T) {
	sd := base64.StdEncoding.EncodeToString([]byte{1, 0, 0x14, 0x80})
	of := func(name string, kind byte, records ...paxRecord) node {
		return node{member: member{name: name, kind: kind, mode: 0o600, records: records, link: map[bool]string{true: "x"}[kind == typeSymlink]}}
	}
	archive := filepath.Join(t.TempDir(), "a.tar")
	require.NoError(t, os.WriteFile(archive, seal(t,
		of("fs1/s", typeDir, paxRecord{keyAttributes, "16"}, paxRecord{keyDescriptor, "AQAEgA=="}, paxRecord{keyCreated, "1"}),
		of("fs1/s/f", typeFile, paxRecord{keyAttributes, "34"}, paxRecord{keyDescriptor, sd}),
		of("fs1/s/f:stream", typeFile), of("fs1/s/f:two", typeFile),
		of("fs1/s/j", typeSymlink, paxRecord{keyAttributes, "1040"}, paxRecord{keyMountPoint, "1"}),
	), 0o600))
	_, stderr, err := backUp(t, "-restore", archive, "-to", filepath.Join(t.TempDir(), "to"))
	require.NoError(t, err, stderr)
	for _, text := range []string{
		"the security descriptors of 2 files stay", "those of 1 file have", "attributes such as hidden, system or compressed of 1 file stay",
		"the creation times of 1 file stay", "alternate streams were restored as 2 files of their own", "junctions became symbolic links: 1 file",
	} {
		require.Contains(t, stderr, text)
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(archive, seal(t, of("a", typeFile), of("a:b", typeFile)), 0o600))
	_, stderr, err = backUp(t, "-restore", archive, "-to", dir)
	require.NoError(t, err, stderr)
	require.NotContains(t, stderr, "stream")
}

// TestOutput writes to what is no regular file, and through links.
func TestOutput(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	require.NoError(t, os.Mkdir(src, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(src, "f"), bytes.Repeat([]byte("x"), 300_000), 0o600))
	dir := t.TempDir()
	name := func(n string) string { return filepath.Join(dir, n) }
	leftNothing := func(t *testing.T, names ...string) {
		t.Helper()
		left, err := filepath.Glob(name(".*"))
		require.NoError(t, err)
		require.Empty(t, left)
		for _, n := range names {
			require.NoFileExists(t, name(n))
		}
	}
	t.Run("FIFO", func(t *testing.T) {
		require.NoError(t, unix.Mkfifo(name("fifo"), 0o600))
		read := make(chan []byte)
		go func() {
			b, err := os.ReadFile(name("fifo"))
			if err != nil {
				t.Error(err)
			}
			read <- b
		}()
		_, stderr, err := backUp(t, "-local", src, "-out", name("fifo"))
		require.NoError(t, err, stderr)
		archive := <-read
		require.Zero(t, len(archive)%recordSize)
		info, err := os.Lstat(name("fifo"))
		require.NoError(t, err)
		require.Equal(t, fs.ModeNamedPipe, info.Mode().Type())
		leftNothing(t)
	})
	t.Run("FIFO without a reader", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var o, e bytes.Buffer
		require.NoError(t, unix.Mkfifo(name("lonely"), 0o600))
		err := run(ctx, []string{"-local", src, "-out", name("lonely")}, &o, &e, nil)
		require.ErrorContains(t, err, "waiting for a reader")
		// The goroutine that still opens it ends with a reader.
		f, err := os.OpenFile(name("lonely"), os.O_RDONLY|unix.O_NONBLOCK, 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	})
	t.Run("reader that goes away", func(t *testing.T) {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		_, _, err = backUp(t, "-local", src, "-out", fmt.Sprintf("/dev/fd/%d", w.Fd()))
		require.ErrorIs(t, err, syscall.EPIPE)
		require.NoError(t, w.Close())
	})
	t.Run("symbolic link", func(t *testing.T) {
		require.NoError(t, os.Mkdir(name("real"), 0o755))
		require.NoError(t, os.Symlink("real/out.tar", name("link")))
		for range 2 { // dangling, and not
			_, stderr, err := backUp(t, "-local", src, "-out", name("link"))
			require.NoError(t, err, stderr)
			target, err := os.Readlink(name("link"))
			require.NoError(t, err)
			require.Equal(t, "real/out.tar", target)
			require.Equal(t, []string{"f"}, slices.Sorted(mapKeys(archived(t, name("real/out.tar")))))
		}
	})
	t.Run("long name", func(t *testing.T) {
		long := strings.Repeat("ü", 125) + ".tar" // 254 bytes
		_, stderr, err := backUp(t, "-local", src, "-out", name(long))
		require.NoError(t, err, stderr)
		require.Equal(t, []string{"f"}, slices.Sorted(mapKeys(archived(t, name(long)))))
		require.NotEqual(t, outputPattern(name(long)), outputPattern(name("x"+long[2:])))
		longest := strings.TrimSuffix(outputPattern(name(long)), "*") + strconv.FormatUint(math.MaxUint64, 36)
		require.LessOrEqual(t, len(longest), 255)
		leftNothing(t)
	})
	t.Run("patterns in names", func(t *testing.T) {
		for _, odd := range []string{"a*b.tar", "[a].tar", "?.tar", `\*.tar`} {
			left, err := claimFile(filepath.Dir(name(odd)), outputPattern(name(odd)), nil)
			require.NoError(t, err)
			require.NoError(t, left.file.Close()) // as a run that was killed
			_, stderr, err := backUp(t, "-local", src, "-out", name(odd))
			require.NoError(t, err, stderr)
			require.Equal(t, []string{"f"}, slices.Sorted(mapKeys(archived(t, name(odd)))))
			require.NoFileExists(t, left.path)
		}
		leftNothing(t)
	})
	t.Run("failure keeps what is there", func(t *testing.T) {
		require.NoError(t, os.WriteFile(name("old.tar"), []byte("old"), 0o644))
		_, _, err := backUp(t, "-local", src, "-out", name("old.tar"), "-freeze", "/bin/false")
		require.Error(t, err)
		b, err := os.ReadFile(name("old.tar"))
		require.NoError(t, err)
		require.Equal(t, "old", string(b))
		leftNothing(t)
	})
	t.Run("mode of one that is replaced", func(t *testing.T) {
		_, stderr, err := backUp(t, "-local", src, "-out", name("old.tar"))
		require.NoError(t, err, stderr)
		info, err := os.Stat(name("old.tar"))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	})
	t.Run("bind mount of the source", func(t *testing.T) {
		require.NoError(t, os.Symlink(src, name("alias")))
		_, _, err := backUp(t, "-local", src, "-out", name("alias/x.tar"))
		require.ErrorContains(t, err, "the archive would be part of itself")
		require.NoFileExists(t, filepath.Join(src, "x.tar"))
	})
	t.Run("devices", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root makes devices")
		}
		require.NoError(t, unix.Mknod(name("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		require.NoError(t, unix.Mknod(name("full"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))))
		_, stderr, err := backUp(t, "-local", src, "-out", name("null"))
		require.NoError(t, err, stderr)
		_, _, err = backUp(t, "-local", src, "-out", name("full"))
		require.ErrorContains(t, err, "is full after 0 bytes: no space left on device")
		for _, n := range []string{"null", "full"} {
			info, err := os.Lstat(name(n))
			require.NoError(t, err)
			require.Equal(t, fs.ModeDevice|fs.ModeCharDevice, info.Mode().Type())
		}
		leftNothing(t)
	})
}

// TestProblems reads a tree some of whose files cannot be read, or are not what they were.
func TestProblems(t *testing.T) {
	file := func(name string, size int64) *node {
		return &node{path: name, member: member{kind: typeFile, size: size}, id: fileID{1, uint64(len(name))}, links: 1}
	}
	linked := file("b denied", 10)
	linked.links = 2
	again := &node{path: "c the same", member: member{kind: typeFile, size: 10}, id: linked.id, links: 2}
	tree := &fakeTree{
		nodes: []*node{
			file("a", 10), linked, again, file("d gone", 10), file("e large denied", 1<<20), file("f half", 3<<20), file("g short", 20),
			file("h short large", 2<<20), {path: "i dir", member: member{kind: typeDir}}, {path: "j", err: fs.ErrPermission}, file("z", 5),
		},
		open1: map[string]error{"b denied": fs.ErrPermission, "d gone": fs.ErrNotExist, "e large denied": fs.ErrPermission},
		good:  map[string]int64{"f half": 1<<20 + 7, "g short": 3, "h short large": 1<<20 + 9},
		bad:   map[string]error{"f half": syscall.EIO},
		lists: map[string]error{"i dir": fs.ErrPermission},
	}
	src := &fakeSource{tree}
	var stderr, archive bytes.Buffer
	rep := newReport(&stderr)
	set := &provider.Set{Copies: []provider.Copy{{Share: "fake"}}}
	require.NoError(t, archiveSet(t, &archive, src, set, rep))
	err := rep.verdict("o.tar")
	require.Equal(t, 3, exitStatus(err))
	require.EqualError(t, err, "o.tar is written, but 9 files are not in it as it was")
	kinds := map[string]string{}
	for _, p := range rep.summary.Problems {
		kinds[p.Path] = p.Kind
		require.Contains(t, stderr.String(), p.Path+": "+p.Reason)
	}
	require.Equal(t, map[string]string{
		"b denied": kindUnreadable, "c the same": kindUnreadable, "d gone": kindVanished, "e large denied": kindUnreadable, "f half": kindUnreadable,
		"g short": kindChanged, "h short large": kindChanged, "i dir": kindUnreadable, "j": kindUnreadable,
	}, kinds)
	out := filepath.Join(t.TempDir(), "o.tar")
	require.NoError(t, os.WriteFile(out, archive.Bytes(), 0o600))
	have := archived(t, out)
	require.Equal(t, []string{"a", "f half", "g short", "h short large", "i dir", "z"}, slices.Sorted(mapKeys(have)))
	require.Equal(t, strings.Repeat("a", 10), have["a"])
	require.Equal(t, strings.Repeat("z", 5), have["z"])
	require.Equal(t, "ggg", have["g short"])
	require.Equal(t, strings.Repeat("f", 1<<20)+strings.Repeat("\x00", 2<<20), strings.Replace(have["f half"], strings.Repeat("f", 1<<20+7)+strings.Repeat("\x00", 1<<20-7), strings.Repeat("f", 1<<20)+strings.Repeat("\x00", 1<<20), 1))
	_, verified, err := backUp(t, "-verify", out)
	require.Equal(t, 3, exitStatus(err), "%v", err)
	require.Equal(t, 2, strings.Count(verified, "the backup could not read all of it"))

	strict := newReport(io.Discard)
	strict.strict = true
	require.ErrorContains(t, archiveSet(t, io.Discard, src, set, strict), ": unreadable: permission denied (-strict)")

	tree.open1["d gone"], tree.broken = net.ErrClosed, net.ErrClosed
	require.ErrorIs(t, archiveSet(t, io.Discard, src, set, newReport(io.Discard)), net.ErrClosed)
	require.Zero(t, tree.opened.Load(), "files are still open")
}

func archiveSet(t *testing.T, w io.Writer, src source, set *provider.Set, rep *report) error {
	t.Helper()
	for _, n := range src.(*fakeSource).tree.nodes { // an archive changes them
		if n.kind == typeLink {
			n.kind, n.size, n.link = typeFile, 10, ""
		}
		if n.path == "g short" {
			n.size = 20
		}
	}
	return archive(t.Context(), w, src, set, rep)
}

// TestUnprivileged backs up files of others: what can be read is in the archive, and the report
// says whose the rest is.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root becomes somebody else")
	}
	base, err := os.MkdirTemp("/tmp", "fsrvp-backup-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(base) })
	require.NoError(t, os.Chmod(base, 0o777))
	src := filepath.Join(base, "src")
	require.NoError(t, os.Mkdir(src, 0o755))
	secret := filepath.Join(src, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("s"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(src, "closed"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(src, "closed", "inner"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(src, "public"), []byte("p"), 0o644))
	cmd := program1(t, "-local", src, "-out", filepath.Join(base, "o.tar"))
	exe, err := os.ReadFile(cmd.Path) // where the test's binary is nobody else can go
	require.NoError(t, err)
	cmd.Path = filepath.Join(base, "program")
	require.NoError(t, os.WriteFile(cmd.Path, exe, 0o755))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = base
	out, err := cmd.CombinedOutput()
	exit := new(exec.ExitError)
	require.ErrorAs(t, err, &exit, "%s", out)
	require.Equal(t, 3, exit.ExitCode(), "%s", out)
	require.Regexp(t, "unreadable secret: permission denied; it belongs to root, with the mode 0600", string(out))
	require.Regexp(t, "unreadable closed: permission denied; it belongs to root, with the mode 0700", string(out))
	require.NotContains(t, string(out), "localhost")
	list, err := exec.Command("tar", "-tf", filepath.Join(base, "o.tar")).CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(list), "public")
	require.NotContains(t, string(list), "secret")
	require.NotContains(t, string(list), "inner")

	require.NoError(t, os.Chmod(src, 0o700))
	cmd2 := program1(t, "-local", src, "-out", filepath.Join(base, "o2.tar"))
	cmd2.Path, cmd2.SysProcAttr, cmd2.Dir = cmd.Path, cmd.SysProcAttr, base
	out, err = cmd2.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), src+" belongs to root, with the mode 0700")
	require.NoFileExists(t, filepath.Join(base, "o2.tar"))
}

// TestNoRoom backs up what there is no room for a copy of: the error says how much there is.
func TestNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := t.TempDir()
	cmd := program1(t, "-local", "src", "-out", filepath.Join(dir, "o.tar"))
	script := `set -e; mount -t tmpfs -o size=3m none "$DIR"; cd "$DIR"; mkdir src; head -c 2000000 /dev/zero >src/f; set +e; "$@"; rc=$?; ls -A; exit $rc`
	cmd.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh"}, append([]string{cmd.Path}, cmd.Args[1:]...)...)
	var err error
	cmd.Path, err = exec.LookPath("unshare")
	require.NoError(t, err)
	cmd.Env = append(cmd.Env, "DIR="+dir)
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	if strings.Contains(string(out), "unshare") || strings.Contains(string(out), "mount:") {
		t.Skipf("%s", out)
	}
	require.Regexp(t, "no space left on device; it was to be in "+dir+`, whose file system has [01]\.\d MiB free of 3\.0 MiB`, string(out))
	require.NotContains(t, string(out), ".fsrvp")
}

// killsEnv says how often TestKilled kills a backup; 12 without it.
const killsEnv = "FSRVP_BACKUP_KILLS"

// TestKilled kills backups at any time. The next one removes what they have left, and so does -recover.
func TestKilled(t *testing.T) {
	base := t.TempDir()
	src, out, journal := filepath.Join(base, "src"), filepath.Join(base, "o.tar"), filepath.Join(base, "journal")
	require.NoError(t, os.MkdirAll(filepath.Join(src, "locked"), 0o755))
	for i := range 200 {
		require.NoError(t, os.WriteFile(filepath.Join(src, fmt.Sprint(i)), bytes.Repeat([]byte("x"), 20_000), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(src, "locked", "f"), nil, 0o400))
	require.NoError(t, os.Chmod(filepath.Join(src, "locked"), 0o500))
	t.Cleanup(func() { os.Chmod(filepath.Join(src, "locked"), 0o700) })
	began := time.Now()
	o, err := program1(t, "-local", src, "-out", out, "-journal", journal).CombinedOutput()
	require.NoError(t, err, string(o))
	whole := time.Since(began)
	left, rounds := 0, 12
	if s := os.Getenv(killsEnv); s != "" {
		rounds, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	for i := range rounds {
		after := whole * time.Duration(i+1) / 13
		if i >= 12 {
			after = rand.N(whole)
		}
		cmd := program1(t, "-local", src, "-out", out, "-journal", journal)
		require.NoError(t, cmd.Start())
		timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		entries, err := os.ReadDir(base)
		require.NoError(t, err)
		if len(entries) > 2 {
			left++
		}
		args := []string{"-recover", "-journal", journal}
		switch i % 3 {
		case 1:
			args = []string{"-local", src, "-out", out}
		case 2:
			args = []string{"-recover", "-local", src, "-journal", journal}
		}
		o, err := program1(t, args...).CombinedOutput()
		require.NoError(t, err, string(o))
		entries, err = os.ReadDir(base)
		require.NoError(t, err)
		names := []string{}
		for _, e := range entries {
			if e.Name() != "journal.local" || i%3 != 1 { // names what is gone; the next -recover sees that
				names = append(names, e.Name())
			}
		}
		require.Equal(t, []string{"o.tar", "src"}, names, "kill %d, after %v of %v: %s", i, after, whole, o)
		_, stderr, err := backUp(t, "-verify", out)
		require.NoError(t, err, stderr)
	}
	t.Logf("%d of %d kills have left something", left, rounds)
	require.Positive(t, left, "no kill has left anything")
}

// TestKilledInCleanUp: a directory that was being removed when its process was killed is removed by
// the next one.
func TestKilledInCleanUp(t *testing.T) {
	dir := t.TempDir()
	c, err := claimDir(dir, besidePattern, nil)
	require.NoError(t, err)
	for _, name := range []string{"agent.db", "zz"} {
		require.NoError(t, os.WriteFile(filepath.Join(c.path, name), nil, 0o600))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(c.path, "snapshots", "one"), 0o500))
	require.NoError(t, c.empty())
	entries, err := os.ReadDir(c.path)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, lockName, entries[0].Name())
	require.Nil(t, leftBehind(c.path, true), "it is in use")
	require.NoError(t, c.file.Close()) // killed
	again := leftBehind(c.path, true)
	require.NotNil(t, again)
	require.NoError(t, again.remove())
	require.NoDirExists(t, c.path)
}

// TestTakesNothingOfOthers leaves what a backup that is running has.
func TestTakesNothingOfOthers(t *testing.T) {
	base := t.TempDir()
	src := filepath.Join(base, "src")
	require.NoError(t, os.Mkdir(src, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(src, "f"), []byte("x"), 0o600))
	held := make(chan struct{})
	release := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		var o, e bytes.Buffer
		done <- run(t.Context(), []string{"-local", src, "-out", filepath.Join(base, "1.tar")}, &o, &e, []provider.Writer{{
			Name: "waits", PostSnapshot: func(context.Context, *provider.Set) error { close(held); <-release; return nil },
		}})
	}()
	<-held
	_, stderr, err := backUp(t, "-recover", "-local", src)
	require.NoError(t, err, stderr)
	found, err := filepath.Glob(filepath.Join(base, ".*fsrvp-backup-*"))
	require.NoError(t, err)
	require.Len(t, found, 2, "the snapshot and the archive of a backup that is running")
	close(release)
	require.NoError(t, <-done)
	require.Equal(t, map[string]string{"f": "x"}, archived(t, filepath.Join(base, "1.tar")))
}
