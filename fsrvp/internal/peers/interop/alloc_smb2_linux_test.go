package interop

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// TestSMBAllocations counts what a read allocates, signed and encrypted.
func TestSMBAllocations(t *testing.T) {
	once(t) // and not parallel: it counts allocations
	n := peers.Start(t)
	server := n.Host("fs")
	server.Claim(t)
	randomFile(t, server.Path("/srv/btrfs/data/allocations"), 8<<20)
	for _, encrypt := range []bool{false, true} {
		cfg := smbConfig(n, ntlmAuth(t, n.User("backup")))
		cfg.Encrypt = encrypt
		tree := smbShare(t, smbSession(t, server, cfg), "data").Tree()
		f, err := tree.Open(t.Context(), "allocations", nil)
		require.NoError(t, err)
		b := make([]byte, 64<<10)
		ctx := t.Context()
		off := int64(0)
		got := testing.AllocsPerRun(100, func() {
			if _, err := f.ReadAt(ctx, b, off); err != nil {
				t.Error(err)
			}
			off += int64(len(b)) % (4 << 20)
		})
		t.Logf("encrypted %t: ReadAt %v allocations", encrypt, got)
		require.LessOrEqual(t, got, 2.0)
		const chunk = 64 << 10
		r := f.NewReader(0, -1, chunk, smb2.DefaultWindow)
		got = testing.AllocsPerRun(100, func() {
			if _, err := r.Next(ctx); err != nil && err != io.EOF {
				t.Error(err)
			}
		})
		t.Logf("encrypted %t: Next %v allocations", encrypt, got)
		require.LessOrEqual(t, got, 2.0)
		r.Stop()
		require.NoError(t, f.Close(ctx))
	}
}
