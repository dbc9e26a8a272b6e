package interop

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// conformanceTarget reaches the agent of a file server over SMB, sealed, as the backup operator and as nobody in particular.
func conformanceTarget(tb testing.TB, n *peers.Network, server *peers.Host) fsrvptest.Target {
	tb.Helper()
	dial := func(auth dcerpc.Initiator) fsrvp.Service {
		c, err := fsrvp.Dial(tb.Context(), server.FQDN, &fsrvp.Config{Transport: dialer(tb, n, auth), Auth: auth})
		require.NoError(tb, err)
		tb.Cleanup(func() { require.NoError(tb, c.Close()) })
		return c
	}
	backup := kerberos(tb, n, n.User("backup"))
	return fsrvptest.Target{
		Client:       dial(backup),
		SameHost:     dial(backup),
		Unprivileged: dial(kerberos(tb, n, n.User("nobody1"))),
		Share:        `\\` + server.FQDN + `\fsrvp_share`,
		OtherVolume:  `\\` + server.FQDN + `\data`,
		Aliases:      []string{`\\` + strings.ToUpper(server.Name) + `\FSRVP_SHARE`, `\\` + server.Addr.String() + `\fsrvp_share\`},
		Files:        hostFiles{server, n.User("Administrator").Password},
	}
}

// TestConformanceBehindSamba runs the suite against our agent behind a real smbd.
func TestConformanceBehindSamba(t *testing.T) {
	n := peers.Start(t)
	nas := n.Host("nas")
	nas.Claim(t)
	startAgentBehindSamba(t, n)
	fsrvptest.Run(t, func(tb testing.TB) fsrvptest.Target { return conformanceTarget(tb, n, nas) })
}
