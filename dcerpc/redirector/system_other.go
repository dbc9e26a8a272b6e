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
	return fmt.Errorf("redirector: %s has no SMB client that programs can use; use packages smb2 and smbpipe: %w",
		runtime.GOOS, errors.ErrUnsupported)
}

func newSystem() (system, error) { return nil, unsupported() }

// OpenPipe opens a pipe of a server, or of this machine where that is ".", for overlapped
// operations in message mode. With identify the server may find out who the client is, but not act
// as it. Errors are *smb2.Errors; StatusPipeNotAvailable means that another try may succeed.
func OpenPipe(ctx context.Context, server, name string, identify bool) (*os.File, error) {
	return nil, unsupported()
}

// cancellable runs what cannot be interrupted here.
func cancellable[T any](ctx context.Context, f func() (T, smb2.Status)) (T, smb2.Status, error) {
	v, s := f()
	return v, s, nil
}
