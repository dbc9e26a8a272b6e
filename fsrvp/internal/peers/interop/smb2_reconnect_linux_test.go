package interop

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smbpipe"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/sharefs"
)

// A cutConn breaks when it has received so many bytes.
type cutConn struct {
	net.Conn
	left atomic.Int64
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left.Add(int64(-n)) < 0 {
		c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestSMBReconnect reads a share of Samba's whose connection breaks three times on the way.
func TestSMBReconnect(t *testing.T) {
	n := networkOnce(t)
	fileServer := n.Host("fs")
	fileServer.Claim(t)
	want := randomFile(t, fileServer.Path("/srv/btrfs/data/big"), 40<<20)
	small := randomFile(t, fileServer.Path("/srv/btrfs/data/small"), 100)
	var dials atomic.Int64
	d := &smbpipe.Dialer{Auth: kerberos(t, n, n.User("backup")),
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := n.Host("cl").Dial(ctx, network, address)
			if err != nil || dials.Add(1) > 3 {
				return c, err
			}
			cut := &cutConn{Conn: c}
			cut.left.Store(10 << 20)
			return cut, nil
		}}
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	f, err := sharefs.Open(t.Context(), d, `\\`+fileServer.FQDN+`\data`, nil)
	require.NoError(t, err)
	require.Equal(t, want, sum(t, f, "big"))
	require.EqualValues(t, 4, dials.Load())
	require.Equal(t, small, sum(t, f, "small"))
	list, err := f.ReadDir(".")
	require.NoError(t, err)
	require.NotEmpty(t, list)
	require.NoError(t, f.Close())
}
