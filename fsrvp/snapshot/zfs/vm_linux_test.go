package zfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

const (
	// vmEnv is a folder for a machine with real OpenZFS, or 1 for one of its own; empty: there is
	// no such test.
	vmEnv = "FSRVP_ZFS_VM"
	// kvmEnv has the machine use KVM. Empty: qemu does all by itself, since a KVM that is there need
	// not work within another machine.
	kvmEnv = "FSRVP_ZFS_KVM"
	// insideEnv marks the process within that machine.
	insideEnv = "FSRVP_ZFS_INSIDE"
)

// TestVM runs TestInVM and TestLivesInVM on OpenZFS, in a machine that testdata/vm.sh makes and
// qemu runs, by itself or with KVM.
func TestVM(t *testing.T) {
	folder := os.Getenv(vmEnv)
	if folder == "" {
		t.Skipf("%s is not set", vmEnv)
	}
	if folder == "1" {
		folder = filepath.Join(os.TempDir(), "fsrvp-zfs-vm")
	}
	run := func(dir, name string, args ...string) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		require.NoError(t, cmd.Run(), name)
	}
	run("", "bash", "testdata/vm.sh", folder)
	more := t.TempDir() // what the machine has besides
	run("", "go", "test", "-c", "-o", filepath.Join(more, "zfs.test"), ".")
	lives := os.Getenv("FSRVP_LIVES")
	if lives == "" {
		lives = "2"
	}
	require.NoError(t, os.WriteFile(filepath.Join(more, "lives"), []byte(lives), 0o644))
	image := filepath.Join(t.TempDir(), "initrd")
	run(more, "sh", "-c", `cat "$0" >"$1"; truncate -s %4 "$1"; printf 'zfs.test\nlives\n' | cpio -o -H newc --quiet >>"$1"`,
		filepath.Join(folder, "root.img"), image)

	args := []string{"-m", "3072", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", filepath.Join(folder, "vmlinuz"), "-initrd", image, "-append", "console=ttyS0 panic=-1 quiet"}
	if os.Getenv(kvmEnv) != "" {
		args = append(args, "-enable-kvm", "-cpu", "host")
	} else {
		args = append(args, "-cpu", "max")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	machine := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var out bytes.Buffer
	machine.Stdout = io.MultiWriter(&out, os.Stdout) // it takes minutes
	machine.Stderr = machine.Stdout
	require.NoError(t, machine.Run())
	require.Contains(t, out.String(), "--- PASS: TestInVM")
	require.Contains(t, out.String(), "--- PASS: TestLivesInVM")
	require.Contains(t, out.String(), "TestVM ended with 0")
}

// openZFS makes the backend on OpenZFS.
func openZFS(t *testing.T) *Snapshots {
	t.Helper()
	s, err := New(t.Context(), &Config{Dir: "/var/lib/fsrvp-zfs"})
	require.NoError(t, err)
	return s
}

// realDataset makes a dataset that is mounted at path.
func realDataset(t *testing.T, name, path string) string {
	t.Helper()
	snaptest.Run(t, "zfs", "create", "-o", "mountpoint="+path, name)
	return path
}

// leftOnZFS returns the snapshots and clones of all pools, and what is mounted or lies in the
// directory of snapshots.
func leftOnZFS(t *testing.T) []string {
	t.Helper()
	left := snaptest.Entries(t, "/var/lib/fsrvp-zfs")
	out, err := exec.Command("zfs", "list", "-H", "-t", "all", "-o", "name").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, name) {
			left = append(left, line)
		}
	}
	all, err := mount.All()
	require.NoError(t, err)
	for _, m := range all {
		if strings.HasPrefix(m.Point, "/var/lib/fsrvp-zfs/") {
			left = append(left, m.Point)
		}
	}
	return left
}

func TestInVM(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("it is for the machine of TestVM")
	}
	s := openZFS(t)
	t.Run("conform", func(t *testing.T) {
		one, two, three := realDataset(t, "tank/vms", "/data/vms"), realDataset(t, "tank/db", "/data/db"),
			realDataset(t, "other/home", "/data/home")
		require.NoError(t, os.Mkdir(filepath.Join(one, "share"), 0o755))
		snaptest.Conform(t, s, filepath.Join(one, "share"), two, three)
		require.Empty(t, leftOnZFS(t))
	})
	t.Run("secure", func(t *testing.T) {
		n := 0
		require.NoError(t, os.MkdirAll("/data/secure", 0o755))
		snaptest.Secure(t, s, "/data/secure", func(path string) {
			n++
			realDataset(t, fmt.Sprintf("tank/secure%d", n), path)
		})
		require.Empty(t, leftOnZFS(t))
	})
	t.Run("failures", func(t *testing.T) {
		dir := realDataset(t, "tank/failures", "/data/failures")
		v, err := s.Volume(t.Context(), dir)
		require.NoError(t, err)
		spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v, Writable: true}
		made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
		require.NoError(t, err)
		open, err := os.Create(filepath.Join(made[0].Path, "open"))
		require.NoError(t, err)
		require.ErrorIs(t, s.Delete(t.Context(), spec), syscall.EBUSY, "a file is open")
		require.NoError(t, open.Close())
		snapshot := "tank/failures@fsrvp-" + spec.ID.String()
		snaptest.Run(t, "zfs", "clone", snapshot, "tank/somebody")
		require.ErrorIs(t, s.Delete(t.Context(), spec), syscall.EBUSY, "somebody has cloned it")
		snaptest.Run(t, "zfs", "destroy", "tank/somebody")
		snaptest.Run(t, "zfs", "hold", "somebody", snapshot)
		require.ErrorIs(t, s.Delete(t.Context(), spec), syscall.EBUSY, "somebody holds it")
		snaptest.Run(t, "zfs", "release", "somebody", snapshot)
		require.NoError(t, s.Delete(t.Context(), spec))
		require.NoError(t, s.Delete(t.Context(), spec))
		require.Empty(t, leftOnZFS(t))

		snaptest.Run(t, "zfs", "unmount", "/data/failures")
		snaptest.Run(t, "zfs", "destroy", "tank/failures")
		_, err = s.Create(t.Context(), []backend.SnapshotSpec{spec})
		require.Error(t, err)
		require.Empty(t, leftOnZFS(t))
	})
	t.Run("restart", func(t *testing.T) {
		dir := realDataset(t, "tank/restart", "/data/restart")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f"), []byte("then"), 0o644))
		v, err := s.Volume(t.Context(), dir)
		require.NoError(t, err)
		spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v}
		made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
		require.NoError(t, err)
		require.ErrorIs(t, os.WriteFile(filepath.Join(made[0].Path, "f"), nil, 0o644), unix.EROFS)
		require.NoError(t, unix.Unmount(made[0].Path, 0))
		again := openZFS(t)
		b, err := os.ReadFile(filepath.Join(made[0].Path, "f"))
		require.NoError(t, err)
		require.Equal(t, "then", string(b))
		require.NoError(t, again.Delete(t.Context(), spec))
		require.Empty(t, leftOnZFS(t))
	})
}

// TestLivesInVM is TestLives on OpenZFS.
func TestLivesInVM(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("it is for the machine of TestVM")
	}
	if snaptest.Living() {
		snaptest.Live(t, openZFS(t))
	}
	private := "/data/private"
	require.NoError(t, os.MkdirAll(private, 0o700))
	share := realDataset(t, "tank/lives", filepath.Join(private, "vms"))
	snaptest.Many(t, share, 100)
	snaptest.Lives(t, snaptest.Life{
		Backend: func(t *testing.T) snaptest.Backend { return openZFS(t) }, Share: share, Left: leftOnZFS,
	})
}
