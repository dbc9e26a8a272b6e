//go:build !linux

package reflink

import (
	"errors"
	"fmt"
)

func supported() error {
	return fmt.Errorf("files can be cloned on Linux only: %w", errors.ErrUnsupported)
}

func check(volume, dir string) error { return supported() }
