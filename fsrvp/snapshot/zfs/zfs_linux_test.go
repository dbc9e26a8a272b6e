package zfs

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/backend"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/mount"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/program"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/snapshot/internal/snaptest"
)

func TestMain(m *testing.M) {
	if os.Getenv(stateEnv) != "" && len(os.Args) > 2 && os.Args[1] == "fake" {
		fake(os.Args[2:])
	}
	// With -race every program waits a second before it ends, and the fake runs hundreds of times.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	snaptest.Main(m)
}

// baseEnv has the directory of a rig for the processes of TestLives.
const baseEnv = "FSRVP_FAKE_ZFS_BASE"

// A rig is a backend on a fake.
type rig struct {
	*Snapshots
	t    *testing.T
	base string
	st   string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	snaptest.Image(t, "btrfs", 114) // there is a namespace to mount in
	r := &rig{t: t, base: snaptest.Dir(t)}
	t.Setenv(baseEnv, r.base)
	r.st = filepath.Join(r.base, "fake")
	require.NoError(t, os.Mkdir(r.st, 0o755))
	require.NoError(t, (&state{Datasets: map[string]*dataset{}, Snapshots: map[string]*snapshot{}}).save(r.st))
	t.Setenv(stateEnv, r.st)
	r.Snapshots = r.again()
	return r
}

// again makes one more backend of the same configuration.
func (r *rig) again() *Snapshots {
	r.t.Helper()
	fake := []string{"/proc/self/exe", "fake"}
	s, err := newSnapshots(&Config{
		Dir: filepath.Join(r.base, "snapshots"), Zfs: append(fake, "zfs"), Mount: append(fake,
			"mount"), Umount: append(fake, "umount"),
	}, "tmpfs")
	require.NoError(r.t, err)
	return s
}

// dataset makes one, and mounts it.
func (r *rig) dataset(name, path string) {
	r.t.Helper()
	require.NoError(r.t, os.MkdirAll(path, 0o755))
	require.NoError(r.t, unix.Mount(name, path, "tmpfs", 0, "mode=755,size=64m"))
	r.t.Cleanup(func() { // a directory above may have been moved, and the mount with it
		all, err := mount.All()
		require.NoError(r.t, err)
		for _, m := range all {
			if m.Type == "tmpfs" && m.Source == name && strings.HasPrefix(m.Point, r.base) {
				require.NoError(r.t, unix.Unmount(m.Point, unix.MNT_DETACH))
			}
		}
	})
	r.change(func(st *state) {
		st.Next++
		st.Datasets[name] = &dataset{GUID: strings.Repeat("7", st.Next), Mountpoint: path, Readonly: "off"}
	})
}

func (r *rig) change(f func(*state)) {
	r.t.Helper()
	st := new(state)
	require.NoError(r.t, st.load(r.st))
	f(st)
	require.NoError(r.t, st.save(r.st))
}

func (r *rig) at(parts ...string) string { return filepath.Join(append([]string{r.base}, parts...)...) }

func TestConform(t *testing.T) {
	r := newRig(t)
	r.dataset("tank/vms", r.at("vms"))
	r.dataset("tank/db", r.at("db"))
	r.dataset("other/home", r.at("home"))
	require.NoError(t, os.Mkdir(r.at("vms/share"), 0o755))
	snaptest.Conform(t, r, r.at("vms/share"), r.at("db"), r.at("home"))
	r.change(func(st *state) {
		require.Empty(t, st.Snapshots)
		require.Len(t, st.Datasets, 3, "no clone is left")
	})
	left, err := os.ReadDir(r.at("snapshots"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestSecure(t *testing.T) {
	r := newRig(t)
	base := r.at("base")
	require.NoError(t, os.Mkdir(base, 0o755))
	n := 0
	snaptest.Secure(t, r, base, func(path string) {
		n++
		r.dataset("tank/secure"+strings.Repeat("x", n), path)
	})
}

// TestOneCommand has all datasets of a pool in one snapshot command.
func TestOneCommand(t *testing.T) {
	r := newRig(t)
	var specs []backend.SnapshotSpec
	mark := backend.Mark{Owner: backend.NewOwner("here"), Sequence: 5}
	for _, name := range []string{"tank/a", "other/c", "tank/b"} {
		r.dataset(name, r.at(filepath.Base(name)))
		v, err := r.Volume(t.Context(), r.at(filepath.Base(name)))
		require.NoError(t, err)
		specs = append(specs, backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Mark: mark, Volume: v})
	}
	r.change(func(st *state) { st.Log = nil })
	made, err := r.Create(t.Context(), specs)
	require.NoError(t, err)
	require.Len(t, made, 3)
	r.change(func(st *state) {
		var snapshots []string
		for _, l := range st.Log {
			if strings.HasPrefix(l, "zfs snapshot ") {
				snapshots = append(snapshots, l)
			}
		}
		require.Len(t, snapshots, 2, "one for each pool")
		require.Equal(t, "zfs snapshot -o org.go-fsrvp:mark="+mark.String()+" tank/a@fsrvp-"+specs[0].ID.String()+" tank/b@fsrvp-"+specs[2].ID.String(),
			snapshots[0])
	})
	require.ErrorIs(t, os.WriteFile(filepath.Join(made[0].Path, "x"), nil, 0o644), unix.EROFS)
	own, foreign, err := r.List(t.Context(), mark.Owner)
	require.NoError(t, err)
	require.Len(t, own, 3)
	require.Empty(t, foreign)
	theirs := specs[0]
	theirs.Mark = backend.Mark{Owner: backend.NewOwner("there")}
	require.ErrorIs(t, r.Delete(t.Context(), theirs), backend.ErrForeign)

	for _, m := range made { // the machine restarts
		require.NoError(t, unix.Unmount(m.Path, 0))
	}
	s := r.again()
	require.NoError(t, s.remount(t.Context()))
	for _, m := range made {
		require.ErrorIs(t, os.WriteFile(filepath.Join(m.Path, "x"), nil, 0o644), unix.EROFS)
		require.NoError(t, s.Delete(t.Context(), m.SnapshotSpec))
	}
}

// TestFailures has each step fail with what zfs says, and nothing left of it.
func TestFailures(t *testing.T) {
	r := newRig(t)
	r.dataset("tank/vms", r.at("vms"))
	v, err := r.Volume(t.Context(), r.at("vms"))
	require.NoError(t, err)
	for command, c := range map[string]struct {
		says string
		want error
	}{
		"zfs snapshot":         {"cannot create snapshots : permission denied", fsrvp.ErrAccessDenied},
		"zfs snapshot -o":      {"cannot create snapshot 'tank/vms@x': out of space\nno snapshots were created", syscall.ENOSPC},
		"zfs hold":             {"cannot hold snapshot 'tank/vms@x': permission denied", fsrvp.ErrAccessDenied},
		"zfs clone":            {"cannot create 'tank/fsrvp-x': out of space", syscall.ENOSPC},
		"zfs get -Hp -o value": {"cannot open 'tank/vms': no such pool 'tank'", fsrvp.ErrObjectNotFound},
		"mount":                {"filesystem 'tank/vms@x' is already mounted", nil},
		"zfs list":             {"The ZFS modules cannot be auto-loaded.", fsrvp.ErrNotSupported},
	} {
		t.Run(command, func(t *testing.T) {
			r.change(func(st *state) { st.Fail = map[string]string{command: c.says} })
			spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v, Writable: true}
			_, err := r.Create(t.Context(), []backend.SnapshotSpec{spec})
			require.Error(t, err)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.ErrorContains(t, err, strings.Split(c.says, "\n")[0])
			r.change(func(st *state) {
				st.Fail = nil
				require.Empty(t, st.Snapshots)
				require.Len(t, st.Datasets, 1)
			})
		})
	}

	spec := backend.SnapshotSpec{ID: fsrvp.NewCopyID(), Volume: v, Writable: true}
	made, err := r.Create(t.Context(), []backend.SnapshotSpec{spec})
	require.NoError(t, err)
	open, err := os.Create(filepath.Join(made[0].Path, "open"))
	require.NoError(t, err)
	require.ErrorIs(t, r.Delete(t.Context(), spec), syscall.EBUSY, "a file is open")
	require.NoError(t, open.Close())
	snapshot := "tank/vms@fsrvp-" + spec.ID.String()
	r.change(func(st *state) { st.Datasets["tank/clone"] = &dataset{GUID: "1", Origin: snapshot} })
	require.ErrorIs(t, r.Delete(t.Context(), spec), syscall.EBUSY, "somebody has cloned it")
	r.change(func(st *state) { delete(st.Datasets, "tank/clone") })
	r.change(func(st *state) { st.Snapshots[snapshot].Holds = append(st.Snapshots[snapshot].Holds, "somebody's") })
	require.ErrorIs(t, r.Delete(t.Context(), spec), syscall.EBUSY, "somebody holds it")
	r.change(func(st *state) { st.Snapshots[snapshot].Holds = nil })
	require.NoError(t, r.Delete(t.Context(), spec))
	require.NoError(t, r.Delete(t.Context(), spec))
}

// TestReplaced has another dataset at the volume's path.
func TestReplaced(t *testing.T) {
	r := newRig(t)
	r.dataset("tank/vms", r.at("vms"))
	v, err := r.Volume(t.Context(), r.at("vms"))
	require.NoError(t, err)
	r.dataset("tank/other", r.at("vms"))
	_, err = r.Create(t.Context(), []backend.SnapshotSpec{{ID: fsrvp.NewCopyID(), Volume: v}})
	require.ErrorContains(t, err, "is the dataset tank/other now")
}

// TestStatus has texts of OpenZFS 2.3 that the fake does not say by itself.
func TestStatus(t *testing.T) {
	for text, want := range map[string]error{
		"could not find any snapshots to destroy; check snapshot names.": fsrvp.ErrObjectNotFound,
		"cannot open 'tank/x': dataset does not exist":                   fsrvp.ErrObjectNotFound,
		"cannot unmount '/mnt': pool or dataset is busy":                 syscall.EBUSY,
		"cannot destroy snapshot tank/vms@s1: dataset is busy":           syscall.EBUSY,
		"cannot set property for 'tank': permission denied":              fsrvp.ErrAccessDenied,
		"cannot open 'tank': pool I/O is currently suspended":            syscall.EIO,
	} {
		require.ErrorIs(t, status(&program.Error{Argv: []string{"zfs"}, Exit: 1, Stderr: text, Err: os.ErrInvalid}),
			want, text)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []*Config{{Dir: "relative", Zfs: []string{"true"}}, {Timeout: -1, Zfs: []string{"true"}},
		{Zfs: []string{"/nothing/here"}}} {
		_, err := New(t.Context(), cfg)
		require.Error(t, err)
	}
}

// TestLives kills processes that take and delete snapshots, at any moment, also while one of the
// programs works.
func TestLives(t *testing.T) {
	again := func(t *testing.T) snaptest.Backend {
		s := (&rig{t: t, base: os.Getenv(baseEnv)}).again()
		require.NoError(t, s.start(t.Context()))
		return s
	}
	if snaptest.Living() {
		snaptest.Live(t, again(t))
	}
	r := newRig(t)
	private := r.at("private")
	require.NoError(t, os.Mkdir(private, 0o700))
	share := filepath.Join(private, "vms")
	r.dataset("tank/vms", share)
	snaptest.Many(t, share, 20)
	snaptest.Lives(t, snaptest.Life{
		Backend: again, Share: share,
		Left: func(t *testing.T) []string {
			left := snaptest.Entries(t, r.at("snapshots"))
			all, err := mount.All()
			require.NoError(t, err)
			for _, m := range all {
				if strings.HasPrefix(m.Point, r.at("snapshots")) {
					left = append(left, m.Point)
				}
			}
			r.change(func(st *state) {
				for name := range st.Snapshots {
					left = append(left, name)
				}
				require.Len(t, st.Datasets, 1, "no clone is left")
			})
			return left
		},
	})
}
