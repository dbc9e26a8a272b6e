package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A claim is a temporary file or directory that a process is using. It is locked, so that another
// process that finds it knows whether its owner is still there.
type claim struct {
	path string
	file *os.File // holds the lock: the file itself, or a file in the directory
}

// claimFile makes a file that its user alone can read. The pattern is one of os.CreateTemp. The
// journal names the file before it is there.
func claimFile(dir, pattern string, journal *leftJournal) (*claim, error) {
	return claimName(dir, pattern, journal, func(path string) (*claim, error) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		return (&claim{path, f}).lock()
	})
}

// maxRandom is the most bytes that the random part of a claim's name has: a uint64 in base 36.
const maxRandom = 13

// claimName has a claim made under names that nobody has, until one stays: the pattern, which ends
// in "*", with a random text in place of that. make returns nil for a claim that did not stay.
func claimName(dir, pattern string, journal *leftJournal, make func(path string) (*claim, error)) (*claim, error) {
	for range 10 {
		path := filepath.Join(dir, strings.TrimSuffix(pattern, "*")+strconv.FormatUint(rand.Uint64(), 36))
		if err := journal.add(path); err != nil {
			return nil, err
		}
		c, err := make(path)
		if err == nil && c != nil {
			return c, nil
		}
		errJournal := journal.remove(path)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(err, errJournal)
		}
	}
	return nil, fmt.Errorf("no name in %s stays free", dir)
}

// lockName is the file of a claimed directory that is locked.
const lockName = "lock"

// claimDir makes a directory that its user alone can enter. The journal names it before it is
// there.
func claimDir(dir, pattern string, journal *leftJournal) (*claim, error) {
	return claimName(dir, pattern, journal, func(path string) (*claim, error) {
		if err := os.Mkdir(path, 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // it was taken for left behind
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(path))
		}
		return (&claim{path, f}).lock()
	})
}

// lock is lockKept for a claim that was just made, which goes where it cannot be locked. It returns
// nil where another process has taken it for left behind.
func (c *claim) lock() (*claim, error) {
	ok, err := c.lockKept()
	if err != nil {
		os.RemoveAll(c.path)
	}
	if err != nil || !ok {
		return nil, err
	}
	return c, nil
}

// lockKept locks, and reports whether the file is still there: another process may have taken it
// for left behind just before. The file is closed where it does not.
func (c *claim) lockKept() (bool, error) {
	ok, err := tryLock(c.file)
	if err == nil && ok {
		held, errHeld := c.file.Stat()
		now, errNow := os.Stat(c.file.Name())
		if errHeld == nil && errNow == nil && os.SameFile(held, now) {
			return true, nil
		}
	}
	c.file.Close()
	if err != nil {
		return false, fmt.Errorf("locking %s: %w", c.path, err)
	}
	return false, nil
}

// leftBehind takes over a claim whose process has ended. Nil: somebody is using it, or it is no
// claim of this user's.
func leftBehind(path string, dir bool) *claim {
	info, err := os.Lstat(path)
	if err != nil || info.IsDir() != dir || !dir && !info.Mode().IsRegular() || !ownedByMe(info) {
		return nil
	}
	name := path
	if dir {
		name = filepath.Join(path, lockName)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		if dir && errors.Is(err, fs.ErrNotExist) {
			os.Remove(path) // it is empty, or stays: its maker was killed, or makes another one
		}
		return nil
	}
	if ok, err := tryLock(f); err != nil || !ok {
		f.Close()
		return nil
	}
	return &claim{path, f}
}

// rename gives a complete file its name.
func (c *claim) rename(target string) error {
	if renameOpen {
		return errors.Join(os.Rename(c.path, target), c.file.Close())
	}
	if err := c.file.Close(); err != nil {
		return err
	}
	return os.Rename(c.path, target)
}

// remove removes what was claimed. Of a directory the lock goes last: what is left by a process
// that is killed meanwhile is still known as a claim.
func (c *claim) remove() error {
	if err := c.empty(); err != nil {
		return errors.Join(err, c.file.Close())
	}
	if renameOpen {
		return errors.Join(removeAll(c.path), c.file.Close())
	}
	return errors.Join(c.file.Close(), removeAll(c.path))
}

// empty removes what is in a claimed directory besides the lock.
func (c *claim) empty() error {
	if c.file.Name() == c.path {
		return nil // a file
	}
	entries, err := os.ReadDir(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if e.Name() != lockName {
			errs = append(errs, removeAll(filepath.Join(c.path, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweepFiles removes what runs have left that were to write target and did not end by themselves.
func sweepFiles(target string) {
	own := strings.TrimSuffix(outputPattern(target), "*")
	found, err := filepath.Glob(filepath.Join(globQuote(filepath.Dir(target)), globQuote(own)+"*"))
	if err != nil {
		return
	}
	for _, path := range found {
		if c := leftBehind(path, false); c != nil {
			c.remove()
		}
	}
}

// removeAll removes a tree, directories that nobody can write to, too.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}

// globQuote makes a pattern of filepath.Glob that means a name.
func globQuote(name string) string {
	var b []byte
	for i := range len(name) {
		switch c := name[i]; {
		case c == '*' || c == '?' || c == '[':
			b = append(b, '[', c, ']')
		case c == '\\' && os.PathSeparator != '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
