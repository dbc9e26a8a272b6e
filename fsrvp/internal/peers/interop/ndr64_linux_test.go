package interop

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// TestNDR64 has our client call all methods of a server with an NDR64 of somebody else's, Scapy's.
// What the server makes of each request, and we of each answer, is what was meant.
func TestNDR64(t *testing.T) {
	n := networkOnce(t)
	requests := startScapy(t, n)
	conn, err := n.Host("agent").Dial(t.Context(), "tcp", "cl:1355")
	require.NoError(t, err)
	cc, err := dcerpc.NewClientConn(t.Context(), conn, fsrvp.Interface(), &dcerpc.Config{
		Level: dcerpc.LevelInsecureNone, Syntaxes: []ndr.Syntax{ndr.NDR64},
	})
	require.NoError(t, err)
	defer cc.Close()
	require.Equal(t, ndr.NDR64, cc.Syntax())
	c, ctx := fsrvp.NewClient(cc, nil), t.Context()
	// understood compares a request with what the server says that it was.
	understood := func(method string, want map[string]any) {
		t.Helper()
		want["method"] = method
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(requests(t)), &got))
		require.Equal(t, want, got)
	}
	type fields = map[string]any
	inverted := func(id [16]byte) [16]byte {
		for i := range id {
			id[i] = ^id[i]
		}
		return id
	}
	spelled := func(s string) string { return hex.EncodeToString([]byte(s)) }
	set, id := fsrvp.NewSetID(), fsrvp.NewCopyID()
	const wait, milliseconds = 90 * time.Second, float64(90_000)

	v, err := c.GetSupportedVersion(ctx)
	require.NoError(t, err)
	require.Equal(t, fsrvp.Versions{Min: 1, Max: 1}, v)
	understood("GetSupportedVersion", fields{})

	require.NoError(t, c.SetContext(ctx, fsrvp.ContextNASRollback|fsrvp.AttrAutoRecovery))
	understood("SetContext", fields{"Context": float64(fsrvp.ContextNASRollback | fsrvp.AttrAutoRecovery)})

	started, err := c.StartShadowCopySet(ctx, set)
	require.NoError(t, err)
	require.Equal(t, fsrvp.SetID(inverted(set)), started)
	understood("StartShadowCopySet", fields{"ClientShadowCopySetId": set.String()})

	// Names of every length by which what follows is aligned.
	for _, share := range []string{`\\fs1\x`, `\\fs1\xy`, `\\fs1\xyz`, `\\fs1\Büro 語`, `\\fs1\💾$\`} {
		added, err := c.AddToShadowCopySet(ctx, id, set, share)
		require.NoError(t, err)
		require.Equal(t, fsrvp.CopyID(inverted(id)), added)
		understood("AddToShadowCopySet", fields{"ClientShadowCopyId": id.String(), "ShadowCopySetId": set.String(),
			"ShareName": share})

		supported, err := c.IsPathSupported(ctx, share)
		require.NoError(t, err)
		require.Equal(t, fsrvp.PathSupport{Supported: true, Owner: "owner of " + spelled(share)}, supported)
		understood("IsPathSupported", fields{"ShareName": share})

		copied, err := c.IsPathShadowCopied(ctx, share)
		require.NoError(t, err)
		require.True(t, copied.Present)
		require.EqualValues(t, 6, copied.Compatibility)
		understood("IsPathShadowCopied", fields{"ShareName": share})

		m, err := c.GetShareMapping(ctx, id, set, share, 1)
		require.NoError(t, err)
		require.Equal(t, &fsrvp.ShareMapping{
			SetID: set, CopyID: id, Share: spelled(share), Exposed: "copy of " + spelled(share),
			Created: time.Date(2019, 4, 17, 18, 40, 0, 0, time.UTC),
		}, m)
		understood("GetShareMapping", fields{"ShadowCopyId": id.String(), "ShadowCopySetId": set.String(),
			"ShareName": share, "Level": float64(1)})

		require.NoError(t, c.DeleteShareMapping(ctx, set, id, share))
		understood("DeleteShareMapping", fields{"ShadowCopySetId": set.String(), "ShadowCopyId": id.String(),
			"ShareName": share})
	}

	none, err := c.GetShareMapping(ctx, id, set, "null", 1) // its answer is a null pointer
	require.NoError(t, err)
	require.Nil(t, none)
	understood("GetShareMapping", fields{"ShadowCopyId": id.String(), "ShadowCopySetId": set.String(),
		"ShareName": "null", "Level": float64(1)})

	for method, call := range map[string]func(context.Context, fsrvp.SetID, time.Duration) error{
		"PrepareShadowCopySet": c.PrepareShadowCopySet, "CommitShadowCopySet": c.CommitShadowCopySet, "ExposeShadowCopySet": c.ExposeShadowCopySet,
	} {
		require.NoError(t, call(ctx, set, wait))
		understood(method, fields{"ShadowCopySetId": set.String(), "TimeOutInMilliseconds": milliseconds})
	}
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	understood("RecoveryCompleteShadowCopySet", fields{"ShadowCopySetId": set.String()})
	require.ErrorIs(t, c.AbortShadowCopySet(ctx, set), fsrvp.ErrBadState)
	understood("AbortShadowCopySet", fields{"ShadowCopySetId": set.String()})
}

// startScapy starts Scapy's server on the host cl, and returns a function that waits for the next
// request that it has taken.
func startScapy(t *testing.T, n *peers.Network) func(t *testing.T) string {
	t.Helper()
	cl := n.Host("cl")
	if out, err := cl.Command(t.Context(), "/usr/bin/python3", "-c",
		"import scapy.layers.msrpce.rpcserver").CombinedOutput(); err != nil {
		// Debian 12's Scapy has no such server.
		if os.Getenv("FSRVP_PEERS") == "require" && os.Getenv("FSRVP_PEERS_ROOT") != "" {
			t.Fatalf("needs Scapy 2.6 on the host cl: %s", out)
		}
		t.Skip("needs Scapy 2.6 on the host cl (FSRVP_PEERS_ROOT)")
	}
	script, err := os.ReadFile("testdata/ndr64server.py")
	require.NoError(t, err)
	cmd := cl.Command(t.Context(), "/usr/bin/python3", "-u", "-c", string(script), "eth0", "1355")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr syncBuffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Cancel())
		require.ErrorAs(t, cmd.Wait(), new(*exec.ExitError))
		if t.Failed() {
			t.Logf("the server's standard error:\n%s", stderr.String())
		}
	})
	lines := bufio.NewScanner(out)
	next := func(t *testing.T, prefix string) string {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), prefix) {
				return lines.Text()
			}
		}
		t.Fatalf("the server has ended, and not said %q:\n%s", prefix, stderr.String())
		return ""
	}
	next(t, "started")
	return func(t *testing.T) string {
		t.Helper()
		return next(t, `{"method"`)
	}
}
