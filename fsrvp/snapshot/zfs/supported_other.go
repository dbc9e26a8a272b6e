//go:build !linux

package zfs

import (
	"errors"
	"fmt"
)

func supported(string) error {
	return fmt.Errorf("zfs: datasets are mounted as on Linux only: %w", errors.ErrUnsupported)
}
