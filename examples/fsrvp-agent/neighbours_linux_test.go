package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// neighboursEnv is "inside" in the process that runs TestNeighbours in a mount namespace of its
// own, and "nested" in what that starts.
const neighboursEnv = "FSRVP_TEST_NEIGHBOURS"

// wholeEnv, if not empty, has TestNeighbours run all tests of the module, not those alone that make
// snapshots.
const wholeEnv = "FSRVP_TEST_NEIGHBOURS_ALL"

// TestNeighbours has an agent with persistent copies on btrfs, XFS and ext4, in its default
// directories. Next to it run, as root, the two commands with which the README begins, two more
// agents on the same shares, and one that sees the machine's file systems as a container does.
// Nothing of the first one's may be touched.
func TestNeighbours(t *testing.T) {
	if os.Getenv(neighboursEnv) == "nested" {
		t.Skip("this is a neighbour")
	}
	if !inMountNamespace(t, "go", "mkfs.btrfs", "mkfs.xfs", "mkfs.ext4", "mount", "unshare") {
		return
	}
	top, err := os.MkdirTemp("", "fsrvp-neighbours-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(top)) }) // after the file systems are unmounted
	require.NoError(t, os.Chmod(top, 0o755))
	shares := map[string]string{}
	for fsType, mib := range map[string]int64{"btrfs": 200, "xfs": 320, "ext4": 64} {
		point := mountImage(t, filepath.Join(top, fsType), fsType, mib)
		dir := filepath.Join(point, "data")
		if fsType == "btrfs" {
			output(t, "btrfs", "-q", "subvolume", "create", dir)
		} else {
			require.NoError(t, os.Mkdir(dir, 0o755))
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("of "+fsType), 0o644))
		shares[fsType] = dir
	}

	first := startNeighbour(t, top, "one", shares)
	keep := first.keep(t, fsrvp.ContextAppRollback)
	require.Len(t, keep.copies, len(shares))
	want := inventory(t, top, "one")
	require.GreaterOrEqual(t, len(want), 3*3, "three copies with a file, and three exposed shares")
	untouched := func(after string) {
		t.Helper()
		require.Equal(t, want, inventory(t, top, "one"), after)
	}

	// The first of the README's commands, for each file system, and the second.
	for fsType, dir := range shares {
		out := filepath.Join(top, fsType+".tar")
		output(t, "go", "run", "../fsrvp-backup", "-local", dir, "-out", out)
		require.FileExists(t, out)
		untouched("fsrvp-backup -local on " + fsType)
	}
	tests := [][]string{
		{"-run", "^(TestServe|TestLocal)$", "../fsrvp-agent", "../fsrvp-backup"},
		{"-run", "^(TestKill|TestStoreOnFullDisk)$", "../../fsrvp/agent", "-kills=3"},
		{"-run", "^(TestDefaultsOfAllMounts|TestHalfMade)$", "../../fsrvp/snapshot/internal/snapdir", "../../fsrvp/snapshot/reflink"},
	}
	if os.Getenv(wholeEnv) != "" {
		tests = [][]string{{"-timeout=2h", "../../..."}}
	}
	for _, args := range tests {
		output(t, "go", append([]string{"test", "-count=1", "-vet=off"}, args...)...)
		untouched("go test " + strings.Join(args, " "))
	}

	// Three agents on one machine: each comes, keeps copies, and goes; the others' stay.
	second, third := startNeighbour(t, top, "two", shares), startNeighbour(t, top, "three", shares)
	ofSecond, ofThird := second.keep(t, fsrvp.ContextNASRollback), third.keep(t, fsrvp.ContextNASRollback)
	third.keep(t, fsrvp.ContextBackup) // goes with its agent
	untouched("copies of two neighbours")
	wantSecond, wantThird := inventory(t, top, "two"), inventory(t, top, "three")
	for range 2 {
		third.stop(t)
		second.stop(t)
		first.stop(t)
		second, third, first = startNeighbour(t, top, "two", shares), startNeighbour(t, top, "three",
			shares), startNeighbour(t, top, "one", shares)
		untouched("restarts in another order")
		require.Equal(t, wantSecond, inventory(t, top, "two"))
	}
	require.NotEqual(t, wantThird, inventory(t, top, "three"), "its auto-release copies are gone")
	_, err = second.client.GetShareMapping(t.Context(), keep.copies["btrfs"], keep.set, `\\localhost\btrfs`, 1)
	require.Error(t, err, "an agent knows its own sets alone")
	require.Contains(t, second.log.String(), "copies of another agent's are left alone")

	container(t, top, shares)
	untouched("an agent in a container")
	require.Equal(t, wantSecond, inventory(t, top, "two"))

	// Each deletes its own, and then nothing is left.
	second.drop(t, ofSecond)
	untouched("a neighbour's deletion")
	third.drop(t, ofThird)
	untouched("a neighbour's deletion")
	first.drop(t, keep)
	for _, n := range []*neighbour{first, second, third} {
		n.stop(t)
	}
	for _, dir := range shares {
		entries, err := os.ReadDir(filepath.Join(filepath.Dir(dir), ".fsrvp"))
		require.NoError(t, err)
		require.Empty(t, entries)
	}
}

// inMountNamespace runs the test again in a child process with a mount namespace of its own, and
// returns false; in the child it returns true.
func inMountNamespace(t *testing.T, programs ...string) bool {
	t.Helper()
	if os.Getenv(neighboursEnv) == "inside" {
		return true
	}
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatalf("missing: "+format, args...)
		}
		t.Skipf("missing: "+format, args...)
	}
	if os.Geteuid() != 0 {
		missing("mounting needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing("%v", err)
		}
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		missing("no mount namespace: %v %s", err, out)
	}
	runtime.LockOSThread() // Pdeathsig is of the thread
	defer runtime.UnlockOSThread()
	args := []string{"-test.run=^" + t.Name() + "$", "-test.count=1"}
	if testing.Verbose() {
		args = append(args, "-test.v")
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), neighboursEnv+"=inside")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	return false
}

// mountImage makes a file system in a file and mounts it at point until the test ends.
func mountImage(t *testing.T, point, fsType string, mib int64) string {
	t.Helper()
	require.NoError(t, os.Mkdir(point, 0o755))
	image := point + ".image"
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, mib<<20))
	args := []string{"-q", image}
	if fsType == "xfs" {
		args = []string{"-q", "-m", "reflink=1", image}
	}
	output(t, "mkfs."+fsType, args...)
	output(t, "mount", "-o", "loop", image, point)
	t.Cleanup(func() { require.NoError(t, unix.Unmount(point, unix.MNT_DETACH)) })
	return point
}

// output runs a program, which has to succeed. What it starts of this test is nested.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), neighboursEnv+"=nested")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %q: %s", name, args, out)
	return string(out)
}

// inventory describes what the agent of that name holds on the three file systems, and the
// directory of its exposed shares. Snapshots of an agent are told by its exposed shares, which are
// links to them.
func inventory(t *testing.T, top, name string) map[string]string {
	t.Helper()
	have := map[string]string{}
	exposed := filepath.Join(top, name+"-exposed")
	entries, err := os.ReadDir(exposed)
	require.NoError(t, err)
	for _, e := range entries {
		path := filepath.Join(exposed, e.Name())
		target, err := os.Readlink(path)
		require.NoError(t, err)
		have[path] = "-> " + target
		if !filepath.IsAbs(target) {
			continue // the mark beside
		}
		require.NoError(t, filepath.WalkDir(target, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			have[path] = fmt.Sprintf("%v %d:%d %v, inode %d", info.Mode(), st.Uid, st.Gid, info.ModTime(), st.Ino)
			if d.Type().IsRegular() {
				data, err := os.ReadFile(path)
				have[path] += fmt.Sprintf(" %x", sha256.Sum256(data))
				return err
			}
			return nil
		}))
	}
	return have
}

// A neighbour is this program at work on the shares.
type neighbour struct {
	client *fsrvp.Client
	cancel context.CancelFunc
	ended  chan error
	log    *logBuffer
}

// A logBuffer is a buffer that may be read while it is written to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// neighbourArgs are the program's arguments, with a state and exposed shares of the neighbour's
// own.
func neighbourArgs(t *testing.T, top, name string, shares map[string]string) []string {
	t.Helper()
	users := filepath.Join(top, name+"-users")
	require.NoError(t, os.WriteFile(users, fmt.Appendf(nil, "TEST\\backup\t%x\n", ntlm.NTHash("secret")), 0o600))
	args := []string{
		"-listen", "tcp:127.0.0.1:0", "-expose", "directory:" + filepath.Join(top, name+"-exposed"), "-state", filepath.Join(top, name+"-state"),
		"-ntlm-users", users, "-allow", `TEST\backup`,
	}
	for share, dir := range shares {
		args = append(args, "-share", share+"="+dir)
	}
	return args
}

func startNeighbour(t *testing.T, top, name string, shares map[string]string) *neighbour {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &neighbour{cancel: cancel, ended: make(chan error, 1), log: new(logBuffer)}
	r, w := io.Pipe()
	args := neighbourArgs(t, top, name, shares)
	go func() {
		err := run(ctx, args, w, n.log)
		w.CloseWithError(io.ErrUnexpectedEOF)
		n.ended <- err
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		require.NoError(t, <-n.ended)
	}
	_, port, err := net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "listening tcp:")))
	require.NoError(t, err)
	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "TEST", User: "backup", Password: "secret"})
	require.NoError(t, err)
	n.client, err = fsrvp.Dial(t.Context(), "127.0.0.1", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: port},
		Auth: auth})
	require.NoError(t, err)
	return n
}

func (n *neighbour) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, n.client.Close())
	n.cancel()
	require.NoError(t, <-n.ended)
}

// kept is a set that has been recovered.
type kept struct {
	set    fsrvp.SetID
	copies map[string]fsrvp.CopyID // by share
}

// keep makes a set of all shares.
func (n *neighbour) keep(t *testing.T, value fsrvp.ContextValue) kept {
	t.Helper()
	ctx, c := t.Context(), n.client
	require.NoError(t, c.SetContext(ctx, value))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	k := kept{set, map[string]fsrvp.CopyID{}}
	for _, share := range []string{"btrfs", "xfs", "ext4"} {
		id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\localhost\`+share)
		require.NoError(t, err)
		k.copies[share] = id
	}
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	return k
}

// drop deletes a set.
func (n *neighbour) drop(t *testing.T, k kept) {
	t.Helper()
	for share, id := range k.copies {
		require.NoError(t, n.client.DeleteShareMapping(t.Context(), k.set, id, `\\localhost\`+share))
	}
}

// container runs the program in mount and host name spaces of its own, where the file systems are
// mounted a second time: in its default directories it finds the others' snapshots. It starts and
// ends, twice, and the second time its state is lost.
func container(t *testing.T, top string, shares map[string]string) {
	t.Helper()
	program := filepath.Join(top, "fsrvp-agent")
	output(t, "go", "build", "-o", program, ".")
	root := filepath.Join(top, "container")
	inside := map[string]string{}
	script := "set -e; hostname container; mkdir -p " + root
	for share, dir := range shares {
		point := filepath.Join(root, share)
		inside[share] = filepath.Join(point, "data")
		script += "; mkdir -p " + point + "; mount --bind " + filepath.Dir(dir) + " " + point
	}
	script += `; exec "$0" "$@"`
	for range 2 {
		args := append([]string{"-m", "-u", "--", "sh", "-c", script, program},
			neighbourArgs(t, top, "container", inside)...)
		cmd := exec.CommandContext(t.Context(), "unshare", args...)
		var log bytes.Buffer
		cmd.Stderr = &log
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = bufio.NewReader(out).ReadString('\n')
		stopErr := cmd.Process.Signal(syscall.SIGTERM)
		waitErr := cmd.Wait()
		require.NoError(t, err, log.String())
		require.NoError(t, stopErr)
		require.NoError(t, waitErr, log.String())
		require.NoError(t, os.RemoveAll(filepath.Join(top, "container-state")))
	}
}
