package agent_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/agent/state"
	"github.com/go-fsrvp/go-fsrvp/fsrvp/internal/fileid"
	sharemem "github.com/go-fsrvp/go-fsrvp/fsrvp/share/memory"
)

// saysEnough skips a test where the file system does not distinguish a file from its copy.
func saysEnough(t *testing.T, dir string) {
	t.Helper()
	if fileid.Of(dir) == "" {
		t.Skip("the file system does not say when a file was made")
	}
}

// copyDir copies the files of a directory into a new one.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o700))
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, e.Name()), b, 0o600))
	}
}

// TestCopiedStore: an agent on a copy of another's store would take the other's copies for its own.
func TestCopiedStore(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"whole":            func(*testing.T, string) {},
		"without the id":   func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "store.id"))) },
		"with a broken id": func(t *testing.T, dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "store.id"), 20)) },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			saysEnough(t, top)
			here, there := filepath.Join(top, "here"), filepath.Join(top, "there")
			require.NoError(t, os.Mkdir(here, 0o700))
			r := newRig(t, func(r *rig) { r.cfg.StorePath = filepath.Join(here, "store") })
			r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, db)
			l := r.bring(t, fsrvp.ContextBackup, agent.Exposed, vms) // in use as long as the agent runs
			copyDir(t, here, there)
			spoil(t, there)
			second := *r.cfg
			second.StorePath = filepath.Join(there, "store")
			for range 3 { // a start that fails does not make the next one succeed
				_, err := agent.New(t.Context(), &second)
				require.ErrorIs(t, err, agent.ErrStateCopied)
				require.ErrorContains(t, err, second.StorePath)
				if name == "whole" {
					require.ErrorContains(t, err, r.cfg.StorePath)
				}
			}
			r.requireInvariant(t)
			require.Equal(t, agent.Exposed, r.status(l.set))
			require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
			require.NoError(t, r.Close())
			r.start(t)
			require.Len(t, r.Table(), 1)
			require.NoError(t, r.Close())

			// The first one is gone, so an administrator has the second one go on.
			require.NoError(t, os.RemoveAll(here))
			second.AcceptState = true
			r.cfg = &second
			r.start(t)
			require.NoError(t, r.Close())
			r.cfg.AcceptState = false
			r.start(t)
			require.Len(t, r.Table(), 1)
			r.requireInvariant(t)
		})
	}
}

// TestMovedStore: a store is where its directory is, by whatever path.
func TestMovedStore(t *testing.T) {
	top := t.TempDir()
	saysEnough(t, top)
	here, there := filepath.Join(top, "here"), filepath.Join(top, "there")
	require.NoError(t, os.Mkdir(here, 0o700))
	r := newRig(t, func(r *rig) { r.cfg.StorePath = filepath.Join(here, "store") })
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
	require.NoError(t, r.Close())
	require.NoError(t, os.Rename(here, there))
	require.NoError(t, os.Symlink(top, top+"-link"))
	defer os.Remove(top + "-link")
	for _, dir := range []string{there, filepath.Join(top+"-link", "there"), there} {
		r.cfg.StorePath = filepath.Join(dir, "store")
		r.start(t)
		require.Equal(t, agent.Exposed, r.status(l.set))
		require.NoError(t, r.Close())
	}
	require.NoError(t, os.Symlink(there, here))
	r.cfg.StorePath = filepath.Join(here, "store")
	_, err := agent.New(t.Context(), r.cfg)
	require.ErrorContains(t, err, "symbolic link")
	require.NoError(t, os.Remove(here))
	r.cfg.StorePath = filepath.Join(there, "store")
	r.start(t)
	require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
}

// TestOldPlace: a store of a version that did not write its place belongs where it is found.
func TestOldPlace(t *testing.T) {
	r := newRig(t, nil)
	l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
	require.NoError(t, r.Close())
	b, err := os.ReadFile(r.cfg.StorePath + ".id")
	require.NoError(t, err)
	lines := strings.SplitAfter(string(b), "\n")
	require.Len(t, lines, 4)
	require.Contains(t, lines[1], strconv.Quote(r.cfg.StorePath))
	old := fmt.Sprintf("%s%x\n", lines[0], sha256.Sum256([]byte(lines[0])))
	require.NoError(t, os.WriteFile(r.cfg.StorePath+".id", []byte(old), 0o600))
	r.start(t)
	require.Equal(t, agent.Exposed, r.status(l.set))
}

// TestRestoredStore puts a whole store back that was saved while a set was in creation. Since then
// its client was told that it is complete, which no copy shows. It is not deleted.
func TestRestoredStore(t *testing.T) {
	for _, status := range []agent.SetStatus{agent.Started, agent.Added, agent.Committed, agent.Exposed} {
		for _, id := range []bool{true, false} {
			t.Run(string(status), func(t *testing.T) {
				dir := filepath.Join(quickDir(t), "state")
				saysEnough(t, filepath.Dir(dir))
				require.NoError(t, os.Mkdir(dir, 0o700))
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, func(r *rig) { r.cfg.StorePath = filepath.Join(dir, "store") })
					done := r.bring(t, fsrvp.ContextAppRollback, agent.Recovered, db)
					l := r.bring(t, fsrvp.ContextNASRollback, status, vms)
					require.NoError(t, r.Close())
					copyDir(t, dir, dir+"-saved")
					r.start(t)
					if status == agent.Exposed {
						require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
					}
					require.NoError(t, r.Close())
					snapshots, shares := len(r.listSnapshots(t)), len(r.listShares(t))

					require.NoError(t, os.RemoveAll(dir))
					copyDir(t, dir+"-saved", dir)
					if !id {
						require.NoError(t, os.Remove(filepath.Join(dir, "store.id")))
					}
					for range 2 {
						r.start(t)
						require.NoError(t, r.SetContext(client2, fsrvp.ContextNASRollback), "no creation is in progress")
						time.Sleep(time.Hour)
						synctest.Wait()
						require.Equal(t, agent.Recovered, r.status(done.set))
						want := agent.SetStatus("")
						if status == agent.Exposed {
							want = agent.Exposed
						}
						require.Equal(t, want, r.status(l.set))
						require.Len(t, r.listSnapshots(t), snapshots)
						require.Len(t, r.listShares(t), shares)
						require.NoError(t, r.Close())
					}
				})
			})
		}
	}
}

// TestImportedStore: so it is with one that an administrator has saved and brings back; and one
// that shows that it is older than the copies is refused.
func TestImportedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		saysEnough(t, filepath.Dir(r.cfg.StorePath))
		l := r.bring(t, fsrvp.ContextNASRollback, agent.Exposed, vms)
		saved, err := agent.ReadState(r.cfg.StorePath)
		require.NoError(t, err)
		require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
		require.NoError(t, r.Close())
		for range 2 {
			_, err = agent.WriteState(r.cfg.StorePath, saved)
			require.NoError(t, err)
			r.start(t)
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Equal(t, agent.Exposed, r.status(l.set))
			require.Len(t, r.listShares(t), 1)
			require.NoError(t, r.Close())
		}
		r.start(t)
		r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, db)
		require.NoError(t, r.Close())
		_, err = agent.WriteState(r.cfg.StorePath, saved)
		require.NoError(t, err)
		_, err = agent.New(t.Context(), r.cfg)
		require.ErrorIs(t, err, agent.ErrStateLost)
		require.Len(t, r.listShares(t), 2)
		r.cfg.AcceptState = true
		r.start(t)
		require.Len(t, r.listShares(t), 2)
	})
}

// TestFirstStartOnFullDisk: the first start finds no space for the store, or for a part of it. When
// there is some, it begins; next to copies of a lost store it does not.
func TestFirstStartOnFullDisk(t *testing.T) {
	if !inNamespace(t, "mount") {
		return
	}
	dir, err := os.MkdirTemp(images, "small-")
	require.NoError(t, err)
	require.NoError(t, unix.Mount("small", dir, "tmpfs", 0, "size=256k,mode=0700"))
	defer func() { require.NoError(t, unix.Unmount(dir, 0)) }()
	filler, path := filepath.Join(dir, "filler"), filepath.Join(dir, "store")
	began := 0
	for free := int64(0); free <= 160<<10; free += 4 << 10 {
		f, err := os.Create(filler)
		require.NoError(t, err)
		require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, 252<<10-free))
		require.NoError(t, f.Close())
		r := &rig{as: client1, other: client2, cfg: &agent.Config{StorePath: path, Names: []string{"fs1", "192.0.2.1"}}}
		r.snapshots, r.shares = newBackends()
		r.cfg.Snapshots, r.cfg.Shares = r.snapshots, r.shares
		a, err := agent.New(t.Context(), r.cfg)
		if err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			require.NoError(t, os.Remove(filler))
			r.start(t)
		} else {
			r.Agent = a
			require.NoError(t, os.Remove(filler))
			began++
		}
		r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
		require.NoError(t, r.Close())
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Truncate(path+".id", 0)) // as a first start that found no space leaves it
		_, err = agent.New(t.Context(), r.cfg)
		require.ErrorIs(t, err, agent.ErrStateLost)
		require.Len(t, r.listShares(t), 1)
		for _, suffix := range []string{"", ".id", ".new"} {
			if err := os.Remove(path + suffix); !errors.Is(err, fs.ErrNotExist) {
				require.NoError(t, err)
			}
		}
	}
	require.Positive(t, began, "there was never enough space")
}

// TestReadOnlyMount: a container sees the host's file system, with the store, read-only.
func TestReadOnlyMount(t *testing.T) {
	if !inNamespace(t, "mount") {
		return
	}
	r := newRig(t, nil)
	r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	r.bring(t, fsrvp.ContextBackup, agent.Exposed, db)
	dir := filepath.Dir(r.cfg.StorePath)
	inside, err := os.MkdirTemp(images, "container-")
	require.NoError(t, err)
	require.NoError(t, unix.Mount(dir, inside, "", unix.MS_BIND, ""))
	defer func() { require.NoError(t, unix.Unmount(inside, 0)) }()
	cfg := *r.cfg
	cfg.StorePath = filepath.Join(inside, "store")
	_, err = agent.New(t.Context(), &cfg)
	require.ErrorIs(t, err, agent.ErrStoreInUse, "it is the same one")
	require.NoError(t, unix.Mount("", inside, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err = agent.New(t.Context(), &cfg)
	require.ErrorIs(t, err, unix.EROFS)
	require.ErrorContains(t, err, cfg.StorePath)
	saved, err := agent.ReadState(cfg.StorePath)
	require.NoError(t, err)
	require.Len(t, saved.Sets, 2)
	r.requireInvariant(t)
}

var errBroken = errors.New("broken")

// TestStoreBeforeExpose puts the contents of a store back that was saved while a set was Committed:
// its shares show that it was exposed since.
func TestStoreBeforeExpose(t *testing.T) {
	for _, to := range []agent.SetStatus{agent.Exposed, agent.Recovered} {
		for _, failures := range []int{0, 1} {
			t.Run(string(to), func(t *testing.T) {
				r := newRig(t, nil)
				l := r.bring(t, fsrvp.ContextNASRollback, agent.Committed, vms, db)
				for range failures { // after which it may be exposed again
					r.shares.Fault = func(_ context.Context, p sharemem.Point) error {
						if p.Method == "Expose" && p.Done {
							return errBroken
						}
						return nil
					}
					require.ErrorIs(t, r.ExposeShadowCopySet(client1, l.set, wait), errBroken)
					r.shares.Fault = nil
				}
				require.NoError(t, r.Close())
				r.start(t)
				old, err := os.ReadFile(r.cfg.StorePath)
				require.NoError(t, err)
				require.NoError(t, r.ExposeShadowCopySet(client1, l.set, wait))
				if to == agent.Recovered {
					require.NoError(t, r.RecoveryCompleteShadowCopySet(client1, l.set))
				}
				table := r.Table()
				require.NoError(t, r.Close())
				now, err := os.ReadFile(r.cfg.StorePath)
				require.NoError(t, err)

				require.NoError(t, os.WriteFile(r.cfg.StorePath, old, 0o600))
				for range 2 {
					_, err = agent.New(t.Context(), r.cfg)
					require.ErrorIs(t, err, agent.ErrStateLost)
					require.Len(t, r.listSnapshots(t), 2)
					require.Len(t, r.listShares(t), 2)
				}
				require.NoError(t, os.WriteFile(r.cfg.StorePath, now, 0o600))
				r.start(t)
				require.ElementsMatch(t, table, r.Table())
			})
		}
	}
}

// TestUnknownField: what a later version has written is not forgotten.
func TestUnknownField(t *testing.T) {
	r := newRig(t, nil)
	r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
	require.NoError(t, r.Close())
	for _, prefix := range []string{"set/", "copy/", "share/", "creation"} {
		var was []byte
		change := func(f func(b []byte) []byte) {
			edit(t, r.cfg.StorePath, func(m map[string][]byte) {
				for k, b := range m {
					if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
						m[k] = f(b)
					}
				}
			})
		}
		for _, more := range []string{`,"later":1}`, `}{}`, `} x`} {
			change(func(b []byte) []byte { was = b; return append(b[:len(b)-1:len(b)-1], more...) })
			_, err := agent.New(t.Context(), r.cfg)
			require.ErrorContains(t, err, prefix)
			require.ErrorContains(t, err, "another version")
			change(func([]byte) []byte { return was })
		}
	}
	r.start(t)
	r.requireInvariant(t)
}

// TestNoFile puts things that are not an agent's files at the paths of the store and of the files
// next to it. The agent neither removes them nor waits for them.
func TestNoFile(t *testing.T) {
	for name, make := range noFiles {
		for _, suffix := range []string{"", ".id", ".new"} {
			if name == "huge" && suffix == ".id" {
				continue // it is damaged, and the file itself says the same
			}
			t.Run(name+suffix, func(t *testing.T) {
				r := newRig(t, nil)
				r.bring(t, fsrvp.ContextNASRollback, agent.Recovered, vms)
				require.NoError(t, r.Close())
				path := r.cfg.StorePath + suffix
				if err := os.Rename(path, path+".kept"); suffix != ".new" {
					require.NoError(t, err)
				}
				make(t, path)
				before, err := os.Lstat(path)
				require.NoError(t, err)
				_, err = agent.New(t.Context(), r.cfg)
				if suffix == ".new" { // in use when the file is written anew
					require.NoError(t, err, "no reason to look at it")
				} else {
					require.ErrorContains(t, err, path)
				}
				require.Len(t, r.listSnapshots(t), 1)
				now, err := os.Lstat(path)
				require.NoError(t, err)
				require.True(t, os.SameFile(before, now))
				_, err = state.Check(r.cfg.StorePath)
				if suffix == "" {
					require.ErrorContains(t, err, path)
				}
			})
		}
	}
}

var noFiles = map[string]func(t *testing.T, path string){
	"directory": func(t *testing.T, path string) {
		require.NoError(t, os.Mkdir(path, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
	},
	"huge": func(t *testing.T, path string) {
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Truncate(path, 1<<31))
	},
	"FIFO":          func(t *testing.T, path string) { require.NoError(t, unix.Mkfifo(path, 0o600)) },
	"dangling link": func(t *testing.T, path string) { require.NoError(t, os.Symlink(path+".none", path)) },
	"of all": func(t *testing.T, path string) {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o604))
		require.NoError(t, os.Chmod(path, fs.FileMode(0o604)))
	},
}
