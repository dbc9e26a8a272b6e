//go:build linux

package peers

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Run runs f in a process that is in the host's namespaces, so that f reaches the KDC and any other
// host by name and finds the host's files: the test binary starts itself there, for this test
// alone. What the test does before Run, it does in both processes; it does nothing after it. A Run
// cannot be in another one.
//
// The process sees the machine's processes, not those of the host, and may use the network's other
// hosts as any test does.
func (h *Host) Run(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Getenv(envInside) == h.Name {
		f(t)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-t", strconv.Itoa(h.pid), "-m", "-u", "-i", "-n", "--",
		"unshare", "--mount", "--",
		"sh", "-c", `mount -t proc proc /proc && cd "$0" && exec "$@"`, dir,
		exe, "-test.run=" + exactly(t.Name()), "-test.v=true", "-test.count=1", "-test.paniconexit0",
	}
	if d, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(d).Round(time.Millisecond).String())
	}
	if cover := flag.Lookup("test.gocoverdir"); cover != nil && cover.Value.String() != "" {
		args = append(args, "-test.gocoverdir="+cover.Value.String()) // the parent's profile counts both
	}
	cmd := exec.CommandContext(t.Context(), "nsenter", args...)
	endGroup(cmd)
	cmd.Env = append(os.Environ(), envInside+"="+h.Name, envState+"="+h.net.State, envClaimed+"="+claimed())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	t.Logf("in %s:\n%s", h.Name, &out)
	switch verdict := verdictOf(t.Name(), out.String()); {
	case err != nil:
		t.Fatalf("in %s: %v", h.Name, err)
	case verdict == "SKIP":
		t.Skipf("skipped in %s", h.Name)
	case verdict != "PASS":
		t.Fatalf("in %s: the test has not run", h.Name)
	}
}

// exactly is the pattern for -test.run that matches one test alone.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// verdictOf finds what go test's verbose output says of a test.
func verdictOf(name, output string) string {
	m := regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): ` + regexp.QuoteMeta(name) + ` \(`).FindStringSubmatch(output)
	if m == nil {
		return ""
	}
	return m[1]
}

// claims are the servers that tests of this process have claimed.
var (
	claimsMu sync.Mutex
	claims   []string
)

func noteClaim(tb testing.TB, name string) {
	claimsMu.Lock()
	defer claimsMu.Unlock()
	claims = append(claims, name)
	tb.Cleanup(func() {
		claimsMu.Lock()
		defer claimsMu.Unlock()
		claims = slices.DeleteFunc(claims, func(c string) bool { return c == name })
	})
}

func claimed() string {
	claimsMu.Lock()
	defer claimsMu.Unlock()
	return fmt.Sprintf(" %s ", strings.Join(claims, " "))
}

func claimedByParent(name string) bool {
	return strings.Contains(os.Getenv(envClaimed), " "+name+" ")
}
