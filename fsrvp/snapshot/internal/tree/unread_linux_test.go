package tree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// asNobody runs the test again in a process without rights, in a directory of /tmp that it may
// write to. It returns that directory, and true in that process. Before, make puts there what the
// process finds.
func asNobody(t *testing.T, make func(dir string)) (dir string, nobody bool) {
	t.Helper()
	const key = "FSRVP_TEST_AS_NOBODY"
	if dir := os.Getenv(key); dir != "" {
		return dir, true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root becomes another user")
	}
	dir, err := os.MkdirTemp("/tmp", "fsrvp-tree-test-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	make(dir)
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), key+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
	return "", false
}

// TestSkipUnreadable copies a tree with files and directories of another user.
func TestSkipUnreadable(t *testing.T) {
	dir, nobody := asNobody(t, func(dir string) {
		at := func(name string) string { return filepath.Join(dir, "src", name) }
		for _, name := range []string{"", "open", "closed", "listed", "open/deep"} {
			require.NoError(t, os.Mkdir(at(name), 0o755))
		}
		for _, name := range []string{"a", "secret", "open/secret", "open/b", "closed/c", "listed/d", "open/deep/e"} {
			require.NoError(t, os.WriteFile(at(name), []byte(name), 0o644))
		}
		require.NoError(t, os.Link(at("secret"), at("again")))
		require.NoError(t, os.Chmod(at("secret"), 0))
		require.NoError(t, os.Chmod(at("open/secret"), 0o600))
		require.NoError(t, os.Chmod(at("closed"), 0o700))
		require.NoError(t, os.Chmod(at("listed"), 0o744)) // names, but no way to them
	})
	if !nobody {
		return
	}
	for n, with := range []func(string, *os.File, *Config) (runner, error){newRunner, newPortable} {
		listed := []string{"listed/d", "listed"}[n] // os.Root cannot look into it at all
		copier := func(skip bool) (*Copier, string) {
			src, err := os.Open(filepath.Join(dir, "src"))
			require.NoError(t, err)
			defer src.Close()
			dst := filepath.Join(dir, fmt.Sprintf("dst%d%v", n, skip))
			run, err := with(dst, src, (&Config{SkipUnreadable: skip}).withDefaults())
			require.NoError(t, err)
			c := &Copier{src: src.Name(), run: run}
			t.Cleanup(func() { require.NoError(t, c.Close()) })
			return c, dst
		}
		c, _ := copier(false)
		_, err := c.Finish(t.Context())
		require.ErrorIs(t, err, os.ErrPermission)

		c, dst := copier(true)
		_, err = c.Pass(t.Context())
		require.NoError(t, err)
		report, err := c.Finish(t.Context())
		require.NoError(t, err)
		require.Empty(t, report.Moved)
		var unread []string
		for _, e := range report.Unread {
			require.ErrorIs(t, e, unix.EACCES)
			unread = append(unread, e.Path)
		}
		require.Equal(t, []string{"again", "closed", listed, "open/secret", "secret"}, unread)
		for _, name := range []string{"a", "open/b", "open/deep/e"} {
			got, err := os.ReadFile(filepath.Join(dst, name))
			require.NoError(t, err)
			require.Equal(t, name, string(got))
		}
		for _, name := range unread {
			require.NoFileExists(t, filepath.Join(dst, name))
		}
		require.NoDirExists(t, filepath.Join(dst, "closed"))
	}
}
