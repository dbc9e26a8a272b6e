package interop

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// smbAs runs commands of smbclient on a share of nas, on the host cl, and returns what it says.
func smbAs(t *testing.T, n *peers.Network, u peers.User, share, commands string) string {
	t.Helper()
	out, _ := n.Host("cl").Command(t.Context(), "smbclient", "//"+n.Host("nas").FQDN+"/"+share, "-U",
		u.Principal()+"%"+u.Password, "-c", commands).CombinedOutput()
	return string(out)
}

// listedOn is what a client finds on a server: by smbclient, and by srvsvc's NetShareEnum.
func listedOn(t *testing.T, n *peers.Network, server *peers.Host) string {
	t.Helper()
	u := n.User("backup")
	login := []string{"-U", u.Principal() + "%" + u.Password}
	return n.Host("cl").Output(t, "smbclient", append(login, "-L", "//"+server.FQDN)...) + rpcclient(t, n, server,
		"netshareenum", login...)
}

// A connectedClient is an smbclient that stays connected while copies come and go.
type connectedClient struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func connect(t *testing.T, n *peers.Network, share string) *connectedClient {
	t.Helper()
	u := n.User("backup")
	cmd := n.Host("cl").Command(context.WithoutCancel(t.Context()), "stdbuf", "-oL", "smbclient",
		"//"+n.Host("nas").FQDN+"/"+share, "-U", u.Principal()+"%"+u.Password)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // it may have lost its share
	})
	return &connectedClient{t, in, bufio.NewScanner(out)}
}

// tcon connects to another share of the same session and returns what smbclient says.
func (c *connectedClient) tcon(share string) string {
	c.t.Helper()
	_, err := io.WriteString(c.in, `tcon "`+share+"\"\n")
	require.NoError(c.t, err)
	for c.out.Scan() {
		if line := c.out.Text(); strings.Contains(line, "tcon") || strings.Contains(line, "NT_STATUS") {
			return line
		}
	}
	c.t.Fatal("smbclient has ended")
	return ""
}

// parameters are those of a share, as testparm shows them.
func parameters(t *testing.T, nas *peers.Host, share string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.Lines(nas.Output(t, "sh", "-c", `testparm -s --section-name="$0" 2>/dev/null`, share)) {
		if key, value, ok := strings.Cut(line, "="); ok {
			all[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return all
}

// descriptor is the security descriptor of a share as srvsvc's NetShareGetInfo gives it, at level
// 502.
func descriptor(t *testing.T, n *peers.Network, share string) string {
	t.Helper()
	u := n.User("Administrator")
	out := rpcclient(t, n, n.Host("nas"), `netsharegetinfo "`+share+`" 502`, "-U", u.Principal()+"%"+u.Password)
	_, sd, ok := strings.Cut(out, "revision: ")
	require.True(t, ok, out)
	return sd
}

// rewrite writes a file, which may be another user's in a directory that is everybody's: to open
// such a one with O_CREAT is refused where fs.protected_regular is set.
func rewrite(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	}
	require.NoError(t, err)
	_, err = f.WriteString(content)
	require.NoError(t, errors.Join(err, f.Close()))
}

// TestExposedShares has copies of a share that has much that is its own, through their lives, made
// by the agent's helper and by programs.
func TestExposedShares(t *testing.T) {
	n := networkOnce(t)
	nas := n.Host("nas")
	nas.Claim(t)
	for mode, flags := range sambaModes {
		t.Run(mode, func(t *testing.T) {
			nas.Reset(t, 0)
			livesOfShares(t, n, nas, flags...)
		})
	}
}

func livesOfShares(t *testing.T, n *peers.Network, nas *peers.Host, flags ...string) {
	const base, dir = "B\u00fcro & Co", "/srv/btrfs/data/office"
	nas.Output(t, "mkdir", "-m", "1777", dir)
	addShare(t, nas, base, dir,
		"comment=Sch\u00f6ne Gr\u00fc\u00dfe", `valid users=FSRVP\backup, FSRVP\Administrator`, "write list=FSRVP\\backup", "hide files=/*.secret/", "veto files=/*.lost/",
		"vfs objects=acl_xattr shadow_copy2", "acl_xattr:ignore system acls=yes", "shadow:snapdir=/srv/btrfs/previous/x", "shadow:basedir="+dir,
		"create mask=0640", "case sensitive=yes", "map archive=no")
	backup := strings.Fields(nas.Output(t, "wbinfo", "-n", `FSRVP\backup`))[0]
	nas.Output(t, "sharesec", base, "--setsddl=D:(D;;0x00000002;;;BG)(A;;0x001f01ff;;;"+backup+")(A;;0x001200a9;;;WD)")
	startAgentBehindSamba(t, n, flags...)
	c := newBackupClient(t, n)
	connected := connect(t, n, base)
	require.Contains(t, connected.tcon(base), "successful")
	files := hostFiles{nas, n.User("Administrator").Password}
	user := n.User("backup")
	for _, tt := range []struct {
		context  fsrvp.ContextValue
		writable bool
	}{
		{fsrvp.ContextBackup, false},
		{fsrvp.ContextFileShareBackup | fsrvp.AttrAutoRecovery, true},
	} {
		t.Run(tt.context.String(), func(t *testing.T) {
			for _, name := range []string{"file", "FILE", "b.secret", "c.lost"} {
				rewrite(t, nas.Path(dir+"/"+name), "before")
				nas.Output(t, "chown", `FSRVP\backup`, dir+"/"+name)
			}
			acl := []string{"//" + nas.FQDN + "/" + base, "FILE", "-U", user.Principal() + "%" + user.Password}
			n.Host("cl").Output(t, "smbcacls", append(acl, "-S",
				"ACL:"+backup+":ALLOWED/0x0/FULL,ACL:S-1-5-32-545:ALLOWED/0x0/READ")...)

			m := c.expose(t, tt.context, base)
			// At once: nothing has come between the answer and these.
			require.Contains(t, connected.tcon(m.Exposed), "successful")
			open := c.open(t, m.Exposed)
			require.Contains(t, listedOn(t, n, nas), m.Exposed)

			rewrite(t, nas.Path(dir+"/file"), "after")
			content, err := fs.ReadFile(open, "file")
			require.NoError(t, err)
			require.Equal(t, "before", string(content))

			want, got := parameters(t, nas, base), parameters(t, nas, m.Exposed)
			require.Regexp(t, regexp.MustCompile("^Shadow copy of "+base+", taken "), got["comment"])
			require.Equal(t, "acl_xattr", got["vfs objects"])
			mark, err := backend.ParseMark(got["fsrvp:owner"])
			require.NoError(t, err)
			require.NotZero(t, mark)
			for _, own := range []string{"path", "comment", "read only", "vfs objects", "shadow:snapdir",
				"shadow:basedir", "write list"} {
				delete(want, own)
			}
			for _, own := range []string{"path", "comment", "read only", "vfs objects", "write list", "fsrvp:copy",
				"fsrvp:owner"} {
				delete(got, own)
			}
			require.Equal(t, want, got)
			_, writers := parameters(t, nas, m.Exposed)["write list"]
			require.Equal(t, tt.writable, writers)
			require.Equal(t, `FSRVP\backup FSRVP\Administrator`, got["valid users"])
			require.Equal(t, nas.Output(t, "sharesec", base, "--viewsddl"),
				nas.Output(t, "sharesec", m.Exposed, "--viewsddl"))
			require.Contains(t, descriptor(t, n, m.Exposed), backup)
			require.Equal(t, descriptor(t, n, base), descriptor(t, n, m.Exposed))

			ls := smbAs(t, n, user, m.Exposed, "ls")
			require.Regexp(t, `b\.secret +A?H`, ls)
			require.NotContains(t, ls, "c.lost")
			original := n.Host("cl").Output(t, "smbcacls", acl...)
			acl[0] = "//" + nas.FQDN + "/" + m.Exposed
			require.Contains(t, original, "BUILTIN\\Users:ALLOWED/0x0/READ")
			require.Equal(t, original, n.Host("cl").Output(t, "smbcacls", acl...))
			require.Contains(t, smbAs(t, n, n.User("nobody1"), m.Exposed, "ls"), "NT_STATUS_ACCESS_DENIED")

			put := func() string { return smbAs(t, n, user, m.Exposed, "put /etc/hosts file") }
			if tt.writable {
				require.NotContains(t, put(), "NT_STATUS")
				content, err := files.ReadFile(m.Exposed, "file")
				require.NoError(t, err)
				require.Contains(t, string(content), "localhost")
			} else {
				require.Contains(t, put(), "NT_STATUS_ACCESS_DENIED")
			}
			require.NoError(t, c.RecoveryCompleteShadowCopySet(t.Context(), m.SetID))
			require.Contains(t, put(), "NT_STATUS_ACCESS_DENIED")
			require.Contains(t, smbAs(t, n, user, m.Exposed, "rm file"), "NT_STATUS_ACCESS_DENIED")
			require.Equal(t, original, n.Host("cl").Output(t, "smbcacls", acl...))

			file, err := c.open(t, m.Exposed).Open("FILE")
			require.NoError(t, err)
			held := file.(io.ReaderAt) // which reads nothing ahead
			_, err = held.ReadAt(make([]byte, 3), 0)
			require.NoError(t, err)
			require.Contains(t, connected.tcon(m.Exposed), "successful")
			c.delete(t, m)
			_, err = held.ReadAt(make([]byte, 3), 3)
			require.ErrorContains(t, err, "NETWORK_NAME_DELETED")
			_, err = fs.ReadFile(open, "FILE")
			require.ErrorContains(t, err, "NETWORK_NAME_DELETED")
			require.Contains(t, connected.tcon(m.Exposed), "NT_STATUS_BAD_NETWORK_NAME")
			c.requireNoShare(t, n, m.Exposed)
			require.Contains(t, connected.tcon(base), "successful")
			requireNothingLeft(t, nas)
		})
	}
}

// TestNamesThatAreTooLong has shares whose copies could, and could not, have the name that the
// standard wants. One byte too much in a share's name and Samba's registry cannot be read any more.
func TestNamesThatAreTooLong(t *testing.T) {
	n := network(t)
	nas := n.Host("nas")
	nas.Claim(t)
	startAgentBehindSamba(t, n)
	c := newBackupClient(t, n)
	ctx := t.Context()
	for _, tt := range []struct {
		name    string
		exposed int // the length of the exposed name, in bytes
		status  fsrvp.Status
	}{
		{strings.Repeat("\u8a9e", 72), 255, 0},
		{strings.Repeat("\u8a9e", 72) + "x", 256, fsrvp.ErrNotSupported},
		{strings.Repeat("\u8a9e", 71) + "xy$", 255, 0},
		{strings.Repeat("\u8a9e", 71) + "xyz$", 256, fsrvp.ErrNotSupported},
		{strings.Repeat("x", 81), 120, fsrvp.ErrInvalidArg}, // no share's name has more (MS-DTYP 2.2.57)
	} {
		// named without a backslash at the end
		require.Len(t, fsrvp.ExposedNameNoDollar(tt.name, fsrvp.CopyID{}), tt.exposed)
		addShare(t, nas, tt.name, "/srv/btrfs/data")
		if tt.status == 0 {
			m := c.expose(t, fsrvp.ContextBackup, tt.name)
			require.Len(t, m.Exposed, tt.exposed)
			_, err := fs.Stat(c.open(t, m.Exposed), ".")
			require.NoError(t, err)
			c.delete(t, m)
			c.requireNoShare(t, n, m.Exposed)
			continue
		}
		before := nas.Output(t, "net", "conf", "list")
		_, err := c.IsPathSupported(ctx, c.unc(tt.name))
		require.ErrorIs(t, err, tt.status)
		require.NoError(t, c.SetContext(ctx, fsrvp.ContextBackup))
		set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
		require.NoError(t, err)
		_, err = c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, c.unc(tt.name))
		require.ErrorIs(t, err, tt.status)
		require.NoError(t, c.AbortShadowCopySet(ctx, set))
		require.Equal(t, before, nas.Output(t, "net", "conf", "list"))
	}
	requireNothingLeft(t, nas)
}

// TestPreviousVersions has smbtorture ask for the previous versions of a share of which no copy has
// been exposed yet, and counts them when there are some.
func TestPreviousVersions(t *testing.T) {
	n := networkOnce(t)
	nas := n.Host("nas")
	nas.Claim(t)
	for mode, flags := range sambaModes {
		t.Run(mode, func(t *testing.T) {
			nas.Reset(t, 0)
			previousVersions(t, n, nas, flags...)
		})
	}
}

func previousVersions(t *testing.T, n *peers.Network, nas *peers.Host, flags ...string) {
	startAgentBehindSamba(t, n, flags...)
	u := n.User("backup")
	out := n.Host("cl").Output(t, "smbtorture", "//"+nas.FQDN+"/fsrvp_share", "-s", "/etc/samba/smb.conf",
		"-U", peers.Domain+`\`+u.Name+"%"+u.Password, "smb2.ioctl.shadow_copy")
	require.Contains(t, out, "success: shadow_copy")

	require.NoError(t, os.WriteFile(nas.Path("/srv/btrfs/share/file"), []byte("before"), 0o644))
	snapshots := func() []string {
		return regexp.MustCompile(`@GMT-[0-9.-]+`).FindAllString(smbAs(t, n, u, "fsrvp_share", "allinfo file"), -1)
	}
	require.Empty(t, snapshots())
	c := newBackupClient(t, n)
	m := c.expose(t, fsrvp.ContextBackup, "fsrvp_share")
	require.NoError(t, os.WriteFile(nas.Path("/srv/btrfs/share/file"), []byte("after"), 0o644))
	listed := snapshots()
	require.Len(t, listed, 1)
	require.Contains(t, smbAs(t, n, u, "fsrvp_share", "get "+listed[0]+`\file /dev/stdout`), "before")
	c.delete(t, m)
	require.Empty(t, snapshots())
}
