package samba

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// A talk is a conversation with a program on another host.
type talk struct {
	t     *testing.T
	stdin io.Writer
	lines *bufio.Scanner
}

func newTalk(t *testing.T, cmd *exec.Cmd) *talk {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait() // it may have lost its server
	})
	return &talk{t, stdin, bufio.NewScanner(stdout)}
}

// say gives a command, and waits for a line that the pattern matches.
func (c *talk) say(command, pattern string) {
	c.t.Helper()
	_, err := io.WriteString(c.stdin, command+"\n")
	require.NoError(c.t, err)
	c.hear(pattern)
}

func (c *talk) hear(pattern string) {
	c.t.Helper()
	re, answer := regexp.MustCompile(pattern), regexp.MustCompile(`NT_STATUS|Error|successful|^(opened|read|wrote)`)
	for c.lines.Scan() {
		if re.MatchString(c.lines.Text()) {
			return
		}
		require.NotRegexp(c.t, answer, c.lines.Text(), "instead of %s", pattern)
	}
	c.t.Fatalf("no %s: %v", pattern, c.lines.Err())
}

// smbclient runs commands on a share of fs, as a user, and returns what it says.
func smbclient(t *testing.T, n *peers.Network, user, share, commands string) string {
	t.Helper()
	u := n.User(user)
	cmd := n.Host("cl").Command(t.Context(), "smbclient", "//"+n.Host("fs").FQDN+"/"+share, "-U",
		u.Principal()+"%"+u.Password, "-c", commands)
	out, _ := cmd.CombinedOutput() // what it says tells more
	return string(out)
}

// openFile is a program that opens the file "file" of a share and keeps it open: "read", "write
// TEXT".
const openFile = `
import sys
from samba import NTSTATUSError
from samba.credentials import Credentials
from samba.samba3 import libsmb_samba_internal as libsmb, param
host, share, user, access = sys.argv[1:]
lp = param.get_context()
lp.load("/etc/samba/smb.conf")
creds = Credentials()
creds.guess(lp)
creds.parse_string(user)
def run(verb, f):
    try:
        print(verb, f(), flush=True)
    except NTSTATUSError as e:
        print("Error", hex(e.args[0] & 0xffffffff), e.args[1], flush=True)
conn = libsmb.Conn(host, share, lp=lp, creds=creds)
fnum = conn.create("file", DesiredAccess=int(access, 0), ShareAccess=7)
print("opened", flush=True)
for line in sys.stdin:
    verb, _, text = line.rstrip("\n").partition(" ")
    if verb == "read":
        run("read", lambda: conn.read(fnum, 0, 100))
    else:
        run("wrote", lambda: conn.write(fnum, text.encode(), 0))
`

// openFileOn opens the file of a share of fs, for reading or for writing too.
func openFileOn(t *testing.T, n *peers.Network, share string, writable bool) *talk {
	t.Helper()
	u, access := n.User("backup"), "0x120089" // FILE_GENERIC_READ
	if writable {
		access = "0x12019f" // and FILE_GENERIC_WRITE
	}
	return newTalk(t, n.Host("cl").Command(context.WithoutCancel(t.Context()), "/usr/bin/python3", "-c", openFile,
		n.Host("fs").FQDN, share, u.Principal()+"%"+u.Password, access))
}

// programsOn returns a directory of Samba's programs that run among the host's processes. The
// process that Host.Run starts does not: smbstatus would take every smbd for dead.
func programsOn(t *testing.T, h *peers.Host) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range append(slices.Collect(maps.Keys(fakes)), "/usr/bin/python3") {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		script := "#!/bin/sh\nexec " + strings.Join(h.Command(t.Context(), path).Args, " ") + ` "$@"` + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(script), 0o700))
	}
	return dir
}

// TestWithSmbd has clients on another host use what is exposed by the smbd of a member server.
func TestWithSmbd(t *testing.T) { inBothModes(t, testWithSmbd) }

func testWithSmbd(t *testing.T, with mode) {
	n := peers.Start(t)
	fs := n.Host("fs")
	fs.Claim(t)
	fs.Run(t, func(t *testing.T) {
		const copied = "/srv/btrfs/data/copy"
		require.NoError(t, os.Mkdir(copied, 0o755))
		require.NoError(t, os.WriteFile(copied+"/file", []byte("before"), 0o666))
		require.NoError(t, os.Chmod(copied, 0o777))
		require.NoError(t, os.Chmod(copied+"/file", 0o666))
		programs := programsOn(t, fs)
		s := with.new(t, Config{Programs: programs, Python: programs + "/python3"})
		share, err := s.Lookup(t.Context(), "DATA")
		require.NoError(t, err)
		require.Equal(t, backend.Share{Name: "data", Path: "/srv/btrfs/data"}, share)
		u := n.User("backup")
		// A client that is connected, and knows the server's shares, before anything is exposed.
		early := newTalk(t, n.Host("cl").Command(context.WithoutCancel(t.Context()), "stdbuf", "-oL", "smbclient",
			"//"+fs.FQDN+"/data", "-U", u.Principal()+"%"+u.Password))
		early.say("tcon data", "successful")

		t.Run("everyone", func(t *testing.T) { s.throughItsLife(t, n, early, exposureOf(share, copied)) })

		t.Run("odd name", func(t *testing.T) {
			name := "Bü cher & #1 " + strings.Repeat("ß", 60) + "$"
			fs.Output(t, "net", "conf", "addshare", name, "/srv/btrfs/data", "writeable=y")
			defer fs.Output(t, "net", "conf", "delshare", name)
			odd, err := s.Lookup(t.Context(), name)
			require.NoError(t, err)
			s.throughItsLife(t, n, early, exposureOf(odd, copied))
		})

		sid := strings.Fields(fs.Output(t, "wbinfo", "-n", `FSRVP\backup`))[0]
		fs.Output(t, "sharesec", "data", "--setsddl=D:(A;;0x001f01ff;;;"+sid+")")
		defer fs.Output(t, "sharesec", "data", "-R", "S-1-1-0:ALLOWED/0x0/FULL")
		t.Run("one user", func(t *testing.T) {
			e := exposureOf(share, copied)
			s.throughItsLife(t, n, early, e)
			require.NoError(t, s.Expose(t.Context(), e))
			require.Equal(t, fs.Output(t, "sharesec", "data", "--viewsddl"),
				fs.Output(t, "sharesec", e.Name, "--viewsddl"))
			require.Contains(t, smbclient(t, n, "nobody1", e.Name, "ls"), "NT_STATUS_ACCESS_DENIED")
			require.Contains(t, smbclient(t, n, "backup", e.Name, "ls"), "file ")
			require.NoError(t, s.Unexpose(t.Context(), backend.Owner{}, e.Name))
		})
		t.Run("sealed", func(t *testing.T) { s.sealed(t, n, exposureOf(share, copied), copied) })
	})
}

// throughItsLife exposes a copy, read-only, and removes it.
func (s *Shares) throughItsLife(t *testing.T, n *peers.Network, early *talk, e backend.Exposure) {
	early.say(`tcon "`+e.Name+`"`, "NT_STATUS_BAD_NETWORK_NAME")
	require.NoError(t, s.Expose(t.Context(), e))
	early.say(`tcon "`+e.Name+`"`, "successful")
	require.Contains(t, smbclient(t, n, "backup", e.Name, "get file /dev/stdout"), "before")
	require.Contains(t, smbclient(t, n, "backup", e.Name, "put /etc/hosts new"), "NT_STATUS_ACCESS_DENIED")
	require.Contains(t, smbclient(t, n, "backup", e.Name, "rm file"), "NT_STATUS_ACCESS_DENIED")
	require.Contains(t, listed(t, n), e.Name)
	open := openFileOn(t, n, e.Name, false)
	open.hear("opened")
	open.say("read", "read b'before'")
	users, err := s.tools.run(t.Context(), "smbstatus", "--shares")
	require.NoError(t, err)
	require.Len(t, usersOf(users, e.Name), 2, users)

	require.NoError(t, s.Unexpose(t.Context(), backend.Owner{}, e.Name))
	open.say("read", "Error 0xc00000c9") // STATUS_NETWORK_NAME_DELETED
	early.say("ls", "NT_STATUS_NETWORK_NAME_DELETED")
	early.say(`tcon "`+e.Name+`"`, "NT_STATUS_BAD_NETWORK_NAME")
	require.Contains(t, smbclient(t, n, "backup", e.Name, "ls"), "NT_STATUS_BAD_NETWORK_NAME")
	require.NotContains(t, listed(t, n), e.Name)
	early.say("tcon data", "successful")
}

// sealed exposes a copy that can be written to, until it is sealed.
func (s *Shares) sealed(t *testing.T, n *peers.Network, e backend.Exposure, copied string) {
	e.Writable = true
	require.NoError(t, s.Expose(t.Context(), e))
	open := openFileOn(t, n, e.Name, true)
	open.hear("opened")
	open.say("write recovered", "wrote")
	require.NoError(t, s.SealShare(t.Context(), e))
	open.say("write too late", "Error 0xc00000c9")
	content, err := os.ReadFile(copied + "/file")
	require.NoError(t, err)
	require.Equal(t, "recovered", string(content))
	openFileOn(t, n, e.Name, true).hear("NTSTATUSError.*0xc0000022|NTSTATUSError.*3221225506") // STATUS_ACCESS_DENIED
	again := openFileOn(t, n, e.Name, false)
	again.hear("opened")
	again.say("read", "read b'recovered'")
	require.NoError(t, s.Unexpose(t.Context(), backend.Owner{}, e.Name))
	again.say("read", "Error 0xc00000c9")
}

// listed is what a client finds on fs.
func listed(t *testing.T, n *peers.Network) string {
	t.Helper()
	u := n.User("backup")
	return n.Host("cl").Output(t, "smbclient", "-L", "//"+n.Host("fs").FQDN, "-U",
		fmt.Sprintf("%s%%%s", u.Principal(), u.Password))
}
