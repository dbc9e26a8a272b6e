//go:build linux

package peers

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Host is one host of the network.
type Host struct {
	Name string     // "fs"
	FQDN string     // "fs.fsrvp.test"
	Addr netip.Addr // 10.99.0.2

	net *Network
	pid int // of process 1 in its namespaces
}

func (h *Host) readPID() (int, error) {
	b, err := os.ReadFile(filepath.Join(h.net.State, h.Name, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// check fails unless process 1 of the host has files of its own, and those of the root that the
// environment demands. In a process that has the machine's files, what a test does to a host would
// be done to the machine.
func (h *Host) check() error {
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", h.pid))
	if err != nil {
		return err
	}
	own := filepath.Join(h.net.State, h.Name)
	if !bytes.Contains(mounts, []byte("upperdir="+own+"/etc,")) {
		return fmt.Errorf("/etc of host %s is not its own in %s", h.Name, h.net.State)
	}
	if len(rootSettings()) == 0 {
		return nil // whoever has brought up the network in envState knows why
	}
	root, err := os.ReadFile(own + "/root.name")
	if err != nil {
		return err
	}
	if got, want := strings.TrimSuffix(string(root), "\n"), rootOf(h.Name); got != want {
		return fmt.Errorf("host %s has the root %q, and %s says %q: bring the network up anew", h.Name, got, envRoot,
			want)
	}
	return nil
}

// Path is how this process reaches a file of the host: what the host has mounted is not mounted
// here. Do not follow absolute symbolic links in it.
func (h *Host) Path(p string) string {
	return filepath.Join("/proc", strconv.Itoa(h.pid), "root", p)
}

// Command is exec.CommandContext in all namespaces of the host, in its root directory. When ctx
// ends, the program and what it has started is killed.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(h.pid), "-m", "-u", "-i", "-n", "-p", "--", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	endGroup(cmd)
	return cmd
}

// endGroup makes the end of cmd's context that of its process group: nsenter does not hand signals
// on.
func endGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
}

// Output runs a command in the host and returns what it has written to standard output and standard
// error, together. The test fails unless the command succeeds.
func (h *Host) Output(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	return h.output(tb, "", name, args...)
}

func (h *Host) output(tb testing.TB, stdin, name string, args ...string) string {
	tb.Helper()
	// Not the test's own context, which has ended when its clean-ups run.
	cmd := h.Command(context.WithoutCancel(tb.Context()), name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	if err := cmd.Run(); err != nil {
		tb.Fatalf("%s on %s: %v\n%s", name, h.Name, err, &out)
	}
	return out.String()
}

// CCache gets a ticket-granting ticket for a user, and tickets for services ("host/fs.fsrvp.test"),
// and returns the path of the credential cache, a file, that holds them. With the services' tickets
// in it a Kerberos client needs no KDC, which this process could not reach.
func (n *Network) CCache(tb testing.TB, u User, services ...string) string {
	tb.Helper()
	cl, path := n.Host("cl"), filepath.Join(tb.TempDir(), "ccache")
	cl.output(tb, u.Password+"\n", "kinit", "-c", path, u.Principal())
	if len(services) > 0 {
		cl.Output(tb, "kvno", append([]string{"-c", path}, services...)...)
	}
	return path
}

// Claim waits until no other test uses the host and keeps it for this test; a file server is made
// to forget all that other tests have left (see Reset). Whoever uses FSRVP on a host, or what it
// keeps, has to claim it: tests of other packages run at the same time. Hosts are claimed in the
// order of their names, and once per test: a subtest uses Reset.
func (h *Host) Claim(tb testing.TB) {
	tb.Helper()
	if !claimedByParent(h.Name) {
		f, err := os.OpenFile(filepath.Join(h.net.State, h.Name, "claim.lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			tb.Fatal(err)
		}
		if err := flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			tb.Fatal(err)
		}
		noteClaim(tb, h.Name)
		tb.Cleanup(func() { f.Close() })
	}
	if h.Name == "fs" || h.Name == "nas" {
		h.Reset(tb, 0)
	}
}

// Reset removes shares that smb.conf has not got, all files, mounts and snapshots on the btrfs, and
// the state of rpcd_fsrvp, on fs or nas. From then on rpcd_fsrvp's Message Sequence Timer is
// sequenceTimeout, in whole seconds; zero means 180 s, the standard's.
func (h *Host) Reset(tb testing.TB, sequenceTimeout time.Duration) {
	tb.Helper()
	var args []string
	if sequenceTimeout > 0 {
		args = append(args, fmt.Sprint(int(sequenceTimeout/time.Second)))
	}
	h.Output(tb, filepath.Join(h.net.Scripts, "reset.sh"), args...)
}
