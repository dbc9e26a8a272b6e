//go:build linux

package peers

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRPCClient has Samba's client drive Samba's server through a whole life cycle.
func TestRPCClient(t *testing.T) {
	n := Start(t)
	fs := n.Host("fs")
	fs.Claim(t)
	require.NoError(t, os.WriteFile(fs.Path("/srv/btrfs/share/file"), []byte("before"), 0o644))

	u := n.User("backup")
	cmd := n.Host("cl").Command(t.Context(), "rpcclient", fs.FQDN, "--use-kerberos=required", "-U",
		u.Principal()+"%"+u.Password)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	// say gives a command and returns what the pattern's groups match in its answer.
	say := func(command, pattern string) []string {
		t.Helper()
		_, err := io.WriteString(stdin, command+"\n")
		require.NoError(t, err)
		re, end := regexp.MustCompile(pattern), regexp.MustCompile(`result was|failed|NT_STATUS`)
		for lines.Scan() {
			if m := re.FindStringSubmatch(lines.Text()); m != nil {
				return m[1:]
			}
			require.NotRegexp(t, end, lines.Text(), command)
		}
		t.Fatalf("%s: rpcclient has ended: %v", command, lines.Err())
		return nil
	}

	say("fss_get_sup_version", `supports FSRVP versions from 1 to 1`)
	say("fss_is_path_sup fsrvp_share", `supports shadow copy requests`)
	ids := say("fss_create_expose backup ro fsrvp_share", `([0-9a-f-]{36})\(([0-9a-f-]{36})\).*exposed as`)
	set, shadow := ids[0], ids[1]
	say(fmt.Sprintf("fss_get_mapping fsrvp_share %s %s", set, shadow), `is a shadow-copy of`)
	require.Contains(t, fs.Output(t, "net", "conf", "listshares"), "fsrvp_share@{"+shadow+"}")
	say("fss_recovery_complete "+set, `recovery complete`)
	say(fmt.Sprintf("fss_delete fsrvp_share %s %s", set, shadow), `shadow-copy deleted`)
	require.NoError(t, stdin.Close())
	_, err = io.Copy(io.Discard, stdout)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	require.NotContains(t, fs.Output(t, "net", "conf", "listshares"), "@{")
}

// TestTorture runs one test of smbtorture's rpc.fsrvp.
func TestTorture(t *testing.T) {
	n := Start(t)
	fs, u := n.Host("fs"), n.User("Administrator")
	fs.Claim(t)
	out := n.Host("cl").Output(t, "smbtorture", "ncacn_np:"+fs.FQDN+"[smb2,sign]", "-s", "/etc/samba/smb.conf",
		"-U", Domain+`\`+u.Name+"%"+u.Password, "rpc.fsrvp.fsrvp.create_simple")
	require.Contains(t, out, "success: fsrvp.create_simple")
}

// TestReset leaves what an interrupted test leaves, and finds nothing of it afterwards.
func TestReset(t *testing.T) {
	n := Start(t)
	fs, u := n.Host("fs"), n.User("backup")
	fs.Claim(t)
	n.Host("cl").Output(t, "rpcclient", fs.FQDN, "-U", u.Principal()+"%"+u.Password, "-c",
		"fss_create_expose backup rw data")
	require.Contains(t, fs.Output(t, "net", "conf", "listshares"), "data@{")
	snapshots, err := filepath.Glob(fs.Path("/srv/btrfs/data/@GMT-*"))
	require.NoError(t, err)
	require.Len(t, snapshots, 1)
	fs.Output(t, "mkdir", "-p", "/srv/btrfs/more/disk", "/srv/plain")
	fs.Output(t, "mount", "-t", "tmpfs", "disk", "/srv/btrfs/more/disk")
	fs.Output(t, "net", "conf", "addshare", "more", "/srv/btrfs/more")

	fs.Reset(t, 0)
	require.Empty(t, fs.Output(t, "net", "conf", "listshares"))
	for dir, want := range map[string][]string{"/srv": {"btrfs"}, "/srv/btrfs": {"data", "share"},
		"/srv/btrfs/data": nil} {
		left, err := os.ReadDir(fs.Path(dir))
		require.NoError(t, err)
		var names []string
		for _, entry := range left {
			names = append(names, entry.Name())
		}
		require.Equal(t, want, names, dir)
	}
	out := n.Host("cl").Output(t, "rpcclient", fs.FQDN, "-U", u.Principal()+"%"+u.Password, "-c",
		"fss_create_expose backup rw data")
	require.Contains(t, out, "exposed as")
}

// TestSockets has this process talk to itself from cl to agent.
func TestSockets(t *testing.T) {
	n := Start(t)
	agent, cl := n.Host("agent"), n.Host("cl")
	l, err := agent.Listen(t.Context(), "tcp", agent.Addr.String()+":0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	for _, name := range []string{"agent", "agent.fsrvp.test", "10.99.0.4"} {
		c, err := cl.Dial(t.Context(), "tcp", name+":"+port)
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		from, _, err := net.SplitHostPort(s.RemoteAddr().String())
		require.NoError(t, err)
		require.Equal(t, cl.Addr.String(), from)
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
	}
	_, err = cl.Dial(t.Context(), "tcp", "elsewhere:"+port)
	require.ErrorContains(t, err, "no such host")
	_, err = new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	require.Error(t, err, "the machine itself reaches the network")
}

// TestRun resolves a name and reaches the KDC, as a process of the host does.
func TestRun(t *testing.T) {
	n := Start(t)
	for _, name := range []string{"cl", "nas"} {
		t.Run(name, func(t *testing.T) {
			n.Host(name).Run(t, func(t *testing.T) {
				own, err := os.Hostname()
				require.NoError(t, err)
				require.Equal(t, name, own)
				a, err := net.LookupHost("dc.fsrvp.test")
				require.NoError(t, err)
				require.Equal(t, []string{"10.99.0.1"}, a)
				c, err := net.Dial("tcp", "dc.fsrvp.test:88")
				require.NoError(t, err)
				c.Close()
				require.Equal(t, "fs\n", n.Host("fs").Output(t, "hostname"))
				require.FileExists(t, n.Keytab("agent"))
			})
		})
	}
}

// TestRoot finds on every host the Samba that FSRVP_PEERS_ROOT says, or the machine's.
func TestRoot(t *testing.T) {
	n := Start(t)
	for _, name := range []string{"dc", "fs", "nas", "cl"} {
		version := exec.Command("smbclient", "--version")
		if root := rootOf(name); root != "" {
			version = exec.Command("chroot", root, "smbclient", "--version")
		}
		want, err := version.Output()
		require.NoError(t, err)
		got := n.Host(name).Output(t, "smbclient", "--version")
		require.Equal(t, string(want), got, name)
		t.Logf("%s: %s", name, got)
	}
}

func TestRootOf(t *testing.T) {
	for _, name := range []string{"", "_DC", "_FS", "_NAS", "_CL"} {
		t.Setenv(envRoot+name, "")
		require.NoError(t, os.Unsetenv(envRoot+name)) // until the test ends
	}
	require.Empty(t, rootOf("fs"))
	require.Empty(t, rootSettings())
	t.Setenv(envRoot, "/a")
	for host, want := range map[string]string{"fs": "/a", "nas": "/a", "cl": "/a", "dc": "", "agent": ""} {
		require.Equal(t, want, rootOf(host), host)
	}
	t.Setenv(envRoot+"_DC", "/b")
	t.Setenv(envRoot+"_NAS", "")
	require.Equal(t, "/b", rootOf("dc"))
	require.Empty(t, rootOf("nas"))
	require.Equal(t, "/a", rootOf("fs"))
	require.ElementsMatch(t, []string{envRoot + "=/a", envRoot + "_DC=/b", envRoot + "_NAS="}, rootSettings())
}

// TestNotOwn has a process that has the machine's files stand for a host: nobody may enter it.
func TestNotOwn(t *testing.T) {
	n := Start(t)
	state := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(state, "nas"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(state, "nas", "pid"), []byte(strconv.Itoa(os.Getpid())), 0o600))
	on := filepath.Join(n.Scripts, "on")
	out, err := exec.Command(on, "-s", state, "nas", "touch", filepath.Join(state, "touched")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "/etc of host nas is not its own")
	require.NoFileExists(t, filepath.Join(state, "touched"))
	h := &Host{Name: "nas", net: &Network{State: state}, pid: os.Getpid()}
	require.ErrorContains(t, h.check(), "/etc of host nas is not its own")

	out, err = exec.Command(on, "-s", n.State, "nas", "hostname").Output()
	require.NoError(t, err)
	require.Equal(t, "nas\n", string(out))
}

// TestNAS finds srvsvc, and nobody who answers for FSRVP.
func TestNAS(t *testing.T) {
	n := Start(t)
	nas, u := n.Host("nas"), n.User("backup")
	nas.Claim(t)
	require.Contains(t, n.Host("cl").Output(t, "rpcclient", nas.FQDN, "-U", u.Principal()+"%"+u.Password, "-c",
		"netshareenum"), "fsrvp_share")
	cmd := n.Host("cl").Command(t.Context(), "rpcclient", nas.FQDN, "-U", u.Principal()+"%"+u.Password, "-c",
		"fss_get_sup_version")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "NT_STATUS_OBJECT_NAME_NOT_FOUND")
}

func TestCCache(t *testing.T) {
	n := Start(t)
	path := n.CCache(t, n.User("backup"), "host/agent.fsrvp.test", "cifs/fs.fsrvp.test")
	out := n.Host("cl").Output(t, "klist", "-c", path)
	require.Contains(t, out, "Default principal: backup@FSRVP.TEST")
	require.Contains(t, out, "host/agent.fsrvp.test@FSRVP.TEST")
	require.Contains(t, out, "cifs/fs.fsrvp.test@FSRVP.TEST")
}

func TestVerdict(t *testing.T) {
	out := "=== RUN   TestA\n=== RUN   TestA/b\n    x.go:1: --- FAIL: TestA/bc\n--- PASS: TestA (0.01s)\n    --- SKIP: TestA/b (0.00s)\nPASS\n"
	require.Equal(t, "PASS", verdictOf("TestA", out))
	require.Equal(t, "SKIP", verdictOf("TestA/b", out))
	require.Empty(t, verdictOf("TestA/bc", out))
	require.Equal(t, `^TestA$/^b\(1\)$`, exactly("TestA/b(1)"))
}
