//go:build unix && !linux

package main

import "errors"

func (x *restorer) special(*scanned, string) error { return errors.ErrUnsupported }
