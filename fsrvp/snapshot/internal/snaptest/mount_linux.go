package snaptest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
)

const inNamespace = "FSRVP_SNAPTEST_NAMESPACE" // marks the process that runs the tests

// imageDir is where images of file systems are. BenchmarkTree has another place for large ones.
var imageDir = "/mnt"

// Main is a TestMain. For root it runs the tests in a child process with a mount namespace of its
// own: whatever a test mounts is gone with the process, also when that is killed. The snapshots
// that others have on this machine are out of its sight. No goroutine may be left at the end.
func Main(m *testing.M) {
	if os.Getenv(inNamespace) == "made" {
		// The images lie in memory. Nobody else sees the mount, so its place does not matter.
		err := unix.Mount("images", imageDir, "tmpfs", 0, "mode=0700,size=2g")
		if err := errors.Join(err, hide(), os.Setenv(inNamespace, "ready")); err != nil { // children share it
			fmt.Fprintln(os.Stderr, "tmpfs for images:", err)
			os.Exit(1)
		}
	}
	if os.Geteuid() != 0 || os.Getenv(inNamespace) != "" {
		goleak.VerifyTestMain(m)
		return
	}
	runtime.LockOSThread() // Pdeathsig is of the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inNamespace+"=made")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil { // a container without CAP_SYS_ADMIN
		fmt.Fprintln(os.Stderr, "no mount namespace:", err)
		goleak.VerifyTestMain(m)
	}
	os.Exit(0)
}

// hide covers the directories in which backends look for snapshots where none is configured, at the
// root of each mount.
func hide() error {
	mounts, err := mount.All()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		dir := filepath.Join(m.Point, ".fsrvp")
		if info, err := os.Lstat(dir); m.Remote() || err != nil || !info.IsDir() {
			continue
		}
		if err := unix.Mount("hidden", dir, "tmpfs", 0, "mode=0711"); err != nil {
			return &os.PathError{Op: "mount", Path: dir, Err: err}
		}
	}
	return nil
}

// Mount makes a file system in a file of that many MiB (btrfs: at least 114, xfs: 300), mounts it,
// and returns the mount point. It needs root and the namespace that Main makes.
func Mount(tb testing.TB, fsType string, mib int64, options ...string) string {
	tb.Helper()
	image := Image(tb, fsType, mib)
	point := filepath.Join(Dir(tb), "mnt")
	if err := os.Mkdir(point, 0o755); err != nil {
		tb.Fatal(err)
	}
	MountImage(tb, image, point, options...)
	return point
}

// Image makes a file system in a file.
func Image(tb testing.TB, fsType string, mib int64) string {
	tb.Helper()
	if os.Getenv(inNamespace) == "" {
		Missing(tb, "mounting %s needs root and a mount namespace", fsType)
	}
	mkfs := "mkfs." + fsType
	if _, err := exec.LookPath(mkfs); err != nil {
		Missing(tb, "%v", err)
	}
	f, err := os.CreateTemp(imageDir, fsType)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	image := f.Name()
	tb.Cleanup(func() { os.Remove(image) })
	if err := f.Truncate(mib << 20); err != nil {
		tb.Fatal(err)
	}
	args := []string{"-q", image}
	switch fsType {
	case "xfs":
		args = []string{"-q", "-m", "reflink=1", image}
	case "ext4":
		args = []string{"-q", "-b", "4096", image} // or extended attributes have less room
	}
	Run(tb, mkfs, args...)
	return image
}

// MountImage mounts what Image made, until the test ends.
func MountImage(tb testing.TB, image, point string, options ...string) {
	tb.Helper()
	args := []string{"-o", "loop"}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	Run(tb, "mount", append(args, image, point)...)
	tb.Cleanup(func() {
		if err := unix.Unmount(point, 0); err != nil {
			tb.Errorf("unmount %s: %v", point, err)
		}
	})
}

// Dir returns a temporary directory that any user may pass through, as tb.TempDir's is not always.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "snaptest"+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // Build makes a directory read-only
			if d != nil && d.IsDir() {
				os.Chmod(path, 0o700)
			}
			return nil
		})
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Run runs a command that has to succeed.
func Run(tb testing.TB, name string, args ...string) {
	tb.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
