package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/dcerpc"
	"github.com/go-fsrvp/go-fsrvp/dcerpc/ntlm"
	"github.com/go-fsrvp/go-fsrvp/fsrvp"
)

// TestServe runs the program for a directory over TCP, with NTLM, takes a copy through it, and ends
// it.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	data, exposed, users := filepath.Join(dir, "data"), filepath.Join(dir, "exposed"), filepath.Join(dir, "users")
	require.NoError(t, os.Mkdir(data, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(data, "file"), []byte("before"), 0o644))
	require.NoError(t, os.WriteFile(users, fmt.Appendf(nil, "TEST\\backup\t%x\n", ntlm.NTHash("secret")), 0o600))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	var log bytes.Buffer
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"-listen", "tcp:127.0.0.1:0", "-share", "data=" + data, "-snapshots", "copy", "-snapshot-dir", filepath.Join(dir, "snapshots"),
			"-expose", "directory:" + exposed, "-state", filepath.Join(dir, "state"), "-ntlm-users", users, "-allow", `TEST\backup`,
		}, w, &log)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "listening tcp:")))
	require.NoError(t, err)

	auth, err := ntlm.NewInitiator(ntlm.Credentials{Domain: "TEST", User: "backup", Password: "secret"})
	require.NoError(t, err)
	c, err := fsrvp.Dial(ctx, "127.0.0.1", &fsrvp.Config{Transport: &dcerpc.TCPDialer{Port: port}, Auth: auth})
	require.NoError(t, err)
	const share = `\\localhost\data`
	require.NoError(t, c.SetContext(ctx, fsrvp.ContextBackup))
	set, err := c.StartShadowCopySet(ctx, fsrvp.NewSetID())
	require.NoError(t, err)
	id, err := c.AddToShadowCopySet(ctx, fsrvp.NewCopyID(), set, share)
	require.NoError(t, err)
	require.NoError(t, c.CommitShadowCopySet(ctx, set, time.Minute))
	require.NoError(t, os.WriteFile(filepath.Join(data, "file"), []byte("after"), 0o644))
	require.NoError(t, c.ExposeShadowCopySet(ctx, set, time.Minute))
	m, err := c.GetShareMapping(ctx, id, set, share, 1)
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(exposed, m.Exposed, "file"))
	require.NoError(t, err)
	require.Equal(t, "before", string(b))
	require.NoError(t, c.RecoveryCompleteShadowCopySet(ctx, set))
	require.NoError(t, c.DeleteShareMapping(ctx, set, id, share))
	require.NoError(t, c.Close())

	cancel() // as SIGTERM does
	require.NoError(t, <-ended)
	require.Contains(t, log.String(), "draining")
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"", "-listen is missing"},
		{"-listen tcp:127.0.0.1:0", "-share is missing"},
		{"-listen tcp:127.0.0.1:0 -share a=" + dir, "-state is missing"},
		{"-listen tcp:127.0.0.1:0 -share a=" + dir + " -state " + dir, "-expose is missing"},
		{"-listen tcp:127.0.0.1:0 -share a=" + dir + " -state " + dir + " -expose directory:" + dir + "/x", "nobody may call without security"},
		{"-listen tcp:127.0.0.1:0 -share a=" + dir + " -state " + dir + " -expose directory:" + dir + "/x -keytab " + dir + "/none", "/none"},
		{"-listen tcp:127.0.0.1:0 -share a=" + dir + " -state " + dir + " -expose directory:" + dir + "/x -ntlm-users " + dir + "/none", "/none"},
		{"-listen samba:" + dir + " -share a -state " + dir + " -expose directory:" + dir + "/x", `-share is "a"`},
		{"-listen samba:" + dir + " -share a=" + dir + " -state " + dir + " -expose tape", `-expose is "tape"`},
		{"-listen samba:" + dir + " -share a=" + dir + " -state " + dir + " -expose directory:" + dir + "/x -snapshots nothing", `-snapshots is "nothing"`},
		{"-listen pigeon:coop -share a=" + dir + " -state " + dir + " -expose directory:" + dir + "/x", `-listen is "pigeon:coop"`},
		{"-listen samba:" + dir + " -share a=" + dir + " -shares samba -state " + dir + " -expose samba", "exclude each other"},
		{"-listen samba:" + dir + " -share a=" + dir + " -state " + dir + " -expose samba -require-rpc-security", "-require-rpc-security needs"},
		{"-listen samba:" + dir + " -share a=" + dir + " -state " + dir + " -expose directory:x -profile other", `-profile is "other"`},
		{"stray", `"stray"`},
	} {
		err := run(t.Context(), strings.Fields(c.args), io.Discard, io.Discard)
		require.ErrorContains(t, err, c.want, c.args)
	}
}
