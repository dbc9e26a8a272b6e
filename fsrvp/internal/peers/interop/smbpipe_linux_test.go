package interop

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/krb5"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// kerberos logs in by a password, from the client's host.
func kerberos(tb testing.TB, n *peers.Network, u peers.User) dcerpc.Initiator {
	tb.Helper()
	i, err := krb5.NewInitiatorWithPassword(u.Principal(), u.Password, &krb5.InitiatorConfig{
		Krb5Conf: filepath.Join(n.Scripts, "etc", "krb5.conf"), Dial: n.Host("cl").Dial,
	})
	require.NoError(tb, err)
	return i
}

func ntlmAuth(tb testing.TB, u peers.User) dcerpc.Initiator {
	tb.Helper()
	i, err := ntlm.NewInitiator(ntlm.Credentials{Domain: peers.Domain, User: u.Name, Password: u.Password})
	require.NoError(tb, err)
	return i
}

// dialer dials from the client's host.
func dialer(tb testing.TB, n *peers.Network, auth dcerpc.Initiator) *smbpipe.Dialer {
	tb.Helper()
	d := &smbpipe.Dialer{Auth: auth, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.Host("cl").Dial(ctx, network, address)
	}}
	tb.Cleanup(func() { require.NoError(tb, d.Close()) })
	return d
}

func TestSamba(t *testing.T) {
	n := peers.Start(t)
	u := n.User("backup")
	for name, auth := range map[string]dcerpc.Initiator{"krb5": kerberos(t, n, u), "ntlm": ntlmAuth(t, u)} {
		t.Run(name, func(t *testing.T) {
			d := dialer(t, n, auth)
			c, err := fsrvp.Dial(t.Context(), "fs.fsrvp.test", &fsrvp.Config{Transport: d, Auth: auth})
			require.NoError(t, err)
			defer c.Close()
			for range 3 {
				v, err := c.GetSupportedVersion(t.Context())
				require.NoError(t, err)
				require.Equal(t, fsrvp.Versions{Min: 1, Max: 1}, v)
			}
		})
	}
}
