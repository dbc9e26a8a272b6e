//go:build !windows

package redirector

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/go-fsrvp/go-fsrvp/dcerpc/smb2"
)

func unsupported() error {
	return fmt.Errorf("redirector: %s has no redirector; use packages smb2 and smbpipe: %w",
		runtime.GOOS, errors.ErrUnsupported)
}

func newSystem() (system, error) { return nil, unsupported() }

// OpenPipe opens a pipe of a server, or of this machine if server is ".", for overlapped operations
// in message mode. With identify the server may identify the client but not act for it. Errors are
// of type [*smb2.Error]; StatusPipeNotAvailable means that another try may succeed.
func OpenPipe(ctx context.Context, server, name string, identify bool) (*os.File, error) {
	return nil, unsupported()
}

// cancellable runs f, which cannot be interrupted on this system.
func cancellable[T any](ctx context.Context, f func() (T, smb2.Status)) (T, smb2.Status, error) {
	v, s := f()
	return v, s, nil
}
