package writer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/go-fsrvp/go-fsrvp/fsrvp/provider"
)

// From linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int). The number is the same on all
// architectures of Go except mips, ppc and sparc, which swap the direction bits.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// fsFreezer is FSFreeze in a guard.
type fsFreezer struct {
	spec   *fsFreezeSpec
	mounts []*os.File // opened before the freeze: no path needs to be resolved for a thaw
	frozen []bool
	// adopted means that frozen is a guess: a file system that is not frozen is not an error.
	adopted bool
}

func newFSFreezer(s *fsFreezeSpec) holder { return &fsFreezer{spec: s} }

// open refuses file systems whose freeze would block the guard itself, and writes out cached data
// ahead.
func (f *fsFreezer) open(ctx context.Context) error {
	if err := f.openMounts(); err != nil {
		return err
	}
	for _, m := range f.mounts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := unix.Syncfs(int(m.Fd())); err != nil {
			return fmt.Errorf("sync %s: %w", m.Name(), err)
		}
	}
	return nil
}

func (f *fsFreezer) openMounts() error {
	seen := make(map[uint64]string)
	for path, what := range map[string]string{"/": "the root directory", "/proc/self/fd/2": "standard error"} {
		if info, err := os.Stat(path); err == nil && (info.IsDir() || info.Mode().IsRegular()) {
			seen[device(info)] = what
		}
	}
	for _, path := range f.spec.Mounts {
		m, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f.mounts, f.frozen = append(f.mounts, m), append(f.frozen, false)
		info, err := m.Stat()
		if err != nil {
			return err
		}
		if other := seen[device(info)]; other != "" {
			return fmt.Errorf("%s is on the same file system as %s, and cannot be frozen besides it or "+
				"from within it", path, other)
		}
		seen[device(info)] = path
	}
	return nil
}

func (f *fsFreezer) freeze(ctx context.Context) error {
	if len(f.mounts) == 0 {
		return errors.New("the file systems were already frozen and thawed; prepare again")
	}
	for i, m := range f.mounts {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := unix.IoctlSetInt(int(m.Fd()), fiFreeze, 0)
		switch {
		case errors.Is(err, unix.EBUSY):
			return fmt.Errorf("freeze %s: another program has already frozen it: %w", m.Name(), err)
		case errors.Is(err, unix.EOPNOTSUPP):
			return fmt.Errorf("freeze %s: its file system cannot be frozen: %w", m.Name(), err)
		case err != nil:
			return fmt.Errorf("freeze %s: %w", m.Name(), err)
		}
		f.frozen[i] = true
	}
	return nil
}

func (f *fsFreezer) thaw(context.Context) error {
	if f.adopted && f.mounts == nil {
		if err := f.openMounts(); err != nil {
			f.close()
			return err
		}
		for i := range f.frozen {
			f.frozen[i] = true
		}
	}
	var errs []error
	lost := false
	for i, m := range slices.Backward(f.mounts) {
		if !f.frozen[i] {
			continue
		}
		err := unix.IoctlSetInt(int(m.Fd()), fiThaw, 0)
		if err == nil || errors.Is(err, unix.EINVAL) { // EINVAL: it is not frozen
			f.frozen[i] = false
			lost = lost || err != nil && !f.adopted
			continue
		}
		errs = append(errs, fmt.Errorf("thaw %s: %w", m.Name(), err))
	}
	if errs == nil {
		f.close() // the caller may want to unmount after the thaw
	}
	if errs == nil && lost {
		return fmt.Errorf("something else has thawed %q: %w", f.spec.Mounts, provider.ErrNotHeld)
	}
	return errors.Join(errs...)
}

func (f *fsFreezer) adopt() { f.adopted = true }

func (f *fsFreezer) close() {
	for _, m := range f.mounts {
		m.Close()
	}
	f.mounts, f.frozen = nil, nil
}

func device(info os.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Dev) }
