package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// inapplicable are the only cases that the file servers have not got what it takes for.
var inapplicable = map[string]string{
	"Prepare/TimeOut":           "nothing holds Prepare up: see delayOf",
	"IsPathSupported/Elsewhere": "no share of another machine: that takes a cluster",
	"FileServer/BVT_VSSOperateShadowCopySet_ClusterSharePath_NonOwnerNode": "no share of another machine: that takes a cluster",
}

// A conformanceServer is a file server of the network as a target of the conformance suite, over
// SMB.
type conformanceServer struct {
	n    *peers.Network
	host *peers.Host
	// wrap, where there is one, is put around each Service.
	wrap func(fsrvp.Service) fsrvp.Service

	backup, nobody dcerpc.Initiator
	// One SMB session for each address and account, whatever becomes of the pipes.
	here, elsewhere, asNobody *smbpipe.Dialer
	delay                     delay
}

// newConformanceServer gets ready to call a file server, which the test has claimed.
func newConformanceServer(tb testing.TB, n *peers.Network, host *peers.Host) *conformanceServer {
	tb.Helper()
	s := &conformanceServer{n: n, host: host, backup: kerberos(tb, n, n.User("backup")),
		nobody: kerberos(tb, n, n.User("nobody1"))}
	s.here, s.elsewhere, s.asNobody = dialer(tb, n, s.backup), dialer(tb, n, s.backup), dialer(tb, n, s.nobody)
	s.elsewhere.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.Host("agent").Dial(ctx, network, address)
	}
	tb.Cleanup(s.delay.end)
	return s
}

// line is a caller of the server, which opens a pipe when it calls.
func (s *conformanceServer) line(cfg *fsrvp.Config) fsrvp.Service {
	return fsrvptest.NewLine(func(ctx context.Context) (fsrvp.Service, error) {
		c, err := fsrvp.Dial(ctx, s.host.FQDN, cfg)
		if err != nil || s.wrap == nil {
			return c, err
		}
		return struct {
			fsrvp.Service
			io.Closer
		}{s.wrap(c), c}, nil
	})
}

// target is what both file servers offer.
func (s *conformanceServer) target(tb testing.TB, share string) fsrvptest.Target {
	tb.Helper()
	line := func(d *smbpipe.Dialer, auth dcerpc.Initiator, level dcerpc.AuthLevel) fsrvp.Service {
		return s.line(&fsrvp.Config{Transport: d, Auth: auth, Level: level})
	}
	t := fsrvptest.Target{
		Client: line(s.here, s.backup, 0), SameHost: line(s.here, s.backup, 0), Other: line(s.elsewhere, s.backup, 0),
		Unprivileged: line(s.asNobody, s.nobody, 0),
		Levels: map[dcerpc.AuthLevel]fsrvp.Service{
			dcerpc.LevelInsecureNone:    line(s.here, nil, dcerpc.LevelInsecureNone),
			dcerpc.LevelInsecureConnect: line(s.here, s.backup, dcerpc.LevelInsecureConnect),
			dcerpc.LevelInsecureCall:    line(s.here, s.backup, dcerpc.LevelInsecureCall),
			dcerpc.LevelPacket:          line(s.here, s.backup, dcerpc.LevelPacket),
		},
	}
	t.Share = s.unc(share)
	t.Aliases = []string{
		`\\` + strings.ToUpper(s.host.Name) + `\` + strings.ToUpper(share),
		`\\` + s.host.Addr.String() + `\` + share + `\`,
	}
	t.Files = hostFiles{s.host, s.n.User("Administrator").Password}
	t.Rights = hostRights{s.host}
	t.PreviousVersions, t.Held, t.Delay = s.previousVersions, s.held, s.delayOf
	t.Inapplicable = inapplicable
	return t
}

// byAddress are UNC paths of a share as those of a cluster's roles would be: by another name than
// the server's own.
func (s *conformanceServer) byAddress(share string) (clustered, scaleOut string) {
	unc := `\\` + s.host.Addr.String() + `\` + share
	return unc, unc
}

func (s *conformanceServer) unc(share string) string { return `\\` + s.host.FQDN + `\` + share }

// run runs a program on the server.
func (s *conformanceServer) run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := s.host.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s on %s: %w: %s", name, s.host.Name, err, out)
	}
	return string(out), nil
}

// addShare makes a registry share, and returns its UNC path.
func (s *conformanceServer) addShare(tb testing.TB, name, path string, params ...string) string {
	tb.Helper()
	addShare(tb, s.host, name, path, params...)
	return s.unc(name)
}

// addDir makes a directory that everybody may write to, beside the others on the server's btrfs or
// in one of them.
func (s *conformanceServer) addDir(tb testing.TB, path string) string {
	tb.Helper()
	require.NoError(tb, os.Mkdir(s.host.Path(path), 0o755))
	require.NoError(tb, os.Chmod(s.host.Path(path), 0o777))
	return path
}

// addOddShares adds a share that has something mounted below it, and one that is not on btrfs.
func (s *conformanceServer) addOddShares(tb testing.TB, t *fsrvptest.Target, params ...string) {
	tb.Helper()
	const volume, disk, plain = "/srv/btrfs/mounted", "/srv/btrfs/mounted/disk", "/srv/plain"
	s.host.Output(tb, "btrfs", "-q", "subvolume", "create", volume)
	s.host.Output(tb, "mkdir", "-p", disk, plain)
	s.host.Output(tb, "mount", "-t", "tmpfs", "disk", disk)
	tb.Cleanup(func() {
		s.host.Output(tb, "umount", disk)
		s.host.Output(tb, "rmdir", plain)
	})
	t.Mounted, t.Unsupported = s.addShare(tb, "mounted", volume, params...), s.addShare(tb, "plain", plain)
}

// held counts the subvolumes that are neither a share nor made by this test, and the registry
// shares that expose a copy.
func (s *conformanceServer) held(ctx context.Context) (snapshots, shares int, err error) {
	list, err1 := s.run(ctx, "btrfs", "subvolume", "list", "/srv/btrfs")
	for line := range strings.Lines(list) {
		switch _, path, _ := strings.Cut(strings.TrimSpace(line), " path "); path {
		case "share", "data", "mounted":
		default:
			snapshots++
		}
	}
	names, err2 := s.run(ctx, "net", "conf", "listshares")
	return snapshots, strings.Count(names, "@{"), errors.Join(err1, err2)
}

// previousVersions counts the tokens that smbclient shows of the file that every share has when the
// suite runs.
func (s *conformanceServer) previousVersions(ctx context.Context, share string) (int, error) {
	out, err := s.run(ctx, "smbclient", "//localhost/"+share, "-U",
		peers.Domain+`\Administrator%`+s.n.User("Administrator").Password, "-c", "allinfo versions")
	if !strings.Contains(out, "create_time") {
		err = errors.Join(err, fmt.Errorf("smbclient allinfo: %s", out))
	}
	return strings.Count(out, "@GMT-"), err
}
