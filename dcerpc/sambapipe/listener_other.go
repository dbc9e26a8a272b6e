//go:build !linux

package sambapipe

import (
	"errors"
	"fmt"
	"net"
	"runtime"
)

// A Listener is a [net.Listener] of the handles that SMB clients open on a pipe. It exists only on
// Linux.
type Listener struct{ net.Listener }

// Listen fails on this system: only Linux is supported.
func Listen(*Config) (*Listener, error) {
	return nil, fmt.Errorf("sambapipe: pipes of Samba on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
