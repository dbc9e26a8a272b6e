//go:build !linux

package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Remove removes path, an absolute path, and everything below it. It follows no symbolic links out
// of the tree, and makes directories writable that the user of the process owns. It is not an error
// if path does not exist. When ctx ends, it stops with context.Cause(ctx), and leaves a part of the
// tree.
func Remove(ctx context.Context, path string) error {
	parent, err := os.OpenRoot(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := removeEntry(ctx, parent, filepath.Base(path), true); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
