//go:build !(linux && (386 || amd64 || arm || arm64 || loong64 || riscv64 || s390x))

package btrfsctl

import (
	"errors"
	"os"
)

// Supported reports whether the package supports this system.
const Supported = false

// Is returns false.
func Is(*os.File) (bool, error) { return false, nil }

// IsRoot fails with errors.ErrUnsupported.
func IsRoot(*os.File) (bool, error) { return false, errors.ErrUnsupported }

// FileSystem fails with errors.ErrUnsupported.
func FileSystem(*os.File) (UUID, error) { return UUID{}, errors.ErrUnsupported }

// Info fails with errors.ErrUnsupported.
func Info(*os.File) (Subvolume, error) { return Subvolume{}, errors.ErrUnsupported }

// Nested fails with errors.ErrUnsupported.
func Nested(*os.File) ([]string, error) { return nil, errors.ErrUnsupported }

// Snapshot fails with errors.ErrUnsupported.
func Snapshot(dir, source *os.File, name string, readOnly bool) error { return errors.ErrUnsupported }

// Destroy fails with errors.ErrUnsupported.
func Destroy(*os.File, string) error { return errors.ErrUnsupported }

// ReadOnly fails with errors.ErrUnsupported.
func ReadOnly(*os.File) (bool, error) { return false, errors.ErrUnsupported }

// SetReadOnly fails with errors.ErrUnsupported.
func SetReadOnly(*os.File) error { return errors.ErrUnsupported }

// Sync fails with errors.ErrUnsupported.
func Sync(*os.File) error { return errors.ErrUnsupported }

// Flush fails with errors.ErrUnsupported.
func Flush(*os.File) error { return errors.ErrUnsupported }
