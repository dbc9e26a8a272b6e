//go:build !linux

package treeset

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// SyncFS brings all files below path to stable storage, one by one.
func SyncFS(ctx context.Context, path string) error {
	return filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrPermission) { // so it was not written to
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
