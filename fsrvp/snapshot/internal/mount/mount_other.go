//go:build !linux

package mount

import "errors"

// All returns nothing: the table is read on Linux only.
func All() ([]Mount, error) { return nil, nil }

// Of fails with an error that wraps errors.ErrUnsupported.
func Of(path string) (Mount, error) { return Mount{}, errors.ErrUnsupported }
