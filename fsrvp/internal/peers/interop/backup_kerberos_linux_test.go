package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// TestBackupLogOn has examples/fsrvp-backup log in, on the client's host, in the ways that hosts are
// set up: with krb5.conf in all its shapes, with caches of kinit, and with names and paths as people
// write them. MIT's kinit works with each of the files.
func TestBackupLogOn(t *testing.T) {
	n := peers.Start(t)
	fs, cl, dc := n.Host("fs"), n.Host("cl"), n.Host("dc")
	fs.Claim(t)
	require.NoError(t, os.WriteFile(filepath.Join(fs.Path("/srv/btrfs/data"), "f"), []byte("wanted"), 0o644))
	dir := t.TempDir()
	exe := filepath.Join(dir, "backup")
	built, err := exec.Command("go", "build", "-o", exe,
		"github.com/go-fsrvp/go-fsrvp/examples/fsrvp-backup").CombinedOutput()
	require.NoError(t, err, string(built))
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	u, admin := n.User("backup"), n.User("Administrator")
	realm := strings.ToUpper(strings.SplitN(u.Principal(), "@", 2)[1])
	kdc := "[realms]\n " + realm + " = {\n  kdc = " + dc.Addr.String() + "\n }\n"
	password := write("password", u.Password+"\n")
	resolver := write("resolv.conf", "nameserver "+dc.Addr.String()+"\n")
	defaults := "[libdefaults]\n default_realm = " + realm + "\n"
	write("inc/braces", "[libdefaults]\n dns_canonicalize_hostname = false\n"+strings.Replace(kdc, "= {", "=\n {", 1))
	write("inc/ignored.rpmnew", "this is no configuration")
	write("conf.d/libdefaults.conf", defaults)
	byName := strings.Replace(u.Principal(), "@"+realm, "", 1)
	// on runs a command on cl with the domain controller as its resolver.
	on := func(stdin string, env []string, name string, args ...string) (string, error) {
		t.Helper()
		all := append([]string{"-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolver, "env"}, env...)
		cmd := cl.Command(t.Context(), "unshare", append(append(all, name), args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	share := `\\` + fs.FQDN + `\data`
	backUp := func(t *testing.T, env []string, share string, args ...string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "o.tar")
		text, err := on("", env, exe, append([]string{"-share", share, "-out", out}, args...)...)
		require.NoError(t, err, text)
		files := tarFiles(t, out)
		require.Len(t, files, 1, "%v", files)
		for name, content := range files {
			require.Equal(t, "wanted", content, name)
		}
		requireWindowsRecords(t, out)
	}
	for name, conf := range map[string]string{
		"the realm alone": defaults,
		"includes": "include " + filepath.Join(dir, "inc/braces") + "\nincludedir " + filepath.Join(dir, "inc/") + "/\nincludedir " +
			filepath.Join(dir, "conf.d") + "\n[libdefaults]\n dns_lookup_kdc = no\n",
		"MIT's other words, from Windows, and a KDC that is gone": strings.ReplaceAll("\ufeff# comment\n"+defaults+
			"  rdns = false ; x\n  ticket_lifetime = 1d\n  renew_lifetime = 7d\n  forwardable = true\n"+
			"  default_ccache_name = KEYRING:persistent:%{uid}\n  spake_preauth_groups = edwards25519\n  udp_preference_limit = 0\n"+
			strings.Replace(kdc, "kdc =", "kdc = 127.0.0.1:1\n  kdc =", 1)+"[domain_realm]\n ."+strings.ToLower(realm)+" = "+realm+
			"\n[appdefaults]\n pam = {\n  debug = false\n }\n", "\n", "\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			path := write("krb5.conf", conf)
			env := []string{"KRB5_CONFIG=" + path}
			text, err := on(u.Password+"\n", env, "kinit", "-c", "FILE:"+filepath.Join(dir, "mit"), byName)
			require.NoError(t, err, "MIT: %s", text)
			backUp(t, env, share, "-user", byName, "-password-file", password)
		})
	}
	t.Run("no krb5.conf", func(t *testing.T) {
		backUp(t, []string{"KRB5_CONFIG=" + filepath.Join(dir, "none")}, share, "-user", u.Principal(), "-password-file", password)
	})
	conf := "KRB5_CONFIG=" + write("krb5.conf", defaults+kdc)
	t.Run("a cache", func(t *testing.T) {
		cache := "FILE:" + filepath.Join(dir, "cc")
		text, err := on(u.Password+"\n", []string{conf}, "kinit", "-l", "1h", "-r", "2h", "-c", cache, byName)
		require.NoError(t, err, text)
		backUp(t, []string{conf, "KRB5CCNAME=" + cache}, share, "-mechanism", "spnego")
	})
	t.Run("who may see the SACLs", func(t *testing.T) {
		for user, may := range map[peers.User]bool{u: false, admin: true} {
			tree, err := dialer(t, n, kerberos(t, n, user)).OpenTree(t.Context(), share)
			require.NoError(t, err)
			f, err := tree.Open(t.Context(), "f", &smb2.OpenOptions{Access: smb2.AccessSystemSecurity | smb2.AccessReadControl})
			if !may {
				require.Condition(t, func() bool {
					return errors.Is(err, smb2.StatusPrivilegeNotHeld) || errors.Is(err, smb2.StatusAccessDenied)
				}, "%v", err)
				continue
			}
			require.NoError(t, err)
			sd, err := f.Descriptor(t.Context(), smb2.SecurityOwner|smb2.SecurityGroup|smb2.SecurityDACL|smb2.SecuritySACL)
			require.NoError(t, err)
			require.GreaterOrEqual(t, len(sd), 20)
			require.NoError(t, f.Close(t.Context()))
		}
		backUp(t, []string{conf}, share, "-user", admin.Principal(), "-password-file", write("admin", admin.Password+"\n"))
	})
	label := strings.SplitN(fs.FQDN, ".", 2)[0]
	for _, share := range []string{`\\?\UNC\` + strings.ToUpper(fs.FQDN) + `.\DATA\`, fmt.Sprintf("//%s/data", label)} {
		t.Run(share, func(t *testing.T) {
			backUp(t, []string{conf}, share, "-user", u.Principal(), "-password-file", password)
		})
	}
	t.Run("an address, by NTLM", func(t *testing.T) {
		backUp(t, []string{conf}, fmt.Sprintf(`\\%s\data`, fs.Addr), "-user", `FSRVP\`+byName, "-password-file", password, "-mechanism", "ntlm")
	})
	requireNoCopies(t, fs)
}
