package snaptest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Build fills the directory with a tree that has one of everything that a file system knows; what
// only root can make, only for root.
func Build(tb testing.TB, dir string) {
	tb.Helper()
	root := os.Geteuid() == 0
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	must(os.MkdirAll(at("docs/sub/empty"), 0o755))
	must(os.WriteFile(at("docs/plain.txt"), []byte("plain\n"), 0o640))
	must(os.WriteFile(at("docs/empty"), nil, 0o600))
	must(os.WriteFile(at("docs/readonly"), []byte("x"), 0o444))
	must(os.WriteFile(at("docs/big"), pattern(1<<20+17), 0o644))
	// Names: composed and decomposed, beyond the BMP, no UTF-8 at all, and what shells trip over.
	for _, name := range []string{"gr\u00fc\u00dfe", "gru\u0308\u00dfe", "\U0001f4be disk", "latin1-\xe9\xff",
		"a\nb\t'\"$* ", "-rf", "...", "\\back"} {
		must(os.WriteFile(at("docs/sub/"+name), []byte(name), 0o644))
	}
	must(os.Symlink("docs/plain.txt", at("relative")))
	must(os.Symlink("/nowhere/at all", at("dangling")))
	must(os.Symlink("..", at("docs/up")))
	// Hard links, in one directory and across.
	must(os.MkdirAll(at("links/deep/er"), 0o755))
	must(os.WriteFile(at("links/one"), []byte("linked"), 0o644))
	must(os.Link(at("links/one"), at("links/two")))
	must(os.Link(at("links/one"), at("links/deep/er/three")))
	must(os.Link(at("relative"), at("links/symlink too")))
	// Holes: in front, between, at the end, and nothing else.
	sparse(tb, at("sparse"), 16<<20, 1<<20, 5<<20)
	sparse(tb, at("hole"), 4<<20)
	must(unix.Mkfifo(at("fifo"), 0o620))
	must(unix.Mknod(at("socket"), unix.S_IFSOCK|0o600, 0))
	deep := at("deep")
	for range 60 {
		deep = filepath.Join(deep, "level")
	}
	must(os.MkdirAll(deep, 0o755))
	must(os.WriteFile(filepath.Join(deep, "bottom"), []byte("bottom"), 0o644))
	must(unix.Lsetxattr(at("docs/plain.txt"), "user.DOSATTRIB", []byte("\x00\x00\x05\x00"), 0))
	must(unix.Lsetxattr(at("docs"), "user.empty", nil, 0))
	must(unix.Lsetxattr(at("docs/sub"), "user.large", pattern(3000), 0))
	if root {
		must(unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(unix.Lsetxattr(at("docs/plain.txt"), "security.NTACL", pattern(200), 0))
		must(unix.Lsetxattr(at("docs"), "security.NTACL", pattern(150), 0))
		must(unix.Lsetxattr(at("docs/plain.txt"), "trusted.note", []byte("t"), 0))
		must(unix.Lsetxattr(at("relative"), "trusted.note", []byte("of the link"), 0))
		must(unix.Lsetxattr(at("fifo"), "trusted.note", []byte("of the fifo"), 0))
		must(os.Chown(at("docs/plain.txt"), 1234, 5678))
		must(os.Chown(at("docs/sub"), 1234, 5678))
		must(os.Lchown(at("dangling"), 77, 88))
		must(os.WriteFile(at("suid"), []byte("x"), 0o755))
		must(os.Chown(at("suid"), 1234, 5678))
		must(os.Chmod(at("suid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
		must(unix.Lsetxattr(at("suid"), "security.capability",
			[]byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		// The directory hands an access control list down; a file that was there before has none.
		must(os.MkdirAll(at("acl/inner"), 0o755))
		must(os.WriteFile(at("acl/before"), nil, 0o644))
		must(unix.Lsetxattr(at("acl"), "system.posix_acl_default", ACL(0o7, 4321, 0o6, 0o5, 0o7, 0o0), 0))
		must(os.WriteFile(at("acl/after"), nil, 0o644))
		must(unix.Lsetxattr(at("acl/before"), "system.posix_acl_access", ACL(0o6, 4321, 0o4, 0o4, 0o4, 0o0), 0))
		must(os.WriteFile(at("acl/inner/none"), nil, 0o604))
	}
	must(os.Chmod(at("docs/sub/empty"), 0o1777|fs.ModeSticky))
	times(tb, dir)
	must(os.Chmod(at("docs/sub"), 0o550))
}

// times gives every file and directory a time of its own, with nanoseconds.
func times(tb testing.TB, dir string) {
	tb.Helper()
	var paths []string
	walk(tb, dir, func(path string) { paths = append(paths, path) })
	for i, path := range paths {
		when := time.Date(2001, 2, 3, 4, 5, i, 123456789+i, time.UTC)
		ts := []unix.Timespec{unix.NsecToTimespec(when.Add(time.Hour).UnixNano()), unix.NsecToTimespec(when.UnixNano())}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			tb.Fatal(path, err)
		}
	}
}

// Many makes n small files of 4 KiB, a hundred in each directory.
func Many(tb testing.TB, dir string, n int) {
	tb.Helper()
	data := pattern(4096)
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", i/1000), fmt.Sprintf("e%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				tb.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file %05d", i)), data, 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

// Fill leaves about that many MiB of the file system that holds dir.
func Fill(tb testing.TB, dir string, mib int64) {
	tb.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for block := pattern(1 << 20); len(block) >= 4096; {
		n, err := f.WriteAt(block, size)
		size += int64(n)
		if err != nil { // what is left is less
			block = block[:len(block)/2]
		}
	}
	if err := f.Truncate(size - mib<<20); err != nil {
		tb.Fatal(err)
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		tb.Fatal(err)
	}
}

// pattern returns bytes that are not all alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i*7+1)
	}
	return b
}

// sparse makes a file that has 64 KiB of data at each offset, and holes elsewhere.
func sparse(tb testing.TB, path string, size int64, offsets ...int64) {
	tb.Helper()
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for _, off := range offsets {
		if _, err := f.WriteAt(pattern(64<<10), off); err != nil {
			tb.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		tb.Fatal(err)
	}
}

// ACL returns an access control list in the form of the extended attributes system.posix_acl_*: the
// owner's rights, those of one more user, of the group, the mask, and everybody else's.
func ACL(owner uint16, user uint32, userRights, group, mask, other uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	entry := func(tag, rights uint16, id uint32) {
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, rights)
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	const nobody = 0xFFFFFFFF
	entry(0x01, owner, nobody)
	entry(0x02, userRights, user)
	entry(0x04, group, nobody)
	entry(0x10, mask, nobody)
	entry(0x20, other, nobody)
	return b
}

// List describes a tree: a line for everything in it, by path. Equal trees have equal lists.
func List(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	list := make(map[string]string)
	firstName := make(map[uint64]string)
	walk(tb, dir, func(path string) {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			tb.Fatal(path, err)
		}
		rel, _ := filepath.Rel(dir, path)
		var b strings.Builder
		fmt.Fprintf(&b, "%06o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			fmt.Fprintf(&b, " %d bytes %x", len(data), sha256.Sum256(data))
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				tb.Fatal(err)
			}
			fmt.Fprintf(&b, " -> %q", to)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " device %d", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if firstName[st.Ino] == "" {
				firstName[st.Ino] = rel
			}
			fmt.Fprintf(&b, " %d links of %q", st.Nlink, firstName[st.Ino])
		}
		fmt.Fprintf(&b, " %q", xattrs(tb, path))
		list[rel] = b.String()
	})
	return list
}

// Same demands that two lists are the same, and shows in what they differ.
func Same(tb testing.TB, want, got map[string]string, msg ...any) {
	tb.Helper()
	differ := func(path, format string, args ...any) {
		tb.Errorf("%s: %q: "+format, append([]any{fmt.Sprint(msg...), path}, args...)...)
	}
	for path, line := range want {
		if have, ok := got[path]; !ok {
			differ(path, "missing")
		} else if line != have {
			differ(path, "\nwant %s\ngot  %s", line, have)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			differ(path, "should not be there")
		}
	}
	if tb.Failed() {
		tb.FailNow()
	}
}

func xattrs(tb testing.TB, path string) map[string]string {
	tb.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		tb.Fatal(path, err)
	}
	values := make(map[string]string)
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.SGI_ACL_") { // XFS has access control lists twice
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			tb.Fatal(path, name, err)
		}
		values[name] = string(value[:n])
	}
	return values
}

func walk(tb testing.TB, dir string, visit func(path string)) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			visit(path)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
}
