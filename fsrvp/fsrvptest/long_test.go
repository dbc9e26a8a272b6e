package fsrvptest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
)

// TestLongPath has an operator name paths of megabytes: each is refused at the door, and neither
// the table nor an error has it in it.
func TestLongPath(t *testing.T) {
	srv, err := fsrvptest.NewServer(nil)
	require.NoError(t, err)
	defer srv.Close()
	ctx := t.Context()
	c, err := srv.Dial(ctx, fsrvptest.Operator)
	require.NoError(t, err)
	defer c.Close()
	long := `\\fs1\share\` + strings.Repeat("a", 2_000_000)
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextBackup))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	for name, call := range map[string]func() error{
		"Add":    func() error { _, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, long); return err },
		"Path":   func() error { _, err := c.IsPathSupported(ctx, long); return err },
		"Copied": func() error { _, err := c.IsPathShadowCopied(ctx, long); return err },
		"Get":    func() error { _, err := c.GetShareMapping(ctx, fsrvp.NewCopyID(), set, long, 1); return err },
		"Delete": func() error { return c.DeleteShareMapping(ctx, set, fsrvp.NewCopyID(), long) },
	} {
		err := call()
		require.Error(t, err, name)
		require.Less(t, len(err.Error()), 1000, name)
	}
	for _, s := range srv.Agent().Table() {
		require.Empty(t, s.Copies)
	}
	copyID, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\share\`+strings.Repeat("a", 4000))
	require.NoError(t, err, "a path that a file may have")
	require.NotZero(t, copyID)
}
