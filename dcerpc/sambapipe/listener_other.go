//go:build !linux

package sambapipe

import (
	"errors"
	"fmt"
	"net"
	"runtime"
)

// A Listener is a net.Listener of the handles that SMB clients open on a pipe. There are none but
// on Linux.
type Listener struct{ net.Listener }

// Listen fails on this system: the hand-over is known on Linux alone.
func Listen(*Config) (*Listener, error) {
	return nil, fmt.Errorf("sambapipe: pipes of Samba on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
