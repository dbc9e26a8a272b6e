package treeset

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFS brings the file system that holds path to stable storage.
func SyncFS(ctx context.Context, path string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: path, Err: err}
	}
	return nil
}
