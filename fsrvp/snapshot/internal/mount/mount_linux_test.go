package mount

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	all, err := parse(strings.NewReader(`36 35 98:0 / / rw,noatime master:1 - ext3 /dev/root rw
40 36 0:33 /sub /srv/a\040b\134c rw shared:2 propagate_from:3 - btrfs /dev/sdb rw,subvol=/sub
41 36 0:34 / /mnt/caf` + "\xc3\xa9" + ` rw - fuse.sshfs me@host: rw`))
	require.NoError(t, err)
	require.Equal(t, []Mount{
		{Point: "/", Type: "ext3", Source: "/dev/root", Root: "/"},
		{Point: `/srv/a b\c`, Type: "btrfs", Source: "/dev/sdb", Root: "/sub"},
		{Point: "/mnt/caf\u00e9", Type: "fuse.sshfs", Source: "me@host:", Root: "/"},
	}, all)
	require.False(t, all[1].Remote())
	require.True(t, all[2].Remote())

	for _, bad := range []string{"\n", "36 35 98:0 / /\n", "36 35 98:0 / - ext3 x rw\n"} {
		_, err := parse(strings.NewReader(bad))
		require.Error(t, err, "%q", bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("36 35 98:0 / / rw,noatime master:1 - ext3 /dev/root rw\n")
	f.Add("40 36 0:33 /sub /srv/a\\040b\\134c\\0 rw - btrfs /dev/sdb rw\n")
	f.Fuzz(func(t *testing.T, s string) {
		all, err := parse(strings.NewReader(s))
		if err == nil && len(all) > strings.Count(s, "\n")+1 {
			t.Fatalf("%d mounts in %q", len(all), s)
		}
	})
}

func TestOfThisMachine(t *testing.T) {
	root, err := Of("/")
	require.NoError(t, err)
	require.Equal(t, "/", root.Point)

	proc, err := Of("/proc/version")
	require.NoError(t, err)
	require.Equal(t, Mount{Point: "/proc", Type: "proc", Source: "proc", Root: "/"}, proc)

	below, err := Below("/")
	require.NoError(t, err)
	require.Contains(t, below, "/proc")
	below, err = Below(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, below)

	_, err = Of(filepath.Join(t.TempDir(), "nothing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestWithin(t *testing.T) {
	require.True(t, Within("/a/b", "/a/b"))
	require.True(t, Within("/a/b/c", "/a/b"))
	require.True(t, Within("/a/..b", "/a"))
	require.True(t, Within("/a", "/"))
	require.False(t, Within("/a/bc", "/a/b"))
	require.False(t, Within("/a", "/a/b"))
}
