package agent_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/copy"
)

// insideEnv marks a process that runs one test in a mount namespace of its own.
const insideEnv = "FSRVP_AGENT_TEST_NAMESPACE"

// images is where file systems in files are, on a tmpfs that only the process sees.
const images = "/mnt"

// missing skips the test for want of something, or fails it where FSRVP_PEERS demands that nothing
// be missing.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("FSRVP_PEERS") == "require" {
		t.Fatalf("missing: "+format, args...)
	}
	t.Skipf("missing: "+format, args...)
}

// inNamespace runs the test again in a child process with a mount namespace of its own, and returns
// false; in that child it returns true. Whatever the child mounts is gone with it, also when it is
// killed.
func inNamespace(t *testing.T, programs ...string) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		require.NoError(t, unix.Mount("images", images, "tmpfs", 0, "mode=0700,size=4g"))
		t.Cleanup(func() { require.NoError(t, unix.Unmount(images, 0)) })
		return true
	}
	if os.Geteuid() != 0 {
		missing(t, "mounting needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, "%v", err)
		}
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		missing(t, "no mount namespace: %v %s", err, out)
	}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	args := []string{"-test.run=^" + t.Name() + "$", "-test.count=1", fmt.Sprintf("-kills=%d", *kills)}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	return false
}

// mount makes a file system in a file of that many MiB and mounts it until the test ends.
func mount(t testing.TB, fsType string, mib int64) string {
	t.Helper()
	dir, err := os.MkdirTemp(images, fsType+"-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	image, point := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	require.NoError(t, os.Mkdir(point, 0o755))
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(mib<<20))
	require.NoError(t, f.Close())
	args := []string{"-q", image}
	if fsType == "xfs" {
		args = []string{"-q", "-m", "reflink=1", image}
	}
	command(t, "mkfs."+fsType, args...)
	command(t, "mount", "-o", "loop", image, point)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(point, 0)) })
	return point
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
}

// TestNotMounted has snapshots on a file system of their own, which is not mounted when the agent
// starts: none is forgotten. One that is gone from a file system that is there is.
func TestNotMounted(t *testing.T) {
	if !inNamespace(t, "mkfs.ext4", "mount") {
		return
	}
	point := mount(t, "ext4", 32)
	require.NoError(t, os.Chmod(point, 0o755))
	r := newTree(t)
	for name, dir := range map[string]string{"root": point, "below": filepath.Join(point, "snapshots")} {
		t.Run(name, func(t *testing.T) {
			s, err := copy.New(&copy.Config{Dirs: []string{dir}, Volumes: []string{filepath.Dir(r.share)}})
			require.NoError(t, err)
			r.snapshots, r.cfg.Snapshots = dir, s
			a := r.start(t)
			set := prepared(t, client1, a)
			require.NoError(t, a.CommitShadowCopySet(client1, set, time.Minute))
			require.NoError(t, a.ExposeShadowCopySet(client1, set, time.Minute))
			require.NoError(t, a.RecoveryCompleteShadowCopySet(client1, set))
			table := a.Table()
			require.Equal(t, point, table[0].Copies[0].Home.Root)
			require.NoError(t, a.Close())
			disk := filepath.Join(r.exposed, table[0].Copies[0].Shares[0].Name, "disk")
			require.FileExists(t, disk)

			require.NoError(t, unix.Unmount(point, 0))
			for range 2 {
				a = r.start(t)
				require.Equal(t, table, a.Table())
				require.NoError(t, a.Close())
			}
			require.NoFileExists(t, disk)
			command(t, "mount", "-o", "loop", filepath.Join(filepath.Dir(point), "image"), point)
			a = r.start(t)
			require.Equal(t, table, a.Table())
			require.FileExists(t, disk)
			require.NoError(t, a.Close())

			made, err := filepath.Glob(filepath.Join(dir, ".gated-*"))
			require.NoError(t, err)
			require.Len(t, made, 1)
			require.NoError(t, os.RemoveAll(made[0]))
			a = r.start(t)
			require.Empty(t, a.Table())
			require.NoError(t, a.Close())
		})
	}
}
