package interop

import (
	"archive/tar"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/peers"
)

// TestBackupOfTwoServers has examples/fsrvp-backup, on the client's host, back up two shares in one
// run: one of Samba's own agent, one of ours behind smbd. The files change while it runs; the
// archive has to have what was there before.
func TestBackupOfTwoServers(t *testing.T) {
	n := peers.Start(t) // not parallel: it would hold the hosts of others while it waits for both
	samba, nas, cl := n.Host("fs"), n.Host("nas"), n.Host("cl")
	samba.Claim(t)
	nas.Claim(t)
	startAgentBehindSamba(t, n)
	dir := t.TempDir()
	exe := filepath.Join(dir, "backup")
	built, err := exec.Command("go", "build", "-o", exe,
		"github.com/go-fsrvp/go-fsrvp/examples/fsrvp-backup").CombinedOutput()
	require.NoError(t, err, string(built))

	want := map[string]string{}
	for prefix, path := range map[string]string{
		samba.FQDN + "/data":      samba.Path("/srv/btrfs/data"),
		nas.FQDN + "/fsrvp_share": nas.Path("/srv/btrfs/share"),
	} {
		for i := range 10 {
			name := fmt.Sprintf("f%d", i)
			content := strings.Repeat(prefix+name, 10000)
			require.NoError(t, os.WriteFile(filepath.Join(path, name), []byte(content), 0o644))
			want[prefix+"/"+name] = content
		}
	}
	// The application of this backup: it is thawed once the copies are taken, and goes on writing.
	// The program that thaws it, on the client's host, waits until this test has written.
	thaw, thawed, changed := filepath.Join(dir, "thaw"), filepath.Join(dir, "thawed"), filepath.Join(dir, "changed")
	require.NoError(t, os.WriteFile(thaw, fmt.Appendf(nil, "#!/bin/sh\n: > %s\nuntil test -e %s; do sleep 0.02; done\n",
		thawed, changed), 0o755))
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := os.Stat(thawed); err == nil {
				break
			}
			select {
			case <-t.Context().Done():
				done <- t.Context().Err()
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
		var errs []error
		for i := range 10 {
			for _, path := range []string{samba.Path("/srv/btrfs/data"), nas.Path("/srv/btrfs/share")} {
				errs = append(errs, os.WriteFile(filepath.Join(path, fmt.Sprintf("f%d", i)), []byte("changed"), 0o644))
			}
		}
		done <- errors.Join(append(errs, os.WriteFile(changed, nil, 0o644))...)
	}()

	out := filepath.Join(dir, "out.tar")
	run := func(args ...string) (stdout, stderr string, err error) {
		cmd := cl.Command(t.Context(), exe, append([]string{
			"-share", `\\` + samba.FQDN + `\data`, "-share", `\\` + nas.FQDN + `\fsrvp_share`, "-out", out,
			"-user", n.User("backup").Principal(),
		}, args...)...)
		var o, e strings.Builder
		cmd.Stdout, cmd.Stderr = &o, &e
		err = cmd.Run()
		return o.String(), e.String(), err
	}
	stdout, stderr, err := run("-keytab", n.Keytab("backup"), "-thaw", thaw, "-json", "-journal",
		filepath.Join(dir, "journal"))
	require.NoError(t, err, stderr)
	require.Equal(t, want, tarFiles(t, out))
	requireWindowsRecords(t, out)
	verified, err := exec.Command(exe, "-verify", out).CombinedOutput()
	require.NoError(t, err, string(verified))
	var summary struct {
		Files  int
		Shares []struct{ Share, Exposed string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &summary))
	require.Equal(t, len(want), summary.Files)
	require.Len(t, summary.Shares, 2)
	require.NoError(t, <-done)
	requireNoCopies(t, samba)
	require.NotContains(t, nas.Output(t, "net", "conf", "listshares"), "@{")

	wrong := filepath.Join(dir, "password")
	require.NoError(t, os.WriteFile(wrong, []byte("wrong\n"), 0o600))
	_, stderr, err = run("-password-file", wrong)
	require.Error(t, err)
	require.Contains(t, stderr, "backup@FSRVP.TEST")
	require.Contains(t, stderr, "wrong password")
}

// requireWindowsRecords checks that all files of an archive have what a server says of them beyond
// their contents.
func requireWindowsRecords(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		sd, err := base64.StdEncoding.DecodeString(h.PAXRecords["MSWINDOWS.rawsd"])
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(sd), 20, "%s: the header of a descriptor (MS-DTYP 2.4.6)", h.Name)
		require.Equal(t, byte(1), sd[0], "%s: the revision of the descriptor", h.Name)
		require.NotEmpty(t, h.PAXRecords["MSWINDOWS.fileattr"], h.Name)
		require.NotEmpty(t, h.PAXRecords["LIBARCHIVE.creationtime"], h.Name)
		require.Zero(t, h.Mode&0o077, h.Name)
	}
}

// tarFiles returns the regular files of an archive.
func tarFiles(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	files := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		if h.Typeflag == tar.TypeReg {
			b, err := io.ReadAll(r)
			require.NoError(t, err)
			files[h.Name] = string(b)
		}
	}
}
