package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A leftJournal names what a run has on this machine until it ends: temporary directories and
// files. It is a file next to that of -journal, which names what is on servers. Each line is a
// path, quoted as in Go.
type leftJournal struct{ path string }

// openLeftJournal returns the journal next to that of -journal; "" means none.
func openLeftJournal(journal string) *leftJournal {
	if journal == "" {
		return nil
	}
	return &leftJournal{journal + ".local"}
}

func (j *leftJournal) add(path string) error {
	return j.change(func(paths []string) []string { return append(paths, path) })
}

func (j *leftJournal) remove(path string) error {
	return j.change(func(paths []string) []string {
		return slices.DeleteFunc(paths, func(p string) bool { return p == path })
	})
}

// change reads the journal, changes it, and removes it when it is empty.
func (j *leftJournal) change(change func([]string) []string) error {
	if j == nil {
		return nil
	}
	f, err := j.open()
	if err != nil {
		return fmt.Errorf("-journal: %s: %w", j.path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("-journal: %w", err)
	}
	var paths []string
	for line := range strings.Lines(string(b)) {
		// a line that a crash has cut names nothing yet
		if path, err := strconv.Unquote(strings.TrimSpace(line)); err == nil {
			paths = append(paths, path)
		}
	}
	if paths = change(paths); len(paths) == 0 {
		return os.Remove(j.path)
	}
	var text strings.Builder
	for _, path := range paths {
		fmt.Fprintln(&text, strconv.Quote(path))
	}
	// Written over what is there, and then cut: a crash leaves whole lines of the one or the other.
	_, err = f.WriteAt([]byte(text.String()), 0)
	if err == nil {
		err = f.Truncate(int64(text.Len()))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("-journal: %w", err)
	}
	return nil
}

// open opens the file and locks it. Nobody holds the lock for long.
func (j *leftJournal) open() (*os.File, error) {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if ok, err := (&claim{j.path, f}).lockKept(); err != nil || ok {
			return f, err
		}
		if time.Now().After(deadline) {
			return nil, errors.New("another process does not let go of it")
		}
	}
}

// recover removes what the journal names. It reports whether it named anything.
func (j *leftJournal) recover(ctx context.Context) (bool, error) {
	if _, err := os.Stat(j.path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var named []string
	if err := j.change(func(paths []string) []string { named = slices.Clone(paths); return paths }); err != nil {
		return false, err
	}
	var errs []error
	for _, path := range named {
		if !strings.Contains(filepath.Base(path), "fsrvp-backup-") {
			continue // a journal that somebody has edited
		}
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
			continue
		case info.IsDir():
			if err := recoverTemp(ctx, path); err != nil {
				errs = append(errs, err)
				continue
			}
		default:
			if c := leftBehind(path, false); c != nil {
				errs = append(errs, c.remove())
			}
		}
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, j.remove(path))
		} // else somebody is using it
	}
	return true, errors.Join(errs...)
}
