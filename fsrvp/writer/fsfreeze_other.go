//go:build !linux

package writer

import (
	"context"
	"errors"
)

// noFreezer is FSFreeze on systems without FIFREEZE.
type noFreezer struct{}

func newFSFreezer(*fsFreezeSpec) holder { return noFreezer{} }

func (noFreezer) open(context.Context) error   { return errors.ErrUnsupported }
func (noFreezer) freeze(context.Context) error { return errors.ErrUnsupported }
func (noFreezer) thaw(context.Context) error   { return nil }
func (noFreezer) adopt()                       {}
func (noFreezer) close()                       {}
