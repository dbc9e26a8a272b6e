package interop

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// TestKilledClient has clients go, as when they are killed, while the methods that may take long
// are at work behind smbd: each is cancelled within 5 s. Samba 4.22 by itself would wait for its
// answer.
func TestKilledClient(t *testing.T) {
	n := networkOnce(t)
	nas := n.Host("nas")
	nas.Claim(t)
	begun, ended := make(chan fsrvp.Opnum), make(chan error, 1)
	srv := &dcerpc.Server{}
	fsrvp.Register(srv, fsrvp.ServiceFunc(func(ctx context.Context, req fsrvp.Message) (fsrvp.Response, error) {
		begun <- req.Opnum()
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return nil, ctx.Err()
	}), &fsrvp.HandlerConfig{AllowSMBSessionAlone: true})
	serve(t, nas, srv, nil)
	krb := kerberos(t, n, n.User("backup"))
	for op, call := range map[fsrvp.Opnum]func(*fsrvp.Client, context.Context) error{
		fsrvp.OpPrepareShadowCopySet: func(c *fsrvp.Client, ctx context.Context) error {
			return c.PrepareShadowCopySet(ctx, fsrvp.NewSetID(), time.Minute)
		},
		fsrvp.OpCommitShadowCopySet: func(c *fsrvp.Client, ctx context.Context) error {
			return c.CommitShadowCopySet(ctx, fsrvp.NewSetID(), time.Minute)
		},
		fsrvp.OpExposeShadowCopySet: func(c *fsrvp.Client, ctx context.Context) error {
			return c.ExposeShadowCopySet(ctx, fsrvp.NewSetID(), time.Minute)
		},
	} {
		t.Run(op.String(), func(t *testing.T) {
			d := dialer(t, n, krb)
			var tcp net.Conn
			inner := d.Dial
			d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := inner(ctx, network, address)
				tcp = c
				return c, err
			}
			c, err := fsrvp.Dial(t.Context(), nas.FQDN, &fsrvp.Config{Transport: d, Level: dcerpc.LevelInsecureNone})
			require.NoError(t, err)
			defer c.Close()
			called := make(chan error, 1)
			go func() { called <- call(c, t.Context()) }()
			require.Equal(t, op, <-begun)
			gone := time.Now()
			require.NoError(t, tcp.Close())
			select {
			case err := <-ended:
				require.True(t, errors.Is(err, context.Canceled), err)
				t.Logf("%v was cancelled %v after its client had gone", op, time.Since(gone).Round(time.Millisecond))
			case <-time.After(time.Minute): // it is 5 s where the machine has nothing else to do
				t.Errorf("%v goes on after a minute", op)
				<-ended
			}
			require.Error(t, <-called)
		})
	}
}
