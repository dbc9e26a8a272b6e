package interop

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

var updateKnown = flag.Bool("update-known", false,
	"write the list of what Samba's rpcd_fsrvp fails, in testdata, for the version that is installed")

// TestConformanceOfSamba runs the suite against Samba's own agent. What that fails is exactly what
// is in testdata, in a list for each version of Samba that somebody has run it with.
func TestConformanceOfSamba(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	n := networkOnce(t)
	server := n.Host("fs")
	version := smbdVersion(t, server)
	file, known := knownFailures(t, version)
	server.Claim(t)
	var failures []string
	for _, run := range []struct {
		name    string
		cases   []fsrvptest.Case
		timeout time.Duration
	}{
		{"cases", conformanceCases(false), 0},
		{"timer", conformanceCases(true), time.Second},
	} {
		t.Run(run.name, func(t *testing.T) {
			server.Reset(t, run.timeout)
			target := sambaAgent(t, n, server)
			target.SequenceTimeout, target.Known = run.timeout, known
			if *updateKnown {
				failures = append(failures, failuresOf(t, run.cases, target)...)
				return
			}
			fsrvptest.RunCases(t, run.cases, func(testing.TB) fsrvptest.Target { return target })
		})
	}
	if *updateKnown {
		text := "# What the conformance suite finds wrong with the rpcd_fsrvp of Samba " + version + ": the case, and what it says, or a part of it.\n" +
			strings.Join(failures, "")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

// knownFailures returns the list for a version of Samba, or for want of one that for the nearest
// version.
func knownFailures(t *testing.T, version string) (file string, known map[string]string) {
	t.Helper()
	name := func(version string) string { return filepath.Join("testdata", "rpcd_fsrvp-"+version+".txt") }
	if *updateKnown {
		return name(version), nil
	}
	files, err := filepath.Glob(name("*"))
	require.NoError(t, err)
	number := func(version string) int {
		var major, minor int
		_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
		require.NoError(t, err, version)
		return 1000*major + minor
	}
	nearest := math.MaxInt
	for _, f := range files {
		d := number(strings.TrimPrefix(filepath.Base(f), "rpcd_fsrvp-")) - number(version)
		if d = max(d, -d); d < nearest {
			file, nearest = f, d
		}
	}
	if file != name(version) {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("There is no list of what rpcd_fsrvp %s fails. Write one with -update-known, and look through it:\n"+
					"FSRVP_PEERS=require go test ./fsrvp/internal/peers/interop -run TestConformanceOfSamba -update-known", version)
			}
		})
	}
	if file == "" {
		if os.Getenv("FSRVP_PEERS") != "require" {
			t.Skipf("no list of what Samba's rpcd_fsrvp fails, for any version; -update-known writes one for %s",
				version)
		}
		t.Fatal("no list of what Samba's rpcd_fsrvp fails, for any version")
	}
	t.Logf("Samba %s; the known failures are those in %s", version, file)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	known, err = fsrvptest.ParseKnown(string(text))
	require.NoError(t, err)
	return file, known
}

var versionNumber = regexp.MustCompile(`\d+\.\d+`)

var uuids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// failuresOf runs cases and returns lines for the list of those that fail: of each reason the
// longest part without a UUID.
func failuresOf(t *testing.T, cases []fsrvptest.Case, target fsrvptest.Target) (lines []string) {
	t.Helper()
	for _, c := range cases {
		res := c.Run(t.Context(), &target)
		t.Logf("%s\t%s\t%v\t%s", c.Name, res.Verdict, res.Took.Round(time.Millisecond), res.Reason)
		if res.Verdict != fsrvptest.Failed {
			continue
		}
		part := ""
		for _, s := range uuids.Split(strings.ReplaceAll(res.Reason, "\n", "; "), -1) {
			if s = strings.TrimSpace(s); len(s) > len(part) {
				part = s
			}
		}
		lines = append(lines, c.Name+"\t"+part+"\n")
	}
	return lines
}

// sambaAgent is rpcd_fsrvp with all that its host can offer.
func sambaAgent(t *testing.T, n *peers.Network, server *peers.Host) fsrvptest.Target {
	t.Helper()
	s := newConformanceServer(t, n, server)
	s.wrap = func(service fsrvp.Service) fsrvp.Service { return &oneASecond{service, server} }
	params := []string{"vfs objects=btrfs shadow_copy2", "btrfs: manipulate snapshots=yes", "shadow:snapdir=."}
	require.NoError(t, os.WriteFile(server.Path("/srv/btrfs/data/versions"), nil, 0o644))

	// Not fsrvp_share, which takes a second to connect to.
	target := s.target(t, "data")
	target.SameVolume = s.addShare(t, "second", "/srv/btrfs/data", params...)
	target.OtherVolume = s.addShare(t, "other", "/srv/btrfs/share", params...)
	target.Clustered, target.ScaleOut = s.byAddress("other")
	target.Hidden = s.addShare(t, "hidden$", "/srv/btrfs/share", params...)
	s.addOddShares(t, &target, params...)
	again := func(script string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.run(ctx, "bash", "-c", script)
			return err
		}
	}
	target.Restart, target.Reset = again(endRPCD), again(endRPCD+forget)
	return target
}

const (
	// endRPCD ends rpcd_fsrvp, which starts again on demand, and waits until samba-dcerpcd knows of
	// it.
	endRPCD = `
if p=$(pgrep -x rpcd_fsrvp); then
  kill -KILL $p
  while kill -0 $p 2>/dev/null; do sleep 0.01; done
fi
`
	// forget removes its state, the shares that it has exposed and its snapshots.
	forget = `
set -e
shopt -s nullglob
rm -f /run/samba/srv_fss.tdb
for s in $(net conf listshares); do
  case $s in *@*) net conf delshare "$s" 2>/dev/null; smbcontrol smbd close-share "$s" ;; esac
done
for v in /srv/btrfs/*/@GMT-*; do
  btrfs property set -ts "$v" ro false
  btrfs -q subvolume delete "$v"
done
`
)

// oneASecond waits before it adds a share until no snapshot has the name of this second: Samba
// gives a snapshot a name of one second's resolution when its share is added, and then cannot take
// it where there is one of that name.
type oneASecond struct {
	fsrvp.Service
	server *peers.Host
}

func (o *oneASecond) AddToShadowCopySet(ctx context.Context, client fsrvp.CopyID, set fsrvp.SetID,
	share string) (fsrvp.CopyID, error) {
	const late = 20 * time.Millisecond // time(2) reads a clock that is that of the last tick
	for {
		now := time.Now()
		taken, err := o.taken(now, now.Add(-late))
		if err != nil {
			return fsrvp.CopyID{}, err
		}
		if !taken {
			return o.Service.AddToShadowCopySet(ctx, client, set, share)
		}
		time.Sleep(time.Until(now.Add(-late).Truncate(time.Second).Add(time.Second + late)))
	}
}

// taken reports whether a snapshot has the name of one of these seconds.
func (o *oneASecond) taken(seconds ...time.Time) (bool, error) {
	for _, second := range seconds {
		found, err := filepath.Glob(o.server.Path("/srv/btrfs/*/" + second.UTC().Format("@GMT-2006.01.02-15.04.05")))
		if len(found) > 0 || err != nil {
			return true, err
		}
	}
	return false, nil
}
