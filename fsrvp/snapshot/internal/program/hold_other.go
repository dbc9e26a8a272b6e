//go:build !linux

package program

import (
	"context"
	"os"
	"time"
)

// Hold returns nil: there are no such locks.
func Hold(string) (*os.File, error) { return nil, nil }

// Await waits for nothing.
func Await(context.Context, string, time.Duration) error { return nil }
