//go:build linux

// Package peers gives tests a network of real peers on one machine: a Samba domain controller, two
// file servers that are members of its domain, a client's host and a host for a server of our own.
// Every host is a set of Linux namespaces; nothing outside of them changes.
//
// The network's configuration and the scripts that bring it up are in testdata/peers. The first
// test process that calls Start has it brought up, all others use the same one, and it goes when
// the last of them has ended, however that ended; under one "go test ./..." it stays until the go
// command ends.
//
// Tests that need it are for Linux, as root, with Samba installed. Where that is not so Start skips
// the test and says why; with FSRVP_PEERS=require in the environment it fails the test.
//
// With FSRVP_PEERS_ROOT=FOLDER the file servers and the client have the programs, and the /etc, of
// a folder that .ci/root has made, and so the Samba of another release of Debian;
// FSRVP_PEERS_ROOT_DC and the like say it of one host, with "" for the machine's own.
package peers

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Names of the domain.
const (
	Realm  = "FSRVP.TEST" // of Kerberos
	Domain = "FSRVP"      // of NTLM
	DNS    = "fsrvp.test"
)

// Variables of the environment. The first two are for whoever runs the tests; the others are for
// processes that Host.Run starts, and the third for testdata/peers/on too.
const (
	envMode    = "FSRVP_PEERS"         // "require": a missing peer fails the test
	envRoot    = "FSRVP_PEERS_ROOT"    // see rootOf; also with _ and a host's name
	envState   = "FSRVP_PEERS_STATE"   // directory of the network that is up
	envInside  = "FSRVP_PEERS_INSIDE"  // name of the host whose namespaces the process is in
	envClaimed = "FSRVP_PEERS_CLAIMED" // servers that the parent has claimed, space separated
)

// A User is an account of the domain.
type User struct {
	Name     string
	Password string
}

// Principal is the user's Kerberos principal, "backup@FSRVP.TEST".
func (u User) Principal() string { return u.Name + "@" + Realm }

// A Network is the network of peers. It is good for the whole of the test process, and for
// concurrent use.
type Network struct {
	// Scripts is testdata/peers of the module that is tested.
	Scripts string
	// State is the directory of everything that the network keeps.
	State string

	hosts map[string]*Host
	users map[string]User
}

// Start returns the network of peers, which it brings up unless it is up: that takes some ten
// seconds.
func Start(tb testing.TB) *Network {
	tb.Helper()
	n, err := network()
	if missing := new(missingError); errors.As(err, &missing) && os.Getenv(envMode) != "require" {
		tb.Skipf("needs the network of testdata/peers: %v", err)
	}
	if err != nil {
		tb.Fatalf("the network of testdata/peers: %v", err)
	}
	return n
}

// Host returns a host by its name: dc, fs, nas, cl or agent.
//
//	dc     the domain controller: KDC, LDAP, DNS
//	fs     a file server whose FSRVP is Samba's own rpcd_fsrvp
//	nas    a file server like it without rpcd_fsrvp: a test puts its own server behind this smbd
//	cl     a client's host: rpcclient, smbtorture, smbclient, or ours
//	agent  nothing but an address: a test's own server listens there; the accounts' SPNs are host/agent... and cifs/agent...
//
// The file servers share fsrvp_share and data, two subvolumes of one btrfs: /srv/btrfs/share and
// /srv/btrfs/data in their mount namespaces.
func (n *Network) Host(name string) *Host {
	h := n.hosts[name]
	if h == nil {
		panic("peers: no host " + name)
	}
	return h
}

// User returns an account by its name: Administrator, backup (a backup operator on both file
// servers), nobody1 (nothing but a user) or agent (whose service the host agent is).
func (n *Network) User(name string) User {
	u, ok := n.users[name]
	if !ok {
		panic("peers: no user " + name)
	}
	return u
}

// Keytab returns the path of the keytab of an account: that of a user, or of a host that offers
// services (agent, fs, nas), which has the keys of host/NAME, host/FQDN, cifs/NAME and cifs/FQDN.
func (n *Network) Keytab(name string) string {
	return filepath.Join(n.State, strings.ToLower(name)+".keytab")
}

// network is the network of this process, found or begun once.
var network = sync.OnceValues(func() (*Network, error) {
	scripts, err := findScripts()
	if err != nil {
		return nil, err
	}
	n := &Network{Scripts: scripts, State: os.Getenv(envState)}
	if err := n.readSettings(); err != nil {
		return nil, err
	}
	if os.Getenv(envInside) == "" {
		if err := n.checkMachine(); err != nil {
			return nil, err
		}
		if n.State, err = n.stateDir(); err != nil {
			return nil, err
		}
		if err := join(scripts, n.State); err != nil {
			return nil, err
		}
	}
	for _, h := range n.hosts {
		if h.pid, err = h.readPID(); err != nil {
			return nil, err
		}
		if err := h.check(); err != nil {
			return nil, err
		}
	}
	return n, nil
})

// findScripts looks for testdata/peers at the root of the module that is tested: "go test" runs a
// test in its package's folder.
func findScripts() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			s := filepath.Join(d, "testdata", "peers")
			_, err := os.Stat(s)
			return s, err
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("no go.mod in or above %s", dir)
		}
	}
}

// readSettings reads the hosts and users from the files that the scripts use.
func (n *Network) readSettings() error {
	n.hosts, n.users = map[string]*Host{}, map[string]User{}
	err := eachLine(filepath.Join(n.Scripts, "etc", "hosts"), 3, func(f []string) error {
		a, err := netip.ParseAddr(f[0])
		n.hosts[f[2]] = &Host{Name: f[2], FQDN: f[1], Addr: a, net: n}
		return err
	})
	if err != nil {
		return err
	}
	return eachLine(filepath.Join(n.Scripts, "users"), 2, func(f []string) error {
		n.users[f[0]] = User{Name: f[0], Password: f[1]}
		return nil
	})
}

// eachLine gives f every line of a file that has exactly n fields and is no comment.
func eachLine(path string, n int, f func(fields []string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) == n && !strings.HasPrefix(fields[0], "#") {
			if err := f(fields); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return s.Err()
}

// A missingError tells what the machine lacks.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

// rootOf returns the folder whose programs and /etc a host has, or "" for the machine's own. The
// scripts (host.sh) have the same rule.
func rootOf(host string) string {
	if root, ok := os.LookupEnv(envRoot + "_" + strings.ToUpper(host)); ok {
		return root
	}
	switch host {
	case "fs", "nas", "cl":
		return os.Getenv(envRoot)
	}
	return ""
}

// rootSettings returns the variables that rootOf looks at, for the scripts.
func rootSettings() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return !strings.HasPrefix(v, envRoot+"=") && !strings.HasPrefix(v, envRoot+"_")
	})
}

// Programs that the scripts and the tests need, where they run.
var (
	onMachine = []string{
		"bash", "pgrep", "flock", "setpriv", "setsid", "unshare", "nsenter", "ip", "mkfs.btrfs", "btrfs",
	}
	onDC = []string{"bash", "ip", "kinit", "samba", "samba-tool"}
	onFS = []string{
		"bash", "pgrep", "ip", "btrfs", "smbd", "winbindd", "wbinfo", "net", "sharesec", "smbcontrol",
	}
	onCL = []string{"bash", "ip", "kinit", "kvno", "rpcclient", "smbclient", "smbtorture"}
)

// checkMachine looks for what the scripts need, on the machine and in the roots of hosts.
func (n *Network) checkMachine() error {
	if os.Geteuid() != 0 {
		return &missingError{"not run as root"}
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	missing := lacking("", onMachine)
	for host, programs := range map[string][]string{"dc": onDC, "fs": onFS, "nas": onFS, "cl": onCL} {
		missing = append(missing, lacking(rootOf(host), programs)...)
	}
	if setup := filepath.Join(rootOf("dc"), "/usr/share/samba/setup"); !isDir(setup) {
		missing = append(missing, setup+" (Debian: samba-ad-provision)")
	}
	if missing != nil {
		slices.Sort(missing)
		return &missingError{"not installed: " + strings.Join(slices.Compact(missing), ", ")}
	}
	try := exec.Command("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "true")
	if out, err := try.CombinedOutput(); err != nil {
		return &missingError{"no namespaces: " + strings.TrimSpace(string(out))}
	}
	return nil
}

// lacking returns which of some programs a root has not, "" meaning the machine's.
func lacking(root string, programs []string) (missing []string) {
	for _, p := range programs {
		var err error
		if root == "" {
			_, err = exec.LookPath(p)
		} else if _, err = os.Lstat(filepath.Join(root, "usr/bin", p)); err != nil { // a link leads out of the root
			_, err = os.Lstat(filepath.Join(root, "usr/sbin", p))
		}
		if err != nil {
			missing = append(missing, filepath.Join(root, p))
		}
	}
	return missing
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// stateDir makes the directory of the network's state. Its name depends on the scripts and on the
// roots of hosts, so that a changed network is another one.
func (n *Network) stateDir() (string, error) {
	dir := os.Getenv(envState)
	if dir == "" {
		sum := sha256.New()
		for _, name := range slices.Sorted(maps.Keys(n.hosts)) {
			root := rootOf(name)
			fi, err := os.Stat(filepath.Join(root, "/usr"))
			if err != nil {
				return "", err
			}
			// A root that was made anew has another inode.
			fmt.Fprintf(sum, "%s %q %d ", name, root, fi.Sys().(*syscall.Stat_t).Ino)
		}
		err := filepath.WalkDir(n.Scripts, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			fmt.Fprintf(sum, "%s %d %s", d.Name(), len(b), b)
			return err
		})
		if err != nil {
			return "", err
		}
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("fsrvp-peers-%x", sum.Sum(nil)[:4]))
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return dir, ownedByRoot(dir)
}
