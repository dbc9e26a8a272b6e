//go:build linux && (386 || amd64 || arm || arm64 || loong64 || riscv64 || s390x)

package btrfsctl

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

// TestLayouts compares with the sizes that linux/btrfs.h gives.
func TestLayouts(t *testing.T) {
	require.EqualValues(t, 4096, unsafe.Sizeof(volArgs{}))
	require.EqualValues(t, 4096, unsafe.Sizeof(volArgsV2{}))
	require.EqualValues(t, 1024, unsafe.Sizeof(fsInfoArgs{}))
	require.EqualValues(t, 504, unsafe.Sizeof(subvolInfoArgs{}))
	require.EqualValues(t, 4096, unsafe.Sizeof(rootRefArgs{}))
	require.EqualValues(t, 4096, unsafe.Sizeof(lookupArgs{}))
	require.EqualValues(t, 0x50009417, request(write, 23, 4096), "BTRFS_IOC_SNAP_CREATE_V2")
	require.Equal(t, uintptr(0x8008_9419), request(read, 25, 8), "BTRFS_IOC_SUBVOL_GETFLAGS")
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// show returns a value that the btrfs program shows of a subvolume.
func show(t *testing.T, path, key string) string {
	t.Helper()
	out, err := exec.Command("btrfs", "subvolume", "show", path).CombinedOutput()
	require.NoError(t, err, string(out))
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("no %s in %s", key, out)
	return ""
}

// TestAgainstProgram compares with what the btrfs program says.
func TestAgainstProgram(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 200)
	sub := filepath.Join(mount, "sub")
	snaptest.Run(t, "btrfs", "subvolume", "create", sub)
	f, top := open(t, sub), open(t, mount)

	on, err := Is(f)
	require.NoError(t, err)
	require.True(t, on)
	info, err := Info(f)
	require.NoError(t, err)
	require.Equal(t, show(t, sub, "UUID"), uuid.UUID(info.UUID).String())
	require.Equal(t, show(t, sub, "Subvolume ID"), fmt.Sprint(info.ID))
	require.Zero(t, info.Parent)
	require.WithinDuration(t, time.Now(), info.Created, time.Minute)
	id, err := FileSystem(f)
	require.NoError(t, err)
	out, err := exec.Command("btrfs", "filesystem", "show", mount).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), uuid.UUID(id).String())

	require.NoError(t, os.WriteFile(filepath.Join(sub, "file"), []byte("before"), 0o644))
	require.NoError(t, Snapshot(top, f, "ro", true))
	require.NoError(t, Snapshot(top, f, "rw", false))
	require.ErrorIs(t, Snapshot(top, f, "rw", false), os.ErrExist)
	ro, rw := open(t, filepath.Join(mount, "ro")), open(t, filepath.Join(mount, "rw"))
	snap, err := Info(ro)
	require.NoError(t, err)
	require.Equal(t, info.UUID, snap.Parent)
	is, err := ReadOnly(ro)
	require.NoError(t, err)
	require.True(t, is)
	is, err = ReadOnly(rw)
	require.NoError(t, err)
	require.False(t, is)
	require.NoError(t, SetReadOnly(rw))
	require.ErrorIs(t, os.WriteFile(filepath.Join(mount, "rw/file"), nil, 0o644), unix.EROFS)
	require.Equal(t, "readonly", show(t, filepath.Join(mount, "rw"), "Flags"))

	require.NoError(t, Destroy(top, "ro"))
	require.NoError(t, Sync(top))
	require.NoDirExists(t, filepath.Join(mount, "ro"))
	require.ErrorIs(t, Destroy(top, "ro"), os.ErrNotExist)
	require.ErrorIs(t, Destroy(top, strings.Repeat("n", 300)), unix.ENAMETOOLONG)
	require.NoError(t, os.Mkdir(filepath.Join(mount, "plain"), 0o755))
	require.Error(t, Destroy(top, "plain"))
}

func TestNested(t *testing.T) {
	mount := snaptest.Mount(t, "btrfs", 200)
	require.NoError(t, os.MkdirAll(filepath.Join(mount, "a/b"), 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(mount, "c"), 0o755))
	snaptest.Run(t, "btrfs", "subvolume", "create", filepath.Join(mount, "a/b/inner"))
	snaptest.Run(t, "btrfs", "subvolume", "create", filepath.Join(mount, "a/b/inner/more"))
	snaptest.Run(t, "btrfs", "subvolume", "create", filepath.Join(mount, "outer"))

	for dir, want := range map[string][]string{
		"": {"a/b/inner", "outer"}, "a": {"b/inner"}, "a/b": {"inner"}, "c": nil, "a/b/inner": {"more"}, "outer": nil,
	} {
		got, err := Nested(open(t, filepath.Join(mount, dir)))
		require.NoError(t, err)
		require.ElementsMatch(t, want, got, "in %q", dir)
	}

	dir := filepath.Join(mount, "c") // more than one answer of the kernel holds
	for i := range 300 {
		require.NoError(t, Snapshot(open(t, dir), open(t, filepath.Join(mount, "outer")), fmt.Sprintf("s%03d", i),
			true))
	}
	got, err := Nested(open(t, mount))
	require.NoError(t, err)
	require.Len(t, got, 302)
	require.Contains(t, got, "c/s000")
	require.Contains(t, got, "c/s299")
	got, err = Nested(open(t, filepath.Join(mount, "a")))
	require.NoError(t, err)
	require.Equal(t, []string{"b/inner"}, got)
}

func TestElsewhere(t *testing.T) {
	f := open(t, "/proc")
	on, err := Is(f)
	require.NoError(t, err)
	require.False(t, on)
	_, err = Info(f)
	require.Error(t, err)
	_, err = Nested(f)
	require.Error(t, err)
	require.Error(t, Sync(f))
}
