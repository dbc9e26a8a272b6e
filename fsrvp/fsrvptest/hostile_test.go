package fsrvptest_test

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/pdu"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// life is an operator's whole life cycle of a set, with a connection of its own.
func life(t *testing.T, srv *fsrvptest.Server) time.Duration {
	t.Helper()
	ctx := t.Context()
	begin := time.Now()
	c, err := srv.Dial(ctx, fsrvptest.Operator)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextBackup))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	copyID, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\share`)
	require.NoError(t, err)
	require.NoError(t, c.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	require.NoError(t, c.DeleteShareMapping(ctx, set, copyID, `\\fs1\share`))
	return time.Since(begin)
}

// besiege opens a connection from an address, in one of the ways of holding a server's resources
// without authenticating.
func besiege(t *testing.T, addr, from string, way int) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	write := func(p pdu.PDU) {
		b, err := p.AppendBinary(nil)
		require.NoError(t, err)
		_, _ = c.Write(b) // fails where the server has had enough
	}
	bind := &pdu.Bind{
		Header:  pdu.Header{Flags: pdu.FirstFrag | pdu.LastFrag, CallID: 1},
		MaxXmit: 5840, MaxRecv: 5840,
		Contexts: []pdu.ContextElement{{Abstract: fsrvp.Interface(), Transfer: []pdu.SyntaxID{pdu.NDR20()}}},
	}
	switch way % 4 {
	case 0: // silent
	case 1: // most of a bind
		_, _ = c.Write(append([]byte{5, 0, 11, 3, 0x10, 0, 0, 0, 0xFF, 0xFF, 0, 0, 1, 0, 0, 0}, make([]byte, 60000)...))
	case 2: // half an exchange
		bind.Auth = pdu.Auth{Type: uint8(dcerpc.AuthKerberos), Level: uint8(dcerpc.LevelPrivacy),
			Token: make([]byte, 60000)}
		write(bind)
	case 3: // most of a large request
		write(bind)
		for i := range 100 {
			p := &pdu.Request{Header: pdu.Header{CallID: 2}, Opnum: 1, Stub: make([]byte, 5000)}
			if i == 0 {
				p.Flags = pdu.FirstFrag
			}
			write(p)
		}
	}
}

// TestHostilePeers holds what one address, or four, can without authenticating: an operator, even
// at one of these addresses, notices next to nothing, and the server needs little memory.
func TestHostilePeers(t *testing.T) {
	srv, err := fsrvptest.NewServer(&fsrvptest.ServerConfig{TCP: true})
	require.NoError(t, err)
	defer srv.Close()
	addr := srv.Addr().String()
	median := func() time.Duration {
		var all []time.Duration
		for range 9 {
			all = append(all, life(t, srv))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	life(t, srv)
	alone := median()
	for _, addresses := range []int{1, 4} {
		t.Run(fmt.Sprint(addresses), func(t *testing.T) {
			for i := range 128 * addresses {
				besiege(t, addr, fmt.Sprintf("127.0.0.%d", 1+i%addresses), i/addresses)
			}
			besieged := median()
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			t.Logf("a life cycle takes %v, alone %v; heap and stacks %d KiB", besieged, alone,
				(m.HeapInuse+m.StackInuse)>>10)
			require.Less(t, besieged, 2*alone+20*time.Millisecond)
			require.Less(t, m.HeapInuse+m.StackInuse, uint64(64<<20))
		})
	}
}
