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

// Remove removes path, an absolute path, and all below it. It follows no symbolic link out of the
// tree, and makes directories writable that the user of the process owns. Nothing being there is no
// error. It ends early, with context.Cause(ctx), when ctx ends; then part of the tree is left.
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
