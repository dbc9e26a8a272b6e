package dcerpc_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/epm"
)

// inNamespace is the environment variable that tells a test that it runs again, in a network of its
// own.
const inNamespace = "DCERPC_TEST_IN_NAMESPACE"

// isolated runs the test again in a network namespace, where the endpoint mapper's port is free,
// and reports whether this is that run. Without Samba's programs, or the right to make namespaces,
// it skips the test, or fails it where FSRVP_PEERS=require.
func isolated(t *testing.T, programs ...string) bool {
	missing := func(why string) {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	if os.Getenv(inNamespace) != "" {
		require.NoError(t, loopbackUp())
		return true
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing("no " + p + " here")
		}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if cmd.Process == nil {
		missing("cannot make a network namespace: " + err.Error())
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// loopbackUp sets the one interface of a new namespace up.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// versionHandler answers GetSupportedVersion of FSRVP with 1 to 1.
type versionHandler struct{}

func (versionHandler) ServeRPC(_ context.Context, call *dcerpc.Call) error {
	call.Response = append(call.Response, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
	return nil
}

// TestSamba lets Samba's clients find our server through our endpoint mapper, call it, and test
// mgmt.
func TestSamba(t *testing.T) {
	if !isolated(t, "rpcclient", "smbtorture") {
		return
	}
	const port = 5599
	srv := &dcerpc.Server{MinLevel: dcerpc.LevelInsecureNone, Logger: slog.New(slog.DiscardHandler)}
	srv.Handle(fsrvpInterface(), versionHandler{}, nil)
	srv.Handle(epm.Interface(), &epm.Mapper{Entries: []epm.Entry{
		{Interface: fsrvpInterface(), Port: port, Annotation: "first"},
		{Interface: echoInterface(), Port: port, Annotation: "second"},
	}}, nil)
	done := make(chan error, 2)
	for _, addr := range []string{"127.0.0.1:135", "127.0.0.1:5599"} {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		go func() { done <- srv.Serve(l) }()
	}
	defer func() {
		require.NoError(t, srv.Close())
		<-done
		<-done
	}()

	for _, test := range []struct {
		name    string
		program string
		args    []string
		want    string // in the output, as a regular expression
	}{
		{"rpcclient asks the mapper for FSRVP", "rpcclient", []string{"ncacn_ip_tcp:127.0.0.1", "-c", "fss_get_sup_version"},
			`supports FSRVP versions from 1 to 1`},
		{"rpcclient lists the mapper's entries", "rpcclient", []string{"ncacn_ip_tcp:127.0.0.1", "-c", "epmlookup"},
			`(?s)\[5599,abstract_syntax=a8e0653c-.*: first.*\[5599,abstract_syntax=0e0c0a08-.*: second.*no more entries`},
		{"smbtorture tests mgmt", "smbtorture", []string{"ncacn_ip_tcp:127.0.0.1[5599]", "rpc.mgmt"},
			`(?s)server refused to stop listening - WERR_ACCESS_DENIED.*'FileServerVssAgent'.*success: mgmt`},
		{"smbtorture tests mgmt in NDR64", "smbtorture", []string{"ncacn_ip_tcp:127.0.0.1[5599,ndr64]", "rpc.mgmt"},
			`(?s)'FileServerVssAgent'.*success: mgmt`},
		{"smbtorture tests mgmt, big-endian", "smbtorture", []string{"ncacn_ip_tcp:127.0.0.1[5599,bigendian]", "rpc.mgmt"},
			`(?s)'FileServerVssAgent'.*success: mgmt`},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, test.program, append([]string{"-U%"}, test.args...)...)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Regexp(t, regexp.MustCompile(test.want), string(out))
		})
	}
}
