package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
)

// removeEntry removes a name in a directory. The argument isDir is only a hint.
func removeEntry(ctx context.Context, parent *os.Root, name string, isDir bool) error {
	if !isDir {
		if err := parent.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	fi, err := parent.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.IsDir() { // unless another process removes the tree too
		if err := removeContents(ctx, parent, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := parent.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func removeContents(ctx context.Context, parent *os.Root, name string) error {
	dir, err := parent.OpenRoot(name)
	if errors.Is(err, fs.ErrPermission) {
		if err := parent.Chmod(name, 0o700); err != nil {
			return err
		}
		dir, err = parent.OpenRoot(name)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	if os.Geteuid() > 0 { // root needs no permission, and Windows (-1) has other ones
		if err := dir.Chmod(".", 0o700); err != nil {
			return err
		}
	}
	for {
		entries, err := readSome(dir)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := removeEntry(ctx, dir, e.Name(), e.IsDir()); err != nil {
				return err
			}
		}
	}
}

// readSome opens the directory again each time, since it shrinks.
func readSome(dir *os.Root) ([]fs.DirEntry, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(1024)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return entries, err
}
