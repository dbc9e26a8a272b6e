package interop

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/spnego"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	sharememory "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
	snapmemory "github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/memory"
)

// acceptors are all mechanisms, with the keys of a host and the hashes of some users.
func acceptors(tb testing.TB, n *peers.Network, host string, users ...peers.User) []dcerpc.Acceptor {
	tb.Helper()
	var lines strings.Builder
	for _, u := range users {
		hash := ntlm.NTHash(u.Password)
		// An administrator by its group, as a domain controller would say.
		fmt.Fprintf(&lines, "%s\\%s\t%s\tS-1-5-21-1-2-3-1000,%s\n", peers.Domain, u.Name, hex.EncodeToString(hash[:]),
			dcerpc.SIDBuiltinAdmins)
	}
	file := filepath.Join(tb.TempDir(), "hashes")
	require.NoError(tb, os.WriteFile(file, []byte(lines.String()), 0o600))
	accounts, err := ntlm.OpenHashFile(file)
	require.NoError(tb, err)
	ntlmAcceptor, err := ntlm.NewAcceptor(&ntlm.AcceptorConfig{Verifier: accounts, ComputerName: strings.ToUpper(host),
		DomainName: peers.Domain})
	require.NoError(tb, err)
	krb := kerberosAcceptor(tb, n, host)
	nego, err := spnego.NewAcceptor(krb.(spnego.AcceptorMechanism), ntlmAcceptor)
	require.NoError(tb, err)
	return []dcerpc.Acceptor{krb, ntlmAcceptor, nego}
}

// startAgent serves an agent with memory backends on TCP at the host agent, and returns the port.
func startAgent(t *testing.T, n *peers.Network, timers agent.Timers) string {
	t.Helper()
	host := n.Host("agent")
	snapshots := snapmemory.New("/volume")
	a, err := agent.New(t.Context(), &agent.Config{
		Snapshots: snapshots,
		Shares:    sharememory.New(snapshots, backend.Share{Name: "fsrvp_share", Path: "/volume/share"}),
		StorePath: filepath.Join(t.TempDir(), "agent.db"),
		Names:     []string{host.Name, host.FQDN, host.Addr.String()},
		Allow:     []string{"Administrator@" + peers.Realm, "backup@" + peers.Realm},
		Timers:    timers,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	srv := &dcerpc.Server{Acceptors: acceptors(t, n, "agent", n.User("Administrator"))}
	fsrvp.Register(srv, a, nil)
	l := listenOn(t, host, srv, ":0")
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// torturePatience is what smbtorture's seq_timeout waits for after each call; for the other tests a
// busy machine may be slower.
const torturePatience = 2 * time.Second

var tortureTimers = agent.Timers{
	SetContext: torturePatience, Start: torturePatience, Add: torturePatience, Prepare: torturePatience,
	Commit: torturePatience, Expose: torturePatience, GetShareMapping: torturePatience, Failure: torturePatience,
}

// listenOn serves srv at an address of a host until the test ends.
func listenOn(t *testing.T, h *peers.Host, srv *dcerpc.Server, address string) net.Listener {
	t.Helper()
	l, err := h.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-done, dcerpc.ErrServerClosed)
	})
	return l
}

// A torture is one run of tests of smbtorture's rpc.fsrvp.
type torture struct {
	binding string
	tests   []string
	out     []byte
	err     error
}

// run runs the tests, in one process.
func (to *torture) run(ctx context.Context, n *peers.Network) {
	admin := n.User("Administrator")
	account := peers.Domain + `\` + admin.Name
	if strings.Contains(to.binding, "krb5") {
		account = admin.Principal()
	}
	args := []string{to.binding, "-s", "/etc/samba/smb.conf",
		fmt.Sprintf("--option=fss:sequence timeout=%d", torturePatience/time.Second), "-U",
		account + "%" + admin.Password}
	for _, test := range to.tests {
		args = append(args, "rpc.fsrvp.fsrvp."+test)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	to.out, to.err = n.Host("cl").Command(ctx, "smbtorture", args...).CombinedOutput()
}

// check fails the test unless each of the tests has passed.
func (to *torture) check(t *testing.T) {
	t.Helper()
	require.NoError(t, to.err, "%s\n%s", to.binding, to.out)
	for _, test := range to.tests {
		require.Contains(t, string(to.out), "success: fsrvp."+test+"\n", "%s\n%s", to.binding, to.out)
	}
}

// TestSmbtortureOverTCP runs those of Samba's tests that need no SMB beside them. They wait for the
// timer most of their time, so all run at once, each with an agent of its own.
func TestSmbtortureOverTCP(t *testing.T) {
	n := networkOnce(t)
	n.Host("agent").Claim(t)
	var bindings []string
	for _, security := range []string{"krb5", "spnego", "ntlm"} {
		for _, level := range []string{"sign", "seal"} {
			for _, syntax := range []string{"", ",ndr64", ",bigendian"} {
				bindings = append(bindings, security+","+level+syntax)
			}
		}
	}
	for _, part := range []struct {
		name   string
		timers agent.Timers
		tests  []string
	}{
		{"calls", agent.Timers{}, []string{"set_ctx", "get_version", "is_path_supported", "create_simple", "bad_id", "sc_set_abort"}},
		{"timer", tortureTimers, []string{"seq_timeout"}},
	} {
		t.Run(part.name, func(t *testing.T) {
			for _, flags := range bindings {
				t.Run(flags, func(t *testing.T) {
					t.Parallel()
					to := &torture{tests: part.tests,
						binding: "ncacn_ip_tcp:agent.fsrvp.test[" + startAgent(t, n, part.timers) + "," + flags + "]"}
					to.run(t.Context(), n)
					to.check(t)
				})
			}
		})
	}
}

// TestRpcclientOverTCP has rpcclient ask our endpoint mapper for the port.
func TestRpcclientOverTCP(t *testing.T) {
	n := networkOnce(t)
	host := n.Host("agent")
	host.Claim(t)
	port, err := strconv.Atoi(startAgent(t, n, agent.Timers{}))
	require.NoError(t, err)
	mapper := &epm.Mapper{Entries: []epm.Entry{{
		Interface: fsrvp.Interface(), Port: uint16(port), Annotation: "File Server VSS Agent",
	}}}
	ports := &dcerpc.Server{}
	ports.Handle(epm.Interface(), mapper, &dcerpc.InterfaceOptions{MinLevel: dcerpc.LevelInsecureNone})
	listenOn(t, host, ports, fmt.Sprintf(":%d", epm.Port))
	admin := n.User("Administrator")
	for _, security := range []string{"sign", "seal", "spnego,sign", "spnego,seal", "krb5,sign", "krb5,seal"} {
		for login, args := range map[string][]string{
			"NTLM":     {"-U", peers.Domain + `\` + admin.Name + "%" + admin.Password},
			"Kerberos": {"--use-kerberos=required"}, // by the cache alone: where it has a user's name, 4.22 asks for the password
		} {
			if strings.Contains(security, "krb5") && login == "NTLM" || !strings.Contains(security, ",") &&
				login == "Kerberos" {
				continue // the binding's mechanism is the other one
			}
			t.Run(security+"/"+login, func(t *testing.T) {
				cmd := n.Host("cl").Command(t.Context(), "rpcclient",
					append(args, "ncacn_ip_tcp:"+host.FQDN+"["+security+"]",
						"-c", "fss_get_sup_version; fss_is_path_sup fsrvp_share")...)
				cmd.Env = append(cmd.Environ(), "KRB5CCNAME=FILE:"+n.CCache(t, admin))
				output, err := cmd.CombinedOutput()
				out := string(output)
				require.NoError(t, err, out)
				require.Contains(t, out, "supports FSRVP versions from 1 to 1")
				require.Contains(t, out,
					`UNC \\`+strings.ToUpper(host.FQDN)+`\fsrvp_share\ supports shadow copy requests`)
			})
		}
	}
}
