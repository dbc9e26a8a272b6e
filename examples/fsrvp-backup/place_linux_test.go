package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMounts(t *testing.T) {
	m := parseMounts(strings.NewReader(`22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 254:0 /data/sub /mnt/a\040b rw - ext4 /dev/vda rw
31 22 0:40 / /data/other rw - tmpfs none rw
32 22 254:0 /srv /mnt/x rw - ext4 /dev/vda rw
33 32 0:41 /@home /mnt/x rw - btrfs none rw
bad
`))
	for dir, want := range map[string]place{
		"/":            {"254:0", "/"},
		"/data/s":      {"254:0", "/data/s"},
		"/data/other":  {"0:40", "/"},
		"/mnt/a b/c":   {"254:0", "/data/sub/c"},
		"/mnt/a bc":    {"254:0", "/mnt/a bc"},
		"/mnt/x/y":     {"0:41", "/@home/y"},
		"/data/others": {"254:0", "/data/others"},
	} {
		got, ok := m.of(dir)
		require.True(t, ok, dir)
		require.Equal(t, want, got, dir)
	}
	_, ok := mounts{}.of("/")
	require.False(t, ok)
}

// TestOutputThatCannotBeReplaced has -out where a rename would fail at the end: it fails at the
// beginning.
func TestOutputThatCannotBeReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	if out, err := exec.Command("unshare", "-m", "mount", "--make-rprivate", "/").CombinedOutput(); err != nil {
		if os.Getenv("FSRVP_PEERS") == "require" {
			t.Fatalf("no mount namespace: %v: %s", err, out)
		}
		t.Skipf("no mount namespace: %v: %s", err, out)
	}
	for name, tt := range map[string]struct{ script, want string }{
		"a file that is mounted": {
			`: >o.tar; : >other; mount --bind other o.tar; try src o.tar; umount o.tar`, "something is mounted there",
		},
		"a part of the source by another mount": {
			`mkdir src/part m; mount --bind src/part m; try src m/o.tar; umount m`, "the archive would be part of itself",
		},
		"the source by another mount": {
			`mkdir m; mount --bind src m; try src m/o.tar; umount m`, "the archive would be part of itself",
		},
		"a file of another user in a directory with the sticky bit": {
			`chmod 1777 .; chmod 755 src; : >o.tar; chmod 644 o.tar; as="setpriv --reuid=65534 --regid=65534 --clear-groups"; try src o.tar`,
			"of another user",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/var/tmp", "fsrvp-backup-place-")
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			require.NoError(t, os.Chmod(dir, 0o755))
			cmd := program1(t)
			exe, err := os.ReadFile(cmd.Path) // where the test's binary is nobody else can go
			require.NoError(t, err)
			program := filepath.Join(dir, "program")
			require.NoError(t, os.WriteFile(program, exe, 0o755))
			script := `cd ` + dir + ` && mkdir src && echo x >src/f || exit 99
try() { $as ` + program + ` -local "$1" -out "$2"; echo "status $?"; ls -A . ${2%/*} | grep fsrvp; }
` + tt.script
			run := exec.Command("unshare", "-m", "sh", "-c", "mount --make-rprivate / && "+script)
			run.Env = cmd.Env
			out, _ := run.CombinedOutput() // whose status is that of the script's last command
			require.Contains(t, string(out), tt.want)
			require.Contains(t, string(out), "status 1")
			require.NotContains(t, string(out), ".fsrvp")
		})
	}
}
