//go:build !linux

package tree

import "context"

// copyTree is Copy.
func copyTree(ctx context.Context, dst, src string, cfg *Config) error {
	return copyPortable(ctx, dst, src, cfg)
}
