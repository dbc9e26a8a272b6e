package zfs

import (
	"errors"
	"fmt"
	"os/exec"
)

// supported fails where the program is not installed.
func supported(zfs string) error {
	if _, err := exec.LookPath(zfs); err != nil {
		return fmt.Errorf("zfs: %w: %w", err, errors.ErrUnsupported)
	}
	return nil
}
