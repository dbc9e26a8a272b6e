package writer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	inNamespace = "FSRVP_WRITER_TEST_NAMESPACE"
	imageDir    = "/mnt" // in the namespace: a tmpfs
)

// enterNamespace runs the tests, for root, in a mount namespace of their own: what they mount is
// gone with them.
func enterNamespace() {
	if os.Geteuid() != 0 || os.Getenv(inNamespace) == "ready" {
		return
	}
	if os.Getenv(inNamespace) == "made" {
		err := unix.Mount("images", imageDir, "tmpfs", 0, "mode=0755,size=4g")
		if err := errors.Join(err, os.Setenv(inNamespace, "ready")); err != nil {
			fmt.Fprintln(os.Stderr, "tmpfs for images:", err)
			os.Exit(1)
		}
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
		return
	}
	os.Exit(0)
}

// mountImage makes a file system in a file in memory and mounts it, until the test ends; whatever
// froze it.
func mountImage(tb testing.TB, fsType string, mib int64) string {
	tb.Helper()
	if os.Getenv(inNamespace) != "ready" {
		missing(tb, "mounting %s needs root and a mount namespace", fsType)
	}
	if _, err := exec.LookPath("mkfs." + fsType); err != nil {
		missing(tb, "%v", err)
	}
	dir, err := os.MkdirTemp(imageDir, fsType)
	require.NoError(tb, err)
	require.NoError(tb, os.Chmod(dir, 0o755))
	image, point := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	require.NoError(tb, os.WriteFile(image, nil, 0o600))
	require.NoError(tb, os.Truncate(image, mib<<20))
	require.NoError(tb, os.Mkdir(point, 0o755))
	runCommand(tb, "mkfs."+fsType, "-q", image)
	runCommand(tb, "mount", "-o", "loop", image, point)
	tb.Cleanup(func() {
		thawByHand(point)
		if err := unix.Unmount(point, 0); err != nil {
			tb.Errorf("unmount %s: %v", point, err)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return point
}

func runCommand(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// thawByHand thaws a file system, and reports whether it was frozen.
func thawByHand(point string) bool {
	f, err := os.Open(point)
	if err != nil {
		return false
	}
	defer f.Close()
	thawed := false
	for unix.IoctlSetInt(int(f.Fd()), fiThaw, 0) == nil {
		thawed = true
	}
	return thawed
}

// freezeByHand is something else that freezes.
func freezeByHand(tb testing.TB, point string) {
	tb.Helper()
	f, err := os.Open(point)
	require.NoError(tb, err)
	defer f.Close()
	require.NoError(tb, unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0))
}

// A probe writes to a file system all the time.
type probe struct {
	point string
	began atomic.Int64 // of the last write that ended, in ns since base
	base  time.Time
	err   atomic.Value
}

func startProbe(tb testing.TB, point string) *probe {
	tb.Helper()
	f, err := os.CreateTemp(point, "probe")
	require.NoError(tb, err)
	p := &probe{point: point, base: time.Now()}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer f.Close()
		for {
			began := time.Since(p.base)
			if _, err := f.WriteAt([]byte(began.String()), 0); err != nil {
				p.err.Store(err)
				return
			}
			p.began.Store(int64(began))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	tb.Cleanup(func() {
		close(stop)
		thawByHand(point)
		wg.Wait()
		if err := p.err.Load(); err != nil {
			tb.Error(err)
		}
	})
	p.writable(tb)
	return p
}

// writable demands that a write that begins now ends, and returns how long it took.
func (p *probe) writable(tb testing.TB) time.Duration {
	tb.Helper()
	from := time.Since(p.base)
	for time.Duration(p.began.Load()) < from {
		if time.Since(p.base)-from > patience {
			require.FailNow(tb, "frozen", "a write to %s has not ended within %v", p.point, patience)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(p.base) - from
}

// blocked demands that a write that begins now does not end for a while.
func (p *probe) blocked(tb testing.TB) {
	tb.Helper()
	from := time.Since(p.base)
	for time.Since(p.base)-from < 50*time.Millisecond {
		require.Less(tb, time.Duration(p.began.Load()), from, "%s can be written", p.point)
		time.Sleep(time.Millisecond)
	}
}

// A process is programMain in a process of its own.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr *strings.Builder
}

func startProcess(tb testing.TB, k kinds) *process {
	tb.Helper()
	arg, err := json.Marshal(k)
	require.NoError(tb, err)
	p := &process{cmd: exec.Command("/proc/self/exe", asProgram, string(arg)), stderr: &strings.Builder{}}
	errs, err := p.cmd.StderrPipe() // the guard has it, too, and outlives the program
	require.NoError(tb, err)
	stdin, err := p.cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, p.cmd.Start())
	p.stdin, p.stdout = stdin, bufio.NewReader(stdout)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(p.stderr, errs)
	}()
	tb.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		stdin.Close()
		select {
		case <-done: // also the guard has ended
		case <-time.After(time.Minute):
			tb.Error("the guard has not ended")
		}
		_ = p.cmd.Wait()
		if tb.Failed() {
			tb.Log(p.stderr.String())
		}
	})
	return p
}

// says demands the next line of its output.
func (p *process) says(tb testing.TB, want string) {
	tb.Helper()
	line, err := p.stdout.ReadString('\n')
	require.NoError(tb, err, "while waiting for %q: %s", want, p.stderr)
	require.Contains(tb, line, want)
}

func (p *process) signal(tb testing.TB, sig os.Signal) {
	tb.Helper()
	require.NoError(tb, p.cmd.Process.Signal(sig))
}

// guards returns the guards that a process has started.
func (p *process) guards(tb testing.TB) []int {
	tb.Helper()
	var pids []int
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(tb, err)
	for _, file := range all {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		require.NoError(tb, err)
		var pid, parent int
		_, after, _ := strings.Cut(string(b), ") ")
		if _, err := fmt.Sscanf(after, "%1s %d", new(string), &parent); err != nil || parent != p.cmd.Process.Pid {
			continue
		}
		_, err = fmt.Sscanf(string(b), "%d", &pid)
		require.NoError(tb, err)
		pids = append(pids, pid)
	}
	return pids
}
