package krb5_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
)

// TestCachesOfKinit has MIT's kinit write caches of all the types, and uses and renews what is in
// them.
func TestCachesOfKinit(t *testing.T) {
	t.Parallel()
	k := startKDC(t)
	const name = "backup"
	k.admin(t,
		fmt.Sprintf("addprinc -pw %q -maxrenewlife 8h +requires_preauth %s", password, name),
		fmt.Sprintf("addprinc -pw %q other", password),
		"addprinc -randkey "+testService, "modprinc -maxrenewlife 8h krbtgt/EXAMPLE.TEST", "ktadd -k "+k.path("keytab")+" "+testService)
	acceptor, err := krb5.NewAcceptor(&krb5.AcceptorConfig{KeytabFile: k.path("keytab")})
	require.NoError(t, err)
	serves := func(t *testing.T, i *krb5.Initiator) {
		t.Helper()
		p := establish(t, i, acceptor, dcerpc.LevelPrivacy)
		require.Equal(t, name+"@EXAMPLE.TEST", p.acceptor.Identity().Principal)
	}
	// uses takes a cache through its life: absent, filled, changed, another's, gone.
	uses := func(t *testing.T, cache string) {
		t.Helper()
		here := *k
		here.env = append(append([]string{}, k.env...), "KRB5CCNAME="+cache)
		_, err := krb5.NewInitiatorFromCCache(cache, k.config())
		require.ErrorIs(t, err, krb5.ErrConfig)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, "kinit")
		require.ErrorContains(t, err, cache)
		here.run(t, password+"\n", "kinit", "-l", "20m", "-r", "4h", name)
		i, err := krb5.NewInitiatorFromCCache(cache, k.config())
		require.NoError(t, err)
		serves(t, i)
		here.run(t, "", "kvno", testService) // puts the service's own ticket there
		serves(t, i)
		home := i.Home()
		require.WithinDuration(t, time.Now().Add(20*time.Minute), home.EndTime, 3*time.Minute)
		require.WithinDuration(t, time.Now().Add(4*time.Hour), home.RenewTill, 3*time.Minute)
		require.NoError(t, i.RenewNow(t.Context()))
		renewed := i.Home()
		require.False(t, bytes.Equal(home.Raw, renewed.Raw))
		require.False(t, renewed.EndTime.Before(home.EndTime))
		require.Equal(t, home.RenewTill, renewed.RenewTill)
		serves(t, i)
		here.run(t, password+"\n", "kinit", "-l", "40m", name)
		serves(t, i)
		require.WithinDuration(t, time.Now().Add(40*time.Minute), i.Home().EndTime, 3*time.Minute)
		here.run(t, password+"\n", "kinit", "-c", cache, "other")
		serves(t, i) // by the ticket that it has in memory
		here.run(t, "", "kdestroy")
		serves(t, i)
		_, err = krb5.NewInitiatorFromCCache(cache, k.config())
		require.ErrorIs(t, err, fs.ErrNotExist)
	}
	t.Run("FILE", func(t *testing.T) { uses(t, "FILE:"+k.path("file.cc")) })
	t.Run("DIR", func(t *testing.T) {
		require.NoError(t, os.Mkdir(k.path("dir"), 0o700))
		uses(t, "DIR:"+k.path("dir"))
		uses(t, "DIR::"+k.path("dir/tktx"))
	})
	t.Run("KEYRING", func(t *testing.T) {
		runtime.LockOSThread() // whose keyring of the session is not the machine's; never unlocked, so it ends with the test
		if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) { // as in many containers
				_, err := krb5.NewInitiatorFromCCache("KEYRING:session:none", k.config())
				require.ErrorContains(t, err, "KRB5CCNAME=FILE:")
			}
			t.Skip("no keyrings here: ", err)
		}
		uses(t, "KEYRING:session:fsrvp")
		uses(t, "KEYRING:fsrvp2")
		uses(t, "KEYRING:session:fsrvp:one")
	})
	t.Run("KCM", func(t *testing.T) {
		socket := startKCM(t)
		conf, err := os.ReadFile(k.path("krb5.conf"))
		require.NoError(t, err)
		k.write(t, "krb5.conf", strings.Replace(string(conf), "[libdefaults]", "[libdefaults]\nkcm_socket = "+socket, 1))
		uses(t, "KCM:")
		uses(t, fmt.Sprintf("KCM:%d:x", os.Geteuid()))
	})
}

// startKCM starts sssd's cache manager in a mount namespace of its own, and returns the path of its
// socket.
func startKCM(t *testing.T) string {
	t.Helper()
	const kcm = "/usr/libexec/sssd/sssd_kcm"
	_, err := os.Stat(kcm)
	needPeer(t, "sssd's cache manager (Debian: sssd-kcm)", err)
	if os.Geteuid() != 0 {
		t.Skip("sssd's cache manager runs as root")
	}
	dir, err := os.MkdirTemp("", "kcm") // a short path
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	script := `set -e
mount --make-rprivate /
for d in /etc/sssd /var/lib/sss /var/log; do mount -t tmpfs none $d; done
mkdir -p /etc/sssd/conf.d /var/lib/sss/db /var/lib/sss/secrets /var/lib/sss/pipes/private /var/log/sssd
printf '[sssd]\nservices =\ndomains =\n[kcm]\nsocket_path = ` + socket + `\nccache_storage = memory\n' >/etc/sssd/sssd.conf
chmod 600 /etc/sssd/sssd.conf
/usr/sbin/sssd --genconf-section=kcm
exec ` + kcm + ` --uid 0 --gid 0 --logger=stderr`
	cmd := exec.Command("unshare", "-m", "sh", "-c", script)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for deadline := time.After(time.Minute); ; {
		if c, err := net.Dial("unix", socket); err == nil {
			require.NoError(t, c.Close())
			return socket
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("sssd_kcm: %v: %s", err, out.String())
		case <-deadline:
			t.Fatal("sssd_kcm does not listen")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
