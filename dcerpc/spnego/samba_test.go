package spnego_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// smbtorture finds Samba's test program.
func smbtorture(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("smbtorture")
	if err != nil {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatal("no smbtorture: ", err)
		}
		t.Skip("no smbtorture of Samba: ", err)
	}
	return path
}

// getSupportedVersion is FSRVP's first operation (MS-FSRVP 3.1.4.1), which is all that the tests
// need of it.
type getSupportedVersion struct{}

func (getSupportedVersion) ServeRPC(_ context.Context, call *dcerpc.Call) error {
	if call.Opnum != 0 {
		return dcerpc.ErrOpnumRange
	}
	e := ndr.NewEncoder(call.Response, call.ResponseSyntax)
	e.Uint32(1) // MinVersion
	e.Uint32(1) // MaxVersion
	e.Uint32(0)
	var err error
	call.Response, err = e.Bytes()
	return err
}

// TestSambasClient has Samba's client log on with NTLM, bare and within SPNEGO, and call us.
func TestSambasClient(t *testing.T) {
	path := smbtorture(t)
	w := newWorld(t)
	private := t.TempDir()
	conf := filepath.Join(private, "smb.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `[global]
	workgroup = FSRVP
	netbios name = CL
	private dir = %[1]s
	lock directory = %[1]s
	state directory = %[1]s
	cache directory = %[1]s
	pid directory = %[1]s
	ncalrpc dir = %[1]s
`, private), 0o600))
	for _, auth := range []struct {
		name string
		want dcerpc.AuthType
	}{{"ntlm", dcerpc.AuthNTLM}, {"spnego", dcerpc.AuthSPNEGO}} {
		for _, level := range []struct {
			name string
			want dcerpc.AuthLevel
		}{{"packet", dcerpc.LevelPacket}, {"sign", dcerpc.LevelIntegrity}, {"seal", dcerpc.LevelPrivacy}} {
			for _, more := range []string{"", ",ndr64", ",bigendian"} {
				t.Run(auth.name+","+level.name+more, func(t *testing.T) {
					server := newTCPServer(t, w)
					fsrvp := dcerpc.SyntaxID{UUID: uuid.MustParse("a8e0653c-2744-4389-a61d-7373df8b2292"), Major: 1}
					server.Handle(fsrvp, getSupportedVersion{}, nil)
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					binding := fmt.Sprintf("ncacn_ip_tcp:127.0.0.1[%d,%s,%s%s]", server.port, auth.name, level.name,
						more)
					cmd := exec.CommandContext(ctx, path, "--configfile="+conf, "--use-kerberos=off",
						"-U", `FSRVP\`+user+"%"+password, binding, "rpc.fsrvp.fsrvp.get_version")
					cmd.WaitDelay = time.Second
					cmd.Env = append(os.Environ(), "HOME="+private)
					out, err := cmd.CombinedOutput()
					require.NoError(t, err, "%s", out)
					require.Contains(t, string(out), "success: fsrvp.get_version")
					require.Equal(t, []requestAuth{{auth.want, level.want}}, server.seen())
				})
			}
		}
	}
}
