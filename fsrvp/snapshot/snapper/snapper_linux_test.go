package snapper

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) { snaptest.Main(m) }

const socket = "/run/dbus/system_bus_socket"

// newSnapshots starts a bus and snapper's daemon, with configurations of their own, until the test
// ends.
func newSnapshots(t *testing.T) *Snapshots {
	t.Helper()
	for _, program := range []string{"dbus-daemon", "snapperd", "snapper"} {
		if _, err := exec.LookPath(program); err != nil {
			snaptest.Missing(t, "%v", err)
		}
	}
	snaptest.Image(t, "btrfs", 114) // there is a namespace to mount in
	dir := snaptest.Dir(t)
	over := func(path string, file bool) {
		mine := filepath.Join(dir, strings.ReplaceAll(path, "/", "_"))
		if file {
			require.NoError(t, os.WriteFile(mine, []byte("SNAPPER_CONFIGS=\"\"\n"), 0o644))
		} else {
			require.NoError(t, os.MkdirAll(filepath.Join(mine, "configs"), 0o755))
		}
		if _, err := os.Stat(path); os.IsNotExist(err) {
			snaptest.Missing(t, "%v", err)
		}
		require.NoError(t, unix.Mount(mine, path, "", unix.MS_BIND, ""))
		t.Cleanup(func() { require.NoError(t, unix.Unmount(path, 0)) })
	}
	over("/etc/snapper", false)
	over("/etc/default/snapper", true)
	over("/run/dbus", false)
	start := func(name string, args ...string) {
		log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
		require.NoError(t, err)
		cmd := exec.Command(name, args...)
		cmd.Stdout, cmd.Stderr = log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
			log.Close()
			if t.Failed() {
				b, _ := os.ReadFile(log.Name())
				t.Logf("%s: %s", name, bytes.TrimSpace(b))
			}
		})
	}
	start("dbus-daemon", "--system", "--nofork", "--nopidfile", "--address=unix:path="+socket)
	require.Eventually(t, func() bool {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	start("snapperd", "--stdout")
	s, err := New(&Config{Address: "unix:path=" + socket})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, _, err := s.List(t.Context(), backend.Owner{})
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	return s
}

// configure makes a subvolume and snapper's configuration for it.
func configure(t *testing.T, name, path string) string {
	t.Helper()
	snaptest.Run(t, "btrfs", "-q", "subvolume", "create", path)
	snaptest.Run(t, "snapper", "-c", name, "create-config", path)
	return path
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(path, 0o755))
	return path
}

func TestConform(t *testing.T) {
	s := newSnapshots(t)
	one, two := snaptest.Mount(t, "btrfs", 300), snaptest.Mount(t, "btrfs", 300)
	snaptest.Conform(t, s, mkdir(t, filepath.Join(configure(t, "one", filepath.Join(one, "vms")), "share")),
		configure(t, "two", filepath.Join(two, "vms")))
}

func TestSnapper(t *testing.T) {
	s := newSnapshots(t)
	top := snaptest.Mount(t, "btrfs", 300)
	share := mkdir(t, filepath.Join(configure(t, "vms", filepath.Join(top, "vms")), "share"))
	v, err := s.Volume(t.Context(), share)
	require.NoError(t, err)
	require.Equal(t, "snapper:vms", v.ID)
	require.NoError(t, s.Prepare(t.Context(), []backend.Volume{v}))

	t.Run("refused", func(t *testing.T) {
		_, err := s.Volume(t.Context(), mkdir(t, filepath.Join(top, "elsewhere")))
		require.ErrorIs(t, err, fsrvp.ErrNotSupported)
		snaptest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(share, "nested"))
		for _, dir := range []string{share, filepath.Join(share, "nested"), filepath.Join(top, "vms")} {
			_, err = s.Volume(t.Context(), dir)
			require.ErrorIs(t, err, fsrvp.ErrNotSupported, dir)
		}
		snaptest.Run(t, "btrfs", "-q", "subvolume", "delete", filepath.Join(share, "nested"))
		gone := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: backend.Volume{ID: "snapper:gone", Path: v.Path}}
		_, err = s.Create(t.Context(), []backend.SnapshotSpec{gone})
		require.ErrorIs(t, err, fsrvp.ErrNotSupported)
		require.ErrorIs(t, s.Delete(t.Context(), gone), fsrvp.ErrNotSupported)
	})
	t.Run("marks", func(t *testing.T) {
		me, other := backend.Mark{Owner: backend.NewOwner("here"),
			Sequence: 3}, backend.Mark{Owner: backend.NewOwner("there")}
		spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Mark: me, Volume: v, Writable: true}
		made, err := s.Create(t.Context(), []backend.SnapshotSpec{spec})
		require.NoError(t, err)
		require.NoError(t, s.CheckPath(t.Context(), made[0], filepath.Join(made[0].Path, "share")))
		require.NoError(t, s.Seal(t.Context(), made[0]))
		require.ErrorIs(t, os.WriteFile(filepath.Join(made[0].Path, "share/new"), nil, 0o644), unix.EROFS)
		out, err := exec.Command("snapper", "-c", "vms", "list").CombinedOutput()
		require.NoError(t, err)
		require.Contains(t, string(out), "fsrvp-id="+spec.ID.String())
		snaptest.Run(t, "snapper", "-c", "vms", "create", "--description", "somebody else's")
		own, foreign, err := s.List(t.Context(), me.Owner)
		require.NoError(t, err)
		require.Len(t, own, 1)
		require.Equal(t, me, own[0].Mark)
		require.Empty(t, foreign)
		theirs := spec
		theirs.Mark = other
		require.ErrorIs(t, s.Delete(t.Context(), theirs), backend.ErrForeign)
		require.NoError(t, s.Delete(t.Context(), spec))
		require.NoDirExists(t, made[0].Path)
	})
	t.Run("replaced", func(t *testing.T) {
		require.NoError(t, os.Rename(filepath.Join(top, "vms"), filepath.Join(top, "was")))
		snaptest.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(top, "vms"))
		_, err := s.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
		require.ErrorContains(t, err, "is not the same directory")
	})
}

// TestStatus has what snapper fails with reach the client as what it means.
func TestStatus(t *testing.T) {
	for name, want := range map[string]error{
		"error.unknown_config": fsrvp.ErrNotSupported, "error.no_permissions": fsrvp.ErrAccessDenied, "error.quota": syscall.ENOSPC,
		"error.snapshot_in_use": syscall.EBUSY, "error.illegal_snapshot": fsrvp.ErrObjectNotFound,
	} {
		err := status(dbus.Error{Name: name, Body: []any{"details"}})
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, "details")
	}
	require.ErrorContains(t, status(dbus.Error{Name: "error.something"}), "error.something")
}

func TestNoBus(t *testing.T) {
	s, err := New(&Config{Address: "unix:path=" + filepath.Join(t.TempDir(), "nothing")})
	require.NoError(t, err)
	_, _, err = s.List(t.Context(), backend.Owner{})
	require.ErrorContains(t, err, "no connection to D-Bus")
	_, err = New(&Config{Timeout: -1})
	require.Error(t, err)
}

// TestLives kills processes that take and delete snapshots, at any moment. Snapper's daemon lives
// on.
func TestLives(t *testing.T) {
	again := func(t *testing.T) snaptest.Backend {
		s, err := New(&Config{Address: "unix:path=" + socket})
		require.NoError(t, err)
		return s
	}
	if snaptest.Living() {
		snaptest.Live(t, again(t))
	}
	newSnapshots(t)
	top := snaptest.Mount(t, "btrfs", 300)
	share := configure(t, "vms", filepath.Join(top, "vms"))
	snaptest.Many(t, share, 100)
	snaptest.Lives(t, snaptest.Life{
		Backend: again, Share: share,
		Left: func(t *testing.T) []string { return snaptest.Entries(t, filepath.Join(share, ".snapshots")) },
	})
}
