//go:build !linux

package tree

import "os"

func newRunner(dst string, src *os.File, cfg *Config) (runner, error) {
	return newPortable(dst, src, cfg)
}
