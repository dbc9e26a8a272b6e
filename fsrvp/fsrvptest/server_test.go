package fsrvptest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/fsrvptest"
	"github.com/go-fsrvp/go-fsrvp/ndr"
)

// TestServer makes a copy through each transport, transfer syntax and level.
func TestServer(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		s := newServer(t, &fsrvptest.ServerConfig{TCP: tcp})
		for _, syntax := range []ndr.Syntax{ndr.NDR20, ndr.NDR64} {
			for _, level := range []dcerpc.AuthLevel{dcerpc.LevelIntegrity, dcerpc.LevelPrivacy} {
				t.Run(fmt.Sprintf("tcp=%v/%v/level %d", tcp, syntax, level), func(t *testing.T) {
					cfg := s.ClientConfig(fsrvptest.Operator)
					cfg.Syntaxes, cfg.Level = []ndr.Syntax{syntax}, level
					c, err := fsrvp.Dial(t.Context(), fsrvptest.ServerName, cfg)
					require.NoError(t, err)
					defer c.Close()
					whole(t, s, c)
				})
			}
		}
	}
}

// whole is the life of one copy.
func whole(t *testing.T, s *fsrvptest.Server, c *fsrvp.Client) {
	ctx := t.Context()
	require.NoError(t, s.Memory.Shares.WriteFile("share", "file", []byte("before")))
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextFileShareBackup))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	copy, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, `\\fs1\share`)
	require.NoError(t, err)
	require.NoError(t, c.PrepareShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, s.Memory.Shares.WriteFile("share", "file", []byte("after")))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	m, err := c.GetShareMapping(ctx, copy, set, `\\fs1\share`, 1)
	require.NoError(t, err)
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	data, err := s.Memory.Shares.ReadFile(m.Exposed, "file")
	require.NoError(t, err)
	require.Equal(t, "before", string(data))
	require.NoError(t, c.DeleteShareMapping(ctx, set, copy, `\\fs1\share`))
	snapshots, shares, err := s.Memory.Held(ctx)
	require.NoError(t, err)
	require.Zero(t, snapshots+shares)
}

func TestServerRefuses(t *testing.T) {
	s := newServer(t, &fsrvptest.ServerConfig{TCP: true})
	c, err := s.Dial(t.Context(), fsrvptest.Nobody)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.GetSupportedVersion(t.Context())
	require.ErrorIs(t, err, fsrvp.ErrAccessDenied)
}

func TestServerRestarts(t *testing.T) {
	s := newServer(t, &fsrvptest.ServerConfig{})
	before := s.Agent()
	c, err := s.Dial(t.Context(), fsrvptest.Operator)
	require.NoError(t, err)
	require.NoError(t, s.Restart(t.Context()))
	require.NotSame(t, before, s.Agent())
	_, err = c.GetSupportedVersion(t.Context())
	require.Error(t, err, "the connection has ended")
	require.NoError(t, c.Close())
	c, err = s.Dial(t.Context(), fsrvptest.Operator)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.GetSupportedVersion(t.Context())
	require.NoError(t, err)
}

func TestServerWithoutStore(t *testing.T) {
	s, err := fsrvptest.NewServer(nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = fsrvptest.NewServer(&fsrvptest.ServerConfig{Agent: agent.Config{Profile: 9}})
	require.Error(t, err)
}

// A program can run the cases without package testing, and print what it likes.
func ExampleCase_Run() {
	server, err := fsrvptest.NewServer(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	target, err := server.Target(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range fsrvptest.Cases() {
		if c.Suite == fsrvptest.Smbtorture {
			res := c.Run(context.Background(), &target)
			fmt.Printf("%-5s%-7s%s\n", res.Verdict, c.Section, c.Name)
		}
	}
	// Output:
	// pass 3.1    smbtorture/share_sd
	// n/a  3.1    smbtorture/enum_created
	// pass 3.1    smbtorture/sc_share_io
	// pass 3.1    smbtorture/bad_id
	// pass 3.1    smbtorture/sc_set_abort
	// pass 3.1    smbtorture/create_simple
	// pass 3.1    smbtorture/set_ctx
	// pass 3.1    smbtorture/get_version
	// pass 3.1    smbtorture/is_path_supported
	// n/a  3.1    smbtorture/seq_timeout
}
